"""
Words to the service manager that started us: the protocol of sd_notify(3), as far as we need it.

One datagram a message, to the socket that ``NOTIFY_SOCKET`` names, with no answer.  The manager's queue is
short (10 messages on Linux), so nothing is said that would have to wait: it is dropped, and that is told.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

LONGEST_VALUE = 1000  # characters; a manager takes 4096 bytes a message
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


@dataclass(frozen=True, slots=True)
class Notify:
    """A manager's address: a path, or ``@name`` in the abstract namespace."""

    address: str

    def say(self, message: Mapping[str, str]) -> bool:
        """Whether it was taken; never waits, never raises."""
        data = "\n".join(f"{key}={_one_line(value)}" for key, value in message.items())
        return _send(self.address, data.encode(errors="replace"))


if sys.platform == "win32":

    def _send(_address: str, _data: bytes) -> bool:
        """Python has no AF_UNIX there, and there is no such manager."""
        return False

else:

    def _send(address: str, data: bytes) -> bool:
        """Opened for each message: after a re-exec of the manager its socket is another one."""
        where = f"\0{address[1:]}" if address.startswith("@") else address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.setblocking(False)
                way.sendto(data, where)
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


def forget_manager(environ: MutableMapping[str, str]) -> None:
    """What we start is not the manager's to hear."""
    for name in _VARIABLES:
        environ.pop(name, None)


def _one_line(value: str) -> str:
    return " ".join(value.split())[:LONGEST_VALUE]
