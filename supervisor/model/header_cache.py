"""Headers that were read before, kept on disk: the vocabulary's megabytes are walked through once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SupervisorError
from ..files import SHARED, replace_file
from .gguf import ValueType
from .header import Array, Header, TensorInfo, Value
from .kinds import KINDS

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
        kept = {"format": FORMAT, "key": key, "stamp": stamp, "header": _plain(header)}
        text = json.dumps(kept, separators=(",", ":")).encode()
        with suppress(SupervisorError):
            replace_file(self._file(key), f"{_digest(text)}\n".encode() + text, mode=SHARED)

    def _file(self, key: str) -> Path:
        return self.folder / f"{_digest(os.fsencode(key))}.json"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(header: Header) -> dict[str, Any]:
    return {
        "version": header.version,
        "values": {key: _plain_value(value) for key, value in header.values.items()},
        "tensors": [_plain_tensor(tensor) for tensor in header.tensors],
        "data_offset": header.data_offset,
        "alignment": header.alignment,
        "end": header.end,
    }


def _plain_value(value: Value) -> object:
    return {"kind": value.kind, "count": value.count} if isinstance(value, Array) else value


def _plain_tensor(tensor: TensorInfo) -> tuple[object, ...]:
    kind_id = None if tensor.kind is None else tensor.kind.ggml_id
    return tensor.name, tensor.shape, kind_id, tensor.offset, tensor.size_bytes


def _header(kept: Mapping[str, Any]) -> Header:
    return Header(
        version=kept["version"],
        values={key: _value(value) for key, value in kept["values"].items()},
        tensors=tuple(
            TensorInfo(name, tuple(shape), None if kind_id is None else KINDS[kind_id], offset, size_bytes)
            for name, shape, kind_id, offset, size_bytes in kept["tensors"]
        ),
        data_offset=kept["data_offset"],
        alignment=kept["alignment"],
        end=kept["end"],
    )


def _value(kept: Any) -> Value:  # noqa: ANN401 - whatever JSON gives
    if isinstance(kept, dict):
        return Array(ValueType(kept["kind"]), kept["count"])
    return tuple(kept) if isinstance(kept, list) else kept
