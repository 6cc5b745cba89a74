"""Who holds a TCP port.  On Linux straight from /proc; elsewhere by psutil, imported when first needed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .process import family

_COMMAND_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that listens on a port, as people know it."""

    pid: int
    name: str
    command: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def listens_on(pid: int, port: int) -> bool | None:
    """Whether this process or a descendant listens on TCP `port`; ``None`` where that cannot be told."""
    return _listens(family(pid), port)


def who_listens(port: int) -> Owner | None:
    """Who holds TCP `port` on this computer; ``None``: nobody, or somebody whom we may not look at."""
    pid = _listener(port)
    return None if pid is None else _owner(pid)


if sys.platform == "linux":
    _LISTEN = "0A"  # linux/tcp_states.h

    def _listens(pids: tuple[int, ...], port: int) -> bool | None:
        inodes = _inodes(port)
        try:
            return any(inode in inodes for pid in pids for inode in _sockets(pid))
        except PermissionError:
            return None

    def _listener(port: int) -> int | None:
        inodes = _inodes(port)
        for name in os.listdir("/proc") if inodes else ():  # noqa: PTH208 - names are all it takes
            with contextlib.suppress(OSError):
                if name.isdigit() and any(inode in inodes for inode in _sockets(int(name))):
                    return int(name)
        return None

    def _inodes(port: int) -> set[str]:
        """Of all sockets that listen on `port`, on whatever address."""
        wanted = f":{port:04X}"
        found: set[str] = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(OSError):
                rows = (line.split() for line in Path(table).read_text(encoding="ascii").splitlines()[1:])
                found |= {row[9] for row in rows if row[1].endswith(wanted) and row[3] == _LISTEN}
        return found

    def _sockets(pid: int) -> Iterator[str]:
        """Inodes of its open sockets.  Raises PermissionError for somebody else's process."""
        folder = f"/proc/{pid}/fd"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for fd in os.listdir(folder):  # noqa: PTH208 - no Path for each of 1000 descriptors
                with contextlib.suppress(FileNotFoundError):
                    link = os.readlink(f"{folder}/{fd}")  # noqa: PTH115 - as above
                    if link.startswith("socket:["):
                        yield link[8:-1]

    def _owner(pid: int) -> Owner:
        name, command = "?", ""
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
            command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
        return Owner(pid, name, command.replace("\0", " ").strip()[:_COMMAND_LENGTH])

else:

    def _listens(pids: tuple[int, ...], port: int) -> bool | None:
        import psutil  # noqa: PLC0415 - see above

        try:
            held = [
                getattr(each.laddr, "port", None)
                for pid in pids
                for each in psutil.Process(pid).net_connections(kind="tcp")
                if each.status == psutil.CONN_LISTEN
            ]
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return None
        return port in held

    def _listener(port: int) -> int | None:
        import psutil  # noqa: PLC0415 - see above

        with contextlib.suppress(psutil.Error):  # macOS tells this to root only
            for each in psutil.net_connections(kind="tcp"):
                if each.status == psutil.CONN_LISTEN and getattr(each.laddr, "port", None) == port:
                    return each.pid
        return None

    def _owner(pid: int) -> Owner:
        import psutil  # noqa: PLC0415 - see above

        try:
            process = psutil.Process(pid)
            return Owner(pid, process.name(), " ".join(process.cmdline())[:_COMMAND_LENGTH])
        except psutil.Error:
            return Owner(pid, "?", "")
