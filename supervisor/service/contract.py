"""
The contract of this room: requests to a service manager, and its answers.

A mechanism is two modules: one renders (pure, tested by golden files), one calls the manager's tool with
`run`.  `unit_files` writes, compares and removes the files, the same for all.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ..errors import NotFound, PermissionDenied, SupervisorError

NAME = "goss-supervisor"
FOR_A_SERVICE = "--service"  # of `start`, for managers that know no exit code of ours
DAEMON_LOG = "daemon.log"  # see `daemon.places`
FOREGROUND = (
    "Run goss-supervisor start in the foreground under what this system has: a container's entry point, "
    "runit, s6 or OpenRC. docs/service.md has the scripts."
)

ServiceScope = Literal["user", "system"]
Starts = Literal["at boot", "at login", "no"]
ServiceCommand = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """Which one is meant: all that is needed to start, stop, ask and remove it."""

    scope: ServiceScope
    name: str = NAME


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """
    A service to be installed.

    ``command`` begins with an absolute path and runs in the foreground; ``reload``, next to it, makes it read
    its profile again.  No secrets are in them, nor in ``environment``.  ``stop_seconds`` is what a stop takes
    at most by our own ladder, without any margin.
    ``user`` is who a system service runs as; a user service is always that of the caller, and has "".
    ``data`` is what GOSS_SUPERVISOR_HOME puts everything under; None where the files lie where this system
    keeps them.  ``logs`` is the folder of our own logs.  ``files`` are those of the model that lie elsewhere,
    perhaps on another disk.  ``settings`` are those of ``--set`` with which it is prepared.
    """

    service: Service
    command: ServiceCommand
    reload: ServiceCommand
    stop_seconds: float
    logs: Path
    profile: str
    user: str = ""
    data: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_network: bool = False
    files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """
    One file of a service, as it will be written.

    ``text`` holds, in a comment, the mark of `mark.py`; so a file that is not ours, or was changed by hand
    since, is never overwritten or removed unasked.
    """

    path: Path
    text: str
    mode: int = 0o644
    encoding: str = "utf-8"  # the manager's wish: utf-16 for Windows' tasks


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """
    What the manager says; ``state`` in its own words, ``detail`` is one line for people.

    ``running`` is whether its process is there, be it ready or not.
    """

    installed: bool
    running: bool
    starts_by_itself: Starts | None  # None: not known
    state: str  # active, failed, not installed …
    pid: int | None = None
    detail: str = ""
    outdated: bool = False  # its file is another now than what the manager goes by


NOT_INSTALLED = ServiceStatus(installed=False, running=False, starts_by_itself="no", state="not installed")


class ServiceManager(Protocol):
    """
    One service manager.

    What changes something yields what it did when it has done it, one sentence at a time, so that a person
    who leaves early, or meets an error, knows how far it came.  It begins when the first is asked for.

    All raise a SupervisorError that says what the tool said and what to do; PermissionDenied where more
    rights are needed, NotFound where the service is not installed.
    """

    @property
    def title(self) -> str:
        """``systemd 252``, ``launchd``, ``Task Scheduler``."""

    @property
    def waits(self) -> bool:
        """Whether it knows when the service is ready; then start, restart and install return at that time."""

    def files(self, request: ServiceRequest) -> tuple[File, ...]:
        """Every file that `install` would write.  Pure: what was found of the system is in the manager."""

    def commands(self, request: ServiceRequest) -> tuple[ServiceCommand, ...]:
        """For `print`: the commands that `install` would run after that to make it a service, and run."""

    def refuse(self, request: ServiceRequest, *, force: bool) -> None:
        """Raises now what `install` would raise before it changes anything."""

    def install(self, request: ServiceRequest, *, force: bool) -> Iterator[str]:
        """Write, enable and start.  Again with the same request: nothing is changed, and nothing said."""

    def uninstall(self, service: Service, *, force: bool) -> Iterator[str]:
        """Stop, disable and remove what `install` made, also what runs on without its file."""

    def start(self, service: Service) -> Iterator[str]: ...

    def stop(self, service: Service) -> Iterator[str]:
        """Returns when it has stopped; it comes back with the next boot."""

    def restart(self, service: Service) -> Iterator[str]: ...

    def status(self, service: Service) -> ServiceStatus: ...

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> ServiceCommand:
        """The command that shows its log; the caller runs it in its own place."""


_NO_RIGHTS = (
    "access denied", "access is denied", "interactive authentication required", "not permitted",
    "not privileged", "permission denied",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """How it ended; both streams are stripped."""

    command: ServiceCommand
    returncode: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """Its last line, or its exit status if it printed nothing."""
        lines = (self.stderr or self.stdout).splitlines()
        return lines[-1].strip() if lines else f"exit code {self.returncode}"


def run(*command: str, environment: Mapping[str, str] | None = None) -> Ran:
    """
    To its end, however long a start or stop takes: the managers have time limits of their own.

    Raises NotFound where there is no such program.
    """
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
        )
    except FileNotFoundError as error:
        raise NotFound(f"There is no {command[0]} on this system.") from error
    return Ran(command, ended.returncode, ended.stdout.strip(), ended.stderr.strip())


def must(*command: str, hint: str = "") -> Ran:
    """As `run`; raises `failure` where it fails."""
    ran = run(*command)
    if ran.returncode:
        raise failure(ran, hint)
    return ran


def failure(ran: Ran, hint: str = "") -> SupervisorError:
    """PermissionDenied where it says in one of the tools' ways that rights are missing."""
    last_line = f"{shlex.join(ran.command)}: {ran.last_line}"
    if any(words in f"{ran.stderr}\n{ran.stdout}".lower() for words in _NO_RIGHTS):
        return PermissionDenied(last_line, hint=hint or "Use sudo.")
    return SupervisorError(last_line, hint=hint)


if sys.platform == "win32":

    def become(command: ServiceCommand) -> int:
        """Windows cannot replace a program: this one waits, and answers with the other's exit code."""
        return subprocess.run(command, check=False).returncode

else:

    def become(command: ServiceCommand) -> int:
        """Be that program from now on, with its own exit code.  Raises NotFound where there is none."""
        sys.stdout.flush()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be passed on
        try:
            os.execvp(command[0], command)  # noqa: S606 - a shell is not wanted
        except FileNotFoundError as error:
            raise NotFound(f"There is no {command[0]} on this system.") from error
