from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.catalogue.releases import AssetName, parse

from .engine_releases import ERAS, names

FLAVOURS = [
    ("llama-b6100-bin-ubuntu-x64.zip", "linux", "x86_64", "cpu"),
    ("llama-b6100-bin-macos-arm64.zip", "macos", "arm64", "metal"),
    ("llama-b6100-bin-macos-x64.zip", "macos", "x86_64", "cpu"),
    ("llama-b6100-bin-win-hip-radeon-x64.zip", "windows", "x86_64", "rocm"),
    ("llama-b7345-bin-ubuntu-s390x.zip", "linux", "s390x", "cpu"),
    ("llama-b9775-bin-ubuntu-rocm-7.2-x64.tar.gz", "linux", "x86_64", "rocm-7.2"),
    ("llama-b11158-bin-ubuntu-x64.tar.gz", "linux", "x86_64", "cpu"),
    ("llama-b11158-bin-ubuntu-arm64.tar.gz", "linux", "arm64", "cpu"),
    ("llama-b11158-bin-ubuntu-vulkan-arm64.tar.gz", "linux", "arm64", "vulkan"),
    ("llama-b11158-bin-ubuntu-cuda-13.4-x64.tar.gz", "linux", "x86_64", "cuda-13.4"),
    ("llama-b11158-bin-ubuntu-sycl-fp16-x64.tar.gz", "linux", "x86_64", "sycl-fp16"),
    ("llama-b11158-bin-win-sycl-x64.zip", "windows", "x86_64", "sycl"),
    ("llama-b11158-bin-win-cpu-arm64.zip", "windows", "arm64", "cpu"),
    ("llama-b11158-bin-win-opencl-adreno-arm64.zip", "windows", "arm64", "opencl-adreno"),
    ("llama-b11158-bin-win-rocm-10.0-x64.zip", "windows", "x86_64", "rocm-10.0"),
    ("llama-b11459-bin-win-openvino-2026.4.1-x64.zip", "windows", "x86_64", "openvino-2026.4.1"),
    # what comes: other versions, and Linux by its own name
    ("llama-b20000-bin-ubuntu-cuda-14.0.1-x64.tar.gz", "linux", "x86_64", "cuda-14.0.1"),
    ("llama-b20000-bin-linux-vulkan-x64.tar.gz", "linux", "x86_64", "vulkan"),
]


@pytest.mark.parametrize(("name", "os", "arch", "flavour"), FLAVOURS)
def test_a_name_tells_system_and_flavour(name: str, os: str, arch: str, flavour: str) -> None:
    found = parse(name)
    assert found is not None
    assert (found.kind, found.os, found.arch, found.flavour) == ("engine", os, arch, flavour)
    assert found.tag == name.split("-")[1]
    assert name.endswith(found.archive)


@pytest.mark.parametrize(
    "name",
    [
        "llama-b11158-bin-linux-arm64-snapdragon.tar.gz",  # a soc
        "llama-b9093-bin-macos-arm64-kleidiai.tar.gz",
        "llama-b20000-bin-ubuntu-musa-4.1-x64.tar.gz",  # a backend that nobody here knows
        "llama-b20000-bin-win-webgpu-x64.zip",
        "llama-b20000-bin-win-sycl-fp64-x64.zip",
        "llama-b20000-bin-win-cuda-x64.zip",  # no version to judge by
        "llama-b20000-bin-win-x64.zip",
        "llama-b20000-bin-ubuntu-12-x64.tar.gz",
    ],
)
def test_what_nobody_can_judge_is_not_selectable(name: str) -> None:
    found = parse(name)
    assert found is not None
    assert found.flavour == ""


@pytest.mark.parametrize(
    "name",
    [
        "llama-b11158-ui.tar.gz",
        "llama-b11158-xcframework.zip",
        "llama-b11158-bin-android-arm64.tar.gz",
        "llama-b11158-bin-android-arm64-snapdragon.tar.gz",
        "llama-b9093-bin-310p-openEuler-x86.tar.gz",
        "llama-b9093-bin-910b-openEuler-aarch64-aclgraph.tar.gz",
        "llama-b4600-bin-win-cuda-cu12.4-x64.zip",  # older than we go
        "llama-b11158-bin-ubuntu-x64.tar.gz.sha256",
        "xllama-b11158-bin-ubuntu-x64.tar.gz",
        "llama-b11158-bin-ubuntu-x64.tar.gz\n",
        "nightly-tag.txt",
        "",
    ],
)
def test_what_is_no_engine_for_us_is_none(name: str) -> None:
    assert parse(name) is None


def test_a_runtime_has_its_tag_in_its_name_on_linux_only() -> None:
    linux = parse("cudart-llama-b11158-bin-ubuntu-cuda-12.8-x64.tar.gz")
    windows = parse("cudart-llama-bin-win-cuda-12.4-x64.zip")
    assert linux == AssetName("cudart", "b11158", "linux", "cuda", "12.8", "x86_64", "", "tar.gz")
    assert windows == AssetName("cudart", "", "windows", "cuda", "12.4", "x86_64", "", "zip")


@pytest.mark.parametrize("tag", ERAS)
def test_every_name_of_an_era_is_understood_or_for_another_system(tag: str) -> None:
    strangers = ("android", "openEuler", "-ui.", "xcframework")
    for name in names(tag):
        found = parse(name)
        assert (found is None) == any(word in name for word in strangers), name
        if found is not None:
            assert found.tag in {tag, ""}
            assert bool(found.flavour) == (found.suffix == ""), name


@pytest.mark.parametrize("tag", ERAS)
def test_a_whole_release_has_an_engine_for_each_cuda_runtime(tag: str) -> None:
    found = [each for each in map(parse, names(tag)) if each and each.backend == "cuda"]
    runtimes = {(each.os, each.arch, each.version) for each in found if each.kind == "cudart"}
    engines = {(each.os, each.arch, each.version) for each in found if each.kind == "engine"}
    assert runtimes
    assert (runtimes == engines) == (tag != "b9894")


@given(st.text() | st.from_regex(r"(cudart-)?llama-b\d+-bin-[a-z0-9.-]{0,30}\.(zip|tar\.gz)", fullmatch=True))
def test_any_text_is_read_or_none(text: str) -> None:
    found = parse(text)
    if found is not None:
        assert found.arch in {"x86_64", "arm64", "s390x"}
        assert text.startswith("cudart-") == (found.kind == "cudart")
