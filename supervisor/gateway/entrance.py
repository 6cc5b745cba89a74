"""Where clients come in: one door at a time, and what follows from it for everybody who does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import SupervisorError
from ..plan.types import Door, LaunchPlan
from .api.names import Names
from .door.keyring import Keyring
from .door.rules import Rules, rules_of
from .relay.listening import Listening, listen


class Entrance:
    """
    A gateway's.  ``connection`` makes the protocol of a new connection.

    `open` comes first; from then on there are ``door``, ``prefix`` (llama-server's ``--api-prefix``),
    ``rules`` and ``names``.
    """

    door: Door
    prefix: str
    rules: Rules
    names: Names

    def __init__(self, keyring: Keyring, connection: Callable[[], asyncio.Protocol]) -> None:
        self._keyring = keyring
        self._connection = connection
        self._listening: Listening | None = None

    async def open(self, plan: LaunchPlan) -> None:
        """
        Take this plan's door; an address that is the same stays open.

        Raises StartFailed and ConfigError, and then the door before it is as it was.
        """
        door = plan.door
        assert door is not None
        if self._listening is None:
            self._take(door, plan)
            self._listening = await listen(door, self._connection)
        elif _address(door) == _address(self.door):
            self._listening.renew(door)
        elif _place(door) == _place(self.door):
            self._listening = await self._rebuilt(door)
        else:
            opened = await listen(door, self._connection)
            self._listening.close()
            self._listening = opened
        self._take(door, plan)

    async def _rebuilt(self, door: Door) -> Listening:
        """Other hosts or another certificate at a port that cannot be had twice, not even by us."""
        self.close()
        try:
            return await listen(door, self._connection)
        except SupervisorError:
            self._listening = await listen(self.door, self._connection)
            raise

    def _take(self, door: Door, plan: LaunchPlan) -> None:
        self.door, self.prefix = door, plan.api_prefix
        self.rules = rules_of(door)
        self.names = Names(door.offers, door.settings.unknown_model)
        self._keyring.digests = door.keys

    def is_of(self, plan: LaunchPlan) -> bool:
        """Whether what stands open, or shut, is this plan's door."""
        if plan.door is None or self._listening is None:
            return plan.door is None and self._listening is None
        return (plan.door, plan.api_prefix) == (self.door, self.prefix)

    def close(self) -> None:
        """No new connections."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None


def _address(door: Door) -> tuple[str, int, str, str]:
    return door.host, door.port, door.tls_certificate, door.tls_key


def _place(door: Door) -> str | int:
    """What only one can have: a socket's path, or a port."""
    return door.host if door.host.endswith(".sock") else door.port
