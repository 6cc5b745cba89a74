"""Which flavour of which release a computer gets, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.engine.catalogue.releases import Release
from supervisor.engine.survey import Survey, order_flavours, survey
from supervisor.hardware.hardware import Gpu, Hardware, Node

from .engine_boxes import (
    ADRENO,
    ARC,
    BOXES,
    GIB,
    M4,
    MAC,
    RADEON_890M,
    RADEON_8060S,
    RENDER,
    RTX_4060_TI,
    RX_9070,
    UBUNTU,
    WINDOWS,
    nvidia,
    on,
)
from .engine_releases import ERAS, asset, release

NEW = "b11459"

# what a profile that asks for nothing gets; "-" is nothing
CHOICES = """
                     b6100         b7345         b7902         b9093      b9775         b9894 b10437        b10892        b11158        b11459
285h                 vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
hx370                vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
hx370-4060ti         vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        cuda-12.8     cuda-12.8
hx370-4060ti-debian  vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
max395               vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
9700x-9070           vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
9700x-9070-windows   vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
m4-mini              metal         metal         metal         metal      metal         metal metal         metal         metal         metal
m4-max               metal         metal         metal         metal      metal         metal metal         metal         metal         metal
intel-mac            cpu           cpu           cpu           cpu        cpu           cpu   cpu           cpu           cpu           cpu
x-elite              opencl-adreno opencl-adreno opencl-adreno cpu        opencl-adreno -     opencl-adreno opencl-adreno opencl-adreno opencl-adreno
3090-1070            vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        cuda-12.8     cuda-12.8
5090-1070-windows    vulkan        cuda-13.1     cuda-13.1     cuda-13.1  cuda-13.3     -     cuda-13.3     cuda-13.3     cuda-13.4     cuda-13.4
5070-windows         vulkan        cuda-13.1     cuda-13.1     cuda-13.1  cuda-13.3     -     cuda-13.3     cuda-13.3     cuda-13.4     cuda-13.4
4090-old-windows     cuda-12.4     cuda-12.4     cuda-12.4     cuda-12.4  cuda-12.4     -     cuda-12.4     cuda-12.4     cuda-12.4     cuda-12.4
newest-driver        vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        cuda-13.4     cuda-13.4
ancient-driver       vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
wsl2                 vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        cuda-12.8     cuda-12.8
spark                -             -             -             vulkan     vulkan        cpu   vulkan        vulkan        cuda-13.4     cuda-13.4
container            cpu           cpu           cpu           cpu        cpu           -     cpu           cpu           cpu           cpu
no-gpu               cpu           cpu           cpu           cpu        cpu           -     cpu           cpu           cpu           cpu
rhel-9               vulkan        vulkan        vulkan        vulkan     vulkan        -     vulkan        vulkan        vulkan        vulkan
debian-11            -             -             -             -          -             -     -             -             -             -
alpine               -             -             -             -          -             -     -             -             -             -
raspberry            -             -             -             cpu        cpu           cpu   cpu           cpu           cpu           cpu
riscv                -             -             -             -          -             -     -             -             -             -
"""

# all that the newest era has for a computer, the best first
RANKINGS = """
285h                 vulkan cpu
hx370                vulkan cpu
hx370-4060ti         cuda-12.8 cuda-13.4 vulkan cpu
hx370-4060ti-debian  vulkan cpu
max395               vulkan cpu
9700x-9070           vulkan cpu
9700x-9070-windows   vulkan cpu
m4-mini              metal
m4-max               metal
intel-mac            cpu
x-elite              opencl-adreno vulkan cpu
3090-1070            cuda-12.8 cuda-13.4 vulkan cpu
5090-1070-windows    cuda-13.4 vulkan cpu
5070-windows         cuda-13.4 vulkan cpu
4090-old-windows     cuda-12.4 vulkan cpu
newest-driver        cuda-13.4 cuda-12.8 vulkan cpu
ancient-driver       vulkan cpu
wsl2                 cuda-12.8 cuda-13.4 vulkan cpu
spark                cuda-13.4 vulkan cpu
container            cpu
no-gpu               cpu
rhel-9               vulkan cpu
debian-11
alpine
raspberry            cpu
riscv
"""


def rows(table: str) -> dict[str, tuple[str, ...]]:
    lines = [line.split() for line in table.strip("\n").splitlines()]
    return {line[0]: tuple(line[1:]) for line in lines}


def of(
    box: Hardware, released: Release | None = None, *, flavour: str | None = None, gpu: bool = False
) -> Survey:
    return survey(box, released or release(NEW), flavour=flavour, gpu=gpu)


def ranked(found: Survey) -> tuple[str, ...]:
    return tuple(option.flavour for option in found.ranked)


def why(found: Survey, flavour: str) -> str:
    """What is said of a flavour, wherever it stands."""
    said = {each.flavour: each.reason for each in (*found.ranked, *found.rejected)}
    return said[flavour]


def test_the_tables_are_about_all_boxes_and_eras() -> None:
    assert CHOICES.split("\n")[1].split() == list(ERAS)
    assert list(rows(CHOICES))[1:] == list(rows(RANKINGS)) == list(BOXES)


@pytest.mark.parametrize("box", BOXES)
def test_each_box_gets_its_flavour_of_each_era(box: str) -> None:
    found = [ranked(of(BOXES[box], release(tag))) for tag in ERAS]
    assert tuple(each[0] if each else "-" for each in found) == rows(CHOICES)[box]


@pytest.mark.parametrize("box", BOXES)
def test_each_box_has_its_ranking_of_the_newest_era(box: str) -> None:
    assert ranked(of(BOXES[box])) == rows(RANKINGS)[box]


def test_a_flavour_comes_with_its_archive_and_its_runtime() -> None:
    option = of(BOXES["hx370-4060ti"]).ranked[0]
    assert option.archive.name == "llama-b11459-bin-ubuntu-cuda-12.8-x64.tar.gz"
    assert option.companion is not None
    assert option.companion.name == "cudart-llama-b11459-bin-ubuntu-cuda-12.8-x64.tar.gz"
    assert option.download_bytes == 2000
    windows = of(BOXES["4090-old-windows"]).ranked[0]
    assert windows.companion is not None
    assert windows.companion.name == "cudart-llama-bin-win-cuda-12.4-x64.zip"
    assert of(BOXES["285h"]).ranked[0].companion is None


def test_the_tar_is_taken_where_a_release_has_both() -> None:
    for box, name in (("no-gpu", "ubuntu-x64"), ("m4-mini", "macos-arm64")):
        assert of(BOXES[box], release("b7345")).ranked[0].archive.name == f"llama-b7345-bin-{name}.tar.gz"
    only_zip = release("b7345", without=("tar.gz",))
    assert of(BOXES["no-gpu"], only_zip).ranked[0].archive.name == "llama-b7345-bin-ubuntu-x64.zip"


# CUDA


def test_the_newest_cuda_that_the_driver_knows_comes_first() -> None:
    found = of(BOXES["hx370-4060ti"])
    assert "driver 580.95.05, compute capability 8.9" in why(found, "cuda-12.8")
    assert "by minor version compatibility (the driver itself knows CUDA 13.0)" in why(found, "cuda-13.4")
    assert "compatibility" not in why(of(BOXES["newest-driver"]), "cuda-13.4")


@pytest.mark.parametrize(
    ("driver", "cuda", "flavours", "said"),
    [
        ("524.99", "", (), "the driver is 524.99, CUDA 12 needs 525 or newer"),
        ("525.60.13", "12.0", ("cuda-12.8",), "by minor version compatibility"),
        ("579.99", "12.9", ("cuda-12.8",), "driver 579.99"),
        ("580.65.06", "13.0", ("cuda-12.8", "cuda-13.4"), "driver 580.65.06"),
        ("580.65.06", "", ("cuda-13.4", "cuda-12.8"), "driver 580.65.06"),
        ("", "", ("cuda-13.4", "cuda-12.8"), "its driver's version is not known"),
        ("", "12.4", ("cuda-12.8",), "by minor version compatibility"),
        ("garbage", "N/A", ("cuda-13.4", "cuda-12.8"), "driver garbage"),
    ],
)
def test_the_driver_decides_the_major_version(
    driver: str, cuda: str, flavours: tuple[str, ...], said: str
) -> None:
    found = of(on(UBUNTU, nvidia("GeForce RTX 3060", "8.6", driver=driver, cuda=cuda)))
    assert ranked(found) == (*flavours, "vulkan", "cpu")
    assert said in why(found, "cuda-12.8")


def test_a_driver_that_knows_only_cuda_12_is_told_what_13_needs() -> None:
    found = of(on(UBUNTU, nvidia("GeForce RTX 3060", "8.6", driver="", cuda="12.4")))
    assert why(found, "cuda-13.4") == "the driver knows CUDA up to 12.4, CUDA 13 needs 580 or newer"


@pytest.mark.parametrize(
    ("capability", "rejected", "said"),
    [
        ("3.5", ("cuda-12.8", "cuda-13.4"), "CUDA 12 begins at 5.0"),
        ("6.1", ("cuda-13.4",), "compute capability 6.1"),
        ("7.5", (), "compute capability 7.5"),
        ("12.0", (), "compute capability 12.0"),
        ("", (), "compute capability not known"),
    ],
)
def test_the_compute_capability_decides_too(capability: str, rejected: tuple[str, ...], said: str) -> None:
    found = of(on(UBUNTU, nvidia("Card", capability)))
    assert tuple(each.flavour for each in found.rejected if each.flavour.startswith("cuda")) == rejected
    assert said in why(found, "cuda-12.8")


def test_blackwell_never_gets_less_than_12_8() -> None:
    found = of(BOXES["5070-windows"])
    assert why(found, "cuda-12.4") == (
        "NVIDIA GeForce RTX 5070 has compute capability 12.0 (Blackwell), which needs CUDA 12.8 or newer"
    )
    asked = of(BOXES["5070-windows"], flavour="cuda-12.4", gpu=True)
    assert ranked(asked) == ()


def test_cards_that_differ_get_the_build_that_serves_all_of_them() -> None:
    box = on(UBUNTU, nvidia("GTX 1070", "6.1", cuda="13.4"), nvidia("RTX 3090", "8.6", cuda="13.4", gib=24))
    found = of(box)
    assert ranked(found)[:2] == ("cuda-12.8", "cuda-13.4")
    assert "not for NVIDIA GTX 1070 (compute capability 6.1)" in why(found, "cuda-13.4")
    assert "not for" not in why(found, "cuda-12.8")


def test_where_no_build_serves_all_the_best_card_decides_and_the_rest_is_named() -> None:
    found = of(BOXES["5090-1070-windows"])
    assert ranked(found)[0] == "cuda-13.4"
    assert "not for NVIDIA GeForce GTX 1070 (compute capability 6.1)" in why(found, "cuda-13.4")


@pytest.mark.parametrize("tag", ["b6100", "b10892"])
def test_a_release_before_september_2026_has_no_cuda_for_linux(tag: str) -> None:
    found = of(BOXES["hx370-4060ti"], release(tag))
    assert ranked(found)[0] == "vulkan"
    assert why(found, "cuda") == "this release has no CUDA build for Linux on x86_64"


def test_without_its_runtime_a_cuda_build_is_none_and_the_next_is_taken() -> None:
    box = BOXES["hx370-4060ti"]
    found = of(box, release(NEW, without=("cudart-llama-b11459-bin-ubuntu-cuda-12.8",)))
    assert ranked(found) == ("cuda-13.4", "vulkan", "cpu")
    assert why(found, "cuda-12.8") == "the CUDA 12.8 runtime that belongs to it is missing"
    none = of(box, release(NEW, without=("cudart-llama-b11459-bin-ubuntu",)))
    assert ranked(none) == ("vulkan", "cpu")


def test_a_runtime_of_another_system_version_or_tag_does_not_serve() -> None:
    main = "llama-b1-bin-ubuntu-cuda-12.8-x64.tar.gz"
    others = (
        "cudart-llama-b1-bin-ubuntu-cuda-12.8-arm64.tar.gz",
        "cudart-llama-b1-bin-ubuntu-cuda-13.4-x64.tar.gz",
        "cudart-llama-b2-bin-ubuntu-cuda-12.8-x64.tar.gz",
        "cudart-llama-bin-win-cuda-12.8-x64.zip",
    )
    found = of(BOXES["wsl2"], Release("b1", tuple(asset(name) for name in (main, *others))))
    assert ranked(found) == ()
    assert "runtime that belongs to it is missing" in why(found, "cuda-12.8")


def test_nouveau_is_no_driver_for_cuda() -> None:
    card = replace(RTX_4060_TI, driver="nouveau", driver_version="", cuda="")
    found = of(on(UBUNTU, card))
    assert ranked(found) == ("vulkan", "cpu")
    assert why(found, "cuda-12.8") == (
        "NVIDIA GeForce RTX 4060 Ti runs with nouveau, CUDA needs NVIDIA's own driver"
    )


# archives


def test_an_archive_that_is_not_there_yet_or_cannot_be_verified_is_not_taken() -> None:
    assets = (
        asset("llama-b1-bin-ubuntu-vulkan-x64.tar.gz", uploaded=False),
        asset("llama-b1-bin-ubuntu-x64.tar.gz", digest=False),
        asset("llama-b1-bin-ubuntu-cuda-12.8-x64.tar.gz"),
        asset("cudart-llama-b1-bin-ubuntu-cuda-12.8-x64.tar.gz", digest=False),
    )
    found = of(BOXES["hx370-4060ti"], Release("b1", assets))
    assert ranked(found) == ()
    assert why(found, "vulkan") == "its archive is not uploaded yet"
    assert why(found, "cpu") == "its archive has no digest"
    assert why(found, "cuda-12.8") == "its CUDA runtime has no digest"


def test_an_incomplete_release_says_what_it_lacks() -> None:
    found = of(BOXES["hx370-4060ti"], release("b9894"))
    assert ranked(found) == ()
    assert {each.flavour: each.reason for each in found.rejected if each.flavour != "openvino-2026.2.1"} == {
        name: f"this release has no {title} build for Linux on x86_64"
        for name, title in (("cuda", "CUDA"), ("vulkan", "Vulkan"), ("cpu", "CPU"))
    }


# the C library


@pytest.mark.parametrize(
    ("libc", "version", "flavours"),
    [
        ("glibc", "2.33", ()),
        ("glibc", "2.34", ("vulkan", "cpu")),
        ("glibc", "2.37", ("vulkan", "cpu")),
        ("glibc", "2.38", ("cuda-12.8", "cuda-13.4", "vulkan", "cpu")),
        ("glibc", "", ("cuda-12.8", "cuda-13.4", "vulkan", "cpu")),
        ("", "", ("cuda-12.8", "cuda-13.4", "vulkan", "cpu")),
        ("musl", "1.2.5", ()),
        ("musl", "", ()),
    ],
)
def test_the_c_library_decides_which_archives_run(libc: str, version: str, flavours: tuple[str, ...]) -> None:
    found = of(replace(on(UBUNTU, RTX_4060_TI), libc=libc, libc_version=version))
    assert ranked(found) == flavours


def test_a_c_library_that_nobody_knows_is_said() -> None:
    assert "the C library is not known" in of(replace(UBUNTU, libc="")).ranked[0].reason
    assert "the version of glibc is not known" in of(replace(UBUNTU, libc_version="")).ranked[0].reason
    assert "known" not in of(WINDOWS).ranked[0].reason


def test_arm64_is_made_on_the_newer_builder() -> None:
    found = of(replace(UBUNTU, arch="arm64", libc_version="2.36"))
    assert why(found, "cpu") == "it needs glibc 2.38, this system has 2.36"


def test_rocm_was_made_on_the_older_builder_until_august_2026() -> None:
    box = replace(on(UBUNTU, RX_9070), libc_version="2.35")
    assert ranked(of(box, release("b9775"), flavour="rocm", gpu=True)) == ("rocm-7.2",)
    found = of(box, flavour="rocm", gpu=True)
    assert why(found, "rocm-10.0") == "it needs glibc 2.38, this system has 2.35"


# GPUs


def test_an_integrated_gpu_beside_a_card_does_not_decide() -> None:
    found = of(on(UBUNTU, RADEON_890M, RTX_4060_TI))
    for flavour in ("cuda-12.8", "vulkan"):
        assert "NVIDIA GeForce RTX 4060 Ti" in why(found, flavour)
        assert "the integrated AMD Radeon 890M does not decide" in why(found, flavour)
    assert "decide" not in why(of(on(UBUNTU, RADEON_890M)), "vulkan")


def test_two_cards_of_a_kind_are_counted() -> None:
    assert "2 x NVIDIA GeForce RTX 4060 Ti" in why(of(on(UBUNTU, RTX_4060_TI, RTX_4060_TI)), "cuda-12.8")


def test_a_card_whose_device_file_is_closed_says_who_may_open_it() -> None:
    closed = replace(RX_9070, nodes=(Node("/dev/dri/renderD128", may_open=False),))
    found = of(on(UBUNTU, closed))
    assert ranked(found) == ("cpu",)
    assert why(found, "vulkan") == (
        "this user may not open /dev/dri/renderD128: sudo usermod -aG render $USER, then log in again"
    )


def test_a_closed_file_counts_only_for_who_needs_it() -> None:
    kfd = replace(
        RX_9070, nodes=(Node("/dev/dri/renderD128", may_open=True), Node("/dev/kfd", may_open=False))
    )
    assert ranked(of(on(UBUNTU, kfd))) == ("vulkan", "cpu")
    assert "may not open /dev/kfd" in why(of(on(UBUNTU, kfd), flavour="rocm", gpu=True), "rocm-10.0")
    render = Node("/dev/dri/renderD128", may_open=False)
    assert ranked(of(on(UBUNTU, replace(RTX_4060_TI, nodes=(render,)))))[0] == "cuda-12.8"
    nouveau = replace(RTX_4060_TI, nodes=(render,), driver="nouveau")
    assert ranked(of(on(UBUNTU, nouveau))) == ("cpu",)


def test_one_closed_card_of_two_leaves_the_other() -> None:
    closed = replace(
        RTX_4060_TI, name="NVIDIA GeForce RTX 5090", nodes=(Node("/dev/nvidia1", may_open=False),)
    )
    reason = why(of(on(UBUNTU, RTX_4060_TI, closed)), "cuda-12.8")
    assert reason.startswith("NVIDIA GeForce RTX 4060 Ti: ")
    assert reason.endswith("this user may not open /dev/nvidia1")


def test_a_gpu_of_a_maker_that_nobody_knows_gets_vulkan() -> None:
    found = of(on(UBUNTU, Gpu("unknown")))
    assert ranked(found) == ("vulkan", "cpu")
    assert why(found, "vulkan") == "unknown GPU: Vulkan needs the graphics driver alone"


def test_adreno_is_served_by_opencl_first() -> None:
    found = of(BOXES["x-elite"])
    assert why(found, "opencl-adreno").endswith("llama.cpp's OpenCL is written for Adreno")
    assert ranked(of(BOXES["x-elite"], flavour="cpu")) == ("cpu",)


def test_a_mac_has_metal_even_where_its_gpu_was_not_seen() -> None:
    assert of(MAC).ranked[0].reason == "this Mac: Metal is part of macOS"
    assert of(on(MAC, M4), gpu=True).ranked[0].reason == "Apple M4: Metal is part of macOS"


# which card


GT_1030 = nvidia("GeForce GT 1030", "6.1", gib=2)
GTX_1070 = nvidia("GeForce GTX 1070", "6.1", gib=8)
T400 = nvidia("T400 4GB", "7.5", gib=4)
RX_7900_XTX = replace(RX_9070, name="AMD Radeon RX 7900 XTX", memory_bytes=24 * GIB)
RX_9070_16 = replace(RX_9070, memory_bytes=16 * GIB)
STRIX_HALO = replace(RADEON_8060S, memory_bytes=120 * GIB, shared_bytes=119 * GIB, unified=True)
RADEON_780M = replace(RADEON_890M, name="AMD Radeon 780M", memory_bytes=16 * GIB, unified=True)
ARC_B580 = Gpu("intel", "Intel Arc B580", memory_bytes=12 * GIB, integrated=False, driver="xe", nodes=RENDER)
UHD = Gpu(
    "intel", "Intel UHD Graphics 770", memory_bytes=48 * GIB, integrated=True, driver="i915", nodes=RENDER
)
OF_20B, OF_120B = 12 * GIB, 60 * GIB


def best(*gpus: Gpu, model_bytes: int | None = None) -> tuple[str, str]:
    """The flavour, and what is said of it."""
    option = survey(on(UBUNTU, *gpus), release(NEW), flavour=None, gpu=False, model_bytes=model_bytes).ranked[
        0
    ]
    return option.flavour, option.reason


@pytest.mark.parametrize("old", [GT_1030, T400, GTX_1070])
@pytest.mark.parametrize("model_bytes", [None, OF_20B])
def test_a_large_card_decides_and_a_small_one_of_another_maker_stays_idle(
    old: Gpu, model_bytes: int | None
) -> None:
    flavour, reason = best(old, RX_7900_XTX, model_bytes=model_bytes)
    assert flavour == "vulkan"
    assert reason.startswith("AMD Radeon RX 7900 XTX: ")
    assert f"{old.name} stays idle" in reason
    assert "server.device would add it" in reason


def test_two_cards_of_a_size_get_the_faster_engine_and_it_says_what_would_use_both() -> None:
    flavour, reason = best(RTX_4060_TI, RX_9070_16, model_bytes=OF_20B)
    assert flavour == "cuda-12.8"
    assert "AMD Radeon RX 9070 stays idle: only engine.flavour vulkan would use both" in reason


def test_two_makers_cards_together_carry_what_one_does_not() -> None:
    flavour, reason = best(RTX_4060_TI, RX_9070_16, model_bytes=24 * GIB)
    assert flavour == "vulkan"
    assert "idle" not in reason


def test_strix_halo_beside_a_small_card_carries_the_model() -> None:
    for model_bytes in (OF_20B, OF_120B):
        flavour, reason = best(T400, STRIX_HALO, model_bytes=model_bytes)
        assert flavour == "vulkan"
        assert reason.startswith("AMD Radeon 8060S: ")
        assert "NVIDIA T400 4GB stays idle" in reason


@pytest.mark.parametrize("graphics", [RADEON_780M, UHD])
def test_ordinary_graphics_in_the_processor_never_beat_a_card(graphics: Gpu) -> None:
    """They read the same memory as the processor."""
    flavour, reason = best(graphics, nvidia("GeForce GTX 1650", "7.5", gib=4), model_bytes=OF_120B)
    assert flavour == "cuda-12.8"
    assert f"the integrated {graphics.name} does not decide" in reason


def test_an_arc_card_decides_beside_graphics_of_the_same_maker() -> None:
    flavour, reason = best(UHD, ARC_B580, model_bytes=OF_120B)
    assert flavour == "vulkan"
    assert reason.startswith("Intel Arc B580: ")


def test_a_large_old_card_of_nvidia_does_not_hide_a_new_one_of_amd() -> None:
    flavour, reason = best(nvidia("Tesla P40", "6.1", gib=24), RX_7900_XTX, model_bytes=OF_20B)
    assert flavour == "vulkan"
    assert "NVIDIA Tesla P40 stays idle" in reason


def test_a_card_that_nobody_may_open_is_not_told_to_be_used() -> None:
    closed = replace(RX_9070_16, nodes=(Node("/dev/dri/renderD128", may_open=False),))
    assert "idle" not in best(RTX_4060_TI, closed)[1]


# what the profile asks for


@pytest.mark.parametrize(
    ("gpus", "flavour", "flavours"),
    [
        ((RTX_4060_TI,), "cuda", ("cuda-12.8", "cuda-13.4")),
        ((RTX_4060_TI,), "cuda-13.4", ("cuda-13.4",)),
        ((RTX_4060_TI,), "vulkan", ("vulkan",)),
        ((RADEON_8060S,), "rocm", ("rocm-10.0",)),
        ((RADEON_890M, RTX_4060_TI), "rocm", ("rocm-10.0",)),
        ((ARC,), "sycl", ("sycl-fp16", "sycl-fp32")),
        ((ARC,), "sycl-fp32", ("sycl-fp32",)),
        ((ARC,), "openvino", ("openvino-2026.4.1",)),
        ((), "openvino", ("openvino-2026.4.1",)),
        ((RTX_4060_TI,), "cpu", ("cpu",)),
        ((ARC,), "cuda", ()),
        ((), "vulkan", ()),
        ((ADRENO,), "opencl", ()),
    ],
)
def test_only_what_is_asked_for_is_ranked(
    gpus: tuple[Gpu, ...], flavour: str, flavours: tuple[str, ...]
) -> None:
    found = of(on(UBUNTU, *gpus), flavour=flavour)
    assert ranked(found) == flavours
    assert all(
        each.reason == f"the profile asks for {flavour}"
        for each in found.rejected
        if each.flavour.partition("-")[0] != flavour.partition("-")[0]
    )


def test_rocm_sycl_and_openvino_are_taken_only_where_asked_for() -> None:
    assert why(of(on(UBUNTU, RX_9070)), "rocm-10.0") == "taken only where a profile asks for it"
    assert why(of(on(UBUNTU, ARC)), "sycl-fp16") == "taken only where a profile asks for it"
    assert why(of(on(UBUNTU, ARC)), "openvino-2026.4.1") == "taken only where a profile asks for it"
    assert why(of(on(UBUNTU, ARC)), "rocm-10.0") == "no AMD GPU was found"


def test_what_is_asked_for_and_not_in_the_release_is_named() -> None:
    found = of(BOXES["max395"], release("b10437"), flavour="rocm", gpu=True)
    assert why(found, "rocm") == "this release has no ROCm build for Linux on x86_64"
    assert why(of(BOXES["wsl2"], flavour="cuda-12.4"), "cuda-12.4") == (
        "this release has no CUDA 12.4 build for Linux on x86_64"
    )


def test_the_cpu_does_not_do_for_a_profile_that_asks_for_a_gpu() -> None:
    found = of(BOXES["285h"], gpu=True)
    assert ranked(found) == ("vulkan",)
    assert why(found, "cpu") == "the profile asks for a GPU"
    assert ranked(of(BOXES["no-gpu"], gpu=True)) == ()


# flavours by name


def order(
    box: Hardware, *flavours: str, flavour: str | None = None, gpu: bool = False
) -> tuple[list[str], dict[str, str]]:
    taken, rejected = order_flavours(box, flavours, flavour=flavour, gpu=gpu)
    return [each.flavour for each in taken], {each.flavour: each.reason for each in rejected}


def test_what_is_installed_is_ordered_by_name_alone() -> None:
    installed = ("cpu", "vulkan", "cuda-13.4", "cuda-12.8", "cuda", "metal", "strange")
    taken, rejected = order(BOXES["newest-driver"], *installed)
    assert taken[-2:] == ["vulkan", "cpu"]
    assert taken.index("cuda-13.4") < taken.index("cuda-12.8")
    assert "cuda" in taken
    assert rejected == {"metal": "Metal is part of macOS only", "strange": "nobody here knows this flavour"}


def test_a_musl_runs_what_was_made_for_it() -> None:
    assert order(BOXES["alpine"], "cpu", "cuda-12.8")[0] == ["cuda-12.8", "cpu"]


def test_nothing_is_made_of_nothing() -> None:
    assert order_flavours(UBUNTU, (), flavour=None, gpu=False) == ((), ())
