"""
Where the gateway listens: one address at a time, its sockets, and the rules that depend on it.

The sockets are bound before a model is loaded, so a busy port is reported at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, StartFailed, SupervisorError
from ..files import is_at
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, Offer, bind_addresses, is_socket_path, offers_beside
from ..server.preflight import bound, unix_socket_problem, why_not_bound
from ..server.shortage import descriptor_limit
from .api.served_models import Names
from .auth.guard import Rules, rules_of
from .auth.keys import Keyring
from .relay.connections import Handshake
from .socket_store import SocketStore

if TYPE_CHECKING:
    import ssl


class Listener:
    """
    A gateway's; after `open` there are ``listen``, ``rules`` and ``names``.  ``connection`` makes
    the protocol of a connection, ``handshake`` what comes before it where TLS is spoken; ``prefix`` is the
    main llama-server's ``--api-prefix``.
    """

    listen: Listen
    rules: Rules
    names: Names

    def __init__(
        self,
        keyring: Keyring,
        connection: Callable[[], asyncio.Protocol],
        handshake: Callable[[socket.socket], Handshake],
    ) -> None:
        self.prefix = ""
        self.offers: tuple[Offer, ...] = ()
        self.keyring = keyring
        self._connection, self._handshake = connection, handshake
        self._plans: Sequence[LaunchPlan] = ()
        self._listening: Listening | None = None
        self.inherited: Sequence[socket.socket] = ()  # open sockets of the former program in this process
        self.store = SocketStore()

    @property
    def is_open(self) -> bool:
        return self._listening is not None

    async def open(self, listen: Listen) -> None:
        """Listen there, changing only what differs.  Raises StartFailed and ConfigError, with no change."""
        if self._listening is None:
            self._take(listen)
            self._listening = await self._at(listen)
        elif _address(listen) == _address(self.listen):
            self._listening.renew(listen)
        elif _place(listen) == _place(self.listen):
            self._listening = await self._rebuilt(listen)
        else:
            opened = await self._at(listen)
            self._listening.close()
            self._listening = opened
        self._take(listen)

    async def _at(self, listen: Listen) -> Listening:
        inherited, self.inherited = self.inherited, ()
        return await listen_at(listen, self._connection, self._handshake, self.store, inherited)

    async def _rebuilt(self, listen: Listen) -> Listening:
        """Other hosts or another certificate at a port that cannot be had twice, not even by us."""
        self.close()
        try:
            return await self._at(listen)
        except SupervisorError:
            self._listening = await self._at(self.listen)
            raise

    def _take(self, listen: Listen) -> None:
        self.listen = listen
        self.rules = rules_of(listen)
        self.keyring.digests = listen.keys
        self._name()

    def follow(self, plans: Sequence[LaunchPlan]) -> None:
        """The servers have these plans: their profiles may be asked for, the first one's first."""
        if [id(plan) for plan in plans] != [id(plan) for plan in self._plans]:
            self._plans = plans
            self.prefix = plans[0].api_prefix if plans else ""
            if hasattr(self, "listen"):
                self._name()

    def _name(self) -> None:
        self.offers = offers_beside(self._plans, self.listen)
        self.names = Names(self.offers, self.listen.settings.unknown_model)

    def offer_of(self, profile: str) -> Offer | None:
        """On what terms this profile is served; None for one that clients may not ask for."""
        return next((each for each in self.offers if each.profile == profile), None)

    def chats(self, profile: str) -> bool:
        """Whether it is for requests that name no model."""
        offer = self.offer_of(profile)
        return offer is None or offer.role == "chat"

    @property
    def unloads_idle(self) -> bool:
        """Whether any model is unloaded when nobody has used it for some time."""
        return any(map(self.idle_seconds, self._plans)) or bool(self.listen.settings.idle_unload_seconds)

    def idle_seconds(self, plan: LaunchPlan | None) -> float:
        """After so long without a request the server with this plan gives its memory back; 0 is never."""
        offer, settings = self.offer_of(plan.profile if plan else ""), self.listen.settings
        return offer.idle_seconds(settings) if offer else settings.idle_unload_seconds

    def is_in_place(self) -> bool:
        """Whether clients find it; looks at the disk."""
        return self._listening is None or self._listening.is_in_place()

    async def put_back(self) -> None:
        """Its socket's file was removed.  Raises StartFailed, and it listens no more then."""
        if self._listening is not None:
            self._listening = await self._rebuilt(self.listen)

    @property
    def descriptors(self) -> list[int]:
        """Of the open sockets, for the program that takes our place."""
        return self._listening.descriptors if self._listening is not None else []

    def let_go(self) -> None:
        """In a copy: another process listens there."""
        if self._listening is not None:
            self._listening.let_go()
            self._listening = None

    def close(self) -> None:
        """Accept no new connections."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None


def missing_address(listen: Listen) -> str:
    """Why this computer does not have the address (yet), in words; "" where it has.  Asks the resolver."""
    if is_socket_path(listen.host):
        return ""
    try:
        for address in bind_addresses(listen.host):
            bound(address, 0, backlog=1).close()
    except OSError as error:
        problem = why_not_bound(error, listen.host, listen.port)
        return problem.message if problem.kind == "bad-host" else ""
    return ""


def _address(listen: Listen) -> tuple[str, int, str, str]:
    return listen.host, listen.port, listen.tls_certificate, listen.tls_key


def _place(listen: Listen) -> str | int:
    """What only one can have: a socket's path, or a port."""
    return listen.host if listen.host.endswith(".sock") else listen.port


