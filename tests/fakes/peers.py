"""
A peer that follows a script: what it says of itself is in its attributes, and what happens to the questions that it
gets are steps of `relay`.

    async with a_peer("big", says(ok(b"hello")), models=["m"]) as big, with_peers(it, big):
        ...
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from supervisor.profile.peer import Peer

from .launching import until
from .relay import Place, Relay, Step, Upstream, ok

NOT_FOUND = ok(b"{}", status=b"404 Not Found")


class ScriptedPeer(Upstream):
    """
    ``id`` "" is of an endpoint that is no supervisor; ``models`` are ids, or whole entries of the list.  ``ready``
    and ``listing`` are said in place of what it has to say; while it is ``silent``, it answers no look.
    """

    def __init__(
        self,
        name: str,
        script: list[Step],
        models: list[Any],
        *,
        id: str = "1234567890abcdef",  # noqa: A002 - as everywhere
        key: str = "",
        ready: bytes | None = None,
        listing: bytes | None = None,
    ) -> None:
        super().__init__(script)
        self.name, self.models, self.id, self.key = name, models, id, key
        self.ready, self.listing = ready, listing
        self.port, self.looks, self.is_silent = 0, 0, False

    @property
    def peer(self) -> Peer:
        return Peer(f"http://127.0.0.1:{self.port}", self.name, secret=self.key)

    async def _answer(self, request: bytes, place: Place) -> None:
        """Looks are answered here, all else by the script."""
        if not request.startswith(b"GET "):
            await super()._answer(request, place)
            return
        self.looks += 1
        if self.is_silent:
            await place.reader.read()
        else:
            await place.write(self._said(request))

    def _said(self, request: bytes) -> bytes:
        if b" /supervisor/ready " in request:
            about = {"state": "ready", "why": "", "id": self.id}
            return self.ready or (ok(json.dumps(about).encode()) if self.id else NOT_FOUND)
        if b" /v1/models " not in request:
            return NOT_FOUND
        if self.key and b"Authorization: Bearer " + self.key.encode() not in request:
            return ok(b"{}", status=b"401 Unauthorized")
        entries = [{"id": each} if isinstance(each, str) else each for each in self.models]
        return self.listing or ok(json.dumps({"object": "list", "data": entries}).encode())


@asynccontextmanager
async def a_peer(name: str, *script: Step, models: list[Any], **about: Any) -> AsyncIterator[ScriptedPeer]:
    made = ScriptedPeer(name, list(script), models, **about)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()
        await made.close()


async def name_peers(it: Relay, *peers: Peer) -> None:
    """As config.yaml and a reload do; until each has been looked at."""
    gateway = it.gateway
    await gateway.open(replace(gateway.listener.listen, peers=peers))
    await until(lambda: all(each.state != "unknown" for each in gateway.peers.watches))


def entry(name: str, status: str = "loaded", **more: Any) -> dict[str, Any]:
    """As a goss-supervisor lists a model."""
    return {"id": name, "status": {"value": status, "args": []}, **more}
