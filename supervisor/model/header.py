"""
The beginning of a GGUF header: what kind of file it is, its architecture, whether it is one part of several.

Reads a prefix of the file and never more, whatever the bytes say; all of the key-values are not read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .gguf import MAGIC, SCALARS, VERSION, ValueType

PREFIX_BYTES = 1 << 16  # general.architecture is the first key; the vocabulary's megabytes come later
_OLDEST_VERSION = 2  # version 1 had 32-bit counts; llama.cpp dropped it
_LEAST_VALUE_BYTES = 8 + 4 + 1  # an empty key, a type, a bool
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8  # an empty name, no dimension, a type, an offset
_MOST_NESTED = 4  # arrays in arrays: the format allows them, no model has any
_MOST_KEY_BYTES = 65535  # the format's limit
_MOST_NAME_BYTES = 256  # longer than any architecture's name

# What people put in place of a model, by its first bytes in lower case.
_OTHERS = (
    (b"lmgg", "a file of llama.cpp's old format ggml, of before August 2023"),
    (b"fmgg", "a file of llama.cpp's old format ggmf, of before August 2023"),
    (b"tjgg", "a file of llama.cpp's old format ggjt, of before August 2023"),
    (b"algg", "an adapter in llama.cpp's old format ggla"),
    (b"version https://git-lfs", "a git-lfs pointer, which stands for a file that was not downloaded"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"pk\x03\x04", "a zip archive or a PyTorch checkpoint"),
)
_HTML_LEADS = b"\xef\xbb\xbf \t\r\n"


class BrokenHeader(Exception):
    """What the file is instead of a model, as the end of the sentence "It is …"."""


@dataclass(frozen=True, slots=True)
class Header:
    """What was found; ``None`` may stand further back in the file than is read here."""

    version: int
    architecture: str | None
    split_count: int | None
    complete: bool  # all key-values were read: what is None is not in the file


class _BeyondPrefix(Exception):
    """The walk came to the end of what was read of the file."""


def parse(prefix: bytes, size_bytes: int) -> Header:
    """
    Read a header from the file's first bytes: PREFIX_BYTES of them, or all when the file is shorter.

    Raises BrokenHeader.
    """
    if not prefix.startswith(MAGIC):
        raise BrokenHeader(_what_else(prefix))
    cursor = _Cursor(prefix, size_bytes, len(MAGIC))
    version = cursor.number("I")
    _refuse_version(version)
    tensors, values = cursor.number("Q"), cursor.number("Q")
    if tensors * _LEAST_TENSOR_BYTES + values * _LEAST_VALUE_BYTES > size_bytes:
        raise BrokenHeader(
            f"a damaged or truncated GGUF: {size_bytes} bytes cannot hold {values} keys and {tensors} tensors"
        )
    return _find(cursor, version, values)


def _find(cursor: _Cursor, version: int, values: int) -> Header:
    architecture: str | None = None
    split_count: int | None = None
    try:
        for key, kind in _keys(cursor, values):
            if key == b"general.architecture" and kind is ValueType.STRING:
                architecture = _name(cursor.string(_MOST_NAME_BYTES))
            elif key == b"split.count" and kind is ValueType.UINT16:
                split_count = cursor.number("H")
            else:
                _skip(cursor, kind)
            if architecture is not None and split_count is not None:
                return Header(version, architecture, split_count, complete=False)
    except _BeyondPrefix:
        return Header(version, architecture, split_count, complete=False)
    return Header(version, architecture, split_count, complete=True)


class _Cursor:
    """Walks along the prefix; every step is checked against the prefix and the file."""

    __slots__ = ("_at", "_prefix", "_size_bytes")

    def __init__(self, prefix: bytes, size_bytes: int, at: int) -> None:
        self._prefix = prefix
        self._size_bytes = size_bytes
        self._at = at

    def skip(self, length: int) -> int:
        """Step over ``length`` bytes; where they began."""
        start, self._at = self._at, self._at + length
        if self._at > self._size_bytes:
            raise BrokenHeader(f"a truncated GGUF: it ends inside its header, after {self._size_bytes} bytes")
        if self._at > len(self._prefix):
            raise _BeyondPrefix
        return start

    def number(self, letter: str) -> int:
        pattern = "<" + letter
        return int(struct.unpack_from(pattern, self._prefix, self.skip(struct.calcsize(pattern)))[0])

    def string(self, limit: int) -> bytes:
        length = self.number("Q")
        if length > limit:
            raise BrokenHeader(f"a damaged GGUF: a name of {length} bytes")
        start = self.skip(length)
        return self._prefix[start : start + length]


def _keys(cursor: _Cursor, count: int) -> Iterator[tuple[bytes, ValueType]]:
    for _ in range(count):
        key = cursor.string(_MOST_KEY_BYTES)
        yield key, _kind(cursor)


def _kind(cursor: _Cursor) -> ValueType:
    number = cursor.number("I")
    try:
        return ValueType(number)
    except ValueError:
        raise BrokenHeader(f"a damaged GGUF: no value has type {number}") from None


def _skip(cursor: _Cursor, kind: ValueType, depth: int = 0) -> None:
    if kind is ValueType.STRING:
        cursor.skip(cursor.number("Q"))
    elif kind is ValueType.ARRAY:
        _skip_array(cursor, depth)
    else:
        cursor.skip(struct.calcsize(SCALARS[kind]))


def _skip_array(cursor: _Cursor, depth: int) -> None:
    kind, count = _kind(cursor), cursor.number("Q")
    if depth == _MOST_NESTED:
        raise BrokenHeader("a damaged GGUF: arrays in arrays in arrays")
    if kind in SCALARS:
        cursor.skip(count * struct.calcsize(SCALARS[kind]))
        return
    for _ in range(count):  # ends at the prefix's end at the latest: every element takes 8 bytes or more
        _skip(cursor, kind, depth + 1)


def _refuse_version(version: int) -> None:
    if version and not version & 0xFFFF:
        raise BrokenHeader("a GGUF for big-endian machines")
    if version < _OLDEST_VERSION:
        raise BrokenHeader(f"a GGUF of version {version}, which llama.cpp no longer reads")
    if version > VERSION:
        raise BrokenHeader(f"a GGUF of version {version}, newer than {VERSION}, the last one known")


def _what_else(prefix: bytes) -> str:
    if not prefix:
        return "empty"
    start = prefix[:64].lstrip(_HTML_LEADS).lower()
    for magic, name in _OTHERS:
        if start.startswith(magic):
            return name
    if prefix[8:9] == b"{" and b'"' in prefix[9:64]:  # a JSON header behind its length in eight bytes
        return "a safetensors file"
    if not prefix.strip(b"\0"):
        return "nothing but zeros, as a broken download leaves it"
    return f"no GGUF: it begins with {prefix[:4]!r}"


def _name(data: bytes) -> str:
    name = data.decode(errors="replace")
    if not name.isprintable() or "\ufffd" in name:
        raise BrokenHeader("a damaged GGUF: the name of its architecture is no text")
    return name
