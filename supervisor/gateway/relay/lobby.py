"""All who are connected: how many, how much of their requests is kept, and who takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ...profile.definition import GatewaySettings as Settings


class Guest(Protocol):
    """A connection; ``deadline`` is in the loop's seconds."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed."""

    def close(self) -> None:
        """The door closes."""


class Lobby:
    """One gateway's; ``on_arrival`` is called for every new connection."""

    def __init__(self, on_arrival: Callable[[], None]) -> None:
        self.settings = Settings()
        self._on_arrival = on_arrival
        self._clients: set[Guest] = set()
        self._held_bytes = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._clients)

    def welcome(self, client: Guest) -> bool:
        """Whether there is room for one more connection."""
        self._clients.add(client)
        self._empty.clear()
        self._on_arrival()
        return len(self._clients) <= self.settings.max_connections

    def part(self, client: Guest) -> None:
        """It is gone."""
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()

    def hold(self, size_bytes: int) -> bool:
        """So much more of a body is there; whether there is room for it."""
        self._held_bytes += size_bytes
        return self._held_bytes <= self.settings.max_queue_bytes

    def release(self, size_bytes: int) -> None:
        """That much is not kept any more."""
        self._held_bytes -= size_bytes

    def expire(self, now: float) -> None:
        """Tell those whose deadline has passed; ``now`` is in the loop's seconds."""
        for client in [client for client in self._clients if client.deadline <= now]:
            client.expire()

    async def say_goodbye(self, seconds: float) -> None:
        """Close all connections, and wait until their last bytes have gone out."""
        for client in list(self._clients):
            client.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
