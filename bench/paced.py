"""
A llama-server that streams pieces at the pace that is asked for, each with the time when it was written.

bench/gateway.py puts it behind each front door, to see how long a piece is held back there.  The rest of it
is tests/fakes/llama_server.py.  A request is ``{"pieces": 80, "per_second": 80, "keeps": false}``; ``keeps``:
the connection stays open behind the stream.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

FAKES = Path(__file__).parents[1] / "tests" / "fakes"
sys.path.insert(0, str(FAKES))

import llama_server  # noqa: E402 - stands by itself, for the tests

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"  # llama-server closes too, but without a word: aiohttp then answers with 500
)
FILLING = "x" * 150  # as long as an event of llama-server's


class Paced(llama_server.Server):
    def route(self, connection: socket.socket, method: str, path: str, body: bytes) -> None:
        if path != "/completion":
            super().route(connection, method, path, body)
            return
        asked: dict[str, Any] = json.loads(body)
        connection.sendall(HEAD)
        due = time.monotonic()
        for _ in range(asked["pieces"]):
            due += 1 / asked["per_second"]
            time.sleep(max(0.0, due - time.monotonic()))
            connection.sendall(piece())
        connection.sendall(b"0\r\n\r\n")
        if asked.get("keeps"):
            connection.recv(1)


def piece() -> bytes:
    data = f"data: @{time.monotonic_ns()}@{FILLING}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    llama_server.Server = Paced
    llama_server.main(sys.argv[1:])
