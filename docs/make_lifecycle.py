"""Writes docs/lifecycle.md from supervisor/server/lifecycle_table.py: python docs/make_lifecycle.py"""

from __future__ import annotations

from pathlib import Path

from supervisor.server.lifecycle_table import TABLE, Do, Event, State

HEAD = """\
# The life of one server

Generated from the table in `supervisor/server/lifecycle_table.py` by `docs/make_lifecycle.py`; a test fails
when this page is stale. Every state takes *start*, *stop* and *kill*; the diagram leaves those out where they
change nothing.

Before the daemon ends a server, the server is *draining*: it finishes the requests under way, for at most
`gateway.drain-timeout`, or `stop.grace` for a stop, while new requests are held. A *sleeping* server has no
process and uses no memory until a request or `goss-supervisor load` wakes it. While a server is draining or
stopping, the last *start*, *stop* or *sleep* decides what comes next, but a sleep does not undo a stop. A
request that a later one replaced ends as *superseded*.

The daemon can *take over* a server that an earlier daemon left running: it launches nothing, and the server
is ready once it has answered ([when the supervisor is killed](reliability.md#when-the-supervisor-is-killed)).

A lost [worker](cluster.md#when-a-worker-goes) is not a crash: the server waits for it in *preparing*, or runs
a *smaller* plan without workers as *degraded*; after *workers back* it runs the whole plan again.

*Adjust* is [one step back](memory.md#who-places-it): the next launch uses less memory, because the load ran
out of it, or requests ran out of a GPU's.

```mermaid
stateDiagram-v2
    [*] --> stopped
"""


def page() -> str:
    """The whole page: a diagram of the moves, then a row for every pair of state and event."""
    return HEAD + "".join(_edges()) + "```\n\n" + "".join(_rows())


def _edges() -> list[str]:
    moves: dict[tuple[State, State], list[Event]] = {}
    for state, row in TABLE.items():
        for event, (after, _) in row.items():
            if after is not state:
                moves.setdefault((state, after), []).append(event)
    return [f"    {a} --> {b}: {', '.join(events)}\n" for (a, b), events in moves.items()]


def _rows() -> list[str]:
    rows = ["| state | event | next state | commands |\n|---|---|---|---|\n"]
    for state, row in TABLE.items():
        for event, (after, todo) in row.items():
            rows.append(f"| {state.value} | {event.value} | {after.value} | {_words(todo)} |\n")
    return rows


def _words(todo: tuple[Do, ...]) -> str:
    return ", ".join(do.value for do in todo) or "–"


if __name__ == "__main__":
    (Path(__file__).parent / "lifecycle.md").write_text(page(), encoding="utf-8")
