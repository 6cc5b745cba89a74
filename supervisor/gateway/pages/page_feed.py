"""
What the page hears: each document is computed once for all who look, and only while somebody does.

A viewer pulls: it knows what it has, and gets what is newer.  So one that reads slowly has no backlog, but
gets the newest of each kind when it takes data again.  Time is given.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import inf
from operator import attrgetter
from typing import Any, Final, Protocol

from ... import __version__
from ..backends import PageOwner
from ..http_heads import Head, query_value
from ..relay.answer import LongAnswer
from ..telemetry.activity import Activity, RequestRecord
from ..waiting import RequestsNow
from .log_follow import KEPT_LINES, FollowedLog

SCHEMA: Final = 1
SOON_SECONDS: Final = 0.05  # until somebody who is behind gets the next events
PROMPT_SECONDS: Final = 0.25  # between two looks because something happened
TICK_SECONDS: Final = 1.0  # between two looks
STATUS_SECONDS: Final = 1.0  # between two statuses
SLOW_STATUS_SECONDS: Final = 5.0  # the same while nothing happens: memory moves
BEAT_SECONDS: Final = 15.0
CHECK_SECONDS: Final = 5.0  # until a session that has ended is seen
MOST_REQUESTS: Final = 250  # in an event
MOST_SAMPLES: Final = 60  # of the history, in an event
MOST_LINES: Final = 200  # of a log, in an event
_FOLLOWS_THE_CLOCK: Final = frozenset(("uptime_seconds", "longest_seconds", "seconds_left"))
_SMALL_CHANGE, _FEW_BYTES = 0.01, 1024**2  # of a number of bytes, which moves all the time
_FIELDS: Final = tuple(each.name for each in fields(RequestRecord))
RETRY_MILLISECONDS: Final = 2000
_BEAT: Final = b": still here\n\n"
_ID: Final = re.compile(r"([0-9a-f]{1,32})\.(\d{1,15})", re.ASCII)
_VALUES: Final = attrgetter(*_FIELDS)


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


class FeedHost(Protocol):
    """What the page shows of a gateway."""

    activity: Activity
    now: RequestsNow

    def counts(self) -> tuple[int, int, int]:
        """Requests under way, requests that wait, connections."""


class PageFeed:
    """Of one gateway; ``owner`` has the servers."""

    def __init__(self, host: FeedHost, owner: PageOwner) -> None:
        self.viewers: set[PageViewer] = set()
        self.status, self.active = Snapshot(), Snapshot()
        self.activity = host.activity
        self.samples = 0  # that were taken while somebody looked
        self._sample = b""  # the event of the last one
        self._unsubscribe: Callable[[], None] | None = None
        self._host, self._owner = host, owner
        self._seen: tuple[object, ...] = ()  # of what the last status is
        self._batch: tuple[int, int, bytes, int] = (-1, -1, b"", 0)
        self._beat = self._checked = 0.0

    @property
    def logs(self) -> set[FollowedLog]:
        """That somebody looks at."""
        return {viewer.followed for viewer in self.viewers if viewer.followed is not None}

    def join(self, viewer: PageViewer, now: float) -> None:
        """It looks from now on."""
        if not self.viewers:
            self._beat = self._checked = now
            self._look_at_all(now)
            self._unsubscribe = self._owner.hardware.subscribe(self._take_sample)
        self.viewers.add(viewer)

    def leave(self, viewer: PageViewer) -> None:
        self.viewers.discard(viewer)
        if not self.viewers and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _take_sample(self, sample: dict[str, Any]) -> None:
        self.samples += 1
        self._seen = ()  # the memory of the devices is in the status too
        self._sample = event("hardware", {"sample": sample})

    def sample_after(self, number: int | None) -> bytes | None:
        """An event with the sample after this one; None where that is not enough."""
        return self._sample if number is not None and number + 1 == self.samples else None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The samples of the last hour."""
        return self._owner.hardware.history

    def look(self, now: float) -> bool:
        """Tell everybody what is new; whether somebody is behind, for whom to look again soon."""
        if now - self._checked >= CHECK_SECONDS:
            self._checked = now
            self.check()
        if not self.viewers:
            return False
        self._look_at_all(now)
        for log in self.logs:
            log.look()
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
        seen = (self._owner.happened, self._host.counts())
        every = SLOW_STATUS_SECONDS if seen == self._seen else STATUS_SECONDS
        if now - self.status.looked >= every:
            self._seen, self.status.looked = seen, now
            document = self._owner.status()
            if not is_much_the_same(document, self.status.document):
                self.status.take("status", document)
        if now - self.active.looked >= PROMPT_SECONDS:
            self.active.looked = now
            document = {"active": self._host.now.active}
            if document != self.active.document:
                self.active.take("active", document)


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
        followed: FollowedLog | None = None,
    ) -> None:
        self._answer, self._feed, self._boot = answer, feed, boot
        self._is_resumed, self._number = last is not None, last or 0
        self._now, self._stays, self._soon = now, stays, soon
        self._seen: dict[str, int] = {}  # the version of each kind that it has
        self._samples: int | None = None  # how many of the hardware it has
        self._history: deque[dict[str, Any]] = deque()  # that it does not have yet
        self._begins = False  # the history, with the next of it
        self.followed = followed
        self._lines = (0, 0)  # of that log: since which reset, and how many

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
        if self.followed is not None:
            self._follow(self.followed)
            return False
        self._take("status", self._feed.status)
        self._take("active", self._feed.active)
        if self._number < self._feed.activity.count:
            batch, self._number = self._feed.requests_after(self._number)
            self._answer.send(self._with_id(batch))
        self._take_samples()
        is_behind = self._number < self._feed.activity.count or self._samples != self._feed.samples
        return is_behind or bool(self._history)

    def _take(self, kind: str, snapshot: Snapshot) -> None:
        if self._seen.get(kind, 0) != snapshot.version:
            self._seen[kind] = snapshot.version
            self._answer.send(self._with_id(snapshot.event))

    def _take_samples(self) -> None:
        """The next one; or the last hour, a few at a time, since all of them are nearly a megabyte."""
        if not self._history and self._samples != self._feed.samples:
            sample = self._feed.sample_after(self._samples)
            self._samples = self._feed.samples
            if sample is not None:
                self._answer.send(self._with_id(sample))
                return
            self._history = deque(self._feed.history)
            self._begins = True
        if self._history or self._begins:
            some = [self._history.popleft() for _ in range(min(len(self._history), MOST_SAMPLES))]
            document = {"history" if self._begins else "samples": some}
            self._begins = False
            self._answer.send(self._with_id(event("hardware", document)))

    def _follow(self, log: FollowedLog) -> None:
        resets, count = self._lines
        missing = log.count - count if resets == log.resets else KEPT_LINES + 1
        self._lines = log.resets, log.count
        if not missing or not log.resets:
            return
        reset = missing > KEPT_LINES
        lines = list(log.lines) if reset else list(log.lines)[-missing:]
        for start in range(0, max(len(lines), 1), MOST_LINES):
            document = {"server": log.server, "lines": lines[start : start + MOST_LINES], "reset": reset}
            self._answer.send(self._with_id(event("log", document)))
            reset = False

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
            is_much_the_same(value, old[key], name if name.endswith("_bytes") else key)
            for key, value in new.items()
        )
    if isinstance(new, list | tuple) and isinstance(old, list | tuple):
        return len(new) == len(old) and all(map(is_much_the_same, new, old, [name] * len(new)))
    if name in _FOLLOWS_THE_CLOCK:
        return (new is None) == (old is None)
    if name.endswith("_bytes") and new and old:
        return bool(abs(new - old) < max(_SMALL_CHANGE * abs(old), _FEW_BYTES))
    return bool(new == old)
