"""Where a model's files are looked for: ours first, then what other programs have downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.model.locate import locate, parts_of

REPO, FILE = "ggml-org/gpt-oss-120b-GGUF", "gpt-oss-120b-mxfp4-00001-of-00003.gguf"


@pytest.fixture
def places(tmp_path):
    """Our models folder, and an environment whose caches are below ``tmp_path``."""
    return tmp_path / "models", {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def hub(root: Path, revision: str = "abc") -> Path:
    return root / "models--ggml-org--gpt-oss-120b-GGUF" / "snapshots" / revision / FILE


def test_a_split_model_is_all_its_parts_and_another_is_itself():
    assert [part.name for part in parts_of(Path("m", FILE))] == [
        f"gpt-oss-120b-mxfp4-0000{part}-of-00003.gguf" for part in (1, 2, 3)
    ]
    assert parts_of(Path("m.gguf")) == (Path("m.gguf"),)


def test_a_model_that_is_nowhere_belongs_in_our_own_folder(places):
    models, environ = places
    assert locate(REPO, FILE, models, environ) == models / REPO / FILE


def test_ours_comes_first(places, tmp_path):
    models, environ = places
    put(hub(tmp_path / "cache" / "huggingface" / "hub"))
    ours = put(models / REPO / FILE)
    assert locate(REPO, FILE, models, environ) == ours


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("LLAMA_CACHE", ""),
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        (None, "huggingface/hub"),
    ],
)
def test_the_caches_of_hugging_face_and_llama_cpp_are_known(places, tmp_path, variable, below):
    models, environ = places
    root = tmp_path / "elsewhere" if variable else tmp_path / "cache"
    there = put(hub(root / below))
    assert locate(REPO, FILE, models, environ | ({variable: str(root)} if variable else {})) == there


def test_the_newest_snapshot_is_taken(places, tmp_path):
    models, environ = places
    root = tmp_path / "cache" / "huggingface" / "hub"
    old, new = put(hub(root, "zzz")), put(hub(root, "aaa"))
    os.utime(old.parent, (1, 1))
    assert locate(REPO, FILE, models, environ) == new


def test_llama_cpps_older_cache_is_known(places, tmp_path):
    models, environ = places
    there = put(tmp_path / "cache" / "llama.cpp" / f"ggml-org_gpt-oss-120b-GGUF_{FILE}")
    assert locate(REPO, FILE, models, environ) == there
