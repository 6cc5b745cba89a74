"""Where the bytes of a model's file come from: a disk here, a web server elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class Source(Protocol):
    """One file that can be read at any place; ``name`` is what messages call it."""

    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset`` on: ``length`` of them, or fewer where the file ends."""
        ...


class FileSource:
    """A file on disk, which has the size and time that it had when it was opened.  All raises OSError."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = path.open("rb", buffering=0)
        status = os.fstat(self._file.fileno())
        self.size_bytes = status.st_size
        self.modified_ns = status.st_mtime_ns

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        pieces = []
        while length > 0 and (piece := self._file.read(length)):  # one read gives 2 GiB at most
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
