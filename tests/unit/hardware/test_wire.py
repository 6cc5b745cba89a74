"""The hardware record as JSON: the same when read back, and every mistake named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError, NotFound
from supervisor.hardware.hardware import Cpu, Gpu, Hardware, Node, PcieLink
from supervisor.hardware.wire import from_json, load, to_json

GIB = 1024**3
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SIZES = st.none() | st.integers(0, 2**60)
COUNTS = st.none() | st.integers(0, 4096)
RATES = st.none() | st.floats(0, 128)
LINKS = st.builds(PcieLink, COUNTS, COUNTS, RATES, RATES)
NODES = st.builds(Node, TEXTS, st.booleans())
CPUS = st.builds(Cpu, TEXTS, COUNTS, COUNTS, COUNTS, st.tuples(TEXTS))


@st.composite
def gpus(draw):
    memory = draw(SIZES)
    shared = draw(st.integers(0, memory or 0))
    words = draw(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS))
    truth = st.none() | st.booleans()
    return Gpu(
        *words,
        memory_bytes=memory,
        shared_bytes=shared,
        integrated=draw(truth),
        unified=draw(truth),
        link=draw(st.none() | LINKS),
        nodes=draw(st.lists(NODES, max_size=2).map(tuple)),
        sources=draw(st.lists(TEXTS, max_size=2).map(tuple)),
    )


RECORDS = st.builds(
    Hardware,
    os=st.sampled_from(["linux", "macos", "windows"]),
    arch=TEXTS,
    os_name=TEXTS,
    cpu=CPUS,
    ram_bytes=SIZES,
    available_bytes=SIZES,
    disk_free_bytes=SIZES,
    gpus=st.lists(gpus(), max_size=3).map(tuple),
    notes=st.lists(TEXTS, max_size=2).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(RECORDS)
def test_a_record_is_the_same_when_it_is_read_back(hardware):
    assert from_json(json.loads(json.dumps(to_json(hardware))), "box.json") == hardware


@given(
    JSON
    | st.dictionaries(st.sampled_from(["os", "arch", "cpu", "gpus", "ram_bytes", "schema", "notes"]), JSON)
)
def test_no_document_whatever_is_a_traceback(document):
    try:
        said = from_json(document, "box.json").os
    except ConfigError as error:
        said = str(error).encode().decode()  # half of a surrogate pair would end it here
    assert said.startswith(("box.json: ", "linux", "macos", "windows"))


@given(st.binary())
def test_no_file_whatever_is_a_traceback(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("box") / "box.json"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=r"box\.json"):
        load(file)


def test_what_a_person_writes_for_a_box_that_they_think_of_buying(tmp_path):
    box = {
        "os": "linux",
        "arch": "x86_64",
        "ram_bytes": 64 * GIB,
        "gpus": [{"vendor": "nvidia", "name": "NVIDIA GeForce RTX 4060 Ti", "memory_bytes": 16 * GIB}],
    }
    file = tmp_path / "box.json"
    file.write_text(json.dumps(box), encoding="utf-8-sig")  # as Notepad saves it
    found = load(file)
    assert (found.memory_bytes, found.cpu, found.disk_free_bytes) == (80 * GIB, Cpu(), None)
    assert found.gpus[0].integrated is None


def test_profiles_beside_the_record_are_not_read():
    assert from_json({"os": "macos", "arch": "arm64", "profiles": {"best": 7}}, "box.json") == Hardware(
        "macos", "arm64"
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "box.json: must be an object with os and arch, not a list"),
        ({}, "box.json: os: is missing\nbox.json: arch: is missing"),
        ({"os": "beos", "arch": "x86_64"}, 'box.json: os: must be one of linux, macos, windows, not "beos"'),
        ({"os": "linux", "arch": "x86_64", "schema": 2}, "box.json: schema: must be 1, not 2"),
        (
            {"os": "linux", "arch": "x86_64", "ram_byte": 1},
            "box.json: ram_byte: is no key here (did you mean ram_bytes?)",
        ),
        (
            {"os": "linux", "arch": "x86_64", "ram_bytes": "64 GB"},
            'box.json: ram_bytes: must be a whole number from 0 to 2^60, not "64 GB"',
        ),
        (
            {"os": "linux", "arch": "x86_64", "ram_bytes": True},
            "box.json: ram_bytes: must be a whole number from 0 to 2^60, not true",
        ),
        (
            {"os": "linux", "arch": "x86_64", "gpus": [{"name": "a"}, 3]},
            "box.json: gpus[0].vendor: is missing\nbox.json: gpus[1]: must be an object, not a number",
        ),
        (
            {"os": "linux", "arch": "x86_64", "gpus": [{"vendor": "amd", "unified": "yes"}]},
            'box.json: gpus[0].unified: must be true or false, not "yes"',
        ),
        (
            {"os": "linux", "arch": "x86_64", "gpus": [{"vendor": "amd", "nodes": [{"path": "/dev/kfd"}]}]},
            "box.json: gpus[0].nodes[0].may_open: is missing",
        ),
        (
            {
                "os": "linux",
                "arch": "x86_64",
                "gpus": [{"vendor": "amd", "memory_bytes": 1, "shared_bytes": 2}],
            },
            "box.json: gpus[0].shared_bytes: must not be more than memory_bytes, of which it is a part",
        ),
        (
            {"os": "linux", "arch": "x86_64", "cpu": {"features": "avx2"}},
            "box.json: cpu.features: must be a list, not a text",
        ),
        (
            {"os": "linux", "arch": "x86_64", "gpus": [{"vendor": "amd", "link": {"speed_gts": "16"}}]},
            'box.json: gpus[0].link.speed_gts: must be a number from 0 to 2^60, not "16"',
        ),
    ],
)
def test_a_mistake_is_named_with_file_and_key(document, said):
    with pytest.raises(ConfigError) as caught:
        from_json(document, "box.json")
    assert str(caught.value) == said


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="There is no file"):
        load(tmp_path / "box.json")
