"""GGUF bytes for tests: by hand, where the writer would refuse, and read from memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from supervisor.model.gguf import Typed, ValueType


@dataclass
class Bytes:
    """A source in memory, of which ``size_bytes`` may say more than there is."""

    data: bytes
    size: int | None = None
    name: str = "m.gguf"
    read_bytes: int = 0

    @property
    def size_bytes(self):
        return len(self.data) if self.size is None else self.size

    def read(self, offset, length):
        piece = self.data[offset : offset + length]
        self.read_bytes += len(piece)
        return piece


def header(version=3, tensors=0, values=0, rest=b"", order="<"):
    return b"GGUF" + struct.pack(f"{order}IQQ", version, tensors, values) + rest


def key(name, kind, rest=b""):
    return string(name) + struct.pack("<I", kind) + rest


def string(text):
    return struct.pack("<Q", len(text)) + text


def tensor(name, shape, kind, offset):
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def short(number):
    """As split.no and split.count are written."""
    return Typed(ValueType.UINT16, number)
