"""
The installed engines: where they are, their size, and which may be removed.

``install.json`` is written last, so a folder without one is the rest of a failed attempt and no engine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from stat import S_ISDIR

from ..decoding import decode
from ..disk import cannot_write
from ..errors import AlreadyRunning
from ..files import SHARED, read_json, write_json
from ..hardware.hardware import Hardware
from ..locks import Lock, waiting_lock
from ..progress import Progress

RECORD = "install.json"


@dataclass(frozen=True, slots=True)
class Install:
    """
    ``command`` is what comes before the options; ``files`` are what the engine consists of.

    ``problem`` is why it is installed but unusable: it does not see the GPU that it is for, or does not
    answer.  ``proved_on`` is the `view_of` the hardware on which that was found out, since a new
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
        return bool(self.command) and all(map(os.path.exists, (self.command[0], *self.files)))


def view_of(hardware: Hardware, variables: Mapping[str, str]) -> str:
    """
    What an engine's view of the GPUs depends on, for ``proved_on``: the hardware, and a profile's variables.
    Those may hold a secret, so only a digest of them is written down.
    """
    if not variables:
        return hardware.fingerprint
    digest = hashlib.sha256(repr(sorted(variables.items())).encode()).hexdigest()
    return f"{hardware.fingerprint}; variables {digest[:16]}"


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
    install = read_json(root / RECORD, partial(decode, Install))
    return install if install and install.complete else None


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


KEEP = 2  # tags of each repository that work


def root_of(install: Install) -> Path | None:
    """Its folder, which holds its record; None when that is gone."""
    parents = Path(install.command[0]).parents
    return next((folder for folder in parents if (folder / RECORD).is_file()), None)


def size_bytes(install: Install) -> int:
    """What it takes on disk, each file once; files that it shares with other engines count."""
    root = root_of(install)
    files = [file.lstat() for file in root.rglob("*")] if root else []
    return sum({stat.st_ino: stat.st_size for stat in files if not S_ISDIR(stat.st_mode)}.values())


def remove(install: Install) -> None:
    """
    The record goes first, so what an interruption leaves is no engine.

    Raises AlreadyRunning while it is being installed, PermissionDenied or SupervisorError where files
    cannot be deleted: on Windows those that a server has open.
    """
    root = root_of(install)
    if root is None:
        return
    lock = Lock.acquire(root.with_name(f"{root.name}.lock"), {"pid": os.getpid()})
    if lock is None:
        raise AlreadyRunning(
            f"{install.key} is being installed at this moment.", hint="Try again in a while."
        )
    try:
        (root / RECORD).unlink(missing_ok=True)
        shutil.rmtree(root)
    except OSError as error:
        raise cannot_write(root, error) from error
    finally:
        lock.release()


def spare(installs: Iterable[Install], keep: int = KEEP, in_use: Collection[str] = ()) -> tuple[Install, ...]:
    """
    What may go: all but, in each repository, the ``keep`` newest tags that work, and what is in use.

    ``installs`` are newest first, as ``installed`` gives them; ``in_use`` are tags (pinned, or chosen for
    a channel) or keys (what a server runs on).  What does not work goes with its tag: as long as that
    stands, its record says what need not be tried again.
    """
    installs = tuple(installs)
    kept = {(each.repository, tag) for each in installs for tag in _working(installs, each.repository)[:keep]}
    return tuple(
        each
        for each in installs
        if (each.repository, each.tag) not in kept and each.tag not in in_use and each.key not in in_use
    )


def _working(installs: Iterable[Install], repository: str) -> list[str]:
    """The tags, in the order given, none twice."""
    working = (each.tag for each in installs if each.repository == repository and not each.problem)
    return list(dict.fromkeys(working))
