"""Headers that were read before, kept on disk: the vocabulary's megabytes are walked through once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import SupervisorError
from ..files import SHARED, replace_file
from .gguf import ValueType
from .header import Array, Header, TensorInfo, Value
from .kinds import KINDS, TensorKind

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
            return _header(kept["header"]) if same else None
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


def _header(kept: Mapping[str, Any]) -> Header:
    values = {key: _value(value) for key, value in kept["values"].items()}
    tensors = tuple(
        TensorInfo(name, tuple(shape), None if kind_id is None else KINDS[kind_id], offset, size_bytes)
        for name, shape, kind_id, offset, size_bytes in kept["tensors"]
    )
    return Header(**{**kept, "values": values, "tensors": tensors})


def _value(kept: Any) -> Value:  # noqa: ANN401 - whatever JSON gives
    if isinstance(kept, dict):
        return Array(ValueType(kept["kind"]), kept["count"])
    return tuple(kept) if isinstance(kept, list) else kept
