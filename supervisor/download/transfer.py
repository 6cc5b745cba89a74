"""One request for a file, or for the rest of it: the part on disk, the transfer, the speed."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from ..decoding import decode
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
        return read_json(self._note, partial(decode, Note))

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


def digest_of(file: Path, report: Callable[[int], None]) -> str:
    """The SHA-256 of what is on disk, hex; ``report`` gets the bytes that are done.  Raises OSError."""
    sha256, done = hashlib.sha256(), 0
    with file.open("rb", buffering=0) as content:
        while chunk := content.read(_HASHED_BYTES):
            sha256.update(chunk)
            done += len(chunk)
            report(done)
    return sha256.hexdigest()


def validator(headers: Mapping[str, str]) -> str:
    """From the headers of an answer, names in lower case."""
    etag = headers.get("etag", "")
    return etag if etag.startswith('"') else headers.get("last-modified", "")


WINDOW_SECONDS = 8.0  # of which the speed is the mean: shorter is nervous, longer is late
_UNITS = (("GB", 10**9, 10 * 10**9), ("MB", 10**6, 0))  # name, its bytes, from which total on it is used


@dataclass(slots=True)
class Meter:
    """``start`` bytes were there before; ``total_bytes`` is None where nobody knows."""

    start: int
    total_bytes: int | None
    clock: Callable[[], float] = time.monotonic
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._samples.append((self.clock(), self.start))

    def at(self, position: int) -> tuple[float | None, str]:
        """For ``Progress.update``: the fraction, and ``12.3 of 149.0 MB, 5.2 MB/s, 26 s left``."""
        speed = self._speed(position)
        text = _amount(position, self.total_bytes)
        if speed is not None:
            text += f", {speed / 10**6:.1f} MB/s"
        if not self.total_bytes:
            return None, text
        if speed:
            text += f", {_duration((self.total_bytes - position) / speed)} left"
        return position / self.total_bytes, text

    def _speed(self, position: int) -> float | None:
        """Bytes per second; None before there is anything to tell it from."""
        now = self.clock()
        self._samples.append((now, position))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()
        began, first = self._samples[0]
        return (position - first) / (now - began) if now > began else None


def _amount(position: int, total: int | None) -> str:
    name, unit = next((name, unit) for name, unit, least in _UNITS if (total or position) >= least)
    return f"{position / unit:.1f}{'' if total is None else f' of {total / unit:.1f}'} {name}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
