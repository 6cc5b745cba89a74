"""The proof that an engine runs, sees the device that it is for, and computes rightly on it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import SupervisorError
from ...model.demo import DEMO_ANSWER
from ...options.help import Capabilities
from ...options.option_values import OptionValue
from ...options.render import render
from ..fitness import DEVICES, flavour_of
from ..inspect import inspect
from .rehearsal import (
    HOST,
    Failed,
    PortTaken,
    ShortOfMemory,
    free_port,
    running,
)
from .unseen import why_unseen

PATIENCE_SECONDS = 60.0
LONG_PATIENCE_SECONDS = 120.0  # a driver compiles its kernels the first time; Windows scans each new file
PORTS_TRIED = 3
_SHOWN = 60  # characters of a wrong answer
_OLD_FAMILIES = {"hip": "rocm"}  # win-hip-radeon, before b10356
_SPOKEN = {"MTL": "Metal", "GPUOpenCL": "OpenCL", "OPENVINO": "OpenVINO"}


@dataclass(frozen=True, slots=True)
class Proof:
    """
    ``devices`` as ``--list-devices`` prints them; an empty ``problem`` is proved, else why it is not.

    A problem that is not ``lasting`` may be gone the next time: another program held the memory.
    """

    devices: tuple[str, ...]
    problem: str = ""
    lasting: bool = True


def prove(
    command: Sequence[str],
    flavour: str,
    demo: Path,
    cache: Path,
    *,
    patience_seconds: float | None = None,
) -> Proof:
    """
    Ask an engine what it is, then the demo model a question on the device that ``flavour`` is for.

    ``demo`` is the file of the demo model, ``cache`` where ``inspect`` keeps what engines said.  It takes a
    second, or as long as ``patience_seconds`` for the start and again for the answer.
    """
    try:
        seen = inspect(command, cache, fresh_devices=True)
    except SupervisorError as error:
        return Proof((), str(error).rstrip("."))
    family = family_of(flavour)
    mine = [device for device in seen.devices if flavour_of((device,)) == family]
    if not mine and family in DEVICES.values():
        return Proof(seen.devices, f"it sees no {_spoken(family)} device: {why_unseen(command, family)}")
    name = mine[0].partition(":")[0] if mine else ""
    patience = patience_seconds or _patience(family)
    try:
        said = _answer(command, seen.capabilities, demo, name, patience)
    except Failed as failure:
        return Proof(seen.devices, f"it {failure}", lasting=not isinstance(failure, ShortOfMemory))
    except OSError as error:
        return Proof(seen.devices, f"it could not be started: {error}")
    return Proof(seen.devices, _wrong_with(said, name))


def family_of(flavour: str) -> str:
    """``cuda`` of ``cuda-12.8``."""
    family = flavour.partition("-")[0]
    return _OLD_FAMILIES.get(family, family)


def _spoken(family: str) -> str:
    prefix = next(prefix for prefix, each in DEVICES.items() if each == family)
    return _SPOKEN.get(prefix, prefix)


def _patience(family: str) -> float:
    slow = sys.platform == "win32" or family in DEVICES.values()
    return LONG_PATIENCE_SECONDS if slow else PATIENCE_SECONDS


def _wrong_with(said: str, device: str) -> str:
    """What is wrong with its answer; empty for the right one."""
    if DEMO_ANSWER in said:  # older builds leave the thoughts of the model in its answer
        return ""
    on = f" on {device}" if device else ""
    return f"it computes wrongly{on}: the demo model said {said[:_SHOWN]!r}"


def _answer(
    command: Sequence[str], capabilities: Capabilities, demo: Path, device: str, patience_seconds: float
) -> str:
    """Raises Failed; PortTaken only where several ports in a row were taken by others."""
    for attempt in range(PORTS_TRIED):
        port = free_port()
        argv = _argv(_meant(demo, port, device), capabilities)
        try:
            with running([*command, *argv], port) as rehearsal:
                return rehearsal.answer(patience_seconds)
        except PortTaken:
            if attempt == PORTS_TRIED - 1:
                raise
    raise AssertionError("unreachable")


def _meant(demo: Path, port: int, device: str) -> dict[str, OptionValue]:
    """One slot, nothing that takes time, and all of it on the device, where a missing one is an error."""
    always: dict[str, OptionValue] = {
        "model": str(demo),
        "host": HOST,
        "port": port,
        "ctx-size": 2048,
        "parallel": 1,
        "jinja": True,
        "warmup": False,
        "fit": "off",
    }
    return always | {"gpu-layers": "all", "device": device} if device else always


def _argv(meant: Mapping[str, OptionValue], capabilities: Capabilities) -> tuple[str, ...]:
    """In this build's words; what it has no words for is left out, since none of it decides."""
    rendered = [render({name: value}, capabilities) for name, value in meant.items()]
    return tuple(word for each in rendered if not each.problems for word in each.argv)
