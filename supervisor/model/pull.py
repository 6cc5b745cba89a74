"""Downloads all files of a model from the Hugging Face hub, unless they are on disk already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..disk import ensure_space
from ..download.fetch import MARGIN_BYTES, Download, Refused, fetch
from ..download.transfer import PartFile
from ..paths import Paths
from ..progress import Progress
from .hub import OFFLINE, Hub, HubFile, choose, demand_repository
from .local_models import keep_digest, known_digest
from .locate import locate_whole, names_of_parts, parts_of


@dataclass(frozen=True, slots=True)
class Pulled:
    """``parts`` are all files in order; ``downloaded`` is False where they were there before."""

    parts: tuple[Path, ...]
    downloaded: bool

    @property
    def path(self) -> Path:
        """What is given to llama-server."""
        return self.parts[0]

    @property
    def size_bytes(self) -> int:
        return sum(part.stat().st_size for part in self.parts)


def ensure_model(repo: str, file: str, paths: Paths, progress: Progress) -> Path:
    """The model's first file, downloaded if no place has all of them.  Raises as ``pull`` does."""
    return pull(repo, file, paths.models, os.environ, progress).path


def pull(
    repo: str,
    file: str | None,
    models: Path,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    hub: Hub | None = None,
) -> Pulled:
    """
    A model of the hub on disk, whole and verified: found, in other programs' caches too, or downloaded.

    ``file`` as for `choose`; the hub is not asked where it names a file that is there.  What came before an
    interruption is kept, and a second call goes on from there.  ``hub`` is that of ``environ`` unless given.
    Raises NotFound, UsageError, ConfigError, NetworkError, VerificationFailed, and SupervisorError for a disk
    that has no room for all parts together.
    """
    demand_repository(repo)
    there = file and locate_whole(repo, names_of_parts(file)[0], models, environ)
    if there:
        return Pulled(parts_of(there), downloaded=False)
    hub = hub or Hub.of(environ)
    files = choose(repo, hub.files(repo), file)
    there = locate_whole(repo, files[0].path, models, environ)
    if there:
        return Pulled(parts_of(there), downloaded=False)
    return Pulled(_Pull(hub, repo, files, models / repo, progress).run(), downloaded=True)


@dataclass(frozen=True, slots=True)
class _Pull:
    """One part after the other: nobody has shown yet that more connections at once are faster."""

    hub: Hub
    repo: str
    files: Sequence[HubFile]
    folder: Path
    progress: Progress

    def run(self) -> tuple[Path, ...]:
        for file in self.files:
            self._forget_another(file)
        missing = sum(self._missing_bytes(file) for file in self.files)
        ensure_space(self.folder, missing + MARGIN_BYTES, f"Downloading {self.repo}:{self.files[0].path}")
        return tuple(self._fetched(number, file) for number, file in enumerate(self.files, 1))

    def _missing_bytes(self, file: HubFile) -> int:
        target = self.folder / file.path
        return 0 if target.exists() else max(0, file.size_bytes - PartFile.of(target).size_bytes)

    def _forget_another(self, file: HubFile) -> None:
        """A part of an older upload does not go with the new ones."""
        target = self.folder / file.path
        known = known_digest(target)
        if known and file.sha256 and known != file.sha256:
            target.unlink(missing_ok=True)

    def _fetched(self, number: int, file: HubFile) -> Path:
        target = self.folder / file.path
        name = f"{target.name} ({number} of {len(self.files)})" if len(self.files) > 1 else target.name
        item = Download(self.hub.url(self.repo, file.path), file.size_bytes, file.sha256, name, hint=OFFLINE)
        if file.sha256:  # first, so that no file is ever there without
            keep_digest(target, file.sha256)
        try:
            fetch(item, target, self.progress, retry=self.hub.retry, token=self.hub.token)
        except Refused as error:
            raise self.hub.refusal(self.repo, error.status, error.headers) from error
        return target
