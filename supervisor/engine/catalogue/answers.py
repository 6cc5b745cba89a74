"""What GitHub answered before, with its ETags: one file for each address."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from ...errors import SupervisorError
from ...files import SHARED, read_json, write_json


@dataclass(frozen=True, slots=True)
class Kept:
    """``etag`` is "" where the host gave none; ``seconds`` is when it last held, since the epoch."""

    etag: str
    body: str
    seconds: float = 0.0

    @property
    def when(self) -> str:
        """For people, in their time zone: ``7 Oct 2026, 14:05``."""
        moment = datetime.fromtimestamp(self.seconds).astimezone()
        return f"{moment.day} {moment:%b %Y, %H:%M}"


@dataclass(frozen=True, slots=True)
class Answers:
    """A folder that may be deleted at any time; one that cannot be written costs requests, nothing else."""

    folder: Path

    def get(self, url: str) -> Kept | None:
        file = self._file(url)
        kept = read_json(
            file, lambda document: (document["url"], str(document["etag"]), str(document["body"]))
        )
        with contextlib.suppress(OSError):
            if kept and kept[0] == url:
                return Kept(*kept[1:], file.stat().st_mtime)
        return None

    def put(self, url: str, etag: str, body: str) -> None:
        with contextlib.suppress(SupervisorError):
            write_json(self._file(url), {"url": url, "etag": etag, "body": body}, mode=SHARED)

    def still_holds(self, url: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._file(url))

    def _file(self, url: str) -> Path:
        return self.folder / f"{sha256(url.encode()).hexdigest()[:32]}.json"
