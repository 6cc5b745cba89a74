"""
Downloads a file: resumed where an earlier attempt stopped, tried again, verified, and there in one piece.

While it comes it is ``<target>.part``, which outlives Ctrl+C, a crash and a full disk; ``<target>.part.json``
says what it is a part of, and ``<target>.lock`` keeps a second one waiting.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

import requests

from . import network
from .disk import cannot_write, ensure_space
from .errors import NetworkError, VerificationFailed
from .locks import waiting_lock
from .meter import Meter
from .network import HINT, Unreachable, host_of
from .partfile import Note, PartFile, validator
from .progress import Progress

MARGIN_BYTES = 64 * 1024 * 1024  # to be left free on the disk
_GAIN_BYTES = 1024 * 1024  # a try that brought as much was worth it: tries are counted from there anew
_TRIES_WITHOUT_CONTACT = 2  # who is offline shall not wait for what does not come
_HASHED_BYTES = 1024 * 1024
_AGAIN = "Run the command again: it goes on where it stopped. "


@dataclass(frozen=True, slots=True)
class Download:
    """
    A file at ``url``; ``name`` is for people.

    ``size_bytes`` None: nobody said.  ``sha256`` hex; "" where nobody published one, and then no more than
    the size is verified.
    """

    url: str
    size_bytes: int | None
    sha256: str
    name: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long it is waited, and how often tried: once more than there are pauses."""

    connect_seconds: float = 5.0
    stall_seconds: float = 30.0  # without a byte
    pauses_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    longest_pause_seconds: float = 120.0  # that a host may ask for by Retry-After
    sleep: Callable[[float], None] = time.sleep

    @property
    def timeout(self) -> tuple[float, float]:
        return self.connect_seconds, self.stall_seconds


PATIENT = Patience()


def fetch(
    item: Download,
    target: Path,
    progress: Progress,
    *,
    proxy: str | None = None,
    patience: Patience = PATIENT,
) -> None:
    """
    ``target`` is there, whole and verified; nothing is done where it is already.

    ``proxy`` None leaves it to the environment (HTTPS_PROXY, NO_PROXY).  Credentials are never sent.
    Raises NetworkError; VerificationFailed for another size or digest; SupervisorError and PermissionDenied
    for a disk that is full or may not be written.  Whatever is raised, what came so far is kept for the next
    call, unless it is what turned out wrong.
    """
    part = PartFile.of(target)
    lock = target.with_name(f"{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(lock, f"waiting: another goss-supervisor is downloading {item.name}", progress):
            if not _is_there(item, target):
                _Fetching(item, part, progress, proxy, patience).run()
                part.finish(target)
    except OSError as error:
        raise cannot_write(part.path, error) from error


def _is_there(item: Download, target: Path) -> bool:
    return target.is_file() and item.size_bytes in {None, target.stat().st_size}


@dataclass(frozen=True, slots=True)
class _Fetching:
    item: Download
    part: PartFile
    progress: Progress
    proxy: str | None
    patience: Patience

    @property
    def _host(self) -> str:
        return host_of(self.item.url)

    def run(self) -> None:
        """The part is whole and what it should be.  What is wrong is fetched once more, from the start."""
        self.progress.step(f"downloading {self.item.name} from {self._host}")
        digest = ""
        for _ in range(2):
            self._complete()
            digest = self._digest() if self.item.sha256 else ""
            if digest == self.item.sha256.lower():
                return
            self.part.remove()
        raise VerificationFailed(
            f"{self.item.name} from {self._host} is not what it should be: its SHA-256 is {digest}, "
            f"and {self.item.sha256} was expected.",
            hint="The file was changed at the host or on the way. Nothing of it was kept.",
        )

    def _complete(self) -> None:
        failures, contact, reached = 0, False, self.part.size_bytes
        while not self._is_complete():
            try:
                self._exchange()
            except Unreachable as failure:
                contact |= failure.contact
                gained = self.part.size_bytes - reached
                reached = max(reached, self.part.size_bytes)
                failures = 1 if gained >= _GAIN_BYTES else failures + 1
                self._wait(failure, failures, contact=contact)
            else:
                return

    def _known(self) -> Note | None:
        """The note, where there is a part of this very file that can be continued."""
        note = self.part.note()
        if note is None or not note.validator or not self.part.size_bytes:
            return None
        return note if (note.url, note.sha256) == (self.item.url, self.item.sha256) else None

    def _is_complete(self) -> bool:
        note = self._known()
        total = self.item.size_bytes if note is None else self.item.size_bytes or note.size_bytes
        return note is not None and self.part.size_bytes == total

    def _exchange(self) -> None:
        """One request, and what comes of it.  Returns when the part is whole; Unreachable: try again."""
        note = self._known()
        start = self.part.size_bytes if note else 0
        headers = {"Range": f"bytes={start}-", "If-Range": note.validator} if note else {}
        timeout = self.patience.timeout
        if self.item.size_bytes is not None:
            self._ensure_space(self.item.size_bytes)
        with network.get(self.item.url, headers, timeout, self.proxy) as response:
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
                hint="Is that a page of a proxy, or an incomplete mirror? " + HINT,
            )
        total = self.item.size_bytes if total is None else total
        self.part.begin(Note(self.item.url, self.item.sha256, validator(told), total))
        if total is not None:
            self._ensure_space(total)
        return total

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        position, meter = start, Meter(start, total)
        with self.part.path.open("ab", buffering=0) as file:
            for chunk in network.body(response, self.patience.timeout):
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
            wait = _retry_after(told.get("retry-after", ""), datetime.now(UTC))
            return Unreachable(text, contact=True, wait_seconds=wait)
        return NetworkError(f"{self.item.name} cannot be downloaded: {text.rstrip('.')}.", hint=HINT)

    def _wait(self, failure: Unreachable, failures: int, *, contact: bool) -> None:
        """Until the next try.  Raises NetworkError where there is none."""
        pauses = self.patience.pauses_seconds if contact else self.patience.pauses_seconds[:1]
        too_long = failure.wait_seconds > self.patience.longest_pause_seconds
        if failure.final or failures > len(pauses) or too_long:
            asks = f", and asks not to come back for {failure.wait_seconds:.0f} s" if too_long else ""
            again = _AGAIN if self._known() else ""
            text = f"{self.item.name} cannot be downloaded: {str(failure).rstrip('.')}{asks}."
            raise NetworkError(text, hint=again + HINT) from failure
        pause = max(pauses[failures - 1], failure.wait_seconds)
        self.progress.update(None, f"{failure}; trying again in {pause:g} s")
        self.patience.sleep(pause)

    def _ensure_space(self, total: int) -> None:
        there = self.part.size_bytes if self._known() else 0
        what = f"Downloading {self.item.name}"
        ensure_space(self.part.path.parent, total - there + MARGIN_BYTES, what)

    def _digest(self) -> str:
        size, done, sha256 = self.part.size_bytes, 0, hashlib.sha256()
        with self.part.path.open("rb") as file:
            while chunk := file.read(_HASHED_BYTES):
                sha256.update(chunk)
                done += len(chunk)
                self.progress.update(done / size, f"verifying {self.item.name}")
        return sha256.hexdigest()


def _write(file: BinaryIO, chunk: bytes) -> None:
    """All of it, and at once: what a killed process had in a buffer would have to be fetched again."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _retry_after(value: str, now: datetime) -> float:
    """Seconds, from seconds or an HTTP date; 0 for neither (RFC 9110, 10.2.3)."""
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0
