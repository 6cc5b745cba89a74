"""
A frame of ``top``: what is shown of its state in a terminal of some width and height.  Pure.

A frame has exactly as many lines as the terminal, and none is wider.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..progress import duration
from .output import harmless, size
from .top_look import SHARES, BarPart, Column, Look, Span, Style, TextLine, cells
from .top_state import LOGS, REQUESTS, VIEWS, EndedRequest, TopState, speeds
from .words_of_status import StatusDocument, absent_servers, all_servers, epoch_of, held_text, why_of

_STATES: dict[str, Style] = {
    **dict.fromkeys(("ready",), "good"),
    **dict.fromkeys(("sleeping", "stopped", "unloaded"), "dim"),
    **dict.fromkeys(("failed", "backoff", "killing"), "bad"),
}
_RESULTS: dict[str, Style] = {"answered": "", "cancelled": "dim"}
_MOST_BUCKETS = 60
_LAST = 10  # requests in the view Now
HELP = """\
1 2 3, Tab     Now, Requests, Logs
up, down       scroll; also PgUp, PgDn, Home, End, j and k
left, right    in Logs: another server, or the daemon
/              show only lines that contain what you type; Enter keeps it, Esc ends it
?              this help
q, Ctrl+C      leave; nothing that runs is changed

Now: letters in a bar of memory are servers, = are other programs, dots are left.  A server's part
is what it holds, or what is planned where that is not known.
Requests: FIRST is the time to the first token of a stream, else to the first byte."""


@dataclass(frozen=True, slots=True)
class Frame:
    """``back`` is how far the view is really scrolled."""

    lines: tuple[TextLine, ...]
    back: int


@dataclass(frozen=True, slots=True)
class _Body:
    lines: list[TextLine]
    back: int = 0
    place: str = ""  # where in the view this is


def frame(state: TopState, look: Look, now: float) -> Frame:
    """``now`` in seconds of the epoch."""
    body = _body(state, look, now, max(look.height - 2, 1))
    lines = [_head(state, look), *body.lines[: look.height - 2]]
    lines += [()] * (look.height - 1 - len(lines))
    lines.append(_foot(state, look, body.place))
    return Frame(tuple(map(look.fit, lines[: look.height])), body.back)


def _body(state: TopState, look: Look, now: float, rows: int) -> _Body:
    if state.shows_help:
        return _Body([_plain(piece) for line in HELP.splitlines() for piece in look.wrapped(line)])
    if state.view == LOGS:
        return _logs(state, look, rows)  # they can be read without a daemon
    if state.status is None:
        waits = [(("warn", state.trouble),), *([_plain(state.hint)] if state.hint else [])]
        return _Body([_plain(""), *waits])
    if state.view == REQUESTS:
        return _requests(state, look, rows)
    lines = list(_now(state, state.status, look, now))
    back = min(state.backs[state.view], max(len(lines) - rows, 0))
    return _Body(lines[back : back + rows], back, _place(back, rows, len(lines)))


def _plain(text: str) -> TextLine:
    return (("", text),)


def _place(back: int, rows: int, total: int) -> str:
    return f"{back + 1}-{min(back + rows, total)} of {total}" if total > rows else ""


def _head(state: TopState, look: Look) -> TextLine:
    tabs: list[Span] = []
    for number, view in enumerate(VIEWS):
        tabs += [("current" if number == state.view else "", f" {number + 1} {view} ")]
    room = look.width - sum(cells(text) for _, text in tabs)
    status = state.status
    if status is None:
        about: Span = ("warn", f"no daemon: {'waiting' if state.trouble != 'connecting' else 'connecting'}")
    else:
        up = duration(status["daemon"]["uptime_seconds"])
        about = "", f"{all_servers(status)[0]['url'] or 'no address'}, up {up}"
    named = f"goss-supervisor  {about[1]}"
    left = look.cut(named if cells(named) < room else about[1], max(room - 1, 0))
    return (about[0], left + " " * max(room - cells(left), 0)), *tabs


def _foot(state: TopState, look: Look, place: str) -> TextLine:
    query = state.queries[state.view]
    if state.is_typing:
        return ("title", f"/{query}"), ("current", " ")
    keys = "q leave  Tab view  / search  ? help"
    scroll = "  arrows scroll" if state.view != LOGS else "  arrows scroll, another log"
    found = f"/{query}  Esc ends the search" if query else keys + scroll
    return ("dim", found + " " * max(look.width - cells(found) - cells(place), 1)), ("dim", place)


# --- Now


def _now(state: TopState, status: StatusDocument, look: Look, now: float) -> Iterator[TextLine]:
    yield from _servers(state, status, look, now)
    yield from _jobs(status, now)
    yield from _memory(status, look)
    yield from _speeds(state, look, now)
    yield from _under_way(state, status, look, now)
    if last := [each for each in reversed(state.requests) if state.matches(each.text)][:_LAST]:
        yield from _ended_table(last, look)


_SERVER = (
    Column("SERVER"),
    Column("STATE"),
    Column("FOR", 2),
    Column("REQ"),
    Column("MEMORY", 1),
    Column("BUILD", 3, 12),
    Column("MODEL"),
)


def _servers(state: TopState, status: StatusDocument, look: Look, now: float) -> Iterator[TextLine]:
    """One line for each, and the reason, a sentence of any length, below it."""
    servers = [
        each for each in (*all_servers(status), *absent_servers(status)) if state.matches(_words(each))
    ]
    titles, *rows = look.table(_SERVER, [_server(each, now) for each in servers])
    yield titles
    for server, row in zip(servers, rows, strict=True):
        yield row
        style: Style = "bad" if _STATES.get(server["state"]) == "bad" else "dim"
        for text, of in [(why_of(server), style), *((each, "warn") for each in _warnings(server))]:
            if text:
                yield from ((("", "  "), (of, piece)) for piece in look.wrapped(harmless(text), 2))


def _words(server: Mapping[str, Any]) -> str:
    return f"{server['profile']} {server['state']} {server.get('model')} {why_of(server)}"


def _server(server: Mapping[str, Any], now: float) -> TextLine:
    since = server.get("since")
    return (
        ("title", harmless(server["profile"] or server["name"])),
        (_STATES.get(server["state"], "warn"), server["state"]),
        ("", duration(now - epoch_of(since)) if since else "-"),
        ("", str(server.get("requests_under_way") or "-")),
        ("", size(server["memory_bytes"])),
        ("", harmless(server["build"] or "-")),
        ("", harmless(Path(server.get("model") or "-").name)),
    )


def _warnings(server: Mapping[str, Any]) -> Iterator[str]:
    yield from server.get("warnings", ())
    yield from (server.get("memory") or {}).get("warnings", ())
    if context := server.get("context"):
        used = f"{context['expected_tokens']:,} of {context['tokens']:,} tokens are reserved for requests"
        yield (
            f"context: {used}; {context['waiting']} wait for room"
            if context["waiting"]
            else f"context: {used}"
        )


def _jobs(status: StatusDocument, now: float) -> Iterator[TextLine]:
    for job in status.get("jobs", ()):
        if job["ended"] is None:
            since = duration(now - epoch_of(job["since"]))
            yield ("title", "job "), ("", harmless(f"{job['words']}, {since}: {job['line']}"))


def _memory(status: StatusDocument, look: Look) -> Iterator[TextLine]:
    """A bar for each device, and below it whose letters are in it."""
    devices = status.get("memory", ())  # a daemon of an older version has none
    label = max((cells(each["device"]) for each in devices), default=0)
    profiles = [each["profile"] for each in all_servers(status)]
    rooms = [_left(each) for each in devices]
    width = look.width - label - max(map(len, rooms), default=0) - 4
    for device, room in zip(devices, rooms, strict=True):
        shares = [(_mark(profiles, each["profile"]), each) for each in device["shares"]]
        parts: list[BarPart] = [(*mark, _held(share) or 0) for mark, share in shares]
        others, left = device["others_bytes"], device["left_bytes"]
        parts.append(("dim", "=", others or 0))
        whole = device["total_bytes"] or sum(part for _, _, part in parts) + (left or 0)
        name: Span = ("title", f"{harmless(device['device']).ljust(label)} ")
        yield (name, *look.bar(parts, whole, min(max(width, 10), 60)), ("", f" {room}"))
        texts: list[Span] = [(style, f"{letter} {_share(share)}") for (style, letter), share in shares]
        if others is not None:
            texts.append(("", f"= other programs {size(others)}"))
        yield from _flowing(texts, label + 1, look)


def _left(device: Mapping[str, Any]) -> str:
    whole = f" of {size(device['total_bytes'])}" if device["total_bytes"] else ""
    return f"{size(device['left_bytes'])} left{whole}"


def _mark(profiles: Sequence[str], profile: str) -> tuple[Style, str]:
    """A server's colour and letter, the same on all devices."""
    place = profiles.index(profile) if profile in profiles else len(profiles)
    return SHARES[place % len(SHARES)], "abcdefghijklmnopqrstuvwxyz"[place % 26]


