"""Files of a service on disk: written whole or not at all, and never over what is not ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import PermissionDenied, SupervisorError
from ..files import replace_file
from . import mark
from .contract import File


def refuse(files: Sequence[File], *, force: bool) -> None:
    """Raises as `refuse_another`, unless ``force``, and PermissionDenied of a folder not to be written to."""
    for file in _stale(files):
        if not force:
            refuse_another(file.path, file.encoding)
        folder = next(folder for folder in file.path.parents if folder.exists())
        if not os.access(folder, os.W_OK):
            raise _denied(file.path)


def write(files: Sequence[File]) -> tuple[Path, ...]:
    """Those that had another text, after `refuse`; answers which.  Raises PermissionDenied."""
    stale = _stale(files)
    for file in stale:
        try:
            replace_file(file.path, file.text.encode(file.encoding), mode=file.mode)
        except PermissionDenied as error:
            raise _denied(file.path) from error
    return tuple(file.path for file in stale)


def remove(path: Path, *, encoding: str = "utf-8", force: bool = False) -> bool:
    """Whether it was there.  Raises as `refuse_another`, unless ``force``."""
    if not force:
        refuse_another(path, encoding)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise _denied(path) from error
    return True


def read(path: Path, encoding: str = "utf-8") -> str | None:
    """None where there is no such file; what cannot be decoded is not ours, whatever it is."""
    try:
        return path.read_bytes().decode(encoding, "replace")
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise _denied(path) from error


def refuse_another(path: Path, encoding: str = "utf-8") -> None:
    """Raises SupervisorError where ``path`` exists and is not ours, or was changed by hand."""
    text = read(path, encoding)
    origin = "ours" if text is None else mark.origin(text)
    if origin == "foreign":
        raise SupervisorError(
            f"{path} exists and was not made by goss-supervisor.",
            hint="Move it away, or say --force to have it replaced or removed.",
        )
    if origin == "changed":
        raise SupervisorError(
            f"{path} was changed by hand since goss-supervisor made it.",
            hint="--force replaces or removes it, changes and all. With systemd, changes that are to stay "
            "belong into a drop-in: systemctl edit.",
        )


def _stale(files: Sequence[File]) -> list[File]:
    return [file for file in files if read(file.path, file.encoding) != file.text]


def _denied(path: Path) -> PermissionDenied:
    return PermissionDenied(
        f"{path} may not be written by this user.",
        hint="A service of the whole system needs sudo; --user installs one of your own.",
    )
