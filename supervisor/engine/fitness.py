"""Whether a build suits what a profile asks for, and if not, why.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .build import Build
from .inventory import Install

UNKNOWN = "unknown"

# how the names of devices begin, newest spelling first (ggml's backends)
DEVICES = {
    "CUDA": "cuda", "ROCm": "rocm", "Vulkan": "vulkan", "MTL": "metal", "Metal": "metal", "SYCL": "sycl",
    "GPUOpenCL": "opencl", "OPENVINO": "openvino",
}  # fmt: skip
_FLOATING = {None, "stable", "nightly"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """``flavour`` and ``number`` are None where any will do."""

    flavour: str | None
    number: int | None
    gpu: bool


def wanted_number(channel: str | None) -> int | None:
    """11434 for b11434, None for a channel that floats; raises ConfigError for anything else."""
    if channel in _FLOATING:
        return None
    if found := re.fullmatch(r"b(\d+)", channel or ""):
        return int(found[1])
    raise ConfigError(
        f"engine.channel {channel} is neither a channel nor a tag of llama.cpp.",
        hint="Use stable, nightly, or a tag such as b11434.",
    )


def flavour_of(devices: Sequence[str]) -> str:
    """What the devices of a build tell of its flavour; a build without any may be of every flavour."""
    found = (
        flavour for device in devices for prefix, flavour in DEVICES.items() if device.startswith(prefix)
    )
    return next(found, UNKNOWN)


def wrong_number(build: Build, wanted: Wanted) -> str:
    """Why the number of this build will not do; empty when it will."""
    if wanted.number is None or build.number == wanted.number:
        return ""
    said = f"is b{build.number}" if build.number else "does not know its number"
    return f"it {said}, and the profile asks for b{wanted.number}"


def why_not(build: Build, wanted: Wanted) -> str:
    """Why a build, chosen by ourselves, will not do; empty when it will."""
    if refusal := wrong_number(build, wanted) or _wrong_flavour(build.flavour, wanted):
        return refusal
    if wanted.gpu and not build.devices:
        return "it sees no GPU, and the profile asks for one"
    if wanted.flavour == "cpu" and build.devices:
        return f"it would use {build.devices[0].partition(':')[0]}, and the profile asks for the CPU only"
    return ""


def why_not_embedded(wanted: Wanted, number: int) -> str:
    """The same for the embedded engine, before it is installed."""
    if wanted.gpu or wanted.flavour not in {None, "cpu"}:
        return "it has no GPU, and the profile asks for one"
    if wanted.number not in {None, number}:
        return f"it is b{number}, and the profile asks for b{wanted.number}"
    return ""


def order(installs: Iterable[Install], flavours: Sequence[str]) -> list[Install]:
    """
    Those worth asking, the best first; ``flavours`` are those that suit, best first.

    Of one flavour the embedded engine, which is made for any CPU, comes last; newest first as they come.
    """
    fitting = [each for each in installs if each.flavour in flavours]
    return sorted(fitting, key=lambda each: (flavours.index(each.flavour), each.source == "embedded"))


def is_of(flavour: str, wanted: str | None) -> bool:
    """Whether ``cuda-12.8`` is what was asked for: any, its family ``cuda``, or exactly that."""
    return wanted is None or flavour == wanted or flavour.startswith(f"{wanted}-")


def _wrong_flavour(flavour: str, wanted: Wanted) -> str:
    if flavour == UNKNOWN or is_of(flavour, wanted.flavour) or is_of(wanted.flavour or "", flavour):
        return ""
    return f"it is of flavour {flavour}, and the profile asks for {wanted.flavour}"
