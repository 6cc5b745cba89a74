"""
A service manager, played as systemd does it: a datagram socket that also tells who speaks, and the variables.

    with FakeManager(tmp_path, watchdog_seconds=0.3) as manager:
        process = subprocess.Popen(manager.command(...), env={**env, **manager.env}, pass_fds=manager.stored.values())
        heard = manager.until("READY")          # each message up to that one, as {key: value}
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path
from typing import Self

from .launching import BOUND_SECONDS

Message = dict[str, str]
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_DESCRIPTORS = 8
_PASSING = """
import fcntl, os, sys
names, numbers = (word.split() for word in sys.argv[1:3])
for place, number in enumerate([fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in numbers], 3):
    os.dup2(number, place)
    os.close(number)
passed = {"LISTEN_PID": os.getpid(), "LISTEN_FDS": len(names), "LISTEN_FDNAMES": ":".join(names)}
os.execve(sys.argv[3], sys.argv[3:], os.environ | {key: str(value) for key, value in passed.items()})
"""


class FakeManager:
    """
    ``speakers`` are the pids that said something, as the kernel tells it; ``stored`` the descriptors that are kept, by
    name.
    """

    def __init__(
        self, folder: Path, *, abstract: bool = False, watchdog_seconds: float | None = None
    ) -> None:
        self.address = f"@goss-{os.getpid()}-{folder.name}" if abstract else str(folder / "notify")
        self.watchdog_seconds = watchdog_seconds
        self.speakers: set[int] = set()
        self.stored: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + self.address[1:] if abstract else self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        for name in list(self.stored):
            self.forget(name)

    def forget(self, name: str) -> None:
        """Close what is kept under this name."""
        if name in self.stored:
            os.close(self.stored.pop(name))

    @property
    def env(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address}

    def command(self, *words: str) -> list[str]:
        """As systemd does, it names the process that it watches: the very one that it starts; that gets what it keeps."""
        if self.stored:
            kept = " ".join(self.stored), " ".join(map(str, self.stored.values()))
            words = (sys.executable, "-I", "-S", "-c", _PASSING, *kept, *words)
        if self.watchdog_seconds is None:
            return list(words)
        usec = int(self.watchdog_seconds * 1e6)
        return ["sh", "-c", f'export WATCHDOG_PID=$$ WATCHDOG_USEC={usec}; exec "$@"', "sh", *words]

    def next(self, bound_seconds: float = BOUND_SECONDS) -> Message:
        """The next message.  Raises TimeoutError, and BlockingIOError for a bound of 0, where none comes."""
        self._socket.settimeout(bound_seconds)
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _DESCRIPTORS)
        data, ancillary, _, _ = self._socket.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
        descriptors: list[int] = []
        for _, kind, content in ancillary:
            if kind == socket.SCM_RIGHTS:
                descriptors += memoryview(content).cast("i").tolist()
            else:
                self.speakers.add(_CREDENTIALS.unpack(content)[0])
        message = dict(line.split("=", 1) for line in data.decode().split("\n"))
        self._keep(message, descriptors)
        return message

    def _keep(self, message: Message, descriptors: list[int]) -> None:
        """Unlike systemd, it takes no two of a name."""
        name = message.get("FDNAME", "")
        if message.get("FDSTOREREMOVE") == "1":
            self.forget(name)
        elif message.get("FDSTORE") == "1":
            assert name not in self.stored, f"{name} is stored twice"
            (self.stored[name],) = descriptors
        else:
            assert not descriptors

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
