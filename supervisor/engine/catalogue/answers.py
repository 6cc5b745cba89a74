"""What GitHub answered before, with its ETags: one file for each address."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path


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
        try:
            kept = json.loads(file.read_text("utf-8"))
            if kept["url"] != url:
                return None
            return Kept(str(kept["etag"]), str(kept["body"]), file.stat().st_mtime)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, url: str, etag: str, body: str) -> None:
        file = self._file(url)
        staged = file.with_name(f"{file.name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            staged.write_text(json.dumps({"url": url, "etag": etag, "body": body}), "utf-8")
            staged.replace(file)

    def still_holds(self, url: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._file(url))

    def _file(self, url: str) -> Path:
        return self.folder / f"{sha256(url.encode()).hexdigest()[:32]}.json"
