"""
launchd's tool.  Not yet run on a Mac: held to its manual and to what others report of it.

- ``bootout`` returns before the service has gone, and till then ``bootstrap`` fails with 5, "Input/output
  error".  So the end is waited for, and a ``bootstrap`` that failed so is tried again, a few times.
- ``kickstart -k`` kills with SIGKILL at once (github.com/kirodotdev/KiroCrew/issues/1562).  So a restart asks
  with SIGTERM first, which ends the daemon with 0, which KeepAlive leaves alone.
- ``print`` says of itself that it is no API: only three of its lines are read, and none has to be there.
"""

from __future__ import annotations

import math
import os
import plistlib
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from ..errors import NotFound, PermissionDenied, SupervisorError
from . import files
from .launchd import AGENTS, DAEMONS, EARLY_LOG, Told, is_disabled, label, render, told
from .ran import Ran, must, run
from .types import Command, File, Request, Service, Status

_TRIES = 5
_INPUT_OUTPUT_ERROR = 5  # launchctl's word for many things; that the one before is just leaving passes
_LOOKS_MORE = 5  # after the last moment that launchd grants
_EXIT_SECONDS = 30.0  # what it grants where the installed file does not say
_WHEN_READY = "goss-supervisor status tells when it is ready"  # launchd does not
_DAEMON_LOG = "daemon.log"  # see `daemon.places`


def found() -> Launchd:
    """As this user sees it."""
    user = -1
    if sys.platform != "win32":  # for the type checker
        user = os.getuid()
    return Launchd(user, Path.home() / AGENTS)


