"""
A service manager, played as systemd does it: a datagram socket that also tells who speaks, and the variables.

    with FakeManager(tmp_path, watchdog_seconds=0.3) as manager:
        process = subprocess.Popen(manager.command(...), env={**env, **manager.env})
        heard = manager.until("READY")          # each message up to that one, as {key: value}
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Self

from .launching import BOUND_SECONDS

Message = dict[str, str]
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class FakeManager:
    """``speakers`` are the pids that said something, as the kernel tells it."""

    def __init__(
        self, folder: Path, *, abstract: bool = False, watchdog_seconds: float | None = None
    ) -> None:
        self.address = f"@goss-{os.getpid()}-{folder.name}" if abstract else str(folder / "notify")
        self.watchdog_seconds = watchdog_seconds
        self.speakers: set[int] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + self.address[1:] if abstract else self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def env(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address}

    def command(self, *words: str) -> list[str]:
        """As systemd does, it names the process that it watches: the very one that it starts."""
        if self.watchdog_seconds is None:
            return list(words)
        usec = int(self.watchdog_seconds * 1e6)
        return ["sh", "-c", f'export WATCHDOG_PID=$$ WATCHDOG_USEC={usec}; exec "$@"', "sh", *words]

    def next(self, bound_seconds: float = BOUND_SECONDS) -> Message:
        """The next message.  Raises TimeoutError, and BlockingIOError for a bound of 0, where none comes."""
        self._socket.settimeout(bound_seconds)
        data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(_CREDENTIALS.size))
        self.speakers |= {_CREDENTIALS.unpack(content)[0] for _, _, content in ancillary}
        return dict(line.split("=", 1) for line in data.decode().split("\n"))

    def until(self, key: str, value: str | None = None) -> list[Message]:
        """All messages up to the one with this key, and with these words in it."""
        heard: list[Message] = []
        while not (heard and key in heard[-1] and (value is None or value in heard[-1][key])):
            heard.append(self.next())
        return heard

    def rest(self) -> list[Message]:
        """What has been said already."""
        heard: list[Message] = []
        try:
            while True:
                heard.append(self.next(0))
        except BlockingIOError:
            return heard
