"""Files of a service on disk: written whole or not at all, and never over what is not ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import PermissionDenied, SupervisorError
from . import mark
from .types import File


def write(files: Sequence[File], *, force: bool) -> tuple[Path, ...]:
    """
    Bring the files to their text; answers which were written, those that were right already are not.

    Raises SupervisorError before anything is written where one is not ours or was changed by hand, unless
    ``force``; PermissionDenied where that may not be written.
    """
    stale = [file for file in files if read(file.path, file.encoding) != file.text]
    if not force:
        for file in stale:
            refuse_another(file.path, file.encoding)
    for file in stale:
        _write(file)
    return tuple(file.path for file in stale)


def remove(path: Path, *, encoding: str = "utf-8", force: bool = False) -> bool:
    """
    Whether it was there.

    Raises SupervisorError where it is not ours or was changed by hand, unless ``force``.
    """
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
    """Raises SupervisorError where ``path`` exists and is not as we wrote it."""
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


def _write(file: File) -> None:
    """By a rename, so that the manager never reads half a file."""
    draft = file.path.with_name(f".{file.path.name}.{os.getpid()}")
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(file.text.encode(file.encoding))
        draft.chmod(file.mode)
        draft.replace(file.path)
    except PermissionError as error:
        raise _denied(file.path) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _denied(path: Path) -> PermissionDenied:
    return PermissionDenied(
        f"{path} may not be written by this user.",
        hint="A service of the whole system needs sudo; --user installs one of your own.",
    )
