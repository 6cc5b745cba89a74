"""Why a server died, read from its last words (`signs`), or else from how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .exits import ExitStatus
from .signs import CPU_FALLBACK, LESS_MEMORY, SIGNS

Phase = Literal["starting", "serving"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``message`` is one sentence; ``hint`` says what to do; ``retryable``: the same plan may yet succeed."""

    kind: str
    message: str
    hint: str = ""
    retryable: bool = False


def diagnose(exit_status: ExitStatus | None, phase: Phase, tail: Sequence[str]) -> Diagnosis:
    """
    From how it ended and the end of its log; ``None`` is an end that nobody saw.

    A sign in the log outweighs the exit status, since llama-server ends nearly everything with 1.  Once it
    has served, its options and its model were good, whatever the log says of them.
    """
    log = "\n".join(tail)
    for sign in SIGNS if phase == "starting" else [sign for sign in SIGNS if sign.retryable]:
        found = sign.pattern.search(log)
        if found:
            groups = {name: (text or "").strip().rstrip(".") for name, text in found.groupdict().items()}
            return Diagnosis(sign.kind, sign.message.format(**groups), sign.hint, sign.retryable)
    return _by_exit(exit_status, phase)


def cpu_fallback(line: str) -> str | None:
    """Why the server will run on the CPU alone, if this line of its log says so."""
    return next((why for pattern, why in CPU_FALLBACK if pattern.search(line)), None)


_SEE_LOG = "The log says more: `goss-supervisor logs`."
_OFTEN = "If it happens often, try another build and report it to llama.cpp."
_WRONG_CPU = "The engine uses instructions that this CPU does not have."

# exit code or minus the signal (POSIX), and NTSTATUS (Windows)
_BY_EXIT: dict[int, Diagnosis] = {
    -9: Diagnosis(
        "killed",
        "llama-server was killed by SIGKILL: by somebody, or by the system because memory ran out.",
        f"The kernel's log tells (journalctl -k, dmesg).  {LESS_MEMORY}",
        retryable=True,
    ),
    -4: Diagnosis(
        "wrong-cpu", _WRONG_CPU, "Use a build for this CPU, or build it here (engine.source: build)."
    ),
    0xC000001D: Diagnosis("wrong-cpu", _WRONG_CPU, "Use a build for this CPU."),
    -7: Diagnosis(
        "model-vanished",
        "llama-server could not read its model any more: the file was cut, replaced, or its disk failed.",
        "Check the model file and its disk; do not replace a model file that is in use.",
        retryable=True,
    ),
    -6: Diagnosis("crash", "llama-server gave itself up (SIGABRT).", _OFTEN, retryable=True),
    -11: Diagnosis("crash", "llama-server crashed (SIGSEGV).", _OFTEN, retryable=True),
    0xC0000005: Diagnosis("crash", "llama-server crashed (access violation).", _OFTEN, retryable=True),
    0xC0000409: Diagnosis("crash", "llama-server gave itself up.", _OFTEN, retryable=True),
    127: Diagnosis(
        "missing-library", "The engine or a library that it needs is missing.", "Install the engine again."
    ),
    0xC0000135: Diagnosis(
        "missing-library",
        "A DLL that the engine needs is missing.",
        "Install the Visual C++ runtime, or the engine again.",
    ),
}


def _by_exit(exit_status: ExitStatus | None, phase: Phase) -> Diagnosis:
    if exit_status is None:
        return Diagnosis(
            "vanished", "llama-server is gone; how it ended is unknown.", _SEE_LOG, retryable=True
        )
    number = -exit_status.signal if exit_status.signal is not None else exit_status.code
    if number is not None and number in _BY_EXIT:
        return _BY_EXIT[number]
    when = "before it was ready" if phase == "starting" else "while it was serving"
    # Exit code 1 before ready is llama-server's own verdict on its command line, model or host: it would be
    # the same again.
    final = phase == "starting" and number in {0, 1}
    return Diagnosis("exit", f"llama-server ended {when} ({exit_status}).", _SEE_LOG, retryable=not final)