def _held(share: Mapping[str, Any]) -> int | None:
    found: int | None = share["planned_bytes"] if share["measured_bytes"] is None else share["measured_bytes"]
    return found


def _share(share: Mapping[str, Any]) -> str:
    """``chat 4.2 GiB of 4.0 GiB planned, 11.0 GiB mapped``; what is mapped is in no bar, since it is left."""
    held, planned = share["measured_bytes"], share["planned_bytes"]
    figures = [size(held)] if held is not None else []
    figures += [f"{size(planned)} planned"] if planned is not None else []
    mapped = f", {size(share['mapped_bytes'])} mapped" if share.get("mapped_bytes") else ""
    return f"{harmless(share['profile'])} {' of '.join(figures) or 'not known'}{mapped}"


def _flowing(texts: Iterable[Span], indent: int, look: Look) -> Iterator[TextLine]:
    """One after the other, in as many lines as they need."""
    line: list[Span] = []
    for style, text in texts:
        used = indent + sum(cells(each) for _, each in line)
        if line and used + cells(text) > look.width:
            yield ("", " " * indent), *line
            line = []
        line.append((style, text))
        line.append(("", "  "))
    if line:
        yield ("", " " * indent), *line


def _speeds(state: TopState, look: Look, now: float) -> Iterator[TextLine]:
    """Two sparklines: tokens that are generated, and how long a first token took, on average."""
    found = speeds(state, now, max(min(look.width - 50, _MOST_BUCKETS), 4))
    period = f"in {duration(found.seconds)}"
    known = [each for each in found.first_tokens if each is not None]
    first = f"{max(known):.2f} s at most" if known else "no stream"
    rate = f"{found.live:.1f} now, {max(found.rates):.1f} at most"
    for title, values, text in (
        ("tokens/s     ", found.rates, rate),
        ("first token  ", found.first_tokens, first),
    ):
        yield ("title", title), ("good", look.spark(values)), ("", f"  {text} {period}")


