"""What sources may read of a machine: the real one here, recorded ones in the tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Protocol

from ..tool import ToolResult, run_tool
from .hardware import Os

TIMEOUT_SECONDS = 5.0  # of each program that is asked
READ_BYTES = 1024 * 1024


class Machine(Protocol):
    """Never raises: what cannot be had is None, empty or False.  Paths are absolute, as text."""

    @property
    def os(self) -> Os: ...

    def run(self, *command: str) -> ToolResult | None:
        """None where there is no such program; ``returncode`` None where it did not end within 5 s."""

    def read(self, path: str) -> str | None:
        """A file's text, at most 1 MiB of it."""

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds, sorted."""

    def target(self, path: str) -> str | None:
        """Where a path leads when all its links are followed; None where it does not exist."""

    def may_open(self, path: str) -> bool:
        """Whether this user may read and write it."""


class ThisMachine:
    """The one that we run on."""

    @property
    def os(self) -> Os:
        systems: dict[str, Os] = {"win32": "windows", "darwin": "macos"}
        return systems.get(sys.platform, "linux")

    def run(self, *command: str) -> ToolResult | None:
        program = shutil.which(command[0])
        if program is None:
            return None
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            return run_tool([program, *command[1:]], environment, TIMEOUT_SECONDS)
        except OSError:
            return None

    def read(self, path: str) -> str | None:
        try:
            with Path(path).open("rb") as file:
                return file.read(READ_BYTES).decode("utf-8", "replace")
        except OSError:
            return None

    def names(self, path: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(entry.name for entry in Path(path).iterdir()))
        except OSError:
            return ()

    def target(self, path: str) -> str | None:
        try:
            return str(Path(path).resolve(strict=True))
        except OSError:
            return None

    def may_open(self, path: str) -> bool:
        return os.access(path, os.R_OK | os.W_OK)
