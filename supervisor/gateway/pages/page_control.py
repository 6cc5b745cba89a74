"""
What the page may ask of the daemon: some operations of the control socket, and of those only these fields.

A plan is a command line, so nothing with a plan is among them, nor what keeps a server for somebody, tells
secrets or stops the daemon.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from ...decoding import parse
from ..api.routes import Trouble
from ..relay.answer import LongAnswer

log = logging.getLogger(__name__)

_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "status": frozenset(),
    "load": frozenset(("server", "profile", "alone", "evicts")),
    "unload": frozenset(("server",)),
    "stop": frozenset(("server", "now")),
    "pin": frozenset(("server", "profile", "pinned")),
    "run": frozenset(("command", "arguments")),
    "cancel": frozenset(("job",)),
    "jobs": frozenset(),
}
_NOT_HERE: Final = Trouble(
    403, "not_for_pages", "A page may not ask for this.", "On the machine itself, goss-supervisor does it."
)
_BROKEN: Final = {"error": "goss-supervisor failed to do this; its log tells why.", "hint": ""}


def checked_request(body: bytes, *, may_edit: bool) -> dict[str, Any] | Trouble:
    """
    The request in this body, if a page may make it.  ``may_edit``: the caller has shown who it is, so the
    commands that save texts of the client's run for it too.
    """
    try:
        request = parse(body)
    except ValueError as error:
        return Trouble(400, "bad_request", f"The body is no JSON object: {error}.")
    op = request.get("op")
    fields = _FIELDS.get(op) if isinstance(op, str) else None
    if fields is None or request.keys() - fields - {"op", "protocol"}:
        return _NOT_HERE
    if op == "stop" and not isinstance(request.get("server"), str):
        return _NOT_HERE
    return {**request, "can_edit": may_edit}


class ControlAnswer:
    """The daemon's lines as they come, to a page that waits for the last."""

    def __init__(
        self,
        answer: LongAnswer,
        lines: AsyncIterator[Mapping[str, Any]],
        under_way: set[ControlAnswer],
    ) -> None:
        self._answer, self._lines, self._under_way = answer, lines, under_way
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._task: asyncio.Task[None] | None = None

    def begin_waiting(self) -> None:
        self._under_way.add(self)
        self._answer.begin()
        self._task = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        try:
            async for line in self._lines:
                await self._has_room.wait()
                self._send(line)
        except Exception:  # a page that waits in vain would not tell us of it
            log.exception("the page cannot be answered")
            self._send(_BROKEN)
        self._under_way.discard(self)
        self._answer.end()

    def _send(self, line: Mapping[str, Any]) -> None:
        self._answer.send(json.dumps(line).encode("ascii") + b"\n")

    def pause(self) -> None:
        self._has_room.clear()

    def resume(self) -> None:
        self._has_room.set()

    def client_left(self) -> None:
        """What has begun goes on, as for a connection of the control socket."""
        self._under_way.discard(self)
        if self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """The daemon ends."""
        self.client_left()
        self._answer.end(keep_alive=False)
