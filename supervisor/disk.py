"""Free disk space: checked before work begins, and the error message when it runs out anyway."""

from __future__ import annotations

import errno
from pathlib import Path

from .errors import PermissionDenied, SupervisorError

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
