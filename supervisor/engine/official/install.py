"""
Installs official releases of llama.cpp: downloaded, verified, unpacked, tested, and only then recorded.

``engines/<repository>/<tag>/<flavour>/`` holds ``install.json`` and one folder, named by the digest of its
archive.  The record is written last, by one atomic rename: a crash at any moment leaves the old engine or the
new one, and the next installation removes what no record names.  The CUDA runtime libraries have an archive
of their own that many releases share, so they are unpacked once, to ``cudart-<digest>/`` in the folder of
downloads, and engines hold hard links to them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...disk import cannot_write, ensure_executable, ensure_space
from ...download.fetch import Download, fetch
from ...errors import VerificationFailed
from ...hardware.hardware import Hardware
from ...locks import Lock
from ...progress import Progress, ticking
from ..catalogue.releases import REPOSITORY, Asset
from ..inventory import RECORD, Install, folder, install_lock, read_record, view_of, write_record
from ..proof.trial import prove
from ..survey import FlavourOption
from .archive import find_server, unpack

UNPACKED = 3  # times the size of an archive, at most


@dataclass(frozen=True, slots=True)
class Installation:
    """Of one flavour of a release; ``demo`` is the file of the demo model, ``proxy`` as for `fetch`."""

    engines: Path
    tag: str
    option: FlavourOption
    demo: Path
    hardware: Hardware
    proxy: str | None
    cache: Path
    progress: Progress
    variables: Mapping[str, str] = field(
        default_factory=dict
    )  # of the profile, with which it may see other devices

    def install(self) -> Install:
        """
        Download it if it is not there.

        An install with a ``problem`` does not work on this ``hardware``; if it exists already, it is only
        proved anew.  Raises NetworkError, VerificationFailed (a digest, a hostile archive), PermissionDenied,
        or SupervisorError (a full disk).
        """
        root = self._root
        with install_lock(root.with_name(f"{root.name}.lock"), self._what, self.progress):
            found = read_record(root)
            try:
                if found is None or found.sha256 != self.option.archive.sha256:
                    return self._run(found)
                if found.problem or found.proved_on != self._view:
                    found = self._proved(found)
                    write_record(root, found)
            except OSError as error:
                raise cannot_write(root, error) from error
        return found

    def _run(self, old: Install | None) -> Install:
        """In place of ``old``, unless that works and the new one does not."""
        self._check()
        archive = self._fetched()
        self._sweep(old)
        made = self._proved(self._recorded(self._unpacked(archive)))
        if old is None or old.problem or not made.problem:
            write_record(self._root, made)
            self._sweep(made)
        archive.unlink(missing_ok=True)
        return made

    def _proved(self, install: Install) -> Install:
        self.progress.step(f"proving {self._what}: it answers with the demo model")
        with ticking(self.progress, "trying"):
            proof = prove(
                install.command, install.flavour, self.demo, self.cache / "builds", variables=self.variables
            )
        proved_on = self._view if proof.lasting else ""  # "" is tried again the next time
        return replace(install, devices=proof.devices, problem=proof.problem, proved_on=proved_on)

    def _check(self) -> None:
        """Before anything is fetched."""
        ensure_executable(self.engines)
        archive, companion = self.option.archive, self.option.companion
        for asset in (archive, companion):
            if asset and not asset.usable:
                raise VerificationFailed(
                    f"{asset.name} of {self.tag} cannot be verified: no digest of it was published.",
                    hint="Take another release: goss-supervisor engine available",
                )
        fetched, unpacked = archive.size_bytes, UNPACKED * archive.size_bytes
        if companion and not at_hand(companion, self._downloads):
            fetched += (1 + UNPACKED) * companion.size_bytes
        ensure_space(self._downloads, fetched, f"Downloading {self._what}")
        together = fetched if _same_disk(self._downloads, self._root) else 0
        ensure_space(self._root, together + unpacked, f"Installing {self._what}")

    def _fetched(self) -> Path:
        asset = self.option.archive
        archive = self._downloads / f"{self._name}-{asset.name}"
        item = Download(asset.url, asset.size_bytes, asset.sha256, asset.name)
        fetch(item, archive, self.progress, proxy=self.proxy)
        return archive

    def _unpacked(self, archive: Path) -> Path:
        """The server in it; a hostile archive is not kept."""
        self.progress.step(f"unpacking {self._what}")
        target = self._root / self._name
        try:
            with ticking(self.progress, "unpacking"):
                unpack(archive, target)
            server = find_server(target)
        except VerificationFailed:
            archive.unlink(missing_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            raise
        if companion := self.option.companion:
            place(companion, server.parent, self._downloads, self.progress, proxy=self.proxy)
        return server

    def _recorded(self, server: Path) -> Install:
        archive = self.option.archive
        tag, flavour, files = self.tag, self.option.flavour, (str(server),)
        return Install("release", REPOSITORY, tag, flavour, tag, files, files, archive.url, archive.sha256)

    def _sweep(self, kept: Install | None) -> None:
        """Remove what earlier attempts left; what a server has open on Windows stays until the next time."""
        name = kept.sha256[: len(self._name)] if kept else ""
        for left in self._root.iterdir():
            if left.is_dir() and left.name != name:
                shutil.rmtree(left, ignore_errors=True)
            elif left.name != RECORD and not left.is_dir():
                left.unlink(missing_ok=True)

    @property
    def _view(self) -> str:
        return view_of(self.hardware, self.variables)

    @property
    def _root(self) -> Path:
        return folder(self.engines, REPOSITORY, self.tag, self.option.flavour)

    @property
    def _what(self) -> str:
        return f"llama.cpp {self.tag} ({self.option.flavour})"

    @property
    def _name(self) -> str:
        return self.option.archive.sha256[:16]

    @property
    def _downloads(self) -> Path:
        return self.cache / "downloads"


def _same_disk(one: Path, other: Path) -> bool:
    other.mkdir(parents=True, exist_ok=True)
    return one.stat().st_dev == other.stat().st_dev


_COMPLETE = ".complete"  # written last: without it, the folder is what is left of an attempt
_LIBRARY = re.compile(r"\.dll$|\.so(\.\d+)*$")


def at_hand(companion: Asset, downloads: Path) -> bool:
    return (_folder(companion, downloads) / _COMPLETE).exists()


def place(
    companion: Asset, target: Path, downloads: Path, progress: Progress, *, proxy: str | None = None
) -> None:
    """
    Put the libraries of ``companion`` into the folder ``target``, downloaded first if they never were.

    Raises what ``fetch`` and ``unpack`` raise, and SupervisorError where nothing can be written.
    """
    kept = _folder(companion, downloads)
    with install_lock(_lock(kept), companion.name, progress):
        if not at_hand(companion, downloads):
            _get(companion, kept, progress, proxy)
        try:
            for library in _libraries(kept):
                _link(library, target / library.name)
        except OSError as error:
            raise cannot_write(target, error) from error


def prune(downloads: Path) -> None:
    """Remove what no engine has links to any more; where links are not to be had, that is every one."""
    for kept in downloads.glob("cudart-*/"):
        lock = Lock.acquire(_lock(kept), {"pid": os.getpid()})
        if lock is None:
            continue
        try:
            if all(library.lstat().st_nlink == 1 for library in _libraries(kept)):
                (kept / _COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(kept, ignore_errors=True)
        finally:
            lock.release()


def _get(companion: Asset, kept: Path, progress: Progress, proxy: str | None) -> None:
    archive = kept.with_name(kept.name + (".zip" if companion.name.endswith(".zip") else ".tar.gz"))
    item = Download(companion.url, companion.size_bytes, companion.sha256, companion.name)
    fetch(item, archive, progress, proxy=proxy)
    progress.step(f"unpacking {companion.name}")
    shutil.rmtree(kept, ignore_errors=True)
    with ticking(progress, "unpacking"):
        unpack(archive, kept)
    (kept / _COMPLETE).touch()
    archive.unlink(missing_ok=True)


def _link(library: Path, target: Path) -> None:
    """A copy if the file system has no links, or is another one."""
    target.unlink(missing_ok=True)
    if library.is_symlink():
        target.symlink_to(library.readlink())
        return
    try:
        target.hardlink_to(library)
    except OSError:
        shutil.copy2(library, target)


def _libraries(kept: Path) -> Iterator[Path]:
    return (file for file in kept.rglob("*") if not file.is_dir() and _LIBRARY.search(file.name))


def _folder(companion: Asset, downloads: Path) -> Path:
    return downloads / f"cudart-{companion.sha256[:16]}"


def _lock(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.lock")
