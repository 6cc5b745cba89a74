"""
launchd, by launchctl: agents of a user, daemons of the whole Mac.

Not yet run on a Mac; written from its manual and others' reports.

- ``bootout`` returns before the service has gone, and till then ``bootstrap`` fails with 5, "Input/output
  error".  So we wait for the end, and retry a ``bootstrap`` that failed so a few times.
- ``kickstart -k`` kills with SIGKILL at once (github.com/kirodotdev/KiroCrew/issues/1562).  So a restart
  sends SIGTERM first, which ends the daemon with 0, which KeepAlive leaves alone.
- ``print`` says of itself that it is no API: only four of its lines are read, and each may be missing.
"""

from __future__ import annotations

import math
import os
import plistlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from xml.parsers.expat import ExpatError

from ..errors import NotFound, PermissionDenied, SupervisorError
from . import unit_files
from .contract import (
    DAEMON_LOG,
    NOT_INSTALLED,
    File,
    Service,
    ServiceCommand,
    ServiceRequest,
    ServiceStatus,
    Starts,
    failure,
    must,
    run,
)
from .launchd import AGENTS, DAEMONS, JobReport, is_disabled, job_report, render

_EXIT_SECONDS = 30.0  # what launchd grants where the installed file does not say
# the causes behind launchctl's few error messages
_NO_DAEMON = "The file must be root's, and writable by nobody else: ls -l /Library/LaunchDaemons"
_NO_AGENT = "Its user must be logged in at the screen; else: sudo goss-supervisor service install --system"
_WITHOUT_FILE = "its file is gone; goss-supervisor service uninstall --{} removes the rest"
_TRIES = 5
_INPUT_OUTPUT_ERROR = 5  # launchctl's word for many things; that the one before is just leaving passes
_LOOKS_MORE = 5  # after the last moment that launchd grants


def found() -> Launchd:
    """As this user sees it."""
    user = -1
    if sys.platform != "win32":  # for the type checker
        user = os.getuid()
    return Launchd(user, Path.home() / AGENTS)


@dataclass(frozen=True, slots=True)
class Launchd:
    """A `Manager`, for the user of this number; 0 is root."""

    title: ClassVar[str] = "launchd"
    waits: ClassVar[bool] = False

    user: int
    agents: Path
    daemons: Path = DAEMONS
    pause_seconds: float = 1.0  # between two looks at what launchd does in its own time

    def files(self, request: ServiceRequest) -> tuple[File, ...]:
        return (File(self._job(request.service).path, render(request)),)

    def commands(self, request: ServiceRequest) -> tuple[ServiceCommand, ...]:
        return (self._job(request.service).bootstrap,)

    def refuse(self, request: ServiceRequest, *, force: bool) -> None:
        self._refuse_without_root(request.service)
        self._job(request.service).refuse_without_domain()
        unit_files.refuse(self.files(request), force=force)

    def install(self, request: ServiceRequest, *, force: bool) -> Iterator[str]:
        self.refuse(request, force=force)
        job = self._job(request.service)
        leaves_within = _exit_seconds(job)  # of the one that is there now
        written = unit_files.write(self.files(request))
        yield from (f"wrote {path}" for path in written)
        _make_folder_of_logs(request)
        if not written and job.pid() is not None:
            return
        if written and job.is_loaded():
            job.unload(leaves_within)
        yield from self.start(request.service)

    def uninstall(self, service: Service, *, force: bool) -> Iterator[str]:
        job = self._job(service)
        if unit_files.read(job.path) is None and job.remains() is None:
            yield f"{job.path} is not there: nothing to remove"
            return
        self._refuse_without_root(service)
        if not force:
            unit_files.refuse_another(job.path)
        if job.is_loaded():
            job.unload(_exit_seconds(job))
            yield f"stopped {job.name}; launchd knows it no more"
        if unit_files.remove(job.path, force=force):
            yield f"removed {job.path}"

    def start(self, service: Service) -> Iterator[str]:
        job = self._installed(service)
        if not job.is_loaded():
            job.load()
            yield f"started {job.name}, now and with {_occasion(service)}"
        elif job.pid() is not None:
            yield f"{job.name} runs already"
        else:
            job.kick()
            yield f"started {job.name}"

    def stop(self, service: Service) -> Iterator[str]:
        """By taking it out of launchd, which then starts it no more, whatever state it was in."""
        job = self._installed(service)
        if job.is_loaded():
            job.unload(_exit_seconds(job))
            yield f"stopped {job.name}, until {_occasion(service)}"
        else:
            yield f"{job.name} does not run"

    def restart(self, service: Service) -> Iterator[str]:
        job = self._installed(service)
        if not job.is_loaded():
            yield from self.start(service)
        else:
            job.end_and_kick(_exit_seconds(job))
            yield f"restarted {job.name}"

    def status(self, service: Service) -> ServiceStatus:
        job = self._job(service)
        is_there = unit_files.read(job.path) is not None
        now = job.report() if is_there else job.remains()
        if now is None and not is_there:
            return NOT_INSTALLED
        now = now or JobReport()
        detail = f"last exit code: {now.last_exit}" if now.last_exit else ""
        return ServiceStatus(
            installed=is_there,
            running=bool(now.pid),
            starts_by_itself=_starts(job) if is_there else "no",
            state=now.state or "not loaded",
            pid=now.pid,
            detail=detail if is_there else _WITHOUT_FILE.format(service.scope),
        )

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> ServiceCommand:
        """What went wrong before there was a daemon, and the daemon's own log."""
        job = self._job(service)
        _require(job, service)
        early = Path(_property_list(job).get("StandardErrorPath", job.path))
        amount = "+1" if lines is None else str(lines)
        logs = (str(early), str(early.with_name(DAEMON_LOG)))
        return ("tail", "-n", amount, *(("-F",) if follow else ()), *logs)

    def _job(self, service: Service) -> Job:
        of_system = service.scope == "system"
        return Job(
            service.name,
            domain="system" if of_system else f"gui/{self.user}",
            path=(self.daemons if of_system else self.agents) / f"{service.name}.plist",
            why_not=_NO_DAEMON if of_system else _NO_AGENT,
            pause_seconds=self.pause_seconds,
        )

    def _installed(self, service: Service) -> Job:
        """Raises NotFound or PermissionDenied."""
        job = self._job(service)
        _require(job, service)
        self._refuse_without_root(service)
        return job

    def _refuse_without_root(self, service: Service) -> None:
        if service.scope == "system" and self.user != 0:
            problem = "Only root may change a service of the whole Mac."
            raise PermissionDenied(problem, hint="Use sudo.")


