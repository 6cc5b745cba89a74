"""
A worker with its own goss-supervisor, as far as an update sees them: its endpoint, two jobs, and the RPC port.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from .launching import BOUND_SECONDS

KEY = "of-the-worker"


@dataclass
class WorkerSupervisor:
    """
    ``refuses`` are tags that it does not take, with the reasons; ``protocols`` are those of tags, else 7.0.0.
    ``did`` is what it was told.  It listens from the moment it is entered.
    """

    build: str = "b12001"
    key: str = KEY
    refuses: dict[str, str] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    restarts_fail: bool = False
    mark: Path | None = None  # a file that is there while it speaks another protocol than 7.0.0

    def __post_init__(self) -> None:
        self.stalls_at = ""  # the job whose end it does not tell before `goes_on`
        self.stalled, self.goes_on = threading.Event(), threading.Event()
        self.chosen = self.build
        self._web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._rpc = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        for work in (lambda: self._web.serve_forever(0.02), self._accept):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()
        self.unplug()
        with contextlib.suppress(OSError):  # on Windows closing it is what wakes the other thread
            self._rpc.shutdown(socket.SHUT_RDWR)
        self._rpc.close()

    def unplug(self) -> None:
        """Its gateway is gone, and stays so."""
        self._web.shutdown()
        self._web.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._web.server_address[1]}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._rpc.getsockname()[1]}"

    @property
    def protocol(self) -> str:
        return self.protocols.get(self.build, "7.0.0")

    def told(self) -> dict[str, object]:
        return {"build": self.build, "state": "ready", "why": "", "rpc_protocol": self.protocol}

    def run(self, command: str, arguments: dict[str, str]) -> dict[str, object]:
        """The last line of the job."""
        error = ""
        self.did.append(" ".join((command, *arguments.values())))
        if command == "engine-use" and not (error := self.refuses.get(arguments["tag"], "")):
            self.chosen = arguments["tag"]
        if command == "restart" and not (error := "it did not become ready" if self.restarts_fail else ""):
            self.build = self.chosen
            if self.mark and self.protocol == "7.0.0":
                self.mark.unlink(missing_ok=True)
            elif self.mark:
                self.mark.touch()
            while self._open:
                with contextlib.suppress(OSError):
                    self._open.pop().shutdown(socket.SHUT_RDWR)
        job = {
            "words": command.replace("-", " "),
            "exit_code": 1 if error else 0,
            "error": error,
            "hint": "",
            "superseded": False,
        }
        return {"job": job, "result": None, "final": True}

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._rpc.accept()
                self._open.append(connection)
                threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if connection.recv(64):
                numbers = bytes(map(int, self.protocol.split(".")))
                connection.sendall((28).to_bytes(8, "little") + numbers + bytes(25))
                connection.recv(64)


def _handler(owner: WorkerSupervisor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, owner.told() if self.path == "/supervisor/worker" else {})

        def do_POST(self) -> None:
            order = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self._allowed():
                end = owner.run(order["command"], order["arguments"])
                if order["command"] == owner.stalls_at:
                    owner.stalled.set()
                    owner.goes_on.wait(BOUND_SECONDS)
                self._send(200, {"again_seconds": 2.0}, end)
            else:
                self._send(401, {})

        def _allowed(self) -> bool:
            return self.headers["authorization"] == f"Bearer {owner.key}"

        def _answer(self, status: int, document: dict[str, object]) -> None:
            self._send(status if self._allowed() else 401, document)

        def _send(self, status: int, *lines: dict[str, object]) -> None:
            body = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # who asked was killed
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
