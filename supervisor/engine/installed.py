"""
The engines that stand below ``engines/<repository>/<tag>/<flavour>/``.

``install.json`` is written last, so a folder without one is not an engine but what is left of an attempt.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "install.json"


@dataclass(frozen=True, slots=True)
class Install:
    """``command`` is what comes before the options; ``files`` are what the engine consists of."""

    source: str  # embedded or build
    repository: str
    tag: str
    flavour: str
    version: str  # of the package that it was made from
    command: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything is still there: a Python that was upgraded takes its environments with it."""
        return all(Path(file).exists() for file in (self.command[0], *self.files))


def folder(engines: Path, repository: str, tag: str, flavour: str) -> Path:
    return engines / repository / tag / flavour


def write_record(root: Path, install: Install) -> None:
    staged = root / f"{RECORD}.new"
    staged.write_text(json.dumps(asdict(install), indent=2) + "\n", "utf-8")
    staged.replace(root / RECORD)


def read_record(root: Path) -> Install | None:
    """None where there is no complete engine."""
    try:
        kept = json.loads((root / RECORD).read_text("utf-8"))
        install = Install(**{**kept, "command": tuple(kept["command"]), "files": tuple(kept["files"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return install if install.complete else None


def installed(engines: Path) -> tuple[Install, ...]:
    """All complete engines, newest tag first."""
    found = [read_record(record.parent) for record in engines.glob(f"*/*/*/{RECORD}")]
    return tuple(sorted((each for each in found if each), key=_newest_first))


def _newest_first(install: Install) -> tuple[int, str]:
    digits = install.tag.removeprefix("b")
    return (-int(digits) if digits.isdigit() else 0, install.flavour)
