"""
The engines that stand below ``engines/<repository>/<tag>/<flavour>/``.

``install.json`` is written last, so a folder without one is not an engine but what is left of an attempt.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import SHARED, read_json, write_json
from ..locks import waiting_lock
from ..progress import Progress

RECORD = "install.json"


@dataclass(frozen=True, slots=True)
class Install:
    """
    ``command`` is what comes before the options; ``files`` are what the engine consists of.

    ``problem`` is why it is installed but unusable: it does not see the GPU that it is for, or does not
    answer.  ``proved_on`` is the ``fingerprint`` of the hardware on which that was found out, since a new
    driver may mend it; "" where the reason may be gone by the next time.
    """

    source: str  # release, embedded or build
    repository: str
    tag: str
    flavour: str
    version: str  # of the package that it was made from
    command: tuple[str, ...]
    files: tuple[str, ...]
    url: str = ""  # of the archive
    sha256: str = ""  # of the archive, hex
    devices: tuple[str, ...] = ()  # as --list-devices printed them when it was proved
    problem: str = ""
    proved_on: str = ""

    @property
    def key(self) -> str:
        return key_of(self.repository, self.tag, self.flavour)

    @property
    def name(self) -> str:
        """For people: ``ggml-org/llama.cpp b11434 (cuda-13.4)``."""
        return f"{self.repository} {self.tag} ({self.flavour})"

    @property
    def complete(self) -> bool:
        """Whether everything is still there: a Python that was upgraded takes its environments with it."""
        return all(Path(file).exists() for file in (self.command[0], *self.files))


def key_of(repository: str, tag: str, flavour: str) -> str:
    """How a build is called in records and messages: ``ggml-org/llama.cpp b11434 cuda-13.4``."""
    return f"{repository} {tag} {flavour}"


def folder(engines: Path, repository: str, tag: str, flavour: str) -> Path:
    """``ggml-org/llama.cpp`` is one folder, ``ggml-org--llama.cpp``."""
    return engines / repository.replace("/", "--") / tag / flavour


def write_record(root: Path, install: Install) -> None:
    """Raises PermissionDenied or SupervisorError."""
    write_json(root / RECORD, asdict(install), mode=SHARED, durable=True)


def read_record(root: Path) -> Install | None:
    """None where there is no complete engine."""
    install = read_json(root / RECORD, _install)
    return install if install and install.complete else None


def _install(kept: dict[str, Any]) -> Install:
    lists = {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}
    return Install(**{**kept, **lists})


def installed(engines: Path) -> tuple[Install, ...]:
    """All complete engines, newest tag first."""

    def newest_first(install: Install) -> tuple[int, str]:
        digits = install.tag.removeprefix("b")
        return -int(digits) if digits.isdigit() else 0, install.flavour

    found = [read_record(record.parent) for record in engines.glob(f"*/*/*/{RECORD}")]
    return tuple(sorted(filter(None, found), key=newest_first))


def install_lock(path: Path, what: str, progress: Progress) -> AbstractContextManager[None]:
    """Held by one installation of an engine at a time, in all processes of this user: `waiting_lock`."""
    return waiting_lock(path, f"waiting: another goss-supervisor is installing {what}", progress)
