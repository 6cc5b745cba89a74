"""What holds for any computer, any part of any release, and any wish."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.build import family, numbers, version
from supervisor.engine.catalogue.releases import Release, parse
from supervisor.engine.survey import Survey, order_flavours, survey
from supervisor.hardware.hardware import Gpu, Hardware, Node

from .engine_boxes import BOXES
from .engine_releases import ERAS, asset, names

_NODES = st.builds(
    Node,
    st.sampled_from(
        ["/dev/nvidia0", "/dev/nvidia1", "/dev/dri/renderD128", "/dev/kfd", "/dev/dxg", "/dev/odd"]
    ),
    st.booleans(),
)
_GPUS = st.builds(
    Gpu,
    vendor=st.sampled_from(["nvidia", "amd", "intel", "apple", "qualcomm", "unknown"]),
    name=st.sampled_from(["", "Card", "Other Card"]),
    memory_bytes=st.none() | st.integers(0, 2**40),
    integrated=st.none() | st.booleans(),
    driver=st.sampled_from(["", "nvidia", "nouveau", "amdgpu", "xe"]),
    driver_version=st.sampled_from(["", "470.1", "525.60.13", "550.1", "580.95.05", "615.1"]) | st.text(),
    cuda=st.sampled_from(["", "11.4", "12.4", "12.8", "13.0", "13.4"]) | st.text(),
    architecture=st.sampled_from(["", "3.5", "6.1", "7.5", "8.9", "10.0", "12.0", "gfx1151"]) | st.text(),
    nodes=st.lists(_NODES, max_size=3).map(tuple),
)
_COMPUTERS = st.sampled_from(list(BOXES.values())) | st.builds(
    Hardware,
    os=st.sampled_from(["linux", "macos", "windows"]),
    arch=st.sampled_from(["x86_64", "arm64", "s390x", "riscv64"]),
    libc=st.sampled_from(["", "glibc", "musl"]),
    libc_version=st.sampled_from(["", "2.31", "2.36", "2.39"]) | st.text(),
    gpus=st.lists(_GPUS, max_size=3).map(tuple),
)
_INVENTED = st.from_regex(
    r"(cudart-)?llama-(b1-)?bin-(ubuntu|linux|win|macos)(-(cpu|cuda|vulkan|rocm|odd))?(-1[2-4]\.[0-9])?"
    r"-(x64|arm64)\.(zip|tar\.gz)",
    fullmatch=True,
)
_ASSETS = st.sampled_from(ERAS).flatmap(lambda tag: st.sets(st.sampled_from(names(tag)))) | st.sets(_INVENTED)
_RELEASES = st.builds(
    lambda chosen, bad, tag: Release(
        tag,
        tuple(asset(name, digest=name not in bad[0], uploaded=name not in bad[1]) for name in sorted(chosen)),
    ),
    _ASSETS,
    st.tuples(_ASSETS, _ASSETS) | st.just((set(), set())),
    st.just("b1"),
)
_WISHES = st.none() | st.sampled_from(
    [
        "cpu",
        "cuda",
        "cuda-12.8",
        "cuda-13.4",
        "vulkan",
        "metal",
        "rocm",
        "sycl",
        "opencl",
        "openvino",
        "odd",
        "",
    ]
)


def surveyed(box: Hardware, release: Release, wish: str | None, gpu: bool) -> Survey:
    return survey(box, release, flavour=wish, gpu=gpu)


@given(_COMPUTERS, _RELEASES, _WISHES, st.booleans())
def test_nothing_is_offered_that_is_not_in_the_release_or_cannot_be_verified(box, release, wish, gpu):
    for option in surveyed(box, release, wish, gpu).ranked:
        for each in (option.archive, *filter(None, [option.companion])):
            assert each in release.assets
            assert each.usable


@given(_COMPUTERS, _RELEASES, _WISHES, st.booleans())
def test_every_flavour_stands_once_and_has_a_reason(box, release, wish, gpu):
    found = surveyed(box, release, wish, gpu)
    flavours = [each.flavour for each in (*found.ranked, *found.rejected)]
    assert len(flavours) == len(set(flavours))
    assert all(each.reason.strip() for each in (*found.ranked, *found.rejected))
    here = [each for asset in release.assets if (each := parse(asset.name)) and each.kind == "engine"]
    fitting = {each.flavour for each in here if (each.os, each.arch) == (box.os, box.arch)} - {""}
    assert fitting <= set(flavours)


@given(_COMPUTERS, _RELEASES, _WISHES, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_files_changes_nothing(box, release, wish, gpu, chance):
    shuffled = list(release.assets)
    chance.shuffle(shuffled)
    again = replace(release, assets=tuple(shuffled))
    assert surveyed(box, again, wish, gpu) == surveyed(box, release, wish, gpu)


@given(_COMPUTERS, _RELEASES, _WISHES, st.booleans())
def test_without_its_runtime_no_cuda_is_left(box, release, wish, gpu):
    for option in surveyed(box, release, wish, gpu).ranked:
        if family(option.flavour) != "cuda":
            assert option.companion is None
            continue
        assert option.companion is not None
    engines = tuple(each for each in release.assets if not each.name.startswith("cudart"))
    remaining = surveyed(box, replace(release, assets=engines), wish, gpu).ranked
    assert "cuda" not in {family(each.flavour) for each in remaining}


@given(_COMPUTERS, _RELEASES, _WISHES, st.booleans())
def test_blackwell_never_gets_less_than_12_8(box, release, wish, gpu):
    cards = [each for each in box.gpus if each.vendor == "nvidia"]
    if not cards or not all(numbers(card.architecture) >= (10, 0) for card in cards):
        return
    for option in surveyed(box, release, wish, gpu).ranked:
        assert family(option.flavour) != "cuda" or version(option.flavour) >= (12, 8)


@given(_COMPUTERS, _RELEASES, _WISHES, st.booleans())
def test_the_profile_has_the_last_word(box, release, wish, gpu):
    ranked = [each.flavour for each in surveyed(box, release, wish, gpu).ranked]
    if gpu:
        assert "cpu" not in ranked
    if wish is not None:
        assert all(each == wish or each.startswith(f"{wish}-") for each in ranked)
    assert "cpu" not in ranked[:-1]


@given(_COMPUTERS, st.lists(st.text() | st.sampled_from(["cpu", "cuda", "cuda-12.8", "vulkan"])), _WISHES)
def test_any_names_are_ordered_or_rejected(box, flavours, wish):
    ranked, rejected = order_flavours(box, flavours, flavour=wish, gpu=False)
    assert {each.flavour for each in (*ranked, *rejected)} == set(flavours)
    assert not {each.flavour for each in ranked} & {each.flavour for each in rejected}
    assert order_flavours(box, reversed(flavours), flavour=wish, gpu=False) == (ranked, rejected)
