"""
Downloads a file: resumed where an earlier attempt stopped, tried again, verified, and there in one piece.

While it comes it is ``<target>.part``, which outlives Ctrl+C, a crash and a full disk; ``<target>.part.json``
says what it is a part of, and ``<target>.lock`` keeps a second one waiting.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..disk import cannot_write
from ..errors import NetworkError, VerificationFailed
from ..locks import waiting_lock
from ..progress import Progress
from .network import Unreachable, host_of
from .partfile import PartFile
from .transfer import Download, Refused, Transfer

__all__ = ["PATIENT", "Download", "Patience", "Refused", "fetch"]

_GAIN_BYTES = 1024 * 1024  # a try that brought as much was worth it: tries are counted from there anew
_HASHED_BYTES = 1024 * 1024
_AGAIN = "Run the command again: it goes on where it stopped. "


@dataclass(frozen=True, slots=True)
class Patience:
    """How long it is waited, and how often tried: once more than there are pauses."""

    connect_seconds: float = 5.0
    stall_seconds: float = 30.0  # without a byte
    pauses_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    longest_pause_seconds: float = 120.0  # that a host may ask for by Retry-After
    page_seconds: float = 120.0  # for one short answer: a stall never ends what comes drop by drop
    sleep: Callable[[float], None] = time.sleep

    @property
    def timeout(self) -> tuple[float, float]:
        """Seconds to connect, and seconds without a byte."""
        return self.connect_seconds, self.stall_seconds


PATIENT = Patience()


def fetch(
    item: Download,
    target: Path,
    progress: Progress,
    *,
    proxy: str | None = None,
    patience: Patience = PATIENT,
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
            if not _is_there(item, target):
                _Fetching(Transfer(item, part, progress, proxy, patience.timeout, token), patience).run()
                part.finish(target)
    except OSError as error:
        raise cannot_write(part.path, error) from error


def _is_there(item: Download, target: Path) -> bool:
    return target.is_file() and item.size_bytes in {None, target.stat().st_size}


@dataclass(frozen=True, slots=True)
class _Fetching:
    transfer: Transfer
    patience: Patience

    def run(self) -> None:
        """The part is whole and what it should be.  What is wrong is fetched once more, from the start."""
        item, host = self.transfer.item, host_of(self.transfer.item.url)
        self.transfer.progress.step(f"downloading {item.name} from {host}")
        digest = ""
        for _ in range(2):
            self._complete()
            digest = self._digest() if item.sha256 else ""
            if digest == item.sha256.lower():
                return
            self.transfer.part.remove()
        raise VerificationFailed(
            f"{item.name} from {host} is not what it should be: its SHA-256 is {digest}, "
            f"and {item.sha256} was expected.",
            hint="The file was changed at the host or on the way. Nothing of it was kept.",
        )

    def _complete(self) -> None:
        part = self.transfer.part
        failures, contact, reached = 0, False, part.size_bytes
        while not self.transfer.is_complete():
            try:
                self.transfer.run()
            except Unreachable as failure:
                contact |= failure.contact
                gained = part.size_bytes - reached
                reached = max(reached, part.size_bytes)
                failures = 1 if gained >= _GAIN_BYTES else failures + 1
                self._wait(failure, failures, contact=contact)
            else:
                return

    def _wait(self, failure: Unreachable, failures: int, *, contact: bool) -> None:
        """Until the next try.  Raises NetworkError where there is none."""
        # A host that never answered is asked twice: who is offline shall not wait for what does not come.
        pauses = self.patience.pauses_seconds if contact else self.patience.pauses_seconds[:1]
        too_long = failure.wait_seconds > self.patience.longest_pause_seconds
        if failure.final or failures > len(pauses) or too_long:
            asks = f", and asks not to come back for {failure.wait_seconds:.0f} s" if too_long else ""
            again = _AGAIN if self.transfer.known() else ""
            text = f"{self.transfer.item.name} cannot be downloaded: {str(failure).rstrip('.')}{asks}."
            raise NetworkError(text, hint=again + self.transfer.item.hint) from failure
        pause = max(pauses[failures - 1], failure.wait_seconds)
        self.transfer.progress.update(None, f"{failure}; trying again in {pause:g} s")
        self.patience.sleep(pause)

    def _digest(self) -> str:
        part, sha256, done = self.transfer.part, hashlib.sha256(), 0
        size = part.size_bytes
        with part.path.open("rb") as file:
            while chunk := file.read(_HASHED_BYTES):
                sha256.update(chunk)
                done += len(chunk)
                self.transfer.progress.update(done / size, f"verifying {self.transfer.item.name}")
        return sha256.hexdigest()