_ACTIVE = (
    Column("FOR", 1),
    Column("PROFILE"),
    Column("KEY", 3, 12),
    Column("ENDPOINT", 4),
    Column("PHASE"),
    Column("TOKENS", 2),
    Column("TOK/S", 2),
    Column("WAITS FOR"),
)


def _under_way(state: TopState, status: StatusDocument, look: Look, now: float) -> Iterator[TextLine]:
    gateway = status.get("gateway") or {}
    if state.active is None:
        if gateway.get("requests_under_way") or state.waiting:
            waiting = f"{gateway.get('requests_waiting', 0)} waiting"
            yield (
                ("title", "requests     "),
                ("", f"{gateway.get('requests_under_way', 0)} under way, {waiting}"),
            )
            yield from (_plain(f"  {harmless(held_text(each))}") for each in state.waiting)
        return
    rows = [_active(each, now) for each in state.active]
    if rows := [row for row in rows if state.matches(" ".join(text for _, text in row))]:
        yield from look.table(_ACTIVE, rows)


def _active(request: Mapping[str, Any], now: float) -> TextLine:
    speed, tokens = request["tokens_per_second"], request["output_tokens"]
    return (
        ("", duration(max(now - request["at"], 0))),
        ("", harmless(request["profile"] or request["model"] or "-")),
        ("", harmless(request["caller"] or "-")),
        ("", request["endpoint"]),
        ("warn" if request["phase"] == "waiting" else "good", request["phase"]),
        ("", "-" if tokens is None else str(tokens)),
        ("", "-" if speed is None else f"{speed:.1f}"),
        ("", harmless(request["why"])),
    )


