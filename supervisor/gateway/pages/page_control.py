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
from ..relay.client_connection import LongAnswer

log = logging.getLogger(__name__)

MOST_BYTES: Final = 1024 * 1024
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "status": frozenset(),
    "load": frozenset(("server", "profile", "alone", "evicts")),
    "unload": frozenset(("server",)),
    "stop": frozenset(("server", "now")),
    "restart": frozenset(("server",)),
    "pin": frozenset(("server", "profile", "pinned")),
    "run": frozenset(("command", "arguments")),
    "cancel": frozenset(("job",)),
    "jobs": frozenset(),
}
_EDITS: Final = frozenset(("profile-save",))
_NOT_HERE: Final = Trouble(
    403, "not_for_pages", "A page may not ask for this.", "On the machine itself, goss-supervisor does it."
)
_NO_EDIT: Final = Trouble(
    403,
    "needs_session",
    "Every user of this machine reaches this page, so it saves nothing for somebody who has not logged in.",
    "goss-supervisor open opens the page for you.",
)
_BROKEN: Final = {"error": "goss-supervisor failed to do this; its log tells why.", "hint": ""}


def checked_request(body: bytes, *, may_edit: bool) -> dict[str, Any] | Trouble:
    """The request in this body, if a page may make it."""
    if len(body) > MOST_BYTES:
        return Trouble(413, "body_too_large", f"The request is longer than {MOST_BYTES} bytes.")
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
    if request.get("command") in _EDITS and not may_edit:
        return _NO_EDIT
    return request


class ControlAnswer:
    """The daemon's lines as they come, to a page that waits for the last."""

    def __init__(self, answer: LongAnswer, lines: AsyncIterator[Mapping[str, Any]]) -> None:
        self._answer, self._lines = answer, lines
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._task: asyncio.Task[None] | None = None

    def begin_waiting(self) -> None:
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
        self._answer.end()

    def _send(self, line: Mapping[str, Any]) -> None:
        self._answer.send(json.dumps(line).encode("ascii") + b"\n")

    def pause(self) -> None:
        self._has_room.clear()

    def resume(self) -> None:
        self._has_room.set()

    def client_left(self) -> None:
        """What has begun goes on, as for a connection of the control socket."""
        if self._task is not None:
            self._task.cancel()
