"""Runs a service manager's tool, and says what it said where it failed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import NotFound, PermissionDenied, SupervisorError
from .contract import Command

_NO_RIGHTS = (
    "access denied", "access is denied", "interactive authentication required", "not permitted",
    "not privileged", "permission denied",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """How it ended; both streams are stripped."""

    command: Command
    returncode: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """Its last line, or how it ended without a word."""
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
    said = f"{shlex.join(ran.command)}: {ran.said}"
    if any(words in f"{ran.stderr}\n{ran.stdout}".lower() for words in _NO_RIGHTS):
        return PermissionDenied(said, hint=hint or "Say it with sudo.")
    return SupervisorError(said, hint=hint)


if sys.platform == "win32":

    def become(command: Command) -> int:
        """Windows cannot replace a program: this one waits, and answers with the other's exit code."""
        return subprocess.run(command, check=False).returncode

else:

    def become(command: Command) -> int:
        """Be that program from now on, with its own exit code.  Raises NotFound where there is none."""
        sys.stdout.flush()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be passed on
        try:
            os.execvp(command[0], command)  # noqa: S606 - a shell is not wanted
        except FileNotFoundError as error:
            raise NotFound(f"There is no {command[0]} on this system.") from error