# --- Requests

_ENDED = (
    Column("AT"),
    Column("KEY", 5, 12),
    Column("ENDPOINT", 6),
    Column("MODEL", 1, 24),
    Column("PROFILE", 7),
    Column("STATUS"),
    Column("HELD", 4),
    Column("FIRST", 1),
    Column("TOTAL"),
    Column("IN", 3),
    Column("OUT", 1),
    Column("TOK/S", 1),
    Column("NOTE"),
)


def _requests(state: TopState, look: Look, rows: int) -> _Body:
    """The last one comes first."""
    if state.no_requests:
        return _Body([(("warn", state.no_requests),)])
    found = [each for each in state.requests if state.matches(each.text)]
    back = min(state.backs[REQUESTS], max(len(found) - rows + 1, 0))
    shown = list(islice(reversed(found), back, back + rows - 1))
    return _Body(_ended_table(shown, look), back, _place(back, rows - 1, len(found)))


def _ended_table(ended: Sequence[EndedRequest], look: Look) -> list[TextLine]:
    rows = []
    for each in ended:
        moment, endpoint, *cells_of = each.cells
        style = _RESULTS.get(each.record["result"], "bad")
        row = [moment[-8:], harmless(each.record["caller"] or "-"), endpoint, *cells_of]
        rows.append(tuple((style, text) for text in row))
    return look.table(_ENDED, rows)


# --- Logs


def _logs(state: TopState, look: Look, rows: int) -> _Body:
    """The end, unless somebody scrolled; long lines are wrapped, since their end often says what matters."""
    fixed = list(_about_log(state, look))[: max(rows - 3, 1)]
    room = rows - len(fixed)
    found = [line for line in state.log if state.matches(line)]
    back = min(state.backs[LOGS], _most_back(found, look, room))
    pieces: list[str] = []
    for line in reversed(found[: len(found) - back]):
        pieces = [*look.wrapped(line), *pieces]
        if len(pieces) >= room:
            break
    place = f"{back} lines below" if back else f"{len(found)} lines"
    return _Body([*fixed, *map(_plain, pieces[-room:])], back, place)


def _most_back(lines: Sequence[str], look: Look, room: int) -> int:
    """So far that the first lines just fill the view."""
    filled = 0
    for place, line in enumerate(lines, 1):
        filled += sum(1 for _ in look.wrapped(line))
        if filled >= room:
            return len(lines) - place
    return 0


def _about_log(state: TopState, look: Look) -> Iterator[TextLine]:
    """Which logs there are, and why the server died last."""
    names: list[Span] = []
    for name in state.logs():
        names += [("current" if name == state.log_name else "", f" {harmless(name)} ")]
    yield tuple(names)
    for server in all_servers(state.status) if state.status else []:
        if (server["profile"] or server["name"]) == state.log_name and (died := server["last_failure"]):
            text = f"died at {died['at']}: {died['message']}"
            yield from ((("bad", piece),) for piece in look.wrapped(harmless(text)))
            if died["hint"]:
                yield from ((("warn", piece),) for piece in look.wrapped(harmless(died["hint"])))
