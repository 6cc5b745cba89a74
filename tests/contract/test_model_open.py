"""Opening models on disk: files of true size, damaged ones, and headers remembered in a folder."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.errors import SupervisorError, VerificationFailed
from supervisor.model.demo import ensure_demo
from supervisor.model.gguf import NAMED, Tensor, Typed, ValueType
from supervisor.model.gguf_writer import write_gguf
from supervisor.model.open import FileSource, HeaderCache, open_model

from ..fakes.shapes import write_sparse


@pytest.fixture
def demo(tmp_path):
    return ensure_demo(tmp_path / "models")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch):
    """The places that files were read at."""
    found = []
    read = FileSource.read

    def counted(self, offset, length):
        found.append(offset)
        return read(self, offset, length)

    monkeypatch.setattr(FileSource, "read", counted)
    return found


def write_split(folder):
    """As gguf-split --no-tensor-first-split does it."""
    names = [folder / f"m-{part:05d}-of-00003.gguf" for part in (1, 2, 3)]
    for number, path in enumerate(names):
        values = {
            "split.no": Typed(ValueType.UINT16, number),
            "split.count": Typed(ValueType.UINT16, 3),
            "split.tensors.count": Typed(ValueType.INT32, 2),
        }
        first = {} if number else {"general.architecture": "gpt-oss", "gpt-oss.block_count": 2}
        tensors = [Tensor(f"t{number}", (32 * number,), NAMED["q8_0"])] if number else []
        write_gguf(path, first | values, tensors)
    return names


def test_a_file_gives_what_is_asked_and_less_only_at_its_end(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        source = FileSource(file)
        assert source.size_bytes == 10
        assert [source.read(*place) for place in ((2, 3), (8, 5), (10, 1), (99, 1), (0, 0))] == [
            b"234",
            b"89",
            b"",
            b"",
            b"",
        ]


def test_a_model_of_true_size_is_known_by_its_header(tmp_path):
    path = tmp_path / "120b.gguf"
    try:
        write_sparse(path, "120b")
    except SupervisorError:
        pytest.skip("no sparse files here")
    model = open_model(path, tmp_path / "cache")
    assert (model.layers, model.experts, model.vocabulary_size) == (36, 128, 201_088)
    assert (len(model.tensors), model.weights_bytes) == (687, 63_374_323_968)
    assert open_model(path, tmp_path / "cache") == model
    os.truncate(path, path.stat().st_size - 5_000_000_000)
    with pytest.raises(VerificationFailed, match=r"5000000000 of its \d+ bytes are missing"):
        open_model(path, tmp_path / "cache")
    path.unlink()  # pytest keeps folders; a copy of this one would fill a disk


def test_a_split_model_is_opened_by_its_first_part_which_may_hold_no_tensors(tmp_path, cache):
    names = write_split(tmp_path)
    for _ in range(2):
        model = open_model(names[0], cache)
        assert [tensor.name for tensor in model.tensors] == ["t1", "t2"]
        assert [part.name for part in model.parts] == [str(name) for name in names]
        assert (model.layers, model.weights_bytes) == (2, 102)


def test_the_truncated_one_of_several_parts_is_named(tmp_path):
    names = write_split(tmp_path)
    os.truncate(names[2], names[2].stat().st_size - 40)
    with pytest.raises(VerificationFailed, match=rf"{names[2].name} is a truncated GGUF: \d+ of its"):
        open_model(names[0])


def test_parts_whose_names_were_swapped_are_refused(tmp_path):
    names = write_split(tmp_path)
    names[1].rename(tmp_path / "x")
    names[2].rename(names[1])
    (tmp_path / "x").rename(names[2])
    with pytest.raises(VerificationFailed, match=r"00002-of-00003.gguf says that it is split\.no 2"):
        open_model(names[0])


def test_a_header_is_read_once(demo, cache, reads):
    model = open_model(demo, cache)
    assert reads
    reads.clear()
    assert open_model(demo, cache) == model
    assert reads == []


def test_a_file_that_was_changed_is_read_again(demo, cache, reads):
    open_model(demo, cache)
    reads.clear()
    os.utime(demo, ns=(1, demo.stat().st_mtime_ns + 1_000_000))
    open_model(demo, cache)
    assert reads
    assert len(list(cache.iterdir())) == 1, "the older one makes room for the newer"


def test_a_broken_file_is_never_remembered(demo, cache):
    os.truncate(demo, 1000)
    for _ in range(2):
        with pytest.raises(VerificationFailed, match="truncated"):
            open_model(demo, cache)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "folder"])
def test_a_damaged_memory_is_as_if_not_there(demo, cache, damage):
    model = open_model(demo, cache)
    (kept,) = cache.iterdir()
    good = kept.read_bytes()
    if damage == "folder":
        kept.unlink()
        kept.mkdir()
    else:
        at = good.index(b"block_count") + len('block_count":')
        flipped = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        kept.write_bytes({"empty": b"", "cut": good[:-9], "flipped": flipped, "other": b"{}\n[]"}[damage])
    assert open_model(demo, cache) == model
    if damage != "folder":
        assert kept.read_bytes() == good


def test_a_memory_of_another_file_or_version_is_not_taken(demo, cache, monkeypatch):
    model = open_model(demo, cache)
    (kept,) = cache.iterdir()
    other = HeaderCache(cache)
    other._file("else").write_bytes(kept.read_bytes())
    assert other.find("else", f"{demo.stat().st_size} {demo.stat().st_mtime_ns}") is None
    monkeypatch.setattr("supervisor.model.open.FORMAT", 2)
    assert other.find(str(demo), f"{demo.stat().st_size} {demo.stat().st_mtime_ns}") is None
    assert open_model(demo, cache) == model


def test_a_folder_that_cannot_be_written_costs_nothing(demo, tmp_path):
    (tmp_path / "file").write_text("")
    model = open_model(demo)
    assert open_model(demo, tmp_path / "file") == model
    assert open_model(demo, tmp_path / "file" / "below") == model


def test_many_at_once_remember_one_good_header(demo, cache):
    together = threading.Barrier(8)

    def one():
        together.wait(10)
        return open_model(demo, cache)

    with ThreadPoolExecutor(8) as pool:
        models = [future.result(30) for future in [pool.submit(one) for _ in range(8)]]
    assert all(model == models[0] for model in models)
    assert open_model(demo, cache) == models[0]


scalars = st.one_of(
    st.booleans(), st.integers(0, 2**32 - 1), st.floats(width=32, allow_nan=False), st.text(max_size=20)
)
found_values = st.one_of(
    scalars,
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9),
    st.lists(st.text(max_size=5), min_size=1, max_size=9),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=20).map("a.{}".format), found_values, max_size=8))
def test_what_is_remembered_is_what_was_read(tmp_path, values):
    path = tmp_path / "any.gguf"
    write_gguf(path, {"general.architecture": "a"} | values, [Tensor("t", (2, 3), NAMED["f32"])])
    fresh = open_model(path)
    assert open_model(path, tmp_path / "cache") == fresh
    assert open_model(path, tmp_path / "cache") == fresh
