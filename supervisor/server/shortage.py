"""What this process itself runs out of: descriptors, memory, room.  That says nothing about a server."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

from ..errors import StartFailed

_LEAST = 48  # descriptors: the daemon, one server with its probes, and a few clients
_ENOUGH = 65536  # descriptors
_MOST_RESERVED = 1024
_OURS = frozenset(
    getattr(errno, name)
    for name in ("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "ENOSPC", "EDQUOT", "EROFS", "EIO")
    if hasattr(errno, name)
)
_TO_CONNECT = frozenset(
    (errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH)
)


def is_ours(error: BaseException | None) -> bool:
    """Whether this process, or the machine around it, is short of something."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OURS)


def is_ours_to_connect(error: BaseException) -> bool:
    """The same, of an attempt to reach a server: no port is left, or a folder or a rule forbids it."""
    return is_ours(error) or (isinstance(error, OSError) and error.errno in _TO_CONNECT)


def is_ours_to_spawn(error: BaseException | None) -> bool:
    """The same, of an attempt to start a process: fork(2) says EAGAIN."""
    return is_ours(error) or (isinstance(error, OSError) and error.errno == errno.EAGAIN)


def room_for_clients() -> int:
    """
    How many clients may be connected: a quarter of the descriptors is for probes, launches, logs and the
    control socket, and a client that is answered has one for the server, and one to see the server hang up.
    """
    limit = descriptor_limit()
    return (limit - min(limit // 4, _MOST_RESERVED)) // 3


def check_descriptor_limit() -> None:
    """Raises StartFailed where not even one server and a client have room."""
    if (limit := descriptor_limit()) < _LEAST:
        raise StartFailed(
            f"The limit on open files is {limit}; the daemon needs at least {_LEAST}.",
            hint="Raise it: ulimit -n 1024, or LimitNOFILE=1024 in a systemd unit.",
        )


if sys.platform == "win32":

    def descriptor_limit() -> int:
        """There is none on Windows."""
        return sys.maxsize

    def raise_descriptor_limit() -> None:
        """There is nothing to raise."""

else:
    import resource

    def descriptor_limit() -> int:
        """How many descriptors this process may have."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return sys.maxsize if soft == resource.RLIM_INFINITY else soft

    def raise_descriptor_limit() -> None:
        """As far as this user may: the usual 1024 are for programs that use select(2)."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(OSError, ValueError):  # a sandbox: what we were given has to do
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
