"""What a disk may lack: space, being mounted, or the right to run programs; and the words for it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import NotFound, PermissionDenied, SupervisorError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: a limit of the file system, or ulimit -f
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOLCK}
_ELSEWHERE = "set GOSS_SUPERVISOR_HOME to a folder on another disk."


def ensure_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises SupervisorError if ``folder``'s disk has less, PermissionDenied if it may not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = _free_bytes(folder)
    except OSError as error:
        raise PermissionDenied(f"{folder} cannot be written: {error.strerror}.") from error
    if free < needed_bytes:
        raise SupervisorError(
            f"{what} needs {_size(needed_bytes)} of disk at {folder}, where {_size(free)} are free.",
            hint=f"Free some space, or {_ELSEWHERE}",
        )


def cannot_write(file: Path, error: OSError) -> SupervisorError:
    """The error of a write that failed, in words; a full disk says what is free by now."""
    cause = error.strerror or str(error)
    if error.errno in _FULL:
        return SupervisorError(
            f"{file} cannot be written: {cause}; {_free(file.parent)} are free there.",
            hint=f"Free some space, or {_ELSEWHERE}",
        )
    if error.errno in _FORBIDDEN:
        return PermissionDenied(
            f"{file} cannot be written: {cause}.",
            hint="Put the home (GOSS_SUPERVISOR_HOME) into a folder of yours on a local disk.",
        )
    return SupervisorError(f"{file} cannot be written: {cause}.")


_REMOVABLE = ("/mnt", "/media", "/run/media", "/Volumes")
_FSTAB = Path("/etc/fstab")


def ensure_reachable(path: Path, what: str) -> None:
    """Raises NotFound if ``path`` leads to a disk that is not there; ``what`` begins the sentence."""
    if problem := unreachable(path):
        raise NotFound(
            f"{what} {path} cannot be reached: {problem}.",
            hint="Mount the disk. Another folder for models: models-dir in config.yaml.",
        )


def unreachable(path: Path, fstab: Path = _FSTAB) -> str:
    """Why nothing is at ``path`` though something should be: a clause; "" where no disk is the reason."""
    if path.exists():
        return ""
    path = path.absolute()
    for place in (*reversed(path.parents), path):
        if place.is_symlink() and not place.exists():
            if _is_circle(place):
                return f"{place} is a link that leads back to itself"
            return f"{place} is a link to {os.readlink(place)}, which is not there (is its disk mounted?)"  # noqa: PTH115
        if not place.exists():
            return _absent(place, path, fstab)
    return ""


def _is_circle(link: Path) -> bool:
    try:
        link.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _absent(place: Path, path: Path, fstab: Path) -> str:
    """``place`` is the first part of ``path`` that is missing."""
    real = Path(os.path.realpath(path))
    mount = next((each for each in _mount_points(fstab) if each in (real, *real.parents)), None)
    if mount is not None and not os.path.ismount(mount):
        return f"the disk of {mount} (in {fstab}) is not mounted"
    if sys.platform == "win32" and place == Path(place.anchor):
        return f"there is no drive {place.drive}"
    on_removable = any(Path(each) in place.parents for each in _REMOVABLE)
    return f"there is no {place} (is its disk mounted?)" if on_removable else ""


def _mount_points(fstab: Path) -> Iterator[Path]:
    try:
        rows = [line.split() for line in fstab.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return
    for row in rows:
        if len(row) > 1 and row[1].startswith("/") and row[1] != "/" and not row[0].startswith("#"):
            yield Path(row[1].replace("\\040", " "))  # as fstab(5) writes a space


def ensure_executable(folder: Path) -> None:
    """Raises PermissionDenied where no program may run from ``folder``, before one is downloaded to it."""
    if mount := noexec_mount(folder):
        raise PermissionDenied(
            f"No engine can run from {folder}: {mount} is mounted noexec.",
            hint=f"sudo mount -o remount,exec {mount}, or {_ELSEWHERE}",
        )


def noexec_mount(path: Path) -> Path | None:
    """The mount point over ``path`` that lets no program run; None where programs may."""
    if sys.platform == "win32":
        return None
    else:  # noqa: RET505 - what is below does not exist there
        around = (path.absolute(), *path.absolute().parents)
        try:
            real = next(each for each in around if each.exists()).resolve()
            forbidden = os.statvfs(real).f_flag & getattr(os, "ST_NOEXEC", 0)
        except OSError:
            return None
        return next(each for each in (real, *real.parents) if each.is_mount()) if forbidden else None


def _free(folder: Path) -> str:
    try:
        return _size(_free_bytes(folder))
    except OSError:
        return "an unknown number of bytes"


def _free_bytes(folder: Path) -> int:
    import shutil  # noqa: PLC0415 - every command imports this module, and ``status`` should be quick

    return shutil.disk_usage(folder).free


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.1f} MiB"
