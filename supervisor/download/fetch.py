"""
Downloads a file: resumed where an earlier attempt stopped, retried, verified, then renamed into place.

Until then it is ``<target>.part``, which survives Ctrl+C, a crash and a full disk; ``<target>.part.json``
describes it, and ``<target>.lock`` makes a second download wait.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..disk import cannot_write, ensure_space
from ..errors import NetworkError, VerificationFailed
from ..locks import waiting_lock
from ..progress import Progress
from . import network
from .network import DEFAULT_RETRY, HINT, RetryPolicy, Unreachable, host_of, wait_seconds
from .transfer import Meter, Note, PartFile, digest_of, validator

if TYPE_CHECKING:
    import requests

MARGIN_BYTES = 64 * 1024 * 1024  # to be left free on the disk
_GAIN_BYTES = 1024 * 1024  # a try that brought as much was worth it: tries are counted from there anew
CONNECTIONS = 8  # for what is large: many hosts limit the speed of each (bench/download.py)
_MANY_BYTES = 64 * 1024 * 1024  # what is left of it
_FIRST_BYTES = 1024 * 1024  # over the first connection, which tells the size and whether ranges are known
_AGAIN = "Run the command again: it goes on where it stopped. "


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

    ``proxy`` None leaves it to the environment.  ``token`` goes to the host of the item's URL alone.
    """

    item: Download
    part: PartFile
    progress: Progress
    proxy: str | None
    retry: RetryPolicy
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

    def _once(self, connections: int) -> bool:
        """
        Whether the part is whole; if it is not, the rest is to be fetched over several connections.

        Raises Unreachable where it is worth another try, NetworkError where it is not, VerificationFailed
        for another size, and what ``ensure_space`` and the disk raise.
        """
        note = self.known()
        start = self.part.size_bytes if note else 0
        if (
            note
            and note.size_bytes is not None
            and connections > 1
            and note.size_bytes - start >= _MANY_BYTES
        ):
            self._ensure_space(note.size_bytes)
            self._receive_at_once(note, start, note.size_bytes, connections)
            return True
        headers = {"Range": f"bytes={start}-", "If-Range": note.validator} if note else {}
        if self.item.size_bytes is not None:
            self._ensure_space(self.item.size_bytes)
        with network.get(self.item.url, headers, self.retry.timeout, self.proxy, self.token) as response:
            received = {name.lower(): value for name, value in response.headers.items()}
            if response.status_code == 206 and note:
                return self._receive(response, start, self._go_on(received, note, start), connections)
            if response.status_code == 200:
                total = self._start_anew(received)
                knows_ranges = received.get("accept-ranges") == "bytes" and validator(received) != ""
                return self._receive(response, 0, total, connections if knows_ranges else 1)
            raise self._refusal(response, received, resuming=note is not None)

    def _go_on(self, received: Mapping[str, str], note: Note, start: int) -> int:
        """The size of the whole file."""
        total = self._total_of(received, note, start)
        if total is None:
            self.part.remove()
            raise Unreachable(f"{self._host} sent a part of something else", contact=True)
        return total

    def _total_of(self, received: Mapping[str, str], note: Note, start: int) -> int | None:
        """The size of the whole file, of which a piece comes; None for a piece of something else."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", received.get("content-range", ""))
        changed = note.validator.startswith('"') and received.get("etag", note.validator) != note.validator
        if changed or not span or int(span[1]) != start or self.item.size_bytes not in {None, int(span[2])}:
            return None
        return int(span[2])

    def _start_anew(self, received: Mapping[str, str]) -> int | None:
        """The size of the whole file, as far as known.  Whatever there was of it is thrown away."""
        length = received.get("content-length", "")
        total = int(length) if length.isdigit() and "content-encoding" not in received else None
        if self.item.size_bytes is not None and total not in {None, self.item.size_bytes}:
            raise VerificationFailed(
                f"{self.item.name} at {self._host} has {total} bytes, "
                f"and {self.item.size_bytes} were expected.",
                hint="Is that a page of a proxy, or an incomplete mirror? " + self.item.hint,
            )
        total = self.item.size_bytes if total is None else total
        self.part.begin(Note(self.item.url, self.item.sha256, validator(received), total))
        if total is not None:
            self._ensure_space(total)
        return total

    def _receive_at_once(self, note: Note, start: int, total: int, connections: int) -> None:
        """Each piece is appended in its turn, so that a killed program leaves what can be continued."""
        from .at_once import pieces_at_once  # noqa: PLC0415 - brings HTTP, which most starts do not need

        def read(
            session: requests.Session, begin: int, end: int, arrived: Callable[[int], None]
        ) -> bytearray:
            return self._piece(note, session, (begin, end), arrived)

        meter = Meter(start, total)
        with self.part.path.open("ab", buffering=0) as file:
            for piece, position in pieces_at_once(read, start, total, connections):
                _write(file, piece)
                self.progress.update(*meter.at(position))
            os.fsync(file.fileno())

    def _piece(
        self, note: Note, session: requests.Session, span: tuple[int, int], arrived: Callable[[int], None]
    ) -> bytearray:
        """From one of several threads.  Raises Unreachable, after which fewer connections are tried."""
        begin, end = span
        headers = {"Range": f"bytes={begin}-{end - 1}", "If-Range": note.validator}
        url, timeout = self.item.url, self.retry.timeout
        with network.get(url, headers, timeout, self.proxy, self.token, session=session) as response:
            received = {name.lower(): value for name, value in response.headers.items()}
            if response.status_code != 206 or self._total_of(received, note, begin) is None:
                text = f"{self._host} answered {response.status_code} to one of several connections"
                raise Unreachable(text, contact=True, wait_seconds=wait_seconds(received) or 0.0)
            piece = bytearray()
            for chunk in network.body(response, timeout):
                piece += chunk
                arrived(len(chunk))
        if len(piece) != end - begin:
            raise Unreachable(f"{self._host} ended in the middle", contact=True)
        return piece

    def _receive(self, response: requests.Response, start: int, total: int | None, connections: int) -> bool:
        """Whether all was received; with several connections, only the beginning of a large file is."""
        position, meter = start, Meter(start, total)
        several = connections > 1 and total is not None and total - start >= _MANY_BYTES
        with self.part.path.open("ab", buffering=0) as file:
            for chunk in network.body(response, self.retry.timeout):
                _write(file, chunk)
                position += len(chunk)
                if total is not None and position > total:
                    break
                self.progress.update(*meter.at(position))
                if several and position - start >= _FIRST_BYTES:
                    return False
            os.fsync(file.fileno())
        if total is not None and position > total:
            self.part.remove()
            raise VerificationFailed(f"{self._host} sends more than the {total} bytes of {self.item.name}.")
        if total is not None and position < total:
            raise Unreachable(f"{self._host} ended after {position} of {total} bytes", contact=True)
        return True

    def _refusal(
        self, response: requests.Response, received: Mapping[str, str], *, resuming: bool
    ) -> NetworkError | Unreachable:
        code = response.status_code
        if code == 416 and resuming:
            self.part.remove()
            return Unreachable(f"{self._host} has no more of it", contact=True)
        line = network.first_line(response)
        text = f"{self._host} answered {code} {response.reason}{f': {line}' if line else ''}"
        if code in {408, 429} or code >= 500:
            return Unreachable(text, contact=True, wait_seconds=wait_seconds(received) or 0.0)
        text = f"{self.item.name} cannot be downloaded: {text.rstrip('.')}."
        return Refused(text, hint=self.item.hint, status=code, headers=received)

    def run(self) -> None:
        """The part is whole and what it should be.  What is wrong is fetched once more, from the start."""
        item, host = self.item, self._host
        self.progress.step(f"downloading {item.name} from {host}")
        digest = ""
        for _ in range(2):
            self._complete()
            digest = self._digest() if item.sha256 else ""
            if digest == item.sha256.lower():
                return
            self.part.remove()
        raise VerificationFailed(
            f"{item.name} from {host} is not what it should be: its SHA-256 is {digest}, "
            f"and {item.sha256} was expected.",
            hint="The file was changed at the host or on the way. Nothing of it was kept.",
        )

    def _complete(self) -> None:
        failures, contact, reached = 0, False, self.part.size_bytes
        connections = CONNECTIONS
        while not self.is_complete():
            try:
                if self._once(connections):
                    return
            except Unreachable as failure:
                connections = max(1, connections // 2)
                contact |= failure.contact
                gained = self.part.size_bytes - reached
                reached = max(reached, self.part.size_bytes)
                failures = 1 if gained >= _GAIN_BYTES else failures + 1
                self._wait(failure, failures, contact=contact)

    def _wait(self, failure: Unreachable, failures: int, *, contact: bool) -> None:
        """Until the next try.  Raises NetworkError where there is none."""
        # A host that never answered is asked twice only, so that an offline user does not wait.
        pauses = self.retry.pauses_seconds if contact else self.retry.pauses_seconds[:1]
        too_long = failure.wait_seconds > self.retry.longest_pause_seconds
        if failure.final or failures > len(pauses) or too_long:
            asks = f", and asks not to come back for {failure.wait_seconds:.0f} s" if too_long else ""
            again = _AGAIN if self.known() else ""
            text = f"{self.item.name} cannot be downloaded: {str(failure).rstrip('.')}{asks}."
            raise NetworkError(text, hint=again + (failure.hint or self.item.hint)) from failure
        pause = max(pauses[failures - 1], failure.wait_seconds)
        self.progress.update(None, f"{failure}; trying again in {pause:g} s")
        self.retry.sleep(pause)

    def _digest(self) -> str:
        size, text = self.part.size_bytes, f"verifying {self.item.name}"
        return digest_of(self.part.path, lambda done: self.progress.update(done / size, text))

    def _ensure_space(self, total: int) -> None:
        there = self.part.size_bytes if self.known() else 0
        what = f"Downloading {self.item.name}"
        ensure_space(self.part.path.parent, total - there + MARGIN_BYTES, what)


def _write(file: BinaryIO, chunk: bytes | bytearray) -> None:
    """All of it, and at once: what a killed process had in a buffer would have to be fetched again."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def fetch(
    item: Download,
    target: Path,
    progress: Progress,
    *,
    proxy: str | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
    token: str = "",
) -> None:
    """
    ``target`` is there, whole and verified; nothing is done where it is already.

    ``proxy`` None leaves it to the environment (HTTPS_PROXY, NO_PROXY).  ``token`` goes to the host of the
    item's URL and to none that it redirects to; no other credentials are ever sent.
    Raises NetworkError, of which Refused has the host's status; VerificationFailed for another size or
    digest; SupervisorError and PermissionDenied for a disk that is full or may not be written.  Whatever is
    raised, what came so far is kept for the next call, unless it is what turned out wrong.
    """
    part = PartFile.of(target)
    lock = target.with_name(f"{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(lock, f"waiting: another goss-supervisor is downloading {item.name}", progress):
            if not target.is_file() or item.size_bytes not in {None, target.stat().st_size}:
                Transfer(item, part, progress, proxy, retry, token).run()
                part.finish(target)
    except OSError as error:
        raise cannot_write(part.path, error) from error