def _require(job: Job, service: Service) -> None:
    """Raises NotFound."""
    if unit_files.read(job.path) is None:
        raise NotFound(f"{job.path} is not there.", hint=f"goss-supervisor service install --{service.scope}")


def _property_list(job: Job) -> dict[str, Any]:
    """The one on disk; empty where there is none, or none that can be read."""
    try:
        read = plistlib.loads((unit_files.read(job.path) or "").encode())
    except (ValueError, ExpatError):
        return {}
    return read if isinstance(read, dict) else {}


def _exit_seconds(job: Job) -> float:
    """What launchd grants the one that is installed before it kills it."""
    return float(_property_list(job).get("ExitTimeOut", _EXIT_SECONDS))


def _starts(job: Job) -> Starts | None:
    by_itself: Starts = "at boot" if job.domain == "system" else "at login"
    return {None: None, True: "no", False: by_itself}[job.is_disabled()]


def _occasion(service: Service) -> str:
    return "the next boot" if service.scope == "system" else "the next login"


def _make_folder_of_logs(request: ServiceRequest) -> None:
    """A StandardErrorPath that cannot be opened keeps launchd from starting anything; it makes no folders."""
    missing = [folder for folder in (request.logs, *request.logs.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700)
        if request.user:
            _give(folder, request.user)


if sys.platform == "win32":  # for the type checker

    def _give(folder: Path, user: str) -> None: ...

else:
    import pwd

    def _give(folder: Path, user: str) -> None:
        """Never what a link leads to: the folder around is the user's, who could put one there meanwhile."""
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Job:
    """``domain`` is ``system`` or ``gui/UID``; ``why_not`` is the likely cause of a refusal."""

    name: str
    domain: str
    path: Path
    why_not: str
    pause_seconds: float  # between two looks at what launchd does in its own time

    @property
    def target(self) -> str:
        return f"{self.domain}/{self.name}"

    @property
    def bootstrap(self) -> ServiceCommand:
        return ("launchctl", "bootstrap", self.domain, str(self.path))

    # --- looks

    def refuse_without_domain(self) -> None:
        """Raises SupervisorError where it could not be loaded, as where its user is not logged in."""
        ran = run("launchctl", "print", self.domain)
        if ran.returncode:
            raise failure(ran, self.why_not)

    def report(self) -> JobReport | None:
        """None where launchd does not have it."""
        ran = run("launchctl", "print", self.target)
        return job_report(ran.stdout) if ran.returncode == 0 else None

    def remains(self) -> JobReport | None:
        """The same, where the file was deleted; what launchd has from another file is another's."""
        now = self.report()
        return now if now and now.path in {"", str(self.path)} else None

    def is_loaded(self) -> bool:
        return self.report() is not None

    def pid(self) -> int | None:
        now = self.report()
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
        """Whatever ``bootout`` says.  Raises SupervisorError where it is still there when it cannot be."""
        ran = run("launchctl", "bootout", self.target)
        if not self._comes_true(lambda: not self.is_loaded(), exit_seconds):
            raise SupervisorError(
                f"launchd was asked to end {self.name} and still has it: {ran.last_line}.",
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
