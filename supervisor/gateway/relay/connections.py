"""All connections of clients: how many there may be, which of them make room for others, and who is late."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from array import array
from collections.abc import Callable
from contextlib import suppress
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

from ...profile.definition import GatewaySettings as Settings
from ...server.shortage import room_for_clients

if TYPE_CHECKING:
    import ssl


_HELD_UP_SECONDS = 1.0
_GRACE_SECONDS = 5.0  # for the first request of a connection that is new
STRANGER, IDLE, ASKING = range(3)
"""It has sent nothing yet; it waits for the next request; a request of it is on its way."""


class Connected(Protocol):
    """One connection of a client: a `ClientConnection`, or a `Handshake` before it."""

    deadline: float

    @property
    def rank(self) -> tuple[int, float] | None:
        """`STRANGER`, `IDLE` or `ASKING`, and since when; the lowest is dropped first, and None never."""

    def drop(self) -> None:
        """Close it at once, so that another one has room."""

    def expire(self) -> None:
        """Called when the deadline has passed."""

    def close(self) -> None:
        """Close it because the gateway closes."""

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of its head."""

    def hand_on(self) -> None:
        """To the daemon that has taken the place of this one."""


class Handshake:
    """
    A connection that is to speak TLS: counted, bounded in time and dropped as any other, which asyncio's own
    listener does only once a handshake is over.
    """

    def __init__(self, connections: Connections, sock: socket.socket) -> None:
        self._connections = connections
        self._sock = sock
        self._task: asyncio.Task[None] | None = None
        self.quiet_since = asyncio.get_running_loop().time()
        self.deadline = inf  # the loop's own limit ends it

    def begin(self, client: Callable[[], asyncio.Protocol], context: ssl.SSLContext) -> None:
        """Shake hands, if there is room for another connection."""
        if self._connections.welcome(self):
            self._task = asyncio.get_running_loop().create_task(self._shake_hands(client, context))
            self._task.add_done_callback(lambda _: self._connections.part(self))
        else:
            self.expire()

    async def _shake_hands(self, client: Callable[[], asyncio.Protocol], context: ssl.SSLContext) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                client,
                self._sock,
                ssl=context,
                ssl_handshake_timeout=self._connections.settings.client_timeout_seconds,
            )
        except (OSError, MemoryError):  # ssl.SSLError is one: it hung up, or speaks something else
            self._sock.close()
        except asyncio.CancelledError:
            self._sock.close()
            raise

    @property
    def rank(self) -> tuple[int, float] | None:
        return STRANGER, self.quiet_since

    def drop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def expire(self) -> None:
        self._sock.close()
        self._connections.part(self)

    def close(self) -> None:
        self.drop()

    is_idle = False

    def hand_on(self) -> None:
        """It is handed on when it is a `ClientConnection`."""


if sys.platform == "win32":

    def unsent_bytes(transport: asyncio.WriteTransport) -> int:
        """What the other side has not taken: here only what the kernel has not."""
        return transport.get_write_buffer_size()

    def reset_connection(transport: asyncio.WriteTransport) -> None:
        """
        End it by a reset, which nobody can take for the end of an answer.  The loop would send an ordinary
        end before it closes the socket.
        """
        sock = transport.get_extra_info("socket")
        transport.abort()
        if sock is not None and sock.fileno() != -1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
            sock._sock.close()  # noqa: SLF001 - no public name

else:
    import fcntl
    import termios

    def unsent_bytes(transport: asyncio.WriteTransport) -> int:
        """
        What the other side has not taken.  The kernel holds megabytes of it, and says that there is room only
        when a third is free, which takes minutes at 10 KB/s.
        """
        waiting = array("i", [0])
        sock = transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):  # closed meanwhile; a system that does not tell
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, waiting)
        return transport.get_write_buffer_size() + waiting[0]

    def reset_connection(transport: asyncio.WriteTransport) -> None:
        """End it by a reset, which nobody can take for the end of an answer."""
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Connections:
    """All connections of one gateway, and what they hold; ``on_arrival`` is called for every new one."""

    def __init__(self, on_arrival: Callable[[], None]) -> None:
        self.settings = Settings()
        self._on_arrival = on_arrival
        self._clients: set[Connected] = set()
        self._held_bytes = 0
        self.empty = asyncio.Event()
        self.empty.set()

    def __len__(self) -> int:
        return len(self._clients)

    def welcome(self, client: Connected) -> bool:
        """
        Whether there is room for one more connection.  Where there is not, the idlest of the others makes
        room, which HTTP allows (RFC 9112, 9.5): for want of descriptors any, else one that asked nothing yet.

        A burst of new connections may exceed the limit for descriptors twofold, because one that has not
        asked yet needs one descriptor, not three.
        """
        self._clients.add(client)
        self.empty.clear()
        self._on_arrival()
        count, room = len(self._clients), room_for_clients()
        short = count > room
        if count <= self.settings.max_connections and not short:
            return True
        others = ((rank, each) for each in self._clients if each is not client and (rank := each.rank))
        recent = asyncio.get_running_loop().time() - _GRACE_SECONDS
        in_order = (
            ((short and kind != IDLE and since > recent, kind, since), each) for (kind, since), each in others
        )
        (is_new, kind, _), idlest = min(in_order, key=itemgetter(0), default=((False, ASKING, 0.0), None))
        if idlest is None or (kind != STRANGER and not short):
            return False
        if is_new and count <= min(2 * room, self.settings.max_connections):
            return True
        self._clients.discard(idlest)  # it is gone for the next one that asks, too
        idlest.drop()
        return True

    def part(self, client: Connected) -> None:
        """Forget a connection that has closed."""
        self._clients.discard(client)
        if not self._clients:
            self.empty.set()

    def postpone(self, seconds: float) -> None:
        """We did not run for so long: where that is much, nobody could be heard, so nobody is late for it."""
        if seconds > _HELD_UP_SECONDS:
            for client in self._clients:
                client.deadline += seconds

    def hold(self, size_bytes: int) -> bool:
        """Count bytes of a body that is kept; False where that is more than all bodies may take."""
        self._held_bytes += size_bytes
        return self._held_bytes <= self.settings.max_queue_bytes

    def release(self, size_bytes: int) -> None:
        """Subtract bytes of a body that is no longer kept."""
        self._held_bytes -= size_bytes

    def expire(self, now: float) -> None:
        """Tell those whose deadline has passed; ``now`` is in the loop's seconds."""
        for client in [client for client in self._clients if client.deadline <= now]:
            client.expire()

    def hand_on(self) -> None:
        """Those that wait for a request go to the daemon that has taken the place of this one."""
        for client in [client for client in self._clients if client.is_idle]:
            client.hand_on()

    async def say_goodbye(self, seconds: float) -> None:
        """Close all connections, and wait until their last bytes have gone out."""
        for client in list(self._clients):
            client.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.empty.wait(), seconds)
