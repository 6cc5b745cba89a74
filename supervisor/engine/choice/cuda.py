"""
Which CUDA a computer's NVIDIA cards can run.  Pure.

Within one major version a build runs with an older driver ("minor version compatibility"): 12.x from driver
525 on, 13.x from 580 on (NVIDIA, CUDA Compatibility, table 1; the same numbers serve for Windows).  Such a
driver cannot compile the build's PTX, so a version that the driver knows itself is preferred, and the proof
after the installation decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...hardware.hardware import Gpu
from ..flavours import numbers
from .judgement import Judgement, refuse, together

_DRIVERS = {12: 525, 13: 580}  # the oldest driver, by major version of CUDA
_CAPABILITIES = {12: (5, 0), 13: (7, 5)}  # the oldest cards: 12 dropped Kepler, 13 all before Turing
_BLACKWELL = (10, 0)
_FOR_BLACKWELL = (12, 8)


def judge(version: tuple[int, ...], cards: Sequence[Gpu]) -> Judgement:
    """
    A build of CUDA ``version`` on ``cards``, at least one, all NVIDIA's and all to be opened.

    ``version`` is empty for a build whose CUDA is not known.  Where cards differ, a build that serves all of
    them is better than one that serves the best only, and one that does not serve the best is refused.
    """
    best = max(cards, key=lambda card: (capability(card), card.memory_bytes or 0))
    if best.driver.startswith("nouveau"):
        return refuse(f"{best.name or 'the card'} runs with nouveau, CUDA needs NVIDIA's own driver")
    if version and (refusal := _driver_refusal(version, best) or _card_refusal(version, best)):
        return refuse(refusal)
    left = [card for card in cards if version and _card_refusal(version, card)]
    known = numbers(best.cuda)
    borrowed = bool(version and known and version > known)
    clauses = (
        f"driver {best.driver_version}" if best.driver_version else "its driver's version is not known",
        f"compute capability {best.architecture}" if capability(best) else "compute capability not known",
        f"by minor version compatibility (the driver itself knows CUDA {best.cuda})" if borrowed else "",
        *(f"not for {card.name or 'a card'} (compute capability {card.architecture})" for card in left),
    )
    return Judgement(together(clauses), order=(len(left), int(borrowed), *(-part for part in version)))


def capability(card: Gpu) -> tuple[int, ...]:
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
    found = capability(card)
    if not found:
        return ""
    said = f"{card.name or 'the card'} has compute capability {card.architecture}"
    oldest = _CAPABILITIES.get(min(version[0], max(_CAPABILITIES)))
    if oldest and found < oldest:
        return f"{said}, CUDA {version[0]} begins at {oldest[0]}.{oldest[1]}"
    if found >= _BLACKWELL and version < _FOR_BLACKWELL:
        return f"{said} (Blackwell), which needs CUDA 12.8 or newer"
    return ""
