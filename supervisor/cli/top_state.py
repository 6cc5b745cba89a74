"""
What ``top`` knows, and which part of it a person looks at: messages of the daemon and keys come in.

No clock and no terminal: `top_frame` draws it, and `top` brings messages and keys.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .output import harmless
from .words_of_status import KEPT, RequestRow, StatusDocument, all_servers, is_work, row_of

VIEWS = ("Now", "Requests", "Logs")
NOW, REQUESTS, LOGS = range(3)
DAEMON_LOG = "the daemon"  # a space: no server has this name
KEPT_LINES = 2000
LONGEST_LINE = 4000  # characters of a line of a log


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """A request that is over: its record, what `requests` shows of it, and the text that is searched."""

    record: RequestRow
    cells: list[str]
    text: str


@dataclass(slots=True)
class TopState:
    """
    ``status`` is None while no daemon answers; then ``trouble`` says why, and ``hint`` what to do.

    ``active`` is None where the daemon does not list the requests under way, and ``no_requests`` says why
    there are none.  ``backs`` counts, for each view, the rows between what is shown and where the view
    begins (its end for logs); ``queries`` has what each view searches for.
    """

    daemon_log: Path
    status: StatusDocument | None = None
    trouble: str = "connecting"
    hint: str = ""
    requests: deque[EndedRequest] = field(default_factory=lambda: deque(maxlen=KEPT))
    active: list[dict[str, Any]] | None = None
    waiting: list[dict[str, Any]] = field(default_factory=list)
    no_requests: str = ""
    log: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    log_name: str = ""
    view: int = NOW
    backs: list[int] = field(default_factory=lambda: [0] * len(VIEWS))
    queries: list[str] = field(default_factory=lambda: [""] * len(VIEWS))
    is_typing: bool = False
    shows_help: bool = False

    # --- what the daemon says

    # Each tells whether a person should see it at once.  ``is_first``: of a new connection, or of another
    # file, so that nothing of an earlier one counts any more.

    def status_came(self, message: Mapping[str, Any], is_first: bool) -> bool:
        before, now = self.status, message["status"]
        self.status, self.trouble, self.hint = now, "", ""
        return is_first or before is None or _states(before) != _states(now)

    def gone(self, why: str, hint: str) -> bool:
        """No daemon answers."""
        is_new = self.status is not None or self.trouble != why
        self.status, self.trouble, self.hint = None, why, hint
        return is_new

    def requests_came(self, message: Mapping[str, Any], is_first: bool) -> bool:
        if is_first:
            self.requests.clear()
        come = [_ended(each) for each in message["requests"] if is_work(each)]
        self.requests.extend(come)
        self._stay(REQUESTS, [each.text for each in come])
        self.waiting, self.active = message.get("waiting", []), message.get("active")
        self.no_requests = ""
        return is_first

    def requests_gone(self, why: str, hint: str) -> bool:
        """No daemon answers, or it has no gateway."""
        self.requests.clear()
        self.waiting, self.active, self.no_requests = [], None, " ".join(filter(None, (why, hint)))
        return False

    def log_came(self, lines: Iterable[str], is_first: bool) -> bool:
        if is_first:
            self.log.clear()
        come = [harmless(line[:LONGEST_LINE]) for line in lines]
        self.log.extend(come)
        self._stay(LOGS, come)
        return is_first

    def _stay(self, view: int, texts: list[str]) -> None:
        """What somebody scrolled to stays where it is while more comes."""
        if self.backs[view]:
            self.backs[view] += sum(self.matches(text, view) for text in texts)

    # --- what is shown

    def matches(self, text: str, view: int | None = None) -> bool:
        """Whether the search of a view, by default the present one, leaves this line."""
        query = self.queries[self.view if view is None else view]
        return not query or query.lower() in text.lower()

    def logs(self) -> dict[str, Path]:
        """The files by the name that is shown; the daemon's own comes last."""
        servers = all_servers(self.status) if self.status else []
        named = {each["profile"] or each["name"]: Path(each["log"]) for each in servers}
        return named | {DAEMON_LOG: self.daemon_log}

    def log_file(self) -> Path | None:
        """What the view of logs shows; None while another view is shown."""
        if self.view != LOGS:
            return None
        found = self.logs()
        if self.log_name not in found:
            self.log_name = next(iter(found))
        return found[self.log_name]

    # --- keys

    def pressed(self, key: str, page: int) -> bool:
        """
        A key by its name (``up``, ``page down``, ``enter``) or the character that it types; ``page`` is how
        many rows a page has.  False: leave.
        """
        if self.is_typing:
            self._typed(key)
        elif key in {"?", "h"} or self.shows_help:
            self.shows_help = not self.shows_help
        elif key == "q":
            return False
        elif key in {"1", "2", "3"}:
            self.view = int(key) - 1
        elif key in {"tab", "back tab"}:
            self.view = (self.view + (1 if key == "tab" else -1)) % len(VIEWS)
        elif key == "/":
            self.is_typing = True
        elif key == "escape":
            self._search("")
        elif key in {"left", "right"} and self.view == LOGS:
            self._another_log(1 if key == "right" else -1)
        else:
            self._scroll(key, page)
        return True

    def _typed(self, key: str) -> None:
        query = self.queries[self.view]
        if key == "escape":
            self._search("")
        elif key == "backspace":
            self._search(query[:-1])
        elif len(key) == 1 and key.isprintable():
            self._search(query + key)
        self.is_typing = key not in {"enter", "escape"}

    def _search(self, query: str) -> None:
        self.queries[self.view], self.backs[self.view] = query, 0

    def _another_log(self, step: int) -> None:
        names = list(self.logs())
        place = names.index(self.log_name) if self.log_name in names else 0
        self.log_name, self.backs[LOGS] = names[(place + step) % len(names)], 0

    def _scroll(self, key: str, page: int) -> None:
        down = {"up": -1, "down": 1, "k": -1, "j": 1, "page up": -page, "page down": page, " ": page}
        away = 10**9  # more than there is: a frame says how far it came
        down |= {"home": -away, "end": away}
        step = down.get(key, 0)
        self.backs[self.view] = max(self.backs[self.view] + (-step if self.view == LOGS else step), 0)


