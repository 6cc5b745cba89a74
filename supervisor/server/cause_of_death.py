"""
Why a server died or is of no use any more, and whether it computes on the device that its profile asks for.

The signs of its engine match its last lines and give the cause in plain words; where none matches, the exit
status decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ..engine.adapters.adapter import Adapter, Sign
from ..engine.adapters.known import adapter_of
from ..plan.launch import LaunchPlan
from .diagnosis import Diagnosis
from .process import ExitStatus

DeathPhase = Literal["starting", "serving"]


def program_of(plan: LaunchPlan | None) -> str:
    """What people call it: llama-server, vllm."""
    return adapter_of(plan.adapter).program(plan.argv) if plan else "the engine"


def diagnose(
    exit_status: ExitStatus, phase: DeathPhase, tail: Sequence[str], adapter: Adapter, program: str
) -> Diagnosis:
    """
    From how it ended and the end of its log; ``program`` is what people call it.

    A sign in the log outweighs the exit status, since engines end nearly everything with 1.  Once it has
    served, its options and its model were good, whatever the log says of them.
    """
    signs = [sign for sign in adapter.signs if phase == "starting" or sign.retryable]
    return _by_sign(signs, "\n".join(tail)) or _by_whom(
        _by_exit(exit_status, phase, adapter, program), program, exit_status
    )


def _by_sign(signs: Sequence[Sign], log: str) -> Diagnosis | None:
    for sign in signs:
        if found := sign.pattern.search(log):
            groups = {name: (text or "").strip().rstrip(".") for name, text in found.groupdict().items()}
            return Diagnosis(sign.kind, sign.message.format(**groups), sign.hint, sign.retryable)
    return None


def cpu_fallback(line: str, adapter: Adapter) -> str | None:
    """Why the server will run on the CPU alone, if this line of its log says so."""
    return next((why for pattern, why in adapter.cpu_signs if pattern.search(line)), None)


def _by_whom(diagnosis: Diagnosis, program: str, exit_status: ExitStatus) -> Diagnosis:
    """Of one that was killed, or may have been."""
    if diagnosis.kind in {"killed", "vanished"} and exit_status.kernel_killed:
        message = f"{program} was killed by the kernel, because memory ran out."
        return replace(diagnosis, kind="memory", message=message)
    if diagnosis.kind != "killed" or exit_status.kernel_killed is None:
        return diagnosis
    others = "by a person, or by a program that watches the memory (systemd-oomd, earlyoom)"
    message = f"{program} was killed by SIGKILL: {others}; the kernel killed nothing for memory meanwhile."
    return replace(diagnosis, message=message)


_SEE_LOG = "The log says more: `goss-supervisor logs`."


def _by_exit(exit_status: ExitStatus, phase: DeathPhase, adapter: Adapter, program: str) -> Diagnosis:
    if exit_status.code is None and exit_status.signal is None:
        why = "the system tells only the process that started it, an earlier goss-supervisor"
        return Diagnosis(
            "vanished", f"{program} ended, and how it ended is unknown: {why}.", _SEE_LOG, retryable=True
        )
    number = -exit_status.signal if exit_status.signal is not None else exit_status.code
    ending = adapter.endings.get(number) if number is not None else None
    if ending is not None:
        return Diagnosis(ending.kind, ending.message.format(program=program), ending.hint, ending.retryable)
    when = "before it was ready" if phase == "starting" else "while it was serving"
    final = phase == "starting" and number in adapter.final_exits
    return Diagnosis("exit", f"{program} ended {when} ({exit_status}).", _SEE_LOG, retryable=not final)


class Device:
    """What one launch after another says of it in its log."""

    def __init__(self) -> None:
        self._on_cpu = self._before = ""
        self._adapter: Adapter | None = None

    def begin(self, plan: LaunchPlan, before: str = "") -> None:
        """A new launch; ``before`` is what one that runs already said to an earlier daemon."""
        self._on_cpu, self._before, self._adapter = "", before, adapter_of(plan.adapter)

    def read(self, line: str) -> bool:
        """Whether this line of its log is the first to say that it runs on the CPU."""
        if self._on_cpu or self._adapter is None:
            return False
        self._on_cpu = cpu_fallback(line, self._adapter) or ""
        return bool(self._on_cpu)

    def broken(self, line: str) -> Diagnosis | None:
        """Why it can answer no request any more though it runs, if this line of its log says so."""
        return _by_sign([sign for sign in self._adapter.signs if sign.breaks], line) if self._adapter else None

    def degraded(self, plan: LaunchPlan) -> str:
        """What is not as the plan wants it; "" where all is."""
        if self._before:
            return self._before
        if not plan.wants_gpu:
            return ""
        if self._on_cpu:
            return f"running on the CPU: {self._on_cpu}"
        return "" if plan.devices else "running on the CPU: this build sees no GPU"
