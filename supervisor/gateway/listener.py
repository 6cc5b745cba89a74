"""Where clients come in: one address at a time, and what follows from it for everybody who does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import SupervisorError
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, Offer, offers_beside
from .api.names import Names
from .door.keyring import Keyring
from .door.rules import Rules, rules_of
from .relay.listening import Listening, listen_at


class Entrance:
    """
    A gateway's; after `open` there are ``listen``, ``rules``, ``names`` and ``offers``.  ``connection`` makes
    the protocol of a connection, ``prefix`` is the active llama-server's ``--api-prefix``.
    """

    listen: Listen
    rules: Rules
    names: Names
    offers: tuple[Offer, ...]

    def __init__(self, keyring: Keyring, connection: Callable[[], asyncio.Protocol]) -> None:
        self.prefix = ""
        self._keyring = keyring
        self._connection = connection
        self._plan: LaunchPlan | None = None
        self._listening: Listening | None = None

    @property
    def is_open(self) -> bool:
        return self._listening is not None

    async def open(self, listen: Listen) -> None:
        """Only what is different changes.  Raises StartFailed and ConfigError, and then all is as it was."""
        if self._listening is None:
            self._take(listen)
            self._listening = await listen_at(listen, self._connection)
        elif _address(listen) == _address(self.listen):
            self._listening.renew(listen)
        elif _place(listen) == _place(self.listen):
            self._listening = await self._rebuilt(listen)
        else:
            opened = await listen_at(listen, self._connection)
            self._listening.close()
            self._listening = opened
        self._take(listen)

    async def _rebuilt(self, listen: Listen) -> Listening:
        """Other hosts or another certificate at a port that cannot be had twice, not even by us."""
        self.close()
        try:
            return await listen_at(listen, self._connection)
        except SupervisorError:
            self._listening = await listen_at(self.listen, self._connection)
            raise

    def _take(self, listen: Listen) -> None:
        self.listen = listen
        self.rules = rules_of(listen)
        self._keyring.digests = listen.keys
        self._name()

    def follow(self, plan: LaunchPlan | None) -> None:
        """Another plan is active: its profile may be asked for, and comes first."""
        if plan is not self._plan:
            self._plan = plan
            self.prefix = plan.api_prefix if plan else ""
            if hasattr(self, "listen"):
                self._name()

    def _name(self) -> None:
        self.offers = offers_beside(self._plan, self.listen)
        self.names = Names(self.offers, self.listen.settings.unknown_model)

    def close(self) -> None:
        """No new connections."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None


def _address(listen: Listen) -> tuple[str, int, str, str]:
    return listen.host, listen.port, listen.tls_certificate, listen.tls_key


def _place(listen: Listen) -> str | int:
    """What only one can have: a socket's path, or a port."""
    return listen.host if listen.host.endswith(".sock") else listen.port
