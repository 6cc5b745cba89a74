"""The steps of a set-up: run with their output in a log and their progress on stderr."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

EXIT_NETWORK = 8  # as in supervisor/errors.py, which cannot be imported yet
SILENT_SECONDS = 2  # how long a step may take before its time is shown on a terminal
NEWS_SECONDS = 10  # between two lines where there is no terminal
FAREWELL_SECONDS = 3.0  # for an interrupted pip to remove its temporary folders

NETWORK_TROUBLE = re.compile(
    r"Could not find a version|No matching distribution|NewConnectionError|ConnectionError|ConnectTimeout|"
    r"ReadTimeout|Read timed out|Max retries|name resolution|ProxyError|SSLError|CERTIFICATE_VERIFY|"
    r"HTTP error|Failed to fetch"
)


class SetupError(Exception):
    """Setting up failed; the text says what happened and what to do."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    print(f"goss-supervisor: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Steps:
    """Where steps run and with what; ``lock`` is a descriptor that they hold as long as they live."""

    folder: Path
    log: Path
    environment: dict[str, str]
    lock: int

    def require(self, text: str, command: Sequence[str | Path]) -> None:
        """Runs what must succeed.  Raises SetupError with the errors in its output."""
        begin = self.log.stat().st_size
        if self.run(text, command) != 0:
            raise _failure(text, self.log, begin)

    def run(self, text: str, command: Sequence[str | Path]) -> int:
        """The exit status of ``command``.  Whatever interrupts this ends all that it started."""
        child: subprocess.Popen[bytes] | None = None
        try:
            with self.log.open("ab") as log:
                log.write(f"\n== {text}: {' '.join(map(str, command))}\n".encode())
                log.flush()
                with _signals_wait():
                    child = subprocess.Popen(
                        command,
                        cwd=self.folder,
                        env=self.environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        **self._as_group(),
                    )
            return _wait_visibly(child, text)
        except BaseException:
            if child is not None:
                _end_group(child)
            raise

    def _as_group(self) -> dict[str, Any]:
        return {} if os.name == "nt" else {"pass_fds": [self.lock], "process_group": 0}


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """What would end us waits for a moment: a child that is not known yet would go on without us."""
    came: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in came[:1]:
        signal.raise_signal(number)


def _wait_visibly(child: subprocess.Popen[bytes], text: str) -> int:
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if not terminal:
        say(text)
    seconds = 0
    while (status := _wait(child, 1.0)) is None:
        seconds += 1
        if terminal and seconds >= SILENT_SECONDS:
            print(f"\r\033[Kgoss-supervisor: {text} ({seconds} s)", end="", file=sys.stderr, flush=True)
        elif not terminal and seconds % NEWS_SECONDS == 0:
            say(f"still {text} ({seconds} s)")
    if terminal:
        print("\r\033[K", end="", file=sys.stderr)
        say(f"{text} ({seconds} s)")
    return status


def _wait(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end_group(child: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        child.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
            _wait(child, FAREWELL_SECONDS)
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _failure(text: str, log: Path, begin: int) -> SetupError:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    errors = [line.strip() for line in lines if re.match(r"\s*(ERROR|E): ", line)] or lines[-3:]
    told = "\n".join([f"{text} failed:", *(f"  {line}" for line in errors[:5])])
    if any(NETWORK_TROUBLE.search(line) for line in lines):
        advice = "The package index did not answer, or lacks something.  Check the network and the proxy."
        return SetupError(f"{told}\n{advice}\nThe whole log: {log}", EXIT_NETWORK)
    return SetupError(f"{told}\nThe whole log: {log}")
