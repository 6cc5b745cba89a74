"""``goss-supervisor search`` as a user runs it, against a hub on loopback; and the choice of a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from supervisor.cli.search import place
from supervisor.hardware.hardware import Gpu, Hardware
from supervisor.hardware.wire import to_json
from supervisor.model.hub_search import choose_for, quantization
from tests.fakes.hub import FakeHub

GIB = 1024**3
CARD = Gpu("nvidia", "RTX", memory_bytes=16 * GIB, integrated=False, unified=False)
GRAPHICS = Gpu("amd", "890M", memory_bytes=16 * GIB, shared_bytes=16 * GIB, integrated=True, unified=True)


@pytest.fixture
def hub():
    with FakeHub() as made:
        yield made


def run(hub, tmp_path, *words, code=0):
    box = tmp_path / "box.json"
    box.write_text(json.dumps(to_json(Hardware("linux", "x86_64", ram_bytes=16 * GIB))))
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    places = {"HOME": str(tmp_path), "GOSS_SUPERVISOR_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-I", "-m", "supervisor", "search", *words],
        env={**kept, **places, **hub.env, "GOSS_SUPERVISOR_HARDWARE": str(box)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def offer(hub, repo, downloads=0, gated=False, **sizes):
    """A repository whose list of files tells these sizes in GiB."""
    hub.add(repo, {f"{name}.gguf".replace("__", "-"): b"" for name in sizes})
    for entry, gib in zip(hub._entries[repo][1:], sizes.values(), strict=True):
        entry["size"] = int(gib * GIB)
    hub.found[repo] = {"downloads": downloads, "gated": gated}


def test_what_fits_is_listed_with_size_and_a_name_that_pull_takes(hub, tmp_path):
    offer(hub, "a/tiny-GGUF", 1234567, tiny__Q4_K_M=4, tiny__Q8_0=8, mmproj__tiny=1)
    offer(hub, "b/big-GGUF", 9, big__Q4_K_M=40, big__IQ1_S=9)
    offer(hub, "c/huge-GGUF", 5, huge__Q4_K_M=400)
    offer(hub, "d/one-GGUF", 4, "manual", one__MXFP4=2)
    offer(hub, "e/none-GGUF", 3)
    done = run(hub, tmp_path, "tiny", "words")
    assert done.stdout.splitlines()[0].split() == ["NAME", "SIZE", "FITS", "HERE", "DOWNLOADS"]
    assert [" ".join(line.split()) for line in done.stdout.splitlines()[1:]] == [
        "a/tiny-GGUF:Q4_K_M 4.0 GiB yes, on the CPU 1,234,567",
        "b/big-GGUF:IQ1_S 9.0 GiB yes, on the CPU 9",
        "d/one-GGUF 2.0 GiB yes, on the CPU, gated 4",
    ]
    assert done.stderr.endswith("get it  goss-supervisor pull a/tiny-GGUF:Q4_K_M\n")
    asked = next(each.query for each in hub.api.requests if each.path == "/api/models")
    assert (asked["search"], asked["filter"], asked["limit"]) == ("tiny words", "gguf", "12")


def test_programs_get_all_of_it_and_what_is_too_large_where_that_is_wanted(hub, tmp_path):
    offer(hub, "c/huge-GGUF", 5, huge__Q4_K_M=400)
    assert "--all shows what is too large" in run(hub, tmp_path, "huge", code=5).stderr
    found = json.loads(run(hub, tmp_path, "huge", "--all", "--json").stdout)
    assert found == {
        "schema": 1,
        "models": [
            {
                "name": "c/huge-GGUF",
                "size_bytes": 400 * GIB,
                "fits": False,
                "downloads": 5,
                "gated": False,
                "place": "too large",
            }
        ],
    }


def test_nothing_and_no_network_and_no_search_are_told_apart(hub, tmp_path):
    assert "no model in GGUF for xyzzy" in run(hub, tmp_path, "xyzzy", code=5).stderr
    hub.found = None
    assert "has no search" in run(hub, tmp_path, "xyzzy", code=8).stderr
    hub.close()
    assert "cannot be reached" in run(hub, tmp_path, "xyzzy", code=8).stderr


@pytest.mark.parametrize(
    ("sizes", "most", "chosen"),
    [
        ({"m-Q4_K_M.gguf": 4, "m-Q8_0.gguf": 8}, 100, "m-Q4_K_M.gguf"),
        ({"m-Q4_K_M.gguf": 4, "m-Q2_K.gguf": 2, "m-Q3_K_S.gguf": 3}, 3, "m-Q3_K_S.gguf"),
        ({"m-MXFP4.gguf": 12, "m-Q8_0.gguf": 13}, 100, "m-MXFP4.gguf"),
        ({"m-Q5_K_M.gguf": 5, "m-Q8_0.gguf": 8}, 1, "m-Q5_K_M.gguf"),
    ],
)
def test_the_usual_one_is_chosen_else_the_largest_that_fits_else_the_smallest(sizes, most, chosen):
    assert choose_for(sizes, lambda size: size <= most) == chosen


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("tiny-Q4_K_M.gguf", "Q4_K_M"),
        ("folder/tiny-UD-IQ2_XXS-00001-of-00002.gguf", "UD-IQ2_XXS"),
        ("tiny.Q8_0.gguf", "Q8_0"),
        ("gpt-oss-20b-mxfp4.gguf", "mxfp4"),
        ("qwen2.5-7b.gguf", ""),
        ("tiny-BF16.gguf", "BF16"),
    ],
)
def test_a_quantization_is_told_by_the_end_of_the_name(file, word):
    assert quantization(file) == word


@pytest.mark.parametrize(
    ("gib", "gpus", "where"),
    [
        (10, (), "yes, on the CPU"),
        (28, (), ""),
        (10, (CARD,), "yes, on the GPU"),
        (20, (CARD,), "yes, in part on the GPU"),
        (50, (CARD,), ""),
        (10, (GRAPHICS,), "yes"),
        (28, (GRAPHICS,), ""),
    ],
)
def test_where_it_goes_is_told_by_size_and_memory(gib, gpus, where):
    assert place(gib * GIB, Hardware("linux", "x86_64", ram_bytes=32 * GIB, gpus=gpus)) == where


def test_what_is_not_known_of_the_memory_is_said():
    assert place(GIB, Hardware("linux", "x86_64")) == "unknown"
