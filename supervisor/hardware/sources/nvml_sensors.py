"""
The sensors of NVIDIA's GPUs: `nvml` as a program that answers while somebody looks.

In a process of its own: a driver that hangs, as it does when a GPU has fallen off the bus, or crashes takes
nothing with it, and no thread of ours waits in the kernel for it.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..sensors import OF_GPUS, DeviceReading, explained
from . import nvml
from .tool_output import pci_address, whole

ANSWER_SECONDS = 2.0
BEGIN_SECONDS = 20.0  # more for the first: without persistence mode, the driver sets up each GPU for it
AGAIN_SECONDS = 60.0  # after a failure
PROGRAM = (sys.executable, "-I", "-S", str(Path(nvml.__file__)), "--follow")
_HANGS = "NVIDIA's driver does not answer."


class NvmlSensors:
    """``why`` says why there is nothing to read; "" where all is well."""

    def __init__(
        self,
        program: Sequence[str] = PROGRAM,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        begin_seconds: float = BEGIN_SECONDS,
    ) -> None:
        self.why = ""
        self._program = program
        self._answer_seconds, self._begin_seconds = answer_seconds, begin_seconds
        self._child: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._failed_at: float | None = None
        self._stuck: subprocess.Popen[str] | None = None

    def read(self) -> tuple[DeviceReading, ...]:
        """Empty where it does not answer; then it is left alone for a minute, and until it is gone."""
        if self._failed_at is not None and time.monotonic() - self._failed_at < AGAIN_SECONDS:
            return ()
        if self._stuck is not None and self._stuck.poll() is None:  # in the kernel, where no signal ends it
            return ()
        try:
            found = tuple(map(reading_in, self._ask()))
        except OSError as error:
            self._fail(str(error.strerror or error))
        except (ValueError, queue.Empty):
            self._fail(_HANGS)
        else:
            self.why, self._failed_at = "", None
            return found
        return ()

    def _ask(self) -> list[str]:
        """Its answer.  Raises OSError, with its words if it has ended, and queue.Empty."""
        seconds = self._answer_seconds
        if self._child is None:
            self._child, seconds = self._begin(), self._begin_seconds
        stdin = self._child.stdin
        assert stdin is not None
        with suppress(OSError):  # it has ended, and its words say why
            stdin.write("\n")
            stdin.flush()
        return self._answer(seconds)

    def _begin(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            self._program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl+C is not for it; it ends with its input
        )
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_pass_on, args=(child, self._lines), daemon=True).start()
        return child

    def _answer(self, seconds: float) -> list[str]:
        """The lines up to the empty one."""
        lines: list[str] = []
        ends = time.monotonic() + seconds
        while (line := self._lines.get(timeout=max(ends - time.monotonic(), 0.0))) != "":
            if line is None:
                raise OSError(0, f"NVML: {lines[-1] if lines else 'it ended'}.")
            lines.append(line)
        return lines

    def _fail(self, why: str) -> None:
        self.why, self._failed_at = why, time.monotonic()
        child = self._child
        self.close()
        if child is not None and child.poll() is None:
            child.kill()
            self._stuck = child

    def close(self) -> None:
        """It ends as soon as it reads the end of its input."""
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            with suppress(OSError):  # what it never read cannot be sent
                child.stdin.close()


def _pass_on(child: subprocess.Popen[str], to: queue.SimpleQueue[str | None]) -> None:
    """Each line of what it prints, then None, until its end."""
    printed: IO[str] | None = child.stdout
    assert printed is not None
    with printed:
        for line in printed:
            to.put(line.strip())
    to.put(None)
    child.wait()


def reading_in(line: str) -> DeviceReading:
    """Of a line of `nvml.sensors`.  Raises ValueError for any other."""
    cells = dict(zip(nvml.SENSORS, line.split(", ", len(nvml.SENSORS) - 1), strict=True))
    watts = {name: whole(cells[name]) for name in ("power.draw", "enforced.power.limit")}
    draw, limit = (None if each is None else round(each / 1000, 1) for each in watts.values())
    found = DeviceReading(
        "",
        cells["name"],
        pci_address(cells["pci.bus_id"]),
        load_percent=whole(cells["utilization.gpu"]),
        temperature_c=whole(cells["temperature.gpu"]),
        power_watts=draw,
        power_limit_watts=limit,
        memory_used_bytes=whole(cells["memory.used"]),
        memory_total_bytes=whole(cells["memory.total"]),
        fan_percent=whole(cells["fan.speed"]),
        clock_mhz=whole(cells["clocks.gr"]),
    )
    return explained(found, "NVIDIA's driver", OF_GPUS)
