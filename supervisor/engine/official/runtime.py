"""
The CUDA runtime libraries, which lie in an archive of their own and belong beside the binaries.

They are the same for many releases and larger than all the rest.  So each is kept unpacked once, as
``cudart-<digest>/`` in the folder of downloads, and the engines hold hard links to its files.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ...disk import cannot_write
from ...download.fetch import Download, fetch
from ...locks import Lock
from ...progress import Progress, ticking
from ..catalogue.releases import Asset
from ..inventory import install_lock
from .archive import unpack

_COMPLETE = ".complete"  # written last: without it, the folder is what is left of an attempt
_LIBRARY = re.compile(r"\.dll$|\.so(\.\d+)*$")


def at_hand(companion: Asset, downloads: Path) -> bool:
    return (_folder(companion, downloads) / _COMPLETE).exists()


def place(
    companion: Asset, beside: Path, downloads: Path, progress: Progress, *, proxy: str | None = None
) -> None:
    """
    Put the libraries of ``companion`` into the folder ``beside``, downloaded first if they never were.

    Raises what ``fetch`` and ``unpack`` raise, and SupervisorError where nothing can be written.
    """
    kept = _folder(companion, downloads)
    with install_lock(_lock(kept), companion.name, progress):
        if not at_hand(companion, downloads):
            _get(companion, kept, progress, proxy)
        try:
            for library in _libraries(kept):
                _link(library, beside / library.name)
        except OSError as error:
            raise cannot_write(beside, error) from error


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
    """A copy where the file system has no links, or lies elsewhere."""
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