def _states(status: StatusDocument) -> list[tuple[str, str]]:
    return [(each["name"], each["state"]) for each in all_servers(status)]


def _ended(record: RequestRow) -> EndedRequest:
    cells = list(map(harmless, row_of(record)))
    return EndedRequest(record, cells, f"{record['caller']} {' '.join(cells)}")


# --- speeds

BUCKET_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Speeds:
    """
    Of the last ``seconds``, a value for each `BUCKET_SECONDS`: ``rates`` are tokens per second of all answers
    together, ``first_tokens`` the mean time to the first token of streams, None where there was none.
    ``live`` is the rate now.
    """

    rates: list[float]
    first_tokens: list[float | None]
    live: float

    @property
    def seconds(self) -> float:
        return len(self.rates) * BUCKET_SECONDS


def speeds(state: TopState, now: float, count: int) -> Speeds:
    """The last ``count`` values.  The buckets keep their places on the clock, so that nothing flickers."""
    first = math.floor(now / BUCKET_SECONDS) - count + 1
    recent = list(_recent(state, first * BUCKET_SECONDS))
    tokens, times = [0.0] * count, [list[float]() for _ in range(count)]
    for begin, end, number in _answers(recent, state.active or (), now):
        _spread(tokens, begin / BUCKET_SECONDS - first, end / BUCKET_SECONDS - first, number)
    for each in recent:
        seconds = each["first_byte_seconds"]
        if each["stream"] and seconds is not None:
            place = math.floor((each["at"] + seconds) / BUCKET_SECONDS) - first
            if 0 <= place < count:
                times[place].append(seconds)
    rates = [each / BUCKET_SECONDS for each in tokens]
    rates[-1] = tokens[-1] / max(now - (first + count - 1) * BUCKET_SECONDS, 1.0)  # it has only begun
    active = state.active
    live = rates[-1] if active is None else sum(each["tokens_per_second"] or 0.0 for each in active)
    return Speeds(rates, [sum(each) / len(each) if each else None for each in times], live)


def _recent(state: TopState, since: float) -> Iterator[RequestRow]:
    """Those that ended since then; the last comes first."""
    for each in reversed(state.requests):
        if each.record["at"] + each.record["seconds"] < since:
            return
        yield each.record


def _answers(
    ended: Iterable[Mapping[str, Any]], active: Iterable[Mapping[str, Any]], now: float
) -> Iterator[tuple[float, float, int]]:
    """When each answer began and ended, and how many tokens it has so far."""
    for each in ended:
        if number := each["output_tokens"]:
            end, speed = each["at"] + each["seconds"], each["tokens_per_second"]
            begin = end - number / speed if speed else each["at"] + (each["first_byte_seconds"] or 0.0)
            yield max(begin, each["at"]), end, number
    for each in active:
        number, speed = each["output_tokens"], each["tokens_per_second"]
        if number and speed:
            yield max(now - number / speed, each["at"]), now, number


def _spread(buckets: list[float], begin: float, end: float, number: float) -> None:
    """Add ``number``, evenly from ``begin`` to ``end``: places in ``buckets``, or outside of them."""
    begin = min(begin, end - 1e-6)
    for place in range(max(math.floor(begin), 0), min(math.floor(end), len(buckets) - 1) + 1):
        inside = min(end, place + 1) - max(begin, place)
        buckets[place] += number * inside / (end - begin)
