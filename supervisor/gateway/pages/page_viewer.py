"""One page that is open: its stream of events, and what of it the browser has."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from ... import __version__
from ..http_heads import Head, query_value
from ..relay.client_connection import LongAnswer
from .page_feed import SCHEMA, PageFeed, Snapshot, event

RETRY_MILLISECONDS: Final = 2000
_BEAT: Final = b": still here\n\n"
_ID: Final = re.compile(r"([0-9a-f]{1,32})\.(\d{1,15})", re.ASCII)


class PageViewer:
    """
    ``last`` is the number of the last request that the browser has, None if none of this daemon's; ``stays``
    tells whether it may still look, and ``soon`` has the feed look soon.
    """

    def __init__(
        self,
        answer: LongAnswer,
        feed: PageFeed,
        boot: str,
        last: int | None,
        *,
        now: Callable[[], float],
        stays: Callable[[], bool],
        soon: Callable[[], None],
    ) -> None:
        self._answer, self._feed, self._boot = answer, feed, boot
        self._is_resumed, self._number = last is not None, last or 0
        self._now, self._stays, self._soon = now, stays, soon
        self._seen: dict[str, int] = {}  # the version of each kind that it has

    def begin_waiting(self) -> None:
        self._answer.begin()
        hello = {
            "schema": SCHEMA,
            "boot": self._boot,
            "version": __version__,
            "now": round(time.time(), 3),
            "resumed": self._is_resumed,
        }
        self._answer.send(b"retry: %d\n" % RETRY_MILLISECONDS + self._with_id(event("hello", hello)))
        self._feed.join(self, self._now())
        self._soon()

    # --- for the feed

    def catch_up(self) -> bool:
        """Whether it has missed something that it can take."""
        if self._answer.is_paused:
            return False
        self._take("status", self._feed.status)
        self._take("active", self._feed.active)
        if self._number < self._feed.activity.count:
            batch, self._number = self._feed.requests_after(self._number)
            self._answer.send(self._with_id(batch))
        return self._number < self._feed.activity.count

    def _take(self, kind: str, snapshot: Snapshot) -> None:
        if self._seen.get(kind, 0) != snapshot.version:
            self._seen[kind] = snapshot.version
            self._answer.send(self._with_id(snapshot.event))

    def _with_id(self, event: bytes) -> bytes:
        return b"id: %s.%d\n%s" % (self._boot.encode("ascii"), self._number, event)

    def beat(self) -> None:
        if not self._answer.is_paused:
            self._answer.send(_BEAT)

    def check(self) -> None:
        if not self._stays():
            self.end()

    def end(self) -> None:
        self._feed.leave(self)
        self._answer.end(keep_alive=False)

    # --- for the connection

    def pause(self) -> None:
        """`catch_up` sees it."""

    def resume(self) -> None:
        self._soon()

    def client_left(self) -> None:
        self._feed.leave(self)


def number_to_resume(head: Head, boot: str, count: int, kept: int) -> int | None:
    """
    That of the last request which the browser has, if it is of this daemon and all that ended since are kept.
    An EventSource says it in a header when it comes back; a new one can in ``?last=``.
    """
    said = (head.get(b"last-event-id") or b"").decode("latin-1") or query_value(head.target, "last")
    found = _ID.fullmatch(said)
    if found is None or found[1] != boot:
        return None
    number = int(found[2])
    return number if count - kept <= number <= count else None
