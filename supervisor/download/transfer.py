"""One request for a file, or for the rest of it, and what comes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from ..disk import ensure_space
from ..errors import NetworkError, VerificationFailed
from ..progress import Progress
from . import network
from .meter import Meter
from .network import HINT, Unreachable, host_of
from .partfile import Note, PartFile, validator
from .waiting import wait_seconds

if TYPE_CHECKING:
    import requests

MARGIN_BYTES = 64 * 1024 * 1024  # to be left free on the disk


@dataclass(frozen=True, slots=True)
class Download:
    """
    A file at ``url``; ``name`` is for people.

    ``size_bytes`` None: nobody said.  ``sha256`` hex; "" where nobody published one, and then no more than
    the size is verified.  ``hint`` is what helps where the host cannot be reached.
    """

    url: str
    size_bytes: int | None
    sha256: str
    name: str
    hint: str = HINT


class Refused(NetworkError):
    """The host answered with a ``status`` that another try will not change; header names in lower case."""

    def __init__(self, message: str, *, hint: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Transfer:
    """
    From ``item``'s host into ``part``.

    ``timeout``: seconds to connect, and seconds without a byte.  ``proxy`` None leaves it to the environment.
    ``token`` goes to the host of the item's URL alone.
    """

    item: Download
    part: PartFile
    progress: Progress
    proxy: str | None
    timeout: tuple[float, float]
    token: str = field(default="", repr=False)

    @property
    def _host(self) -> str:
        return host_of(self.item.url)

    def known(self) -> Note | None:
        """The note, where there is a part of this very file that can be continued."""
        note = self.part.note()
        if note is None or not note.validator or not self.part.size_bytes:
            return None
        return note if (note.url, note.sha256) == (self.item.url, self.item.sha256) else None

    def is_complete(self) -> bool:
        """Whether all is there that is known to belong there."""
        note = self.known()
        total = self.item.size_bytes if note is None else self.item.size_bytes or note.size_bytes
        return note is not None and self.part.size_bytes == total

    def run(self) -> None:
        """
        The part is whole when it returns.

        Raises Unreachable where it is worth another try, NetworkError where it is not, VerificationFailed
        for another size, and what ``ensure_space`` and the disk raise.
        """
        note = self.known()
        start = self.part.size_bytes if note else 0
        headers = {"Range": f"bytes={start}-", "If-Range": note.validator} if note else {}
        if self.item.size_bytes is not None:
            self._ensure_space(self.item.size_bytes)
        with network.get(self.item.url, headers, self.timeout, self.proxy, self.token) as response:
            told = {name.lower(): value for name, value in response.headers.items()}
            if response.status_code == 206 and note:
                self._receive(response, start, self._go_on(told, note, start))
            elif response.status_code == 200:
                self._receive(response, 0, self._start_anew(told))
            else:
                raise self._refusal(response, told, resuming=note is not None)

    def _go_on(self, told: Mapping[str, str], note: Note, start: int) -> int:
        """The size of the whole file."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", told.get("content-range", ""))
        changed = note.validator.startswith('"') and told.get("etag", note.validator) != note.validator
        if changed or not span or int(span[1]) != start or self.item.size_bytes not in {None, int(span[2])}:
            self.part.remove()
            raise Unreachable(f"{self._host} sent a part of something else", contact=True)
        return int(span[2])

    def _start_anew(self, told: Mapping[str, str]) -> int | None:
        """The size of the whole file, as far as known.  Whatever there was of it is thrown away."""
        length = told.get("content-length", "")
        total = int(length) if length.isdigit() and "content-encoding" not in told else None
        if self.item.size_bytes is not None and total not in {None, self.item.size_bytes}:
            raise VerificationFailed(
                f"{self.item.name} at {self._host} has {total} bytes, "
                f"and {self.item.size_bytes} were expected.",
                hint="Is that a page of a proxy, or an incomplete mirror? " + self.item.hint,
            )
        total = self.item.size_bytes if total is None else total
        self.part.begin(Note(self.item.url, self.item.sha256, validator(told), total))
        if total is not None:
            self._ensure_space(total)
        return total

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        position, meter = start, Meter(start, total)
        with self.part.path.open("ab", buffering=0) as file:
            for chunk in network.body(response, self.timeout):
                _write(file, chunk)
                position += len(chunk)
                if total is not None and position > total:
                    break
                self.progress.update(*meter.at(position))
            os.fsync(file.fileno())
        if total is not None and position > total:
            self.part.remove()
            raise VerificationFailed(f"{self._host} sends more than the {total} bytes of {self.item.name}.")
        if total is not None and position < total:
            raise Unreachable(f"{self._host} ended after {position} of {total} bytes", contact=True)

    def _refusal(
        self, response: requests.Response, told: Mapping[str, str], *, resuming: bool
    ) -> NetworkError | Unreachable:
        code = response.status_code
        if code == 416 and resuming:
            self.part.remove()
            return Unreachable(f"{self._host} has no more of it", contact=True)
        line = network.first_line(response)
        text = f"{self._host} answered {code} {response.reason}{f': {line}' if line else ''}"
        if code in {408, 429} or code >= 500:
            return Unreachable(text, contact=True, wait_seconds=wait_seconds(told, datetime.now(UTC)) or 0.0)
        text = f"{self.item.name} cannot be downloaded: {text.rstrip('.')}."
        return Refused(text, hint=self.item.hint, status=code, headers=told)

    def _ensure_space(self, total: int) -> None:
        there = self.part.size_bytes if self.known() else 0
        what = f"Downloading {self.item.name}"
        ensure_space(self.part.path.parent, total - there + MARGIN_BYTES, what)


def _write(file: BinaryIO, chunk: bytes) -> None:
    """All of it, and at once: what a killed process had in a buffer would have to be fetched again."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
