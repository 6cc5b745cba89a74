"""
What the page hears: each document is computed once for all who look, and only while somebody does.

A viewer pulls: it knows what it has, and gets what is newer.  So one that reads slowly has no backlog, but
gets the newest of each kind when it takes data again.  Time is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import inf
from operator import attrgetter
from typing import Any, Final, Protocol

from ..backends import PageOwner
from ..telemetry.activity import Activity, RequestRecord

SCHEMA: Final = 1
SOON_SECONDS: Final = 0.05  # until somebody who is behind gets the next events
PROMPT_SECONDS: Final = 0.25  # between two looks because something happened
TICK_SECONDS: Final = 1.0  # between two looks
STATUS_SECONDS: Final = 1.0  # between two statuses
SLOW_STATUS_SECONDS: Final = 5.0  # the same while nothing happens: memory moves
BEAT_SECONDS: Final = 15.0
CHECK_SECONDS: Final = 5.0  # until a session that has ended is seen
MOST_REQUESTS: Final = 250  # in an event
_FOLLOWS_THE_CLOCK: Final = frozenset(("uptime_seconds", "longest_seconds", "seconds_left"))
_SMALL_CHANGE: Final = 0.01  # of bytes
_FIELDS: Final = tuple(each.name for each in fields(RequestRecord))
_VALUES: Final = attrgetter(*_FIELDS)


class FeedViewer(Protocol):
    """Somebody who looks."""

    def catch_up(self) -> bool:
        """Take what is new; whether there is more, for which it should be called again."""

    def beat(self) -> None:
        """Show proxies, and ourselves, that both sides are there."""

    def check(self) -> None:
        """Leave if it may not look any more."""

    def end(self) -> None:
        """Leave, because the daemon ends."""


@dataclass(slots=True)
class Snapshot:
    """The newest document of one kind, as an event; ``version`` 0 is none."""

    version: int = 0
    document: Any = None
    event: bytes = b""
    looked: float = -inf

    def take(self, kind: str, document: dict[str, Any]) -> None:
        self.version += 1
        self.document, self.event = document, event(kind, document)


class PageFeed:
    """``active`` are the requests that are not over, and ``counts`` how many there are of what."""

    def __init__(
        self,
        owner: PageOwner,
        activity: Activity,
        active: Callable[[], list[dict[str, Any]]],
        counts: Callable[[], tuple[int, int, int]],
    ) -> None:
        self.viewers: set[FeedViewer] = set()
        self.status, self.active = Snapshot(), Snapshot()
        self.activity = activity
        self._owner, self._active, self._counts = owner, active, counts
        self._seen: tuple[object, ...] = ()  # of what the last status is
        self._batch: tuple[int, int, bytes, int] = (-1, -1, b"", 0)
        self._beat = self._checked = 0.0

    def join(self, viewer: FeedViewer, now: float) -> None:
        """It looks from now on."""
        if not self.viewers:
            self._beat = self._checked = now
            self._look_at_all(now)
        self.viewers.add(viewer)

    def leave(self, viewer: FeedViewer) -> None:
        self.viewers.discard(viewer)

    def look(self, now: float) -> bool:
        """Tell everybody what is new; whether somebody is behind, for whom to look again soon."""
        if now - self._checked >= CHECK_SECONDS:
            self._checked = now
            self.check()
        if not self.viewers:
            return False
        self._look_at_all(now)
        if now - self._beat >= BEAT_SECONDS:
            self._beat = now
            for viewer in self.viewers:
                viewer.beat()
        behind = [viewer for viewer in list(self.viewers) if viewer.catch_up()]
        return bool(behind)

    def check(self) -> None:
        """Who may not look any more leaves."""
        for viewer in list(self.viewers):
            viewer.check()

    def requests_after(self, number: int) -> tuple[bytes, int]:
        """An event with the next that ended after this one, and the number of the last in it."""
        count = self.activity.count
        if self._batch[:2] != (number, count):
            found = self.activity.since(number, first=MOST_REQUESTS)
            rows = [dict(zip(_FIELDS, _VALUES(each), strict=True)) for each in found]
            last = found[-1].number if found else count
            self._batch = number, count, event("requests", {"requests": rows}), last
        return self._batch[2:]

    def _look_at_all(self, now: float) -> None:
        seen = (self._owner.happened, self._counts())
        every = SLOW_STATUS_SECONDS if seen == self._seen else STATUS_SECONDS
        if now - self.status.looked >= every:
            self._seen, self.status.looked = seen, now
            document = self._owner.status()
            if not is_much_the_same(document, self.status.document):
                self.status.take("status", document)
        if now - self.active.looked >= PROMPT_SECONDS:
            self.active.looked = now
            document = {"active": self._active()}
            if document != self.active.document:
                self.active.take("active", document)


def event(kind: str, document: Mapping[str, Any]) -> bytes:
    """Without its ``id``, which differs from viewer to viewer."""
    return b"event: %s\ndata: %s\n\n" % (
        kind.encode("ascii"),
        json.dumps(document, separators=(",", ":")).encode("ascii"),
    )


def is_much_the_same(new: Any, old: Any, name: str = "") -> bool:  # noqa: ANN401 - JSON
    """Whether two documents differ only in what follows the clock, and a little in bytes."""
    if isinstance(new, dict) and isinstance(old, dict):
        return new.keys() == old.keys() and all(
            is_much_the_same(value, old[key], key) for key, value in new.items()
        )
    if isinstance(new, list | tuple) and isinstance(old, list | tuple):
        return len(new) == len(old) and all(map(is_much_the_same, new, old, [name] * len(new)))
    if name in _FOLLOWS_THE_CLOCK:
        return (new is None) == (old is None)
    if name.endswith("_bytes") and new and old:
        return bool(abs(new - old) < _SMALL_CHANGE * abs(old))
    return bool(new == old)
