"""
How a peer is, and what it has: asked in the background while config.yaml names it, never by a request.

A look is bounded: by time, and in what it reads.  Its host is resolved here too, so that no request waits for
a resolver, and its certificates are read beside the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, Literal

from ..decoding import parse
from ..profile.peer import Peer
from ..server.background import beside_the_loop
from ..server.probe_target import ProbeTarget
from .http_heads import Head, ResponseHead
from .peer_choice import HOPS_HEADER, PeerList, PeerModel, models_in
from .relay.upstream import ConnectionPool

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # between two looks at a supervisor
OTHER_LOOK_SECONDS = 30.0  # at another endpoint, which may belong to strangers
ANSWER_SECONDS = 5.0  # for each of the two questions of a look
CONNECT_SECONDS = 3.0
MOST_MISSES = 3  # looks in a row that nobody answered, until requests there are given up
_MOST_BYTES = 8 * 1024 * 1024
_MOST_ADDRESSES = 4
_READY = "/supervisor/ready"
_ERRNO = re.compile(r"\[Errno \d+\] ")
_UNAUTHORIZED = frozenset((401, 403))

PeerState = Literal["unknown", "up", "not ready", "down"]


@dataclass(frozen=True, slots=True)
class PeerTarget(ProbeTarget):
    """
    A peer; ``context`` is for TLS, with a certificate for ``host``.  Its streams are read as they come: it
    gathers them itself, and its descriptors may hold ciphertext.
    """

    context: ssl.SSLContext | None = None
    host: str = ""
    gathers: ClassVar[bool] = False

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        name = self.host if self.context else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(
                    protocol, self.address, self.port, ssl=self.context, server_hostname=name
                )
        except TimeoutError:
            raise TimeoutError(f"no connection within {CONNECT_SECONDS:g} s") from None


class PeerTrouble(Exception):
    """Why a look found no peer that can be used, in words; ``is_silent``: nothing answered at all."""

    def __init__(self, why: str, *, is_silent: bool = False) -> None:
        super().__init__(why)
        self.is_silent = is_silent


class PeerWatch:
    """
    One peer.  ``changed`` is called when it, or what it has, is not as before; ``silent`` after a look that
    nobody answered.  ``id`` is a supervisor's, "" of another endpoint.
    """

    def __init__(
        self,
        peer: Peer,
        own_id: str,
        changed: Callable[[], object],
        silent: Callable[[PeerWatch], object],
    ) -> None:
        self.peer = peer
        self.pool = ConnectionPool()
        self.state: PeerState = "unknown"
        self.why = "it has not been asked yet"
        self.id = ""
        self.list = PeerList(tuple(PeerModel(peer.name, model) for model in peer.models))  # until it is asked
        self.under_way = 0  # requests of ours
        self.misses = 0  # looks in a row that nobody answered
        self._own_id = own_id
        self._changed, self._silent = changed, silent
        self._seen = b""  # digest of the list
        self._context: ssl.SSLContext | None = None
        self._soon = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._watch())

    @property
    def is_up(self) -> bool:
        return self.state in {"up", "not ready"}

    @property
    def place(self) -> str:
        """For people."""
        return f"{self.peer.name} ({self.peer.url})"

    def doubt(self, why: str) -> None:
        """A request could not reach it: nothing goes there until a look has found it."""
        self._become("down", why)
        self.look_soon()

    def look_soon(self) -> None:
        """What is known of it is no longer true."""
        self._soon.set()

    def close(self) -> None:
        self._task.cancel()
        self.pool.aim(None)

    # --- the looks

    async def _watch(self) -> None:
        while True:
            self._soon.clear()
            try:
                await self._look()
            except PeerTrouble as trouble:
                self.misses = self.misses + 1 if trouble.is_silent else 0
                self._become("down", str(trouble))
                if trouble.is_silent:
                    self._silent(self)
            except Exception:
                log.exception("the look at the peer %s broke", self.peer.name)
                self._become("down", "goss-supervisor failed to ask it; its log tells why")
            is_foreign = self.state == "up" and not self.id
            with suppress(TimeoutError):
                async with asyncio.timeout(OTHER_LOOK_SECONDS if is_foreign else LOOK_SECONDS):
                    await self._soon.wait()

    async def _look(self) -> None:
        """Raises PeerTrouble."""
        key = self._key()
        if self.peer.has_tls and self._context is None:
            self._context = await self._certificates()
        status, said = await self._reached(key)
        state: PeerState = "up"
        why = ""
        if status in {200, 503} and (about := _object(said)).keys() >= {"state", "why"}:
            if about["state"] == "stopping":
                raise PeerTrouble("it is being stopped")
            self.id = str(about.get("id", ""))[:16]
            if status != 200:
                state, why = "not ready", f"its main model is {about['state']}"
        else:
            self.id = ""  # another endpoint, which has no such path
        await self._take_models()
        self.misses = 0
        self._become(state, "; ".join(filter(None, (why, self.list.problem))))

    def _key(self) -> str:
        key = self.peer.key_in(os.environ)
        if self.peer.api_key_env and not key:
            variable = self.peer.api_key_env
            raise PeerTrouble(f"the variable {variable} is not set: export it, then goss-supervisor reload")
        if not (key.isascii() and key.isprintable()):
            raise PeerTrouble(f"{self.peer.api_key_env} holds a character that no key has")
        return key

    async def _certificates(self) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415 - few peers speak TLS, and the daemon is small

        try:
            return await beside_the_loop(
                partial(ssl.create_default_context, cafile=self.peer.ca_file or None)
            )
        except (OSError, ValueError) as error:
            where = self.peer.ca_file or "those of the system"
            raise PeerTrouble(f"its certificates ({where}) cannot be read: {error}") from None

    async def _reached(self, key: str) -> tuple[int, bytes]:
        """The answer to whether it is ready, from the first of its addresses that can be connected to."""
        peer, trouble = self.peer, PeerTrouble(f"{self.peer.host} has no address", is_silent=True)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        for address in await self._addresses():
            target = PeerTarget(
                address,
                peer.port,
                peer.host_header,
                headers=headers,
                context=self._context,
                host=peer.host,
            )
            self.pool.aim(target)
            try:
                return await self._asked(_READY)
            except PeerTrouble as error:
                trouble = error
        raise trouble

    async def _addresses(self) -> list[str]:
        peer = self.peer
        with suppress(ValueError):
            return [str(ip_address(peer.host))]
        resolve = partial(socket.getaddrinfo, peer.host, peer.port, type=socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await beside_the_loop(resolve)
        except TimeoutError:
            raise PeerTrouble(f"nobody resolves {peer.host} within {ANSWER_SECONDS:g} s") from None
        except (OSError, UnicodeError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise PeerTrouble(f"{peer.host} does not resolve to an address: {words}") from None
        return list(dict.fromkeys(str(each[4][0]) for each in found))[:_MOST_ADDRESSES]

    async def _take_models(self) -> None:
        """Nothing is parsed again that has not changed."""
        status, body = await self._asked("/v1/models")
        if status in _UNAUTHORIZED:
            key = f"the key in {self.peer.api_key_env}" if self.peer.api_key_env else "requests without a key"
            raise PeerTrouble(f"it refuses {key} ({status}); api-key-env in config.yaml names the variable")
        if status != 200:
            raise PeerTrouble(f"it answers {status} to /v1/models")
        seen = sha256(body + self.id.encode()).digest()
        if seen == self._seen:
            return
        peer = self.peer
        try:
            self.list = await beside_the_loop(
                partial(models_in, body, peer.name, self.id, self._own_id, peer.models)
            )
        except ValueError as error:
            raise PeerTrouble(f"its /v1/models is no list of models: {error}") from None
        self._seen = seen
        self._changed()

    async def _asked(self, path: str) -> tuple[int, bytes]:
        """Status and body.  Raises PeerTrouble."""
        target = f"{self.peer.prefix}{path}"
        headers = ((b"accept", b"application/json"), (HOPS_HEADER, self._own_id.encode("ascii")))
        head = Head("GET", target.encode("ascii"), target, "1.0", headers, 0, True, False)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await _PeerAnswer(self.pool, head).whole()
        except TimeoutError:
            raise PeerTrouble(f"it does not answer within {ANSWER_SECONDS:g} s", is_silent=True) from None

    def _become(self, state: PeerState, why: str) -> None:
        if (self.state, self.why) == (state, why):
            return
        level = logging.INFO if state == "up" else logging.WARNING
        if self.state != state:
            log.log(level, "peer %s: %s%s", self.place, state, f" ({why})" if why else "")
        self.state, self.why = state, why
        self._changed()


class _PeerAnswer:
    """A short answer that is taken whole; see `relay.answer.Taker`."""

    def __init__(self, pool: ConnectionPool, head: Head) -> None:
        self._pool, self._head = pool, head
        self._body = bytearray()
        self._status = 0
        self._done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._upstream = pool.take()

    async def whole(self) -> tuple[int, bytes]:
        """Raises PeerTrouble."""
        if self._upstream is not None:
            self.connected()
        else:
            self._upstream = self._pool.connect(self)
        try:
            return await self._done
        finally:
            if not self._done.done() or self._done.cancelled() or self._done.exception() is not None:
                self._upstream.cancel()

    def connected(self) -> None:
        assert self._upstream is not None
        self._upstream.ask(self._head, b"", self)

    def unreachable(self, why: str, *, ours: bool) -> None:
        del ours
        self._fail(f"it cannot be reached: {_ERRNO.sub('', why)}")

    def begin(self, answer: ResponseHead, *, more: bool) -> None:
        del more
        self._status = answer.status

    def go_on(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _MOST_BYTES:
            self._fail(f"its answer is longer than {_MOST_BYTES // 2**20} MiB", is_silent=False)

    def complete(self, data: bytes) -> None:
        self._body += data
        if not self._done.done():
            self._done.set_result((self._status, bytes(self._body)))

    def lose(self, why: str) -> None:
        assert self._upstream is not None
        if self._upstream.was_used and self._upstream.got_nothing and not self._body:
            self._upstream = self._pool.connect(self)  # a kept connection that was closed at that moment
        else:
            self._fail(why.replace("the engine", "it"))

    def _fail(self, why: str, *, is_silent: bool = True) -> None:
        if not self._done.done():
            self._done.set_exception(PeerTrouble(why, is_silent=is_silent))


def _object(body: bytes) -> Mapping[str, object]:
    with suppress(ValueError):
        return parse(body)
    return {}