@dataclass(frozen=True, slots=True)
class Launchd:
    """A `Manager`, for the user of this number; 0 is root."""

    user: int
    agents: Path
    daemons: Path = DAEMONS
    pause_seconds: float = 1.0  # between two looks at what launchd does in its own time

    @property
    def title(self) -> str:
        return "launchd"

    def files(self, request: Request) -> tuple[File, ...]:
        return (File(self._path(request.service), render(request)),)

    def commands(self, request: Request) -> tuple[Command, ...]:
        return (self._bootstrap(request.service),)

    def install(self, request: Request, *, force: bool) -> tuple[str, ...]:
        service = request.service
        self._refuse_without_root(service)
        leaves_within = self._exit_seconds(service)  # of the one that is there now
        written = files.write(self.files(request), force=force)
        _make_folder_of_logs(request)
        if not written and self._told(service).pid is not None:
            return ()
        if written and self._is_loaded(service):
            self._unload(service, leaves_within)
        return (*(f"wrote {path}" for path in written), *self.start(service))

    def uninstall(self, service: Service, *, force: bool) -> tuple[str, ...]:
        path, done = self._path(service), []
        if files.read(path) is None:
            return (f"{path} is not there: nothing to remove",)
        self._refuse_without_root(service)
        if not force:
            files.refuse_another(path)
        if self._is_loaded(service):
            self._unload(service, self._exit_seconds(service))
            done.append(f"stopped {label(service)}; launchd knows it no more")
        files.remove(path, force=force)
        return (*done, f"removed {path}")

    def start(self, service: Service) -> tuple[str, ...]:
        self._require(service)
        if not self._is_loaded(service):
            self._load(service)
            return (f"started {label(service)}, now and with {_occasion(service)}; {_WHEN_READY}",)
        if self._told(service).pid is not None:
            return (f"{label(service)} runs already",)
        must("launchctl", "kickstart", self._target(service))
        return (f"started {label(service)}; {_WHEN_READY}",)

    def stop(self, service: Service) -> tuple[str, ...]:
        """By taking it out of launchd, which then starts it no more, whatever state it was in."""
        self._require(service)
        if not self._is_loaded(service):
            return (f"{label(service)} does not run",)
        self._unload(service, self._exit_seconds(service))
        return (f"stopped {label(service)}, until {_occasion(service)}",)

    def restart(self, service: Service) -> tuple[str, ...]:
        self._require(service)
        if not self._is_loaded(service):
            return self.start(service)
        if self._told(service).pid is not None:
            must("launchctl", "kill", "SIGTERM", self._target(service))
            self._comes_true(lambda: self._told(service).pid is None, self._exit_seconds(service))
        must("launchctl", "kickstart", "-k", self._target(service))  # -k: also what did not leave in time
        return (f"restarted {label(service)}; {_WHEN_READY}",)

    def status(self, service: Service) -> Status:
        if files.read(self._path(service)) is None:
            return Status(installed=False, running=False, at_boot=False, state="not installed")
        now = self._told(service)
        return Status(
            installed=True,
            running=now.pid is not None,
            at_boot=not self._is_disabled(service),
            state=now.state or "not loaded",
            pid=now.pid,
            detail=f"last exit code: {now.last_exit}" if now.last_exit else "",
        )

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> Command:
        """What went wrong before there was a daemon, and the daemon's own log."""
        early = Path(self._installed(service).get("StandardErrorPath", EARLY_LOG))
        amount = "+1" if lines is None else str(lines)
        logs = (str(early), str(early.with_name(_DAEMON_LOG)))
        return ("tail", "-n", amount, *(("-F",) if follow else ()), *logs)

    # --- in launchd's words

    def _path(self, service: Service) -> Path:
        return (self.daemons if service.scope == "system" else self.agents) / f"{label(service)}.plist"

    def _domain(self, service: Service) -> str:
        return "system" if service.scope == "system" else f"gui/{self.user}"

    def _target(self, service: Service) -> str:
        return f"{self._domain(service)}/{label(service)}"

    def _bootstrap(self, service: Service) -> Command:
        return ("launchctl", "bootstrap", self._domain(service), str(self._path(service)))

    def _told(self, service: Service) -> Told:
        ran = run("launchctl", "print", self._target(service))
        return told(ran.stdout) if ran.returncode == 0 else Told()

    def _is_loaded(self, service: Service) -> bool:
        return run("launchctl", "print", self._target(service)).returncode == 0

    def _is_disabled(self, service: Service) -> bool:
        return is_disabled(run("launchctl", "print-disabled", self._domain(service)).stdout, label(service))

    # --- what takes its time

    def _load(self, service: Service) -> None:
        """Raises SupervisorError where launchd does not take it."""
        if self._is_disabled(service):  # only then: launchd keeps a note of it for ever
            must("launchctl", "enable", self._target(service))
        for left in reversed(range(_TRIES)):
            ran = run(*self._bootstrap(service))
            if ran.returncode == 0 or self._is_loaded(service):
                return
            if ran.returncode != _INPUT_OUTPUT_ERROR or not left:
                raise _failure(ran, _why_not(service))
            time.sleep(self.pause_seconds)

    def _unload(self, service: Service, exit_seconds: float) -> None:
        """
        Whatever ``bootout`` says: what counts is that it has gone.

        Raises SupervisorError where it is still there when launchd should have killed it.
        """
        ran = run("launchctl", "bootout", self._target(service))
        if not self._comes_true(lambda: not self._is_loaded(service), exit_seconds):
            raise SupervisorError(
                f"launchd was told to end {label(service)} and still has it: {ran.said}.",
                hint=f"launchctl print {self._target(service)}",
            )

    def _comes_true(self, is_so: Callable[[], bool], seconds: float) -> bool:
        for _ in range(math.ceil(seconds / self.pause_seconds) + _LOOKS_MORE):
            if is_so():
                return True
            time.sleep(self.pause_seconds)
        return is_so()

    # --- what is installed

    def _installed(self, service: Service) -> dict[str, Any]:
        """The property list on disk; empty where there is none, or none that can be read."""
        try:
            job = plistlib.loads((files.read(self._path(service)) or "").encode())
        except (ValueError, ExpatError):
            return {}
        return job if isinstance(job, dict) else {}

    def _exit_seconds(self, service: Service) -> float:
        """What launchd grants the one that is installed before it kills it."""
        return float(self._installed(service).get("ExitTimeOut", _EXIT_SECONDS))

    def _require(self, service: Service) -> None:
        """Raises NotFound or PermissionDenied."""
        path = self._path(service)
        if files.read(path) is None:
            raise NotFound(f"{path} is not there.", hint=f"goss-supervisor service install --{service.scope}")
        self._refuse_without_root(service)

    def _refuse_without_root(self, service: Service) -> None:
        if service.scope == "system" and self.user != 0:
            raise PermissionDenied(
                "A service of the whole Mac is root's to change.", hint="Say it with sudo."
            )


def _failure(ran: Ran, hint: str) -> SupervisorError:
    return SupervisorError(f"{' '.join(ran.command)}: {ran.said}", hint=hint)


def _why_not(service: Service) -> str:
    """What stands behind the few words that ``bootstrap`` has for everything."""
    if service.scope == "system":
        return "The file must be root's, and writable by nobody else: ls -l /Library/LaunchDaemons"
    return "Its user must be logged in at the screen; else: sudo goss-supervisor service install --system"


def _occasion(service: Service) -> str:
    return "the next boot" if service.scope == "system" else "the next login"


def _make_folder_of_logs(request: Request) -> None:
    """A StandardErrorPath that cannot be opened keeps launchd from starting anything; it makes no folders."""
    missing = [folder for folder in (request.logs, *request.logs.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700)
        if request.user:
            shutil.chown(folder, request.user)
