"""
One job of launchd by its tool.  Not yet run on a Mac: held to its manual and to what others report of it.

- ``bootout`` returns before the service has gone, and till then ``bootstrap`` fails with 5, "Input/output
  error".  So the end is waited for, and a ``bootstrap`` that failed so is tried again, a few times.
- ``kickstart -k`` kills with SIGKILL at once (github.com/kirodotdev/KiroCrew/issues/1562).  So a restart asks
  with SIGTERM first, which ends the daemon with 0, which KeepAlive leaves alone.
- ``print`` says of itself that it is no API: only four of its lines are read, and none has to be there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import SupervisorError
from .launchd import Told, is_disabled, told
from .ran import failure, must, run
from .types import Command

_TRIES = 5
_INPUT_OUTPUT_ERROR = 5  # launchctl's word for many things; that the one before is just leaving passes
_LOOKS_MORE = 5  # after the last moment that launchd grants


@dataclass(frozen=True, slots=True)
class Job:
    """``domain`` is ``system`` or ``gui/UID``; ``why_not`` is what may stand behind a refusal."""

    name: str
    domain: str
    path: Path
    why_not: str
    pause_seconds: float  # between two looks at what launchd does in its own time

    @property
    def target(self) -> str:
        return f"{self.domain}/{self.name}"

    @property
    def bootstrap(self) -> Command:
        return ("launchctl", "bootstrap", self.domain, str(self.path))

    # --- looks

    def refuse_without_domain(self) -> None:
        """Raises SupervisorError where it could not be loaded, as where its user is not logged in."""
        ran = run("launchctl", "print", self.domain)
        if ran.returncode:
            raise failure(ran, self.why_not)

    def told(self) -> Told | None:
        """None where launchd does not have it."""
        ran = run("launchctl", "print", self.target)
        return told(ran.stdout) if ran.returncode == 0 else None

    def remains(self) -> Told | None:
        """The same, where the file was deleted; what launchd has from another file is another's."""
        now = self.told()
        return now if now and now.path in {"", str(self.path)} else None

    def is_loaded(self) -> bool:
        return self.told() is not None

    def pid(self) -> int | None:
        now = self.told()
        return now.pid if now else None

    def is_disabled(self) -> bool | None:
        """None where launchd does not tell."""
        ran = run("launchctl", "print-disabled", self.domain)
        return None if ran.returncode else is_disabled(ran.stdout, self.name)

    # --- changes

    def load(self) -> None:
        """Raises SupervisorError where launchd does not take it."""
        if self.is_disabled():  # only then: launchd keeps a note of it for ever
            must("launchctl", "enable", self.target)
        for left in reversed(range(_TRIES)):
            ran = run(*self.bootstrap)
            if ran.returncode == 0 or self.is_loaded():
                return
            if ran.returncode != _INPUT_OUTPUT_ERROR or not left:
                raise failure(ran, self.why_not)
            time.sleep(self.pause_seconds)

    def unload(self, exit_seconds: float) -> None:
        """
        Whatever ``bootout`` says: what counts is that it has gone.

        Raises SupervisorError where it is still there when launchd should have killed it.
        """
        ran = run("launchctl", "bootout", self.target)
        if not self._comes_true(lambda: not self.is_loaded(), exit_seconds):
            raise SupervisorError(
                f"launchd was told to end {self.name} and still has it: {ran.said}.",
                hint=f"launchctl print {self.target}",
            )

    def kick(self) -> None:
        must("launchctl", "kickstart", self.target)

    def end_and_kick(self, exit_seconds: float) -> None:
        if self.pid() is not None:
            must("launchctl", "kill", "SIGTERM", self.target)
            self._comes_true(lambda: self.pid() is None, exit_seconds)
        must("launchctl", "kickstart", "-k", self.target)  # -k: also what did not leave in time

    def _comes_true(self, is_so: Callable[[], bool], seconds: float) -> bool:
        for _ in range(math.ceil(seconds / self.pause_seconds) + _LOOKS_MORE):
            if is_so():
                return True
            time.sleep(self.pause_seconds)
        return is_so()
