"""Runs a service manager's tool, and says what it said where it failed."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import NotFound, PermissionDenied, SupervisorError
from .types import Command

_NO_RIGHTS = ("access denied", "interactive authentication required", "permission denied", "not permitted")


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
    """As `run`; raises PermissionDenied or SupervisorError where it fails."""
    ran = run(*command)
    if ran.returncode == 0:
        return ran
    if any(words in ran.stderr.lower() for words in _NO_RIGHTS):
        raise PermissionDenied(f"{shlex.join(command)}: {ran.said}", hint=hint or "Say it with sudo.")
    raise SupervisorError(f"{shlex.join(command)}: {ran.said}", hint=hint)
