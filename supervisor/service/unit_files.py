"""
A service's files on disk: written completely or not at all, and never over a file that is not ours.

A mark in each file proves that it is ours and unchanged.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..errors import PermissionDenied, SupervisorError
from ..files import replace_file
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
    origin = "ours" if text is None else origin_of(text)
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


MarkOrigin = Literal["ours", "changed", "foreign"]

PLACE = "@MARK@"  # exactly once in a rendered text, in a comment: the place of the mark
_WORDS = "Made by `goss-supervisor service install`, sha256"
_MARK = re.compile(re.escape(_WORDS) + r" ([0-9a-f]{64})")


def sealed(text: str) -> str:
    """``text`` with its mark in the place of `PLACE`: the digest of the text with an empty one."""
    assert text.count(PLACE) == 1, text
    return text.replace(PLACE, f"{_WORDS} {_digest(text.replace(PLACE, ''))}")


def origin_of(text: str) -> MarkOrigin:
    """Of a file that is there: made by us, made by us and changed by hand since, or another's."""
    marks = _MARK.findall(text)
    if len(marks) != 1:
        return "foreign"
    return "ours" if _digest(_MARK.sub("", text)) == marks[0] else "changed"


def _digest(text: str) -> str:
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()
