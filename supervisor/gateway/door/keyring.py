"""What the daemon knows of keys: those of the profile, those of the file, and one of its own."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...errors import SupervisorError
from ..auth.keys import LOCAL, PROFILE, Caller, KeyFile, digest_of, new_secret

log = logging.getLogger(__name__)

_LOCAL, _PROFILE = Caller(LOCAL, "admin"), Caller(PROFILE, "inference")
LOOK_SECONDS = 1.0  # a key that is made or removed counts after this long at most


class Keyring:
    """
    Asked for every request.  A file that cannot be understood changes nothing: the keys last known stay.

    ``digests`` are of the keys that the profile gives.  ``local`` is a key for commands of its own user.
    """

    __slots__ = ("_clock", "_file", "_local_digest", "_looked", "_made", "_stamp", "digests", "local")

    def __init__(
        self, path: Path, digests: tuple[str, ...] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.digests = digests
        self.local = new_secret()
        self._local_digest = digest_of(self.local.encode("ascii"))
        self._file = KeyFile(path)
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: tuple[int, ...] = ()
        self._made: tuple[tuple[str, Caller], ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody has made a key; a file that was never understood may hold some."""
        self._look()
        return self._made == () and not self.digests

    def find(self, secret: bytes) -> Caller | None:
        """Whose key this is.  All are compared, by their hashes and in constant time, whichever fits."""
        self._look()
        sent, found = digest_of(secret), None
        for digest, caller in self._callers():
            if hmac.compare_digest(sent, digest):
                found = caller
        return found if secret else None  # a profile may have an empty key among its others by mistake

    def _callers(self) -> Iterator[tuple[str, Caller]]:
        yield self._local_digest, _LOCAL
        for digest in self.digests:
            yield digest, _PROFILE
        yield from self._made or ()

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        stamp = self._stamp_of_file()
        if stamp != self._stamp:
            self._stamp = stamp  # also of a broken file: it is told once
            self._read()

    def _stamp_of_file(self) -> tuple[int, ...]:
        """Changes whenever the file does."""
        try:
            stat = self._file.path.stat()
        except OSError as error:
            return (error.errno or 0,)
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> None:
        try:
            keys = self._file.keys()
        except SupervisorError as error:
            log.warning("%s The keys last known stay. %s", error, error.hint)
        else:
            self._made = tuple((key.digest, Caller(key.name, key.scope)) for key in keys)
