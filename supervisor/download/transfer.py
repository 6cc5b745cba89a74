"""What is there of a file that is being downloaded, and the note of what it is a part of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import read_json, write_json

_HASHED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Note:
    """
    Which file at which host the part is of.

    ``validator`` is what If-Range may hold: a strong ETag, or the date of the last change; "" where the host
    gave neither, and then the part cannot be continued (RFC 9110, 13.1.5).
    """

    url: str
    sha256: str
    validator: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class PartFile:
    """``<target>.part``, with its note in ``<target>.part.json``.  Raises OSError or SupervisorError."""

    path: Path

    @classmethod
    def of(cls, target: Path) -> PartFile:
        return cls(target.with_name(f"{target.name}.part"))

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def note(self) -> Note | None:
        """None where there is none, or none that can be read."""
        return read_json(self._note, lambda fields: Note(**fields))

    def begin(self, note: Note) -> None:
        """Empty, and of this file.  The note is written last, so a part never has one of another file."""
        self._note.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        write_json(self._note, asdict(note))

    def remove(self) -> None:
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self.path.replace(target)
        self._note.unlink(missing_ok=True)


def digest_of(file: Path, told: Callable[[int], None]) -> str:
    """The SHA-256 of what is on disk, hex; ``told`` hears how many bytes are done.  Raises OSError."""
    sha256, done = hashlib.sha256(), 0
    with file.open("rb", buffering=0) as content:
        while chunk := content.read(_HASHED_BYTES):
            sha256.update(chunk)
            done += len(chunk)
            told(done)
    return sha256.hexdigest()


def validator(headers: Mapping[str, str]) -> str:
    """From the headers of an answer, names in lower case."""
    etag = headers.get("etag", "")
    return etag if etag.startswith('"') else headers.get("last-modified", "")
