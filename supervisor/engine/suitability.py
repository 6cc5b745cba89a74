"""
Whether a build or a flavour suits a computer and a profile's requirements.  Pure.

Within one major version a build of CUDA runs with an older driver ("minor version compatibility"): 12.x from
driver 525 on, 13.x from 580 on (NVIDIA, CUDA Compatibility, table 1; also on Windows).  Such a driver cannot
compile the build's PTX, so a version that the driver supports natively is preferred, and the test after the
installation decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from ..hardware.hardware import Gpu, Hardware
from .build import DEVICES, FAMILIES, Build, family, numbers, version
from .device_choice import DeviceChoice, by_default, choose_devices, usable_bytes
from .inventory import Install

_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple", "qualcomm": "Qualcomm"}
_MADE_FOR = {"cuda": "nvidia", "rocm": "amd", "sycl": "intel", "opencl": "qualcomm"}
# they need runtimes of their makers that match, where Vulkan needs the driver alone
_ONLY_WHEN_ASKED = {"rocm", "sycl", "openvino"}
_WHY = {
    "vulkan": "Vulkan needs the graphics driver alone",
    # ggml's OpenCL backend is written by Qualcomm for Adreno first, with kernels for MXFP4 of
    # mixtures of experts; its Vulkan backend is tuned for other vendors (docs/backend/OPENCL.md)
    "opencl": "llama.cpp's OpenCL is written for Adreno",
}
_DRIVERS = {12: 525, 13: 580}  # the oldest driver, by major version of CUDA
_CAPABILITIES = {12: (5, 0), 13: (7, 5)}  # the oldest cards: 12 dropped Kepler, 13 all before Turing
_BLACKWELL = (10, 0)
_LAST = float("inf")  # the CPU alone is what is left where no GPU can be used
_FOR_BLACKWELL = (12, 8)


@dataclass(frozen=True, slots=True)
class FlavourJudgement:
    """
    The judgement on one flavour on one computer; less is better of ``seconds`` (of a token, roughly: see
    `choose_devices`) and, where those are equal, of ``order``, which is within its family.
    """

    reason: str
    refused: bool = False
    order: tuple[int, ...] = ()
    seconds: float = 0.0


def refuse(reason: str) -> FlavourJudgement:
    return FlavourJudgement(reason, refused=True)


def together(clauses: Iterable[str]) -> str:
    return ", ".join(clause for clause in clauses if clause)


def judge_flavour(
    flavour: str, hardware: Hardware, *, asked: str | None, gpu: bool, model_bytes: int | None = None
) -> FlavourJudgement:
    """
    ``asked`` is a family or exact, None is any; ``gpu`` says that the CPU alone will not do; ``model_bytes``
    None is a model that is not known yet.
    """
    of = family(flavour)
    if of not in FAMILIES:
        return refuse("nobody here knows this flavour")
    if not is_of(flavour, asked):
        return refuse(f"the profile asks for {asked}")
    if of == "cpu":
        return _cpu(hardware, asked, gpu=gpu)
    if of == "metal":
        return _metal(hardware)
    cards = [each for each in hardware.gpus if each.vendor == _MADE_FOR.get(of, each.vendor)]
    if not cards and of != "openvino":
        vendor = _VENDORS.get(_MADE_FOR.get(of, ""), "")
        return refuse(f"no {vendor} GPU was found" if vendor else "no GPU was found")
    if asked is None and of in _ONLY_WHEN_ASKED:
        return refuse("taken only where a profile asks for it")
    return _on_cards(flavour, cards, hardware, model_bytes)


def _cpu(hardware: Hardware, asked: str | None, *, gpu: bool) -> FlavourJudgement:
    if gpu:
        return refuse("the profile asks for a GPU")
    if asked is not None:
        return FlavourJudgement("the profile asks for it", seconds=_LAST)
    if hardware.gpus and hardware.os != "macos":
        return FlavourJudgement("it needs no GPU", seconds=_LAST)
    why = "no GPU was found" if not hardware.gpus else "there is nothing else for this system"
    return FlavourJudgement(why, seconds=_LAST)


def _metal(hardware: Hardware) -> FlavourJudgement:
    if hardware.os != "macos":
        return refuse("Metal is part of macOS only")
    return FlavourJudgement(f"{_names(hardware.gpus) or 'this Mac'}: Metal is part of macOS")


def _on_cards(
    flavour: str, cards: Sequence[Gpu], hardware: Hardware, model_bytes: int | None
) -> FlavourJudgement:
    of = family(flavour)
    open_ = [card for card in cards if not _closed(card, of)]
    if cards and not open_:
        return refuse(_may_not_open(_closed(cards[0], of)[0]))
    order = tuple(-part for part in version(flavour))
    why = _WHY.get(of, "the profile asks for it")
    able = open_
    if of == "cuda":
        judged = _with_cuda(version(flavour), [open_[index] for index in by_default(open_)])
        if judged.refused:
            return judged
        order, why = judged.order, judged.reason
        able = [card for card in open_ if not (version(flavour) and _card_refusal(version(flavour), card))]
    choice = choose_devices(able, flavour, model_bytes)
    used = [able[index] for index in choice.used]
    closed = [path for card in cards for path in _closed(card, of)]
    clauses = (
        f"{_names(used)}: {why}" if used else why,
        _aside(used, hardware),
        *_idle(of, able, choice, hardware),
        *map(_may_not_open, closed),
    )
    return FlavourJudgement(together(clauses), order=order, seconds=choice.seconds)


def _aside(used: Sequence[Gpu], hardware: Hardware) -> str:
    """llama.cpp itself leaves integrated GPUs alone where there is another."""
    if any(card.integrated for card in used):
        return ""
    beside = [card for card in hardware.gpus if card.integrated]
    return f"the integrated {_names(beside)} does not decide" if beside and used else ""


def _idle(of: str, able: Sequence[Gpu], choice: DeviceChoice, hardware: Hardware) -> Iterable[str]:
    """Which cards get nothing, and what would use them; not those that this user may not open."""
    used = [able[index] for index in choice.used]
    slow = [card for index, card in enumerate(able) if index not in choice.used and not card.integrated]
    if slow:
        yield f"{_names(slow)} stays idle: it would slow {_names(used)} down (server.device would add it)"
    for card in hardware.gpus:
        if card.integrated or card in able or _closed(card, "vulkan") or not usable_bytes(card):
            continue
        if _MADE_FOR.get(of, card.vendor) != card.vendor:
            yield f"{_names([card])} stays idle: only engine.flavour vulkan would use both"


def _closed(card: Gpu, of: str) -> tuple[str, ...]:
    return tuple(node.path for node in card.nodes if not node.may_open and _is_needed(node.path, card, of))


def _is_needed(path: str, card: Gpu, of: str) -> bool:
    """NVIDIA's driver has device files of its own; the screen (/dev/dri/card0) is nobody's need."""
    own = card.vendor == "nvidia" and not card.driver.startswith("nouveau")
    if path.startswith("/dev/dri/render"):
        return not own
    if path.startswith("/dev/nvidia"):
        return own
    return path == "/dev/dxg" or (path == "/dev/kfd" and of == "rocm")


def _may_not_open(path: str) -> str:
    remedy = ": sudo usermod -aG render $USER, then log in again" if "nvidia" not in path else ""
    return f"this user may not open {path}{remedy}"


def _names(cards: Sequence[Gpu]) -> str:
    names = Counter(card.name or f"{_VENDORS.get(card.vendor, 'unknown')} GPU" for card in cards)
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in names.items())


def _with_cuda(version: tuple[int, ...], cards: Sequence[Gpu]) -> FlavourJudgement:
    """
    A build of CUDA ``version`` on ``cards``, at least one, all NVIDIA's and all to be opened.

    ``version`` is empty for a build whose CUDA is not known.  Where cards differ, a build that serves all of
    them is better than one that serves the best only, and one that does not serve the best is refused.
    """
    best = max(cards, key=lambda card: (_capability(card), card.memory_bytes or 0))
    if best.driver.startswith("nouveau"):
        return refuse(f"{best.name or 'the card'} runs with nouveau, CUDA needs NVIDIA's own driver")
    if version and (refusal := _driver_refusal(version, best) or _card_refusal(version, best)):
        return refuse(refusal)
    left = [card for card in cards if version and _card_refusal(version, card)]
    known = numbers(best.cuda)
    borrowed = bool(version and known and version > known)
    clauses = (
        f"driver {best.driver_version}" if best.driver_version else "its driver's version is not known",
        f"compute capability {best.architecture}" if _capability(best) else "compute capability not known",
        f"by minor version compatibility (the driver itself knows CUDA {best.cuda})" if borrowed else "",
        *(f"not for {card.name or 'a card'} (compute capability {card.architecture})" for card in left),
    )
    return FlavourJudgement(together(clauses), order=(len(left), int(borrowed), *(-part for part in version)))


def _capability(card: Gpu) -> tuple[int, ...]:
    """(8, 9); empty where it is not known."""
    return numbers(card.architecture)


def _driver_refusal(version: tuple[int, ...], card: Gpu) -> str:
    major = version[0]
    floor = _DRIVERS.get(major)
    needs = f"CUDA {major} needs {floor} or newer" if floor else f"CUDA {major} needs a newer one"
    branch = numbers(card.driver_version)
    if floor and branch and branch < (floor,):
        return f"the driver is {card.driver_version}, {needs}"
    known = numbers(card.cuda)
    if known and known[0] < major:
        return f"the driver knows CUDA up to {card.cuda}, {needs}"
    return ""


def _card_refusal(version: tuple[int, ...], card: Gpu) -> str:
    found = _capability(card)
    if not found:
        return ""
    said = f"{card.name or 'the card'} has compute capability {card.architecture}"
    oldest = _CAPABILITIES.get(min(version[0], max(_CAPABILITIES)))
    if oldest and found < oldest:
        return f"{said}, CUDA {version[0]} begins at {oldest[0]}.{oldest[1]}"
    if found >= _BLACKWELL and version < _FOR_BLACKWELL:
        return f"{said} (Blackwell), which needs CUDA 12.8 or newer"
    return ""


UNKNOWN = "unknown"

_FLOATING = {None, "stable", "nightly"}


@dataclass(frozen=True, slots=True)
class WantedEngine:
    """``flavour`` and ``number`` are None where any will do, ``model_bytes`` where the model is not known."""

    flavour: str | None
    number: int | None
    gpu: bool
    model_bytes: int | None = None


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


def wrong_number(build: Build, wanted: WantedEngine) -> str:
    """Why the number of this build will not do; empty when it will."""
    if wanted.number is None or build.number == wanted.number:
        return ""
    said = f"is b{build.number}" if build.number else "does not know its number"
    return f"it {said}, and the profile asks for b{wanted.number}"


def why_not(build: Build, wanted: WantedEngine) -> str:
    """Why a build, chosen by ourselves, will not do; empty when it will."""
    if refusal := wrong_number(build, wanted) or _wrong_flavour(build.flavour, wanted):
        return refusal
    if wanted.gpu and not build.devices:
        return "it sees no GPU, and the profile asks for one"
    if wanted.flavour == "cpu" and build.devices:
        return f"it would use {build.devices[0].partition(':')[0]}, and the profile asks for the CPU only"
    return ""


def why_not_embedded(wanted: WantedEngine, number: int) -> str:
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


def _wrong_flavour(flavour: str, wanted: WantedEngine) -> str:
    if flavour == UNKNOWN or is_of(flavour, wanted.flavour) or is_of(wanted.flavour or "", flavour):
        return ""
    return f"it is of flavour {flavour}, and the profile asks for {wanted.flavour}"
