"""
Tests that an engine runs, sees the device that it is for, and computes correctly on it.

llama.cpp silently skips a backend whose library does not load, and uses the CPU: this finds out why.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import SupervisorError
from ...model.demo import DEMO_ANSWER
from ...options.help import Capabilities
from ...options.option_types import OptionValue
from ...options.render import render
from ...tool import NO_VARIABLES, ToolResult, run_engine
from ..build import DEVICES, FAMILIES, family
from ..inspection import BUILD_HINT, inspect, remedy
from ..suitability import flavour_of
from .smoke_test import HOST, Failed, PortTaken, ShortOfMemory, free_port, running

ANSWER_SECONDS = 60.0
LONG_ANSWER_SECONDS = 120.0  # a driver compiles its kernels the first time; Windows scans each new file
PORTS_TRIED = 3
_SHOWN = 60  # characters of a wrong answer
TIMEOUT_SECONDS = 30.0
_SPELLINGS = ("lib{}.so", "{}.dll", "lib{}.dylib")
_COMPLAINT = re.compile(
    r"fail|error|insufficient|not found|no \S* ?devices?\b|unable|cannot|unsupported|not supported|invalid",
    re.IGNORECASE,
)
_NOISE = re.compile(r"^\d+(?:\.\d+){3} [A-Z] +|^\w+Error: ")
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


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
    timeout_seconds: float | None = None,
    variables: Mapping[str, str] = NO_VARIABLES,
) -> Proof:
    """
    Ask an engine what it is, then the demo model a question on the device that ``flavour`` is for.

    ``demo`` is the file of the demo model, ``cache`` where ``inspect`` keeps what engines said.  It takes a
    second, or as long as ``timeout_seconds`` for the start and again for the answer.  ``variables`` are a
    profile's.
    """
    try:
        inspection = inspect(command, cache, fresh_devices=True, variables=variables)
    except SupervisorError as error:
        return Proof((), str(error).rstrip("."))
    of = family(flavour)
    mine = [device for device in inspection.devices if flavour_of((device,)) == of]
    if not mine and of in DEVICES.values():
        return Proof(
            inspection.devices, f"it sees no {FAMILIES[of]} device: {why_missing(command, of, variables)}"
        )
    name = mine[0].partition(":")[0] if mine else ""
    slow = sys.platform == "win32" or of in DEVICES.values()
    seconds = timeout_seconds or (LONG_ANSWER_SECONDS if slow else ANSWER_SECONDS)
    try:
        reply = _answer(command, inspection.capabilities, demo, name, seconds, variables=variables)
    except Failed as failure:
        return Proof(inspection.devices, f"it {failure}", lasting=not isinstance(failure, ShortOfMemory))
    except OSError as error:
        return Proof(inspection.devices, f"it could not be started: {error}")
    return Proof(inspection.devices, _wrong_with(reply, name))


def _wrong_with(reply: str, device: str) -> str:
    """What is wrong with its answer; empty for the right one."""
    if DEMO_ANSWER in reply:  # older builds leave the thoughts of the model in its answer
        return ""
    on = f" on {device}" if device else ""
    return f"it computes wrongly{on}: the demo model said {reply[:_SHOWN]!r}"


def _answer(
    command: Sequence[str],
    capabilities: Capabilities,
    demo: Path,
    device: str,
    timeout_seconds: float,
    *,
    variables: Mapping[str, str],
) -> str:
    """Raises Failed; PortTaken only where several ports in a row were taken by others."""
    for attempt in range(PORTS_TRIED):
        port = free_port()
        argv = _argv(_meant(demo, port, device), capabilities)
        try:
            with running([*command, *argv], port, variables) as server:
                return server.answer(timeout_seconds)
        except PortTaken:
            if attempt == PORTS_TRIED - 1:
                raise
    raise AssertionError("unreachable")


def _meant(demo: Path, port: int, device: str) -> dict[str, OptionValue]:
    """One slot, nothing that takes time, and all of it on the device, where a missing one is an error."""
    always: dict[str, OptionValue] = {
        "model": str(demo), "host": HOST, "port": port, "ctx-size": 2048, "parallel": 1, "jinja": True,
        "warmup": False, "fit": "off",
    }  # fmt: skip
    return always | {"gpu-layers": "all", "device": device} if device else always


def _argv(meant: Mapping[str, OptionValue], capabilities: Capabilities) -> tuple[str, ...]:
    """Rendered for this build; options that it lacks are left out, since none of them decides."""
    rendered = [render({name: value}, capabilities) for name, value in meant.items()]
    return tuple(word for each in rendered if not each.problems for word in each.argv)


def why_missing(command: Sequence[str], of: str, variables: Mapping[str, str] = NO_VARIABLES) -> str:
    """
    The words of the engine, of the linker, or of nobody; ``of`` is a family, as ``cuda``.

    The engine's come first: with its library loaded, it is the driver that speaks.
    """
    return _complaint(_ask([*command, "--list-devices"], variables)) or _of_library(Path(command[0]), of)


def _of_library(binary: Path, of: str) -> str:
    name = f"ggml-{'hip' if of == 'rocm' else of}"  # as ggml/src names it
    library = _beside(binary, name)
    if library is None:
        return f"there is no library {name} next to it, and it printed nothing"
    outcome = _ask([sys.executable, "-I", "-c", _LOAD, str(library)])
    if outcome.returncode == 0:
        return f"{library.name} loads, but its driver shows it none, or this user may not open it"
    if outcome.returncode is None:
        return f"{library.name} did not load within {TIMEOUT_SECONDS:g} s"
    if outcome.returncode < 0:
        return f"{library.name} crashes when it is loaded ({signal.Signals(-outcome.returncode).name})"
    return _with_remedy(_last_line(outcome.stderr))


def _beside(binary: Path, name: str) -> Path | None:
    """In the folder of the binary, or in ``lib`` where ``cmake --install`` puts it."""
    here = binary.resolve().parent
    places = (folder / form.format(name) for folder in (here, here.parent / "lib") for form in _SPELLINGS)
    return next((place for place in places if place.exists()), None)


def _with_remedy(words: str) -> str:
    missing = re.match(r"(\S+\.so[.\d]*): cannot open shared object", words)
    what_to_do = remedy(missing[1]) if missing else BUILD_HINT
    return words if what_to_do == BUILD_HINT else f"{words} ({what_to_do.rstrip('.')})"


def _complaint(outcome: ToolResult) -> str:
    lines = (_NOISE.sub("", line.strip()) for line in outcome.stderr.splitlines())
    return next((line for line in lines if _COMPLAINT.search(line)), "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _NOISE.sub("", lines[-1]) if lines else "its library does not load"


def _ask(command: Sequence[str], variables: Mapping[str, str] = NO_VARIABLES) -> ToolResult:
    """An outcome also for what cannot be started: it ran a moment ago, so that is a word like any other."""
    try:
        return run_engine(command, TIMEOUT_SECONDS, variables)
    except OSError as error:
        return ToolResult(1, "", str(error))
