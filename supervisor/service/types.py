"""
What is asked of a service manager, and what every one of them answers: the contract of this room.

A mechanism is two modules: one renders (pure, tested by golden files), one calls the manager's tool.  The
files are written, compared and removed by `files.py`, the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

NAME = "goss-supervisor"

Scope = Literal["user", "system"]
Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """Which one is meant: all that is needed to start, stop, ask and remove it."""

    scope: Scope
    name: str = NAME


@dataclass(frozen=True, slots=True)
class Request:
    """
    A service to be installed.

    ``command`` begins with an absolute path and runs in the foreground; no secrets are in it, nor in
    ``environment``.  ``stop_seconds`` is what a stop takes at most by our own ladder, without any margin.
    ``user`` is who a system service runs as; a user service is always that of the caller, and has "".
    ``home`` is that user's home folder.  ``data`` is what GOSS_SUPERVISOR_HOME puts everything under; None
    where the files lie where this system keeps them.  ``logs`` is the folder of our own logs.
    """

    service: Service
    command: Command
    stop_seconds: float
    home: Path
    logs: Path
    user: str = ""
    data: Path | None = None
    profile: str | None = None  # None: the last one used, else the one that fits this machine best
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_network: bool = False


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
class Status:
    """What the manager says; ``state`` in its own words, ``detail`` is one line for people."""

    installed: bool
    running: bool
    at_boot: bool | None  # None: not known
    state: str  # active, failed, not installed …
    pid: int | None = None
    detail: str = ""


class Manager(Protocol):
    """
    One service manager.  What changes something answers with what it did, one sentence an item.

    All raise a SupervisorError that says what the tool said and what to do; PermissionDenied where more
    rights are needed, NotFound where the service is not installed.
    """

    @property
    def title(self) -> str:
        """``systemd 252``, ``launchd``, ``Task Scheduler``."""

    def files(self, request: Request) -> tuple[File, ...]:
        """Every file that `install` would write.  Pure: what was found of the system is in the manager."""

    def commands(self, request: Request) -> tuple[Command, ...]:
        """The commands that `install` would run after that, for `print`."""

    def install(self, request: Request, *, force: bool) -> tuple[str, ...]:
        """Write, enable and start.  Again with the same request: nothing is changed, and that is said."""

    def uninstall(self, service: Service, *, force: bool) -> tuple[str, ...]:
        """Stop, disable and remove exactly what `install` made; nothing there: that is said."""

    def start(self, service: Service) -> tuple[str, ...]: ...

    def stop(self, service: Service) -> tuple[str, ...]:
        """Returns when it has stopped; it comes back with the next boot."""

    def restart(self, service: Service) -> tuple[str, ...]: ...

    def status(self, service: Service) -> Status: ...

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> Command:
        """The command that shows its log; the caller runs it in its own place."""
