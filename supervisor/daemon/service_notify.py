"""
Notifications to the service manager: systemd by datagrams, s6 by a descriptor.

READY is sent once the first start has succeeded.  Until then, each sign of progress asks for more time.
Before each watchdog ping a message makes a round trip through the server's inbox, because the ping vouches
for the loop that *owns the state*.  The manager's queue is short (10 messages on Linux): a message that would
block is not sent, and its status goes out with the next one.

A `reload` that systemd runs next to the daemon asks for time too, but leaves the status line to the daemon,
which could not know that it has to restore it.

systemd also keeps sockets open (``FileDescriptorStoreMax=``), and passes them to the next process of the unit
as sd_listen_fds(3) says.  `gateway.socket_store` decides which ones.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from ..progress import Progress

EXTENSION_SECONDS = 30.0  # asked for from now on, ...
EXTEND_EVERY_SECONDS = 5.0  # ... again and again, so that a stuck daemon is not waited for much longer


class _Phase(Enum):
    STARTING = "starting"
    UP = "up"
    RELOADING = "reloading"
    STOPPING = "stopping"


class ServiceNotifier:
    """
    Nothing here waits or raises.  ``ready_fd`` gets a newline, and is closed, when all is ready; ``stored``
    names the sockets that the manager keeps already.
    """

    def __init__(
        self,
        notify: Notify | None = None,
        watchdog_seconds: float | None = None,
        ready_fd: int | None = None,
        stored: Iterable[str] = (),
    ) -> None:
        self._notify = notify
        self._watchdog_seconds = watchdog_seconds
        self._ready_fd = ready_fd
        self._phase = _Phase.STARTING
        self._work_began = asyncio.Event()
        self._at_work = False
        self._status = ""
        self._owed: dict[str, str] = {}
        self.stored = set(stored)
        self._owed_sockets: list[tuple[str, int | None]] = []  # in order; None: to be removed

    @property
    def is_up(self) -> bool:
        """Whether the first start is over, and neither a reload nor the end is under way."""
        return self._phase is _Phase.UP

    @property
    def manager(self) -> tuple[str, float | None]:
        """Its address, "" without one, and after how long a silence it ends us: for an upgrade in place."""
        return self._notify.address if self._notify else "", self._watchdog_seconds

    def ping(self) -> None:
        """Before a silence: the watchdog's time begins anew."""
        self._say(self._signs_of_life())

    def status(self, line: str) -> None:
        """How the server is, in one line without secrets."""
        if line != self._status:
            self._status = line
            self._say({"STATUS": line})

    def at_work(self, at_work: bool) -> None:
        """Whether something is under way that somebody may wait for, as ExecReload= does."""
        if at_work and not self._at_work:
            self._work_began.set()
        self._at_work = at_work

    def ready(self) -> None:
        """The first start is decided, and well."""
        if self._phase is _Phase.STARTING:
            self._begin(_Phase.UP, {"READY": "1"})
            if self._ready_fd is not None:
                with suppress(OSError):  # the reader has gone
                    os.write(self._ready_fd, b"\n")
                with suppress(OSError):
                    os.close(self._ready_fd)
                self._ready_fd = None

    def reloading(self) -> None:
        """A reload begins; `reloaded` has to follow.  Before it is ready, that is part of the start."""
        if self._phase is _Phase.UP:
            now = time.monotonic_ns() // 1000  # from systemd 253 on, it tells a new reload from an old one
            self._begin(_Phase.RELOADING, {"RELOADING": "1", "MONOTONIC_USEC": str(now)})

    def reloaded(self) -> None:
        """It is over, whatever came of it."""
        if self._phase is _Phase.RELOADING:
            self._begin(_Phase.UP, {"READY": "1"})

    def stopping(self) -> None:
        """The end begins."""
        if self._phase is not _Phase.STOPPING:
            self._begin(_Phase.STOPPING, {"STOPPING": "1"})

    @property
    def stores(self) -> bool:
        """Whether there is a manager that may keep sockets; it does not say whether it does."""
        return self._notify is not None

    def store(self, name: str, descriptor: int) -> None:
        """Have the manager keep this socket, unless it has one of this name, until `unstore`."""
        if self.stores and name not in self.stored:
            self._owed_sockets.append((name, descriptor))
            self._say_of_sockets()

    def unstore(self, name: str) -> None:
        """Have the manager close what it keeps under this name."""
        if self.stores:
            self.stored.discard(name)
            others = [each for each in self._owed_sockets if each[0] != name]
            self._owed_sockets = [*others, (name, None)]
            self._say_of_sockets()

    def _say_of_sockets(self) -> None:
        """In order, since a name may be removed and given again; what was not sent is sent later."""
        while self._notify is not None and self._owed_sockets:
            name, descriptor = self._owed_sockets[0]
            if not self._notify.say(*_about_socket(name, descriptor)):
                return
            self._owed_sockets.pop(0)
            if descriptor is not None:
                self.stored.add(name)

    async def keep_in_touch(self, owner_lives: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled.  ``owner_lives`` comes back only if the owner of the state lives."""
        if self._notify is None:
            return
        while True:
            await owner_lives()
            self._work_began.clear()
            self._say(self._signs_of_life())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work_began.wait(), self._pause_seconds())

    def _signs_of_life(self) -> dict[str, str]:
        """A watchdog runs from READY on; the first sign of life would set it going earlier."""
        signs = {}
        if self._watchdog_seconds is not None and self._phase is not _Phase.STARTING:
            signs["WATCHDOG"] = "1"
        if not self._is_idle:  # then nobody waits, and it would calm the watchdog for longer
            signs["EXTEND_TIMEOUT_USEC"] = str(int(EXTENSION_SECONDS * 1e6))
        return signs

    @property
    def _is_idle(self) -> bool:
        return self._phase is _Phase.UP and not self._at_work

    def _pause_seconds(self) -> float | None:
        """None: until something begins.  sd_watchdog_enabled(3) asks for half the time; a third is safer."""
        watched = self._watchdog_seconds / 3 if self._watchdog_seconds is not None else None
        if self._is_idle and not (self._owed or self._owed_sockets):
            return watched
        return min(EXTEND_EVERY_SECONDS, watched or EXTEND_EVERY_SECONDS)

    def _begin(self, phase: _Phase, message: dict[str, str]) -> None:
        self._phase = phase
        self._work_began.set()
        self._say(message)

    def _say(self, message: dict[str, str]) -> None:
        """What was not sent goes with the next message, the last value of each key."""
        self._say_of_sockets()
        if self._notify is None or not (message or self._owed):
            return
        whole = {key: value for key, value in self._owed.items() if key not in message} | message
        taken = self._notify.say(whole)
        self._owed = {} if taken else {key: whole[key] for key in whole if key not in _OF_THE_MOMENT}


_OF_THE_MOMENT = frozenset({"WATCHDOG", "EXTEND_TIMEOUT_USEC"})


def _about_socket(name: str, descriptor: int | None) -> tuple[dict[str, str], tuple[int, ...]]:
    """As in sd_notify(3).  FDPOLL=0 (from systemd 246 on): the manager need not watch it."""
    if descriptor is None:
        return {"FDSTOREREMOVE": "1", "FDNAME": name}, ()
    return {"FDSTORE": "1", "FDNAME": name, "FDPOLL": "0"}, (descriptor,)


Passed = Sequence[tuple[str, int]]
"""Descriptors that the manager passed to this process, with their names."""


def notifier_in(environ: MutableMapping[str, str], *, ready_fd: int | None) -> tuple[ServiceNotifier, Passed]:
    """
    The notifier of this environment, and what the manager passed.  The variables are removed, and no child
    inherits the descriptors.
    """
    pid = os.getpid()
    notify, watchdog_seconds = notify_in(environ), watchdog_seconds_in(environ, pid)
    passed: list[tuple[str, int]] = []
    for name, descriptor in passed_in(environ, pid):
        try:
            os.set_inheritable(descriptor, False)
        except OSError:  # there are not as many as the variable says
            break
        passed.append((name, descriptor))
    forget_variables(environ)
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)  # no child may hold it open
    return ServiceNotifier(notify, watchdog_seconds, ready_fd, (name for name, _ in passed)), passed


LONGEST_VALUE = 1000  # characters; a manager takes 4096 bytes a message
_VARIABLES = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("FDSTORE", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID"),
)


@dataclass(frozen=True, slots=True)
class Notify:
    """A manager's address: a path, or ``@name`` in the abstract namespace."""

    address: str

    def say(self, message: Mapping[str, str], descriptors: Sequence[int] = ()) -> bool:
        """Whether it was taken, with copies of these descriptors; never waits, never raises."""
        data = "\n".join(f"{key}={' '.join(value.split())[:LONGEST_VALUE]}" for key, value in message.items())
        return _send(self.address, data.encode(errors="replace"), descriptors)


if sys.platform == "win32":

    def _send(_address: str, _data: bytes, _descriptors: Sequence[int]) -> bool:
        """Python has no AF_UNIX there, and there is no such manager."""
        return False

else:

    def _send(address: str, data: bytes, descriptors: Sequence[int]) -> bool:
        """Opened for each message: after a re-exec of the manager its socket is another one."""
        where = f"\0{address[1:]}" if address.startswith("@") else address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.setblocking(False)
                way.connect(where)  # socket.send_fds() of Python 3.11 ignores an address
                socket.send_fds(way, [data], descriptors) if descriptors else way.send(data)
        except OSError:
            return False
        return True


def notify_in(environ: Mapping[str, str]) -> Notify | None:
    """None without a manager, and for an address that we cannot speak to (``vsock:`` is a machine's)."""
    address = environ.get("NOTIFY_SOCKET", "")
    return Notify(address) if address[:1] in ("/", "@") and len(address) > 1 else None


def watchdog_seconds_in(environ: Mapping[str, str], pid: int) -> float | None:
    """How long we may be silent, as sd_watchdog_enabled(3) reads it; None where nobody watches us."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        return int(environ.get("WATCHDOG_USEC", "")) / 1e6 or None
    except ValueError:
        return None


FIRST_PASSED = 3  # SD_LISTEN_FDS_START


def passed_in(environ: Mapping[str, str], pid: int) -> Iterator[tuple[str, int]]:
    """
    The descriptors that the manager passed to this process, with their names, as sd_listen_fds_with_names(3)
    reads it.  The count is taken on trust.
    """
    text = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not (text.isascii() and text.isdigit()):
        return
    count, names = int(text), environ.get("LISTEN_FDNAMES", "").split(":")
    for index in range(count):
        yield names[index] if len(names) == count else "unknown", FIRST_PASSED + index


def forget_variables(environ: MutableMapping[str, str]) -> None:
    """Our children must not notify the manager."""
    for name in _VARIABLES:
        environ.pop(name, None)


PREPARATION_SECONDS = 120.0  # longer than any work of ours is silent


class NotifyProgress:
    """A `Progress` that passes it on and asks for time meanwhile; with ``alone`` it sends the step too."""

    def __init__(
        self,
        inner: Progress,
        notify: Notify,
        clock: Callable[[], float] = time.monotonic,
        *,
        alone: bool = True,
    ) -> None:
        self._inner = inner
        self._notify = notify
        self._clock = clock
        self._alone = alone
        self._asked = 0.0

    def step(self, text: str) -> None:
        self._inner.step(text)
        self._ask({"STATUS": text} if self._alone else {})

    def update(self, fraction: float | None, detail: str = "") -> None:
        self._inner.update(fraction, detail)
        if self._clock() - self._asked >= EXTEND_EVERY_SECONDS:
            self._ask({})

    def _ask(self, message: Mapping[str, str]) -> None:
        self._asked = self._clock()
        self._notify.say({**message, "EXTEND_TIMEOUT_USEC": str(int(PREPARATION_SECONDS * 1e6))})


def with_notify_progress(inner: Progress, environ: Mapping[str, str]) -> Progress:
    """The same, where no manager waits."""
    notify = notify_in(environ)
    return (
        NotifyProgress(inner, notify, alone="MAINPID" not in environ) if notify else inner
    )  # systemd.exec(5)
