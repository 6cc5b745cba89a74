"""
The models on this machine: ours, those of other programs, and unfinished downloads.

A model's digest (SHA-256, as the hub gave it) is kept next to the file, so it can be verified later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ..disk import cannot_write
from ..download.transfer import digest_of
from ..errors import AlreadyRunning, NotFound, SupervisorError, UsageError, VerificationFailed
from ..files import SHARED, replace_file
from ..locks import Lock
from ..progress import Progress
from .hub import Hub
from .locate import hub_caches, llama_caches, parts_of, snapshots, stem_of

OURS, HUB_CACHE, LLAMA_CACHE = "ours", "Hugging Face cache", "llama.cpp cache"
_PART = ".part"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """
    A model, whole or not; ``parts`` are all its files in order, there or not.

    ``name`` is what commands take: REPO:FILE where the repository is known, else a path below the folder.
    ``where`` is OURS, HUB_CACHE or LLAMA_CACHE.
    """

    name: str
    where: str
    parts: tuple[Path, ...]

    @property
    def path(self) -> Path:
        return self.parts[0]

    @property
    def missing(self) -> tuple[Path, ...]:
        """The files that are not there, or not wholly."""
        return tuple(part for part in self.parts if not part.is_file())

    @property
    def how_to_complete(self) -> str:
        """What a person does about missing files."""
        if ":" in self.name:
            return f"goss-supervisor model pull {self.name}"
        return f"Download the missing files into {self.path.parent}"

    @property
    def size_bytes(self) -> int:
        """Of what is there, a download that is not finished included."""
        return sum(_size(part) + _size(_beside(part, _PART)) for part in self.parts)


def list_models(models: Path, environ: Mapping[str, str]) -> tuple[LocalModel, ...]:
    """All of them, ours first, each place in the order of names; none twice within a place."""
    found = [*_ours(models), *_in_hub_caches(environ), *_in_llama_caches(environ)]
    return tuple({each.path: each for each in found}.values())


def find(name: str, models: Iterable[LocalModel]) -> LocalModel:
    """
    The model that is called so: by its name, its file's, or either without its end; a whole one first.

    Raises NotFound, and UsageError where several are.
    """
    found = [each for each in models if name in _names(each)]
    if not found:
        raise NotFound(f"There is no model {name} on this machine.", hint="goss-supervisor model ls")
    if len({each.name for each in found}) > 1:
        lines = "".join(f"\n  {each.name}" for each in found)
        raise UsageError(f"{name} can be several models:{lines}", hint="Name one of them in full.")
    return min(found, key=lambda each: bool(each.missing))


def remove(model: LocalModel) -> int:
    """
    Delete a model of ours, and what there is of an unfinished download of it; how many bytes that were.

    Raises SupervisorError for another program's, AlreadyRunning while it is being downloaded, and what the
    disk says: on Windows, a file that a server has open cannot be deleted.
    """
    if model.where != OURS:
        raise SupervisorError(
            f"{model.name} is in the {model.where}, which belongs to another program.",
            hint=f"It is at {model.path}",
        )
    size = model.size_bytes
    with ExitStack() as held:
        for part in model.parts:
            if part.parent.is_dir():
                held.callback(_locked(part, model.name).release)
        for part in model.parts:
            _delete(part)
    _tidy(model)
    return size


def _ours(models: Path) -> Iterator[LocalModel]:
    files = {*models.rglob("*.gguf"), *(each.with_suffix("") for each in models.rglob(f"*.gguf{_PART}"))}
    for first in _firsts(files):
        *owner_and_name, file = first.relative_to(models).as_posix().split("/", 2)
        repo = "/".join(owner_and_name)
        separator = (":" if len(owner_and_name) == 2 else "/") if repo else ""
        yield LocalModel(f"{repo}{separator}{file}", OURS, parts_of(first))


def _in_hub_caches(environ: Mapping[str, str]) -> Iterator[LocalModel]:
    """Of the states of a repository, the newest that has a model."""
    for hub in hub_caches(environ):
        for folder in sorted(hub.glob("models--*--*")):
            repo = folder.name.removeprefix("models--").replace("--", "/", 1)
            seen: dict[str, LocalModel] = {}
            for snapshot in snapshots(hub, repo):
                for first in _firsts(snapshot.rglob("*.gguf")):
                    name = f"{repo}:{first.relative_to(snapshot).as_posix()}"
                    seen.setdefault(name, LocalModel(name, HUB_CACHE, parts_of(first)))
            yield from seen.values()


def _in_llama_caches(environ: Mapping[str, str]) -> Iterator[LocalModel]:
    for folder in llama_caches(environ):
        for first in _firsts(folder.glob("*.gguf")):
            yield LocalModel(first.name, LLAMA_CACHE, parts_of(first))


def _firsts(files: Iterable[Path]) -> list[Path]:
    """The first part of every model of which there is a file."""
    return sorted({parts_of(file)[0] for file in files})


def _names(model: LocalModel) -> set[str]:
    repo, _, file = model.name.rpartition(":")
    full = {model.name, stem_of(model.name), file, stem_of(file), model.path.name, stem_of(model.path.name)}
    return {*full, repo} - {""}


def _beside(file: Path, end: str) -> Path:
    return file.with_name(f"{file.name}{end}")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _locked(part: Path, name: str) -> Lock:
    lock = Lock.acquire(_beside(part, ".lock"), {"pid": os.getpid()})
    if lock is None:
        raise AlreadyRunning(f"{name} is being downloaded at this moment.", hint="Stop that: Ctrl+C there.")
    return lock


def _delete(part: Path) -> None:
    """The file first: what an interruption leaves is no model."""
    for file in (part, _beside(part, _PART), _beside(part, f"{_PART}.json"), digest_file(part)):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(file, error) from error


def _tidy(model: LocalModel) -> None:
    """
    No lock without its model, and no empty folder, is left.

    Deleting a lock lets two hold "the" lock; who begins the same download twice in this very moment has both
    write one file, which then fails its digest and is fetched again.
    """
    with suppress(OSError):
        for part in model.parts:
            _beside(part, ".lock").unlink(missing_ok=True)
        depth = model.name.replace(":", "/").count("/")
        for folder in model.path.parents[:depth]:  # those that the name has, the innermost first
            folder.rmdir()


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """One file: what it has, and what it should have."""

    path: Path
    sha256: str
    expected: str

    @property
    def ok(self) -> bool:
        return self.sha256 == self.expected


def verify(model: LocalModel, hub: Callable[[], Hub], progress: Progress) -> tuple[VerifiedFile, ...]:
    """
    Every file read and compared; the hub is asked only where no digest was kept.

    Raises NotFound for a model that is not whole, SupervisorError where nobody knows what it should be, and
    NetworkError where only the hub knows.
    """
    if model.missing:
        names = ", ".join(part.name for part in model.missing)
        raise NotFound(f"{model.name} is incomplete: no {names}.", hint=model.how_to_complete)
    expected: Mapping[Path, str] = {part: known_digest(part) for part in model.parts}
    if not all(expected.values()):
        expected = _asked(model, hub)
    return tuple(VerifiedFile(part, _read(part, progress), expected[part]) for part in model.parts)


def _read(part: Path, progress: Progress) -> str:
    progress.step(f"verifying {part.name}")
    try:
        size = part.stat().st_size
        return digest_of(
            part, lambda done: progress.update(done / size, f"{done / 10**9:.1f} of {size / 10**9:.1f} GB")
        )
    except OSError as error:  # a disk that is dying among the reasons
        raise VerificationFailed(f"{part} cannot be read: {error.strerror or error}.") from error


def _asked(model: LocalModel, hub: Callable[[], Hub]) -> Mapping[Path, str]:
    repo, _, file = model.name.rpartition(":")
    if not repo:
        raise SupervisorError(
            f"Nobody knows what {model.name} should be: no digest was kept, and its repository is not known.",
            hint="goss-supervisor model show reads its header, and finds out whether all of it is there.",
        )
    published = {each.path: each.sha256 for each in hub().files(repo)}
    folder = file.rpartition("/")[0]
    expected = {part: published.get(f"{folder}/{part.name}".lstrip("/"), "") for part in model.parts}
    if unknown := [part.name for part, sha256 in expected.items() if not sha256]:
        raise NotFound(f"{repo} at the hub has no {', '.join(unknown)}, or does not say what it should be.")
    if model.where == OURS:
        for part, sha256 in expected.items():
            keep_digest(part, sha256)
    return expected


_HEX = re.compile(r"[0-9a-f]{64}")


def digest_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def keep_digest(file: Path, sha256: str) -> None:
    """In the format of sha256sum.  Raises SupervisorError and PermissionDenied of a disk."""
    replace_file(digest_file(file), f"{sha256}  {file.name}\n".encode(), mode=SHARED)


def known_digest(file: Path) -> str:
    """
    The one that was kept, else the name of the blob that a link in the Hugging Face cache leads to.

    "" where nobody knows.  Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    try:
        if found := _HEX.match(digest_file(file).read_text("utf-8")):
            return found[0]
    except (OSError, UnicodeDecodeError):
        pass
    blob = file.resolve().name
    return blob if file.is_symlink() and _HEX.fullmatch(blob) else ""
