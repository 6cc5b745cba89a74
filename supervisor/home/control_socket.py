"""
Where the control socket is: a unix socket in the runtime directory, or loopback TCP with a token.

Windows' Python has no AF_UNIX, so there the runtime directory holds a file with a port and a token, which a
client sends first.  The daemon's side is in `control_server`; this module is quick to import.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotRunning, PermissionDenied

LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS and 108 on Linux, with the NUL
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """A file that tells its owner the port and the token."""

    path: Path

    def connect(self, timeout: float) -> socket.socket:
        """Raises NotRunning where nobody listens, and TimeoutError."""
        try:
            access = json.loads(self.path.read_text(encoding="utf-8"))
            client = socket.create_connection(("127.0.0.1", access["port"]), timeout)
        except TimeoutError:
            raise
        except (OSError, ValueError, KeyError):
            raise _nobody(self.path) from None
        client.sendall(f"{access['token']}\n".encode())
        return client


if sys.platform == "win32":
    Endpoint = TokenEndpoint

    def endpoint(runtime: Path) -> Endpoint:
        """The control endpoint of the home with this runtime directory."""
        return TokenEndpoint(runtime / "control.json")

else:

    @dataclass(frozen=True, slots=True)
    class UnixEndpoint:
        """A unix socket, 0600."""

        path: Path

        def connect(self, timeout: float) -> socket.socket:
            """Raises NotRunning where nobody listens, PermissionDenied where we may not, and TimeoutError."""
            _refuse_another_users(self.path.parent)
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.settimeout(timeout)
            try:
                _connect(client, str(self.path), time.monotonic() + timeout)
            except OSError as error:
                client.close()
                if isinstance(error, TimeoutError):
                    raise
                if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
                    raise _nobody(self.path) from None
                raise PermissionDenied(f"The control socket {self.path} cannot be used: {error}.") from error
            return client

    def _refuse_another_users(folder: Path) -> None:
        """Everybody may make a folder of this name in the temporary folder, and would get our requests."""
        if folder.name == _temporary_name() and folder.exists() and folder.lstat().st_uid != os.getuid():
            raise PermissionDenied(f"{folder} is not of this user.", hint="Remove it, or set TMPDIR.")

    def _temporary_name() -> str:
        return f"goss-supervisor-{os.getuid()}"

    def _connect(client: socket.socket, path: str, deadline: float) -> None:
        """Linux does not wait where too many wait already to be accepted: it says EAGAIN at once."""
        while True:
            try:
                return client.connect(path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(_PAUSE_SECONDS)

    Endpoint = UnixEndpoint | TokenEndpoint

    def endpoint(runtime: Path) -> Endpoint:
        """The control endpoint of the home with this runtime directory."""
        return UnixEndpoint(short_path(runtime / "control.sock"))

    def short_path(path: Path) -> Path:
        """A socket's path has little room; a home that is too deep gets one in the temporary folder."""
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        import hashlib  # noqa: PLC0415 - rarely needed, and ``status`` should be quick
        import tempfile  # noqa: PLC0415

        folder = Path(tempfile.gettempdir()) / _temporary_name()
        return folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"


def _nobody(where: Path) -> NotRunning:
    return NotRunning(
        f"No goss-supervisor daemon is running here (nobody listens at {where}).",
        hint="goss-supervisor start",
    )
