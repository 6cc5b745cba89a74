from __future__ import annotations

import pytest

from supervisor.engine.build import Build
from supervisor.engine.inventory import Install
from supervisor.engine.suitability import (
    WantedEngine,
    flavour_of,
    is_of,
    order,
    wanted_number,
    why_not,
    why_not_embedded,
    wrong_number,
)
from supervisor.errors import ConfigError
from supervisor.options.help import Capabilities

CUDA = "CUDA0: NVIDIA GeForce RTX 4060 Ti (16062 MiB, 15862 MiB free)"
ANY = WantedEngine(flavour=None, number=None, gpu=False)
GPU = WantedEngine(flavour=None, number=None, gpu=True)


def build(*, flavour: str = "unknown", number: int | None = 11434, devices: tuple[str, ...] = ()) -> Build:
    return Build(
        source="system",
        repository="unknown",
        tag=f"b{number}",
        flavour=flavour,
        command=("llama-server",),
        digest="",
        capabilities=Capabilities(number, "", "", ()),
        devices=devices,
    )


def install(source: str, flavour: str, tag: str = "b11434") -> Install:
    return Install(source, "some", tag, flavour, "1", ("x",), ("x",))


@pytest.mark.parametrize(
    ("candidate", "wanted", "said"),
    [
        (build(), ANY, ""),
        (build(number=None), ANY, ""),
        (build(), WantedEngine(None, 11434, gpu=False), ""),
        (build(), WantedEngine(None, 11400, gpu=False), "it is b11434, and the profile asks for b11400"),
        (build(number=None), WantedEngine(None, 11400, gpu=False), "does not know its number"),
        (build(), GPU, "it sees no GPU"),
        (build(devices=(CUDA,)), GPU, ""),
        (build(flavour="cuda", devices=(CUDA,)), WantedEngine("cuda", None, gpu=True), ""),
        (
            build(flavour="cuda", devices=(CUDA,)),
            WantedEngine("vulkan", None, gpu=True),
            "it is of flavour cuda",
        ),
        (build(devices=(CUDA,)), WantedEngine("cpu", None, gpu=False), "it would use CUDA0"),
        (build(), WantedEngine("cpu", None, gpu=False), ""),
        (build(devices=(CUDA,)), ANY, ""),
    ],
)
def test_a_build_is_taken_or_refused_with_the_reason(
    candidate: Build, wanted: WantedEngine, said: str
) -> None:
    refusal = why_not(candidate, wanted)
    assert refusal.startswith(said) or said in refusal
    assert bool(refusal) == bool(said)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (ANY, ""),
        (WantedEngine("cpu", 11549, gpu=False), ""),
        (GPU, "it has no GPU"),
        (WantedEngine("cuda", None, gpu=False), "it has no GPU"),
        (WantedEngine(None, 11434, gpu=False), "it is b11549, and the profile asks for b11434"),
    ],
)
def test_the_embedded_engine_serves_only_where_no_gpu_and_no_other_build_is_asked_for(
    wanted: WantedEngine, said: str
) -> None:
    refusal = why_not_embedded(wanted, 11549)
    assert refusal.startswith(said)
    assert bool(refusal) == bool(said)


def test_a_named_binary_is_only_held_to_its_number() -> None:
    assert wrong_number(build(), GPU) == ""
    assert "b11400" in wrong_number(build(), WantedEngine(None, 11400, gpu=False))


def test_installed_engines_come_in_the_order_of_flavours_and_the_embedded_one_last_of_its_own() -> None:
    embedded, here, gpu = install("embedded", "cpu"), install("build", "cpu"), install("build", "cuda")
    assert order([gpu, embedded, here], ("cpu", "cuda")) == [here, embedded, gpu]
    assert order([gpu, embedded, here], ("cuda", "cpu")) == [gpu, here, embedded]


def test_an_engine_of_a_flavour_that_does_not_suit_is_not_asked() -> None:
    cpu, cuda, vulkan = (install("build", flavour) for flavour in ("cpu", "cuda", "vulkan"))
    assert order([cpu, cuda, vulkan], ("vulkan",)) == [vulkan]


@pytest.mark.parametrize(
    ("flavour", "wanted", "said"),
    [
        ("cuda-12.8", None, True),
        ("cuda-12.8", "cuda", True),
        ("cuda-12.8", "cuda-12.8", True),
        ("cuda-12.8", "cuda-13.4", False),
        ("cuda-12.8", "cuda-12", False),
        ("cpu", "cuda", False),
    ],
)
def test_a_flavour_is_asked_for_by_family_or_exactly(flavour: str, wanted: str | None, said: bool) -> None:
    assert is_of(flavour, wanted) is said


@pytest.mark.parametrize(
    ("device", "flavour"),
    [
        (CUDA, "cuda"),
        ("ROCm0: AMD Radeon RX 9070 (16304 MiB, 16200 MiB free)", "rocm"),
        ("Vulkan0: Intel Arc (1 MiB, 1 MiB free)", "vulkan"),
        ("MTL0: Apple M4 Max (98304 MiB, 98304 MiB free)", "metal"),
        ("Metal: Apple M1 (1 MiB, 1 MiB free)", "metal"),
        ("RPC0: 10.0.0.2:50052 (1 MiB, 1 MiB free)", "unknown"),
    ],
)
def test_devices_tell_the_flavour(device: str, flavour: str) -> None:
    assert flavour_of((device,)) == flavour


def test_without_a_device_the_flavour_is_unknown() -> None:
    assert flavour_of(()) == "unknown"


@pytest.mark.parametrize(
    ("channel", "number"), [(None, None), ("stable", None), ("nightly", None), ("b11434", 11434)]
)
def test_a_channel_floats_or_names_a_build(channel: str | None, number: int | None) -> None:
    assert wanted_number(channel) == number


@pytest.mark.parametrize("channel", ["11434", "v0.6.0", "b", "b114x", ""])
def test_anything_else_is_no_channel(channel: str) -> None:
    with pytest.raises(ConfigError, match="neither a channel nor a tag"):
        wanted_number(channel)
