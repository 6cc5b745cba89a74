"""The models on this machine: ours, those that other programs downloaded, and what is not whole yet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ..disk import cannot_write
from ..errors import AlreadyRunning, NotFound, SupervisorError, UsageError
from ..locks import Lock
from .digests import digest_file
from .locate import hub_caches, llama_caches, parts_of, snapshots, stem_of

OURS, HUB_CACHE, LLAMA_CACHE = "ours", "Hugging Face cache", "llama.cpp cache"
_PART = ".part"


@dataclass(frozen=True, slots=True)
class Shelved:
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


def shelved(models: Path, environ: Mapping[str, str]) -> tuple[Shelved, ...]:
    """All of them, ours first, each place in the order of names; none twice within a place."""
    found = [*_ours(models), *_in_hub_caches(environ), *_in_llama_caches(environ)]
    return tuple({each.path: each for each in found}.values())


def find(name: str, shelf: Iterable[Shelved]) -> Shelved:
    """
    The model that is called so: by its name, its file's, or either without its end; a whole one first.

    Raises NotFound, and UsageError where several are.
    """
    found = [each for each in shelf if name in _names(each)]
    if not found:
        raise NotFound(f"There is no model {name} on this machine.", hint="goss-supervisor model ls")
    if len({each.name for each in found}) > 1:
        lines = "".join(f"\n  {each.name}" for each in found)
        raise UsageError(f"{name} can be several models:{lines}", hint="Name one as it stands there.")
    return min(found, key=lambda each: bool(each.missing))


def remove(model: Shelved) -> int:
    """
    Delete a model of ours, and what there is of an unfinished download of it; how many bytes that were.

    Raises SupervisorError for another program's, AlreadyRunning while it is being downloaded, and what the
    disk says: on Windows, a file that a server has open cannot be deleted.
    """
    if model.where != OURS:
        raise SupervisorError(
            f"{model.name} is in the {model.where}, which belongs to another program.",
            hint=f"It lies at {model.path}",
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


def _ours(models: Path) -> Iterator[Shelved]:
    files = {*models.rglob("*.gguf"), *(each.with_suffix("") for each in models.rglob(f"*.gguf{_PART}"))}
    for first in _firsts(files):
        *owner_and_name, file = first.relative_to(models).as_posix().split("/", 2)
        repo = "/".join(owner_and_name)
        separator = (":" if len(owner_and_name) == 2 else "/") if repo else ""
        yield Shelved(f"{repo}{separator}{file}", OURS, parts_of(first))


def _in_hub_caches(environ: Mapping[str, str]) -> Iterator[Shelved]:
    """Of the states of a repository, the newest that has a model."""
    for hub in hub_caches(environ):
        for folder in sorted(hub.glob("models--*--*")):
            repo = folder.name.removeprefix("models--").replace("--", "/", 1)
            seen: dict[str, Shelved] = {}
            for snapshot in snapshots(hub, repo):
                for first in _firsts(snapshot.rglob("*.gguf")):
                    name = f"{repo}:{first.relative_to(snapshot).as_posix()}"
                    seen.setdefault(name, Shelved(name, HUB_CACHE, parts_of(first)))
            yield from seen.values()


def _in_llama_caches(environ: Mapping[str, str]) -> Iterator[Shelved]:
    for folder in llama_caches(environ):
        for first in _firsts(folder.glob("*.gguf")):
            yield Shelved(first.name, LLAMA_CACHE, parts_of(first))


def _firsts(files: Iterable[Path]) -> list[Path]:
    """The first part of every model of which there is a file."""
    return sorted({parts_of(file)[0] for file in files})


def _names(model: Shelved) -> set[str]:
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


def _tidy(model: Shelved) -> None:
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
