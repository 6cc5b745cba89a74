"""Opens a model on disk: every part of it, read and found complete, before anything is launched with it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ..errors import NotFound, PermissionDenied, VerificationFailed
from .header import BrokenHeader, Header, read_header
from .header_cache import HeaderCache
from .locate import parts_of
from .metadata import Model, Part, join, part_count

_MOST_NAMED = 10  # missing parts in a message
_HINT = "Download the model's .gguf file again."


class FileSource:
    """An open file, which has the size and time that it had when it was opened.  All raises OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        status = os.fstat(file.fileno())
        self.size_bytes = status.st_size
        self.modified_ns = status.st_mtime_ns

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def open_model(path: Path, cache: Path | None = None) -> Model:
    """
    The model whose only or first file is ``path``; ``cache`` is a folder where headers are kept.

    Raises NotFound for a missing file or part, PermissionDenied for an unreadable one, and
    VerificationFailed, saying what it is instead or how much is missing, for anything that is no model.
    """
    first = _read(path, cache)
    parts = _parts(path, part_count(first[1]))
    missing = [part for part in parts if not os.path.isfile(part)]  # noqa: PTH113 - Path's own may raise
    if missing:
        raise _incomplete(path, missing)
    return join([first, *(_read(part, cache) for part in parts[1:])])


def _read(path: Path, cache: Path | None) -> tuple[Part, Header]:
    try:
        _refuse_what_is_no_file(path, path.stat().st_mode)
        with path.open("rb") as file:
            source = FileSource(file)
            return Part(str(path), source.size_bytes), _header(path, source, cache)
    except BrokenHeader as error:
        raise VerificationFailed(f"The model {path} is {error}.", hint=_HINT) from error
    except PermissionError as error:
        raise PermissionDenied(
            f"The model {path} may not be read by this user.",
            hint="Check the rights of the file and its folders.",
        ) from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character
        raise _not_found(path) from error
    except OSError as error:
        raise VerificationFailed(f"The model {path} cannot be read: {error.strerror or error}.") from error


def _header(path: Path, source: FileSource, folder: Path | None) -> Header:
    if folder is None:
        return read_header(source)
    stamp = f"{source.size_bytes} {source.modified_ns}"
    return HeaderCache(folder).get(str(path.absolute()), stamp, lambda: read_header(source))


def _refuse_what_is_no_file(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise VerificationFailed(
            f"The model {path} is a folder.",
            hint="Name a .gguf file in it; of a split model, the first part.",
        )
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise VerificationFailed(f"The model {path} is a device or a pipe, not a file.")


def _not_found(path: Path) -> NotFound:
    if path.is_symlink():
        return NotFound(f"The model {path} is a link to {path.readlink()}, which does not exist.")
    return NotFound(f"There is no model at {path}.")


def _parts(path: Path, count: int) -> Sequence[Path]:
    """All files of the model, as llama.cpp will look for them: by the first one's name."""
    if count == 1:
        return (path,)
    named = parts_of(path)
    if path not in named or count != len(named):
        raise VerificationFailed(
            f"The model {path} is one of {count} parts, but its name does not say which.",
            hint=f"llama.cpp needs names that end in -00001-of-{count:05d}.gguf.",
        )
    if path != named[0]:
        raise VerificationFailed(
            f"The model {path} is not the first of its {count} parts.", hint=f"Name {named[0]} instead."
        )
    return named


def _incomplete(path: Path, missing: Sequence[Path]) -> NotFound:
    more = [f"and {len(missing) - _MOST_NAMED} more"] if len(missing) > _MOST_NAMED else []
    names = [*(part.name for part in missing[:_MOST_NAMED]), *more]
    return NotFound(
        f"The model {path} is incomplete: {path.parent} has no {', '.join(names)}.",
        hint="Download the missing parts into the same folder.",
    )
