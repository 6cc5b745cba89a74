"""
A checkout of the project and the notes in it that tell how far its environment is.

.venv/setup/ holds them.  ``unfinished`` stands there from before the first change until after the last,
so an environment that has it is thrown away; ``made-for`` is the folder it was made in, because an
environment cannot be moved; ``run.toml`` and ``dev.toml`` are copies of the pyproject.toml that was
installed.  bin/bootstrap.sh compares the last two by itself, to be fast.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Need = Literal["run", "dev"]


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where everything lies under one root."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def project(self) -> Path:
        return self.root / "pyproject.toml"

    @property
    def cache(self) -> Path:
        return self.root / ".cache"

    @property
    def log(self) -> Path:
        return self.cache / "setup.log"

    @property
    def unfinished(self) -> Path:
        return self.venv / "setup" / "unfinished"

    @property
    def made_for(self) -> Path:
        return self.venv / "setup" / "made-for"

    def installed(self, need: Need) -> Path:
        return self.venv / "setup" / f"{need}.toml"

    def begin(self) -> None:
        self.unfinished.parent.mkdir(parents=True, exist_ok=True)
        self.unfinished.touch()

    def finish(self, need: Need) -> None:
        _replace(self.made_for, f"{self.root}\n".encode())
        for satisfied in ("run", "dev") if need == "dev" else ("run",):
            _replace(self.installed(satisfied), self.project.read_bytes())
        self.unfinished.unlink(missing_ok=True)

    def was_moved(self) -> bool:
        """Whether the environment was made in another folder; one without a note was made by the user."""
        if not self.made_for.exists():
            return False
        made_for = Path(self.made_for.read_text(encoding="utf-8").rstrip("\n"))
        return not (made_for.exists() and made_for.samefile(self.root))

    def is_installed(self, need: Need) -> bool:
        """Whether what changed in pyproject.toml since then, if anything, concerns other tools than pip."""
        copy = self.installed(need)
        try:
            return copy.exists() and _what_pip_reads(copy) == _what_pip_reads(self.project)
        except tomllib.TOMLDecodeError:
            return False  # pip says where the mistake is


def _what_pip_reads(project: Path) -> dict[str, object]:
    with project.open("rb") as file:
        tables = tomllib.load(file)
    return tables | {"tool": tables.get("tool", {}).get("hatch")}


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.replace(path)