BACKLOG = 1024
ACCEPT_AGAIN_SECONDS = 0.1


class Listening:
    """The open sockets of one address, each with its server; the ``store`` keeps them."""

    def __init__(
        self,
        servers: Sequence[asyncio.Server | TlsServer],
        sockets: Sequence[socket.socket],
        store: SocketStore,
        *,
        socket_file: Path | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._servers, self._sockets, self._store = servers, sockets, store
        self._socket_file = socket_file
        self._file = socket_file.lstat() if socket_file else None
        self._context = context
        store.keep(sockets)

    def is_in_place(self) -> bool:
        """Whether the socket's file is there, if it has one; looks at the disk."""
        return self._socket_file is None or is_at(self._socket_file, self._file)

    def renew(self, at: Listen) -> None:
        """New connections get the certificate that is there now.  Raises ConfigError; the old one stays."""
        if self._context is not None:
            _tls(at)  # a pair that does not fit would be half taken
            self._context.load_cert_chain(at.tls_certificate, at.tls_key)

    @property
    def descriptors(self) -> list[int]:
        return [each.fileno() for each in self._sockets]

    def let_go(self) -> None:
        for server in self._servers:
            server.close()

    def close(self) -> None:
        """Accept no new connections; those that are open go on."""
        self._store.drop(self._sockets)
        self.let_go()
        if self._socket_file is not None and self.is_in_place():
            self._socket_file.unlink(missing_ok=True)


class TlsServer:
    """Accepts connections and lets them shake hands, as asyncio's would, but each is known from the first."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        handshake: Callable[[socket.socket], Handshake],
        context: ssl.SSLContext,
    ) -> None:
        self._sock = sock
        self._protocol, self._handshake, self._context = protocol, handshake, context
        sock.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._sock)
            except OSError:  # it has hung up already, or we are short of descriptors
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            client.setblocking(False)
            self._handshake(client).begin(self._protocol, self._context)

    def close(self) -> None:
        self._accepting.cancel()
        self._accepting.add_done_callback(lambda _: self._sock.close())


async def listen_at(
    at: Listen,
    protocol: Callable[[], asyncio.Protocol],
    handshake: Callable[[socket.socket], Handshake],
    store: SocketStore,
    inherited: Sequence[socket.socket] = (),
) -> Listening:
    """
    With sockets that listen there already: those ``inherited``, if there are any, or those in the ``store``.
    Raises StartFailed, saying who holds the port, and ConfigError for certificates that cannot be used.
    """
    loop = asyncio.get_running_loop()
    context = _tls(at) if at.tls_certificate else None
    if sys.platform != "win32" and at.host.endswith(".sock"):
        return await _at_socket_file(at.host, protocol, store, *inherited)
    backlog = min(BACKLOG, descriptor_limit() // 4)  # so many are accepted at once
    sockets = list(inherited)
    try:
        if not inherited:
            addresses = bind_addresses(at.host)
            sockets += (kept := store.claim(addresses, at.port)).values()
            for address in addresses:
                if address not in kept:
                    sockets.append(bound(address, at.port, backlog=backlog))
    except OSError as error:
        for each in sockets:
            each.close()
        problem = why_not_bound(error, at.host, at.port)
        raise StartFailed(problem.message, hint=problem.hint) from error
    if context is not None:
        tls_servers = [TlsServer(each, protocol, handshake, context) for each in sockets]
        return Listening(tls_servers, sockets, store, context=context)
    servers = [await loop.create_server(protocol, sock=each, backlog=backlog) for each in sockets]
    return Listening(servers, sockets, store)


if sys.platform != "win32":

    async def _at_socket_file(
        host: str,
        protocol: Callable[[], asyncio.Protocol],
        store: SocketStore,
        inherited: socket.socket | None = None,
    ) -> Listening:
        path = Path(host)
        sock = inherited or store.claim([host]).get(host) or _bound_at(path)
        server = await asyncio.get_running_loop().create_unix_server(protocol, sock=sock, backlog=BACKLOG)
        return Listening([server], [sock], store, socket_file=path)

    def _bound_at(path: Path) -> socket.socket:
        problem = next(unix_socket_problem(path), None)  # and removes one that nobody listens on
        if problem is not None:
            raise StartFailed(problem.message, hint=problem.hint)
        mask = os.umask(0o117)  # for its user and group
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(str(path))
        except OSError as error:
            sock.close()
            raise StartFailed(
                f"{path} cannot be listened on: {error.strerror or error}.",
                hint="Choose another listen.host; the path of a socket has some 100 characters at most.",
            ) from error
        finally:
            os.umask(mask)
        return sock


def _tls(at: Listen) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - few addresses speak TLS, and the daemon is small

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(at.tls_certificate, at.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate {at.tls_certificate} cannot be used with the key {at.tls_key}: {error}.",
            hint="Both are PEM files that this user may read; ssl-cert-file holds the whole chain.",
        ) from error
    return context
