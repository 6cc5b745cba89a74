"""
Where the control socket is: a unix socket in the runtime directory, or loopback TCP with a token.

Windows' Python has no AF_UNIX, so there the runtime directory holds a file with a port and a token that
only its owner can read; whoever connects sends the token first.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import NotRunning, PermissionDenied

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS and 108 on Linux, with the NUL
LONGEST_LINE = 4 * 1024 * 1024


class Endpoint(Protocol):
    """A place to listen at and to connect to; both ends speak lines of JSON."""

    @property
    def where(self) -> str:
        """For people: a path or an address."""

    async def listen(self, handler: Handler) -> asyncio.Server:
        """
        Serve connections; the caller holds the daemon lock, so what lies there is stale.

        Raises OSError.
        """

    def connect(self, timeout: float) -> socket.socket:
        """Connect as a client; raises NotRunning where nobody listens."""

    def remove(self) -> None:
        """Leave nothing behind."""


def endpoint(runtime: Path) -> Endpoint:
    """The control endpoint of the home with this runtime directory."""
    if sys.platform == "win32":
        return TokenEndpoint(runtime / "control.json")
    return UnixEndpoint(_short(runtime / "control.sock"))


def _short(path: Path) -> Path:
    """A socket's path has little room; a home that lies too deep gets one in the temporary folder."""
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    import hashlib  # noqa: PLC0415 - rarely needed, and ``status`` shall be quick
    import tempfile  # noqa: PLC0415

    assert sys.platform != "win32"
    folder = Path(tempfile.gettempdir()) / f"goss-supervisor-{os.getuid()}"
    return folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"


def private_folder(folder: Path) -> None:
    """
    Make the folder, 0700.

    Raises PermissionDenied if it belongs to somebody else, who could read and replace what we put there.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform == "win32":
        return
    if folder.stat().st_uid != os.getuid():
        raise PermissionDenied(
            f"{folder} belongs to another user; the control socket must not lie there.",
            hint="Set XDG_RUNTIME_DIR or GOSS_SUPERVISOR_HOME to a folder of your own.",
        )
    folder.chmod(0o700)


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    async def listen(self, handler: Handler) -> asyncio.Server:
        assert sys.platform != "win32"
        private_folder(self.path.parent)
        self.remove()
        mask = os.umask(0o177)  # the socket is 0600 from its first moment
        try:
            return await asyncio.start_unix_server(handler, self.path, limit=LONGEST_LINE)
        finally:
            os.umask(mask)

    def connect(self, timeout: float) -> socket.socket:
        assert sys.platform != "win32"
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(timeout)
        try:
            client.connect(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            raise _nobody(self.where) from None
        except OSError as error:
            client.close()
            raise PermissionDenied(f"The control socket {self.path} cannot be used: {error}.") from error
        return client

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self.path.unlink()


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    file: Path

    @property
    def where(self) -> str:
        return str(self.file)

    async def listen(self, handler: Handler) -> asyncio.Server:
        import secrets  # noqa: PLC0415 - only Windows comes here

        private_folder(self.file.parent)
        token = secrets.token_hex(32)

        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sent = await reader.readline()
            if secrets.compare_digest(sent.strip(), token.encode()):
                await handler(reader, writer)
            else:
                writer.close()

        server = await asyncio.start_server(guarded, "127.0.0.1", 0, limit=LONGEST_LINE)
        self.remove()
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"port": server.sockets[0].getsockname()[1], "token": token}, file)
        return server

    def connect(self, timeout: float) -> socket.socket:
        try:
            said = json.loads(self.file.read_text(encoding="utf-8"))
            client = socket.create_connection(("127.0.0.1", said["port"]), timeout)
        except (OSError, ValueError, KeyError):
            raise _nobody(self.where) from None
        client.sendall(f"{said['token']}\n".encode())
        return client

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self.file.unlink()


def _nobody(where: str) -> NotRunning:
    return NotRunning(
        f"No goss-supervisor daemon is running here (nobody listens at {where}).",
        hint="goss-supervisor start --profile NAME",
    )
