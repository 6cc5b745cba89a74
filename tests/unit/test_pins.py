"""The lock file of the build that comes pinned."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from supervisor.engine.catalogue import pins
from supervisor.engine.catalogue.pins import DEFAULT_TAG, locked
from supervisor.engine.catalogue.releases import Asset, Release
from tests.pin_release import render

NEEDED = [
    f"llama-{DEFAULT_TAG}-bin-{flavour}"
    for flavour in (
        "ubuntu-x64.tar.gz",
        "ubuntu-arm64.tar.gz",
        "ubuntu-vulkan-x64.tar.gz",
        "ubuntu-cuda-12.8-x64.tar.gz",
        "ubuntu-cuda-13.4-x64.tar.gz",
        "ubuntu-rocm-10.0-x64.tar.gz",
        "macos-arm64.tar.gz",
        "macos-x64.tar.gz",
        "win-cpu-x64.zip",
        "win-cpu-arm64.zip",
        "win-cuda-12.4-x64.zip",
        "win-cuda-13.4-x64.zip",
        "win-vulkan-x64.zip",
        "win-opencl-adreno-arm64.zip",
        "win-rocm-10.0-x64.zip",
    )
]


@pytest.fixture(scope="module")
def release() -> Release:
    found = locked(DEFAULT_TAG)
    assert found is not None
    return found


def test_it_holds_all_that_the_shipped_profiles_need(release):
    assert [name for name in NEEDED if release.find(name) is None] == []


def test_every_asset_can_be_verified(release):
    assert all(re.fullmatch("[0-9a-f]{64}", asset.sha256) and asset.usable for asset in release.assets)


def test_no_digest_and_no_name_stands_in_it_twice(release):
    assert len({asset.sha256 for asset in release.assets}) == len(release.assets)
    assert len({asset.name for asset in release.assets}) == len(release.assets)


def test_every_cuda_build_has_its_runtime(release):
    for asset in release.assets:
        if match := re.fullmatch(rf"llama-{DEFAULT_TAG}-bin-(ubuntu|win)-(cuda-.*)", asset.name):
            tag = f"{DEFAULT_TAG}-" if match[1] == "ubuntu" else ""
            assert release.find(f"cudart-llama-{tag}bin-{match[1]}-{match[2]}"), asset.name


def test_sizes_are_true_or_unknown(release):
    assert all(asset.size_bytes == 0 or asset.size_bytes > 5_000_000 for asset in release.assets)


def test_the_addresses_are_upstreams_own(release):
    prefix = f"https://github.com/ggml-org/llama.cpp/releases/download/{DEFAULT_TAG}/"
    assert all(asset.url == f"{prefix}{asset.name}" for asset in release.assets)


def test_every_digest_was_seen_somewhere():
    kept = json.loads((Path(pins.__file__).with_name("data") / f"{DEFAULT_TAG}.lock.json").read_text("utf-8"))
    assert all(asset["seen"] >= 1 for asset in kept["assets"])


@pytest.mark.parametrize("tag", ["b1", "", "../data/b11429", "b11429.lock.json"])
def test_another_tag_is_not_locked(tag):
    assert locked(tag) is None


def test_what_is_rendered_is_read_again(release, tmp_path, monkeypatch):
    half = Asset("half.zip", 0, "", "https://example.invalid", uploaded=False)
    (tmp_path / f"{DEFAULT_TAG}.lock.json").write_text(
        render(Release(release.tag, (*release.assets, half), "x"))
    )
    monkeypatch.setattr(pins, "_DATA", tmp_path)
    assert locked(DEFAULT_TAG).assets == release.assets
