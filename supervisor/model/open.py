"""
Opens a model on disk and checks that every part is there and complete.

Headers are cached on disk, because reading one means a walk through megabytes of vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import NotFound, PermissionDenied, SupervisorError, VerificationFailed
from ..files import SHARED, replace_file
from .gguf import KINDS, TensorKind, ValueType
from .header import Array, BrokenHeader, Header, HeaderValue, TensorInfo, read_header
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
            return Part(str(path), source.size_bytes), _cached_header(path, source, cache)
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


def _cached_header(path: Path, source: FileSource, folder: Path | None) -> Header:
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


FORMAT = 1  # to be raised when more of a header is kept, or more kinds are known


@dataclass(frozen=True, slots=True)
class HeaderCache:
    """
    A folder with one file for each header, which may be deleted at any time.

    ``key`` says which file it is of (a path, an address), ``stamp`` which state of it (size and time, ETag).
    """

    folder: Path

    def get(self, key: str, stamp: str, read: Callable[[], Header]) -> Header:
        """What is kept; else what ``read`` gives, which is kept then."""
        header = self.find(key, stamp)
        if header is None:
            header = read()
            self.keep(key, stamp, header)
        return header

    def find(self, key: str, stamp: str) -> Header | None:
        """None for what is not there, of another state, damaged or written by another version."""
        try:
            check, _, text = self._file(key).read_bytes().partition(b"\n")
            if check.decode() != _digest(text):
                return None
            kept = json.loads(text)
            same = [kept["format"], kept["key"], kept["stamp"]] == [FORMAT, key, stamp]
            return _header_of(kept["header"]) if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, stamp: str, header: Header) -> None:
        """A cache that cannot be written costs time, and nothing else."""
        kept = {"format": FORMAT, "key": key, "stamp": stamp, "header": header}
        text = json.dumps(kept, separators=(",", ":"), default=_plain).encode()
        with suppress(SupervisorError):
            replace_file(self._file(key), f"{_digest(text)}\n".encode() + text, mode=SHARED)

    def _file(self, key: str) -> Path:
        return self.folder / f"{_digest(os.fsencode(key))}.json"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(part: object) -> object:
    """Of a header, what JSON has no form for."""
    match part:
        case Header() | Array():
            return {each.name: getattr(part, each.name) for each in fields(part)}
        case TensorInfo():
            return part.name, part.shape, part.kind, part.offset, part.size_bytes
        case TensorKind():
            return part.ggml_id
    raise TypeError(part)


def _header_of(kept: Mapping[str, Any]) -> Header:
    values = {key: _value(value) for key, value in kept["values"].items()}
    tensors = tuple(
        TensorInfo(name, tuple(shape), None if kind_id is None else KINDS[kind_id], offset, size_bytes)
        for name, shape, kind_id, offset, size_bytes in kept["tensors"]
    )
    return Header(**{**kept, "values": values, "tensors": tensors})


def _value(kept: Any) -> HeaderValue:  # noqa: ANN401 - whatever JSON gives
    if isinstance(kept, dict):
        return Array(ValueType(kept["kind"]), kept["count"])
    return tuple(kept) if isinstance(kept, list) else kept
