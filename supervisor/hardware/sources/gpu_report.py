"""One source's report on the GPUs, and a way to ask several sources in parallel."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..hardware import Gpu
from ..machine import TIMEOUT_SECONDS, Machine

LONGEST_SECONDS = TIMEOUT_SECONDS + 1.0  # a program ends within 5 s; reading the rest takes no time


@dataclass(frozen=True, slots=True)
class GpuReport:
    """``notes`` says what could not be found out and why, one sentence each."""

    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()


GpuSource = Callable[[Machine], GpuReport]


def ask_all(
    sources: Mapping[str, GpuSource], machine: Machine, timeout_seconds: float = LONGEST_SECONDS
) -> tuple[GpuReport, ...]:
    """
    The answers in the order of ``sources``.  One that raises or does not come back becomes a note.

    Threads that nobody waits for, not a pool: reading a file of a dead driver may never end, and a pool
    would hold up the end of the program for it.
    """
    answers: queue.SimpleQueue[tuple[str, GpuReport]] = queue.SimpleQueue()

    def work(name: str, source: GpuSource) -> None:
        try:
            answers.put((name, source(machine)))
        except Exception as error:  # noqa: BLE001 - no source is fatal, whatever it meets
            answers.put((name, GpuReport(notes=(f"{name} failed: {type(error).__name__}: {error}.",))))

    for name, source in sources.items():
        threading.Thread(target=work, args=(name, source), daemon=True).start()
    late = f"did not answer within {timeout_seconds:g} s."
    reports = {name: GpuReport(notes=(f"{name} {late}",)) for name in sources}
    deadline = time.monotonic() + timeout_seconds
    for _ in sources:
        try:
            name, answer = answers.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            break
        reports[name] = answer
    return tuple(reports.values())
