"""What others send while clients ask: to the control socket and to the gateway."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from random import Random

from ..e2e.gateway_load import CHAT, ENDLESS, request_bytes
from .fault import under_load
from .ground import Ground

OTHERS = "What others send"

for _name, _line in (
    ("a word", b"hello\n"),
    ("an empty line", b"\n"),
    ("bytes that are not UTF-8", b"\xff\xfe\x00\xc3(\n"),
    ("another protocol", b'{"protocol": 99, "op": "status"}\n'),
    ("an unknown operation", b'{"protocol": 1, "op": "dance"}\n'),
    ("a plan of another schema", b'{"protocol": 1, "op": "reload", "plan": {"schema": 99}}\n'),
    ("a plan without a command", b'{"protocol": 1, "op": "start", "plan": {"schema": 1, "argv": []}}\n'),
    ("fields of wrong types", b'{"protocol": 1, "op": "stop", "now": "yes", "server": 7}\n'),
    ("a line of 5 MB", b"x" * 5_000_000 + b"\n"),
    ("100,000 brackets", b"[" * 100_000 + b"\n"),
):

    @under_load(
        OTHERS,
        f"the control socket gets {_name}",
        how="written into it as one line",
        promise="an error that names the mistake; no request breaks",
    )
    def _(ground: Ground, _chance: Random, line: bytes = _line) -> None:
        with suppress(OSError):
            ground.send(line)


@under_load(
    OTHERS,
    "the control socket has 200 clients that say nothing",
    how="connected for a second",
    promise="other commands and requests still work",
)
def _(ground: Ground, _chance: Random) -> None:
    path, silent = str(ground.root / "run" / "control.sock"), []
    try:
        for _ in range(200):
            silent.append(client := socket.socket(socket.AF_UNIX))
            client.settimeout(5)
            client.connect(path)
        time.sleep(1)
        ground.tell(op="status")
    except OSError:
        pass  # in chaos, it may be gone
    finally:
        for client in silent:
            client.close()


_HTTP = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
for _name, _data in (
    ("random bytes", bytes(range(256)) * 40),
    ("half a head and nothing more", _HTTP),
    ("a head of 1 MB", _HTTP + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"),
    ("both a length and chunks", _HTTP + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a bad chunk", _HTTP + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"),
    ("a body shorter than it says", _HTTP + b'Content-Length: 500\r\n\r\n{"messages": ['),
    ("a body that is not JSON", _HTTP + b"Content-Length: 5\r\n\r\n{{{{{"),
    ("a body of 200 MB, as it says", _HTTP + b"Content-Length: 200000000\r\n\r\n" + b" " * 100_000),
    ("a negative length", _HTTP + b"Content-Length: -1\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64)),
):

    @under_load(
        OTHERS,
        f"the gateway gets {_name}",
        how="on ten connections, closed after 0.3 s",
        promise="an error or a closed connection; no request of others breaks",
    )
    def _(ground: Ground, _chance: Random, data: bytes = _data) -> None:
        _from_many(ground, data)


def _from_many(ground: Ground, data: bytes, count: int = 10, seconds: float = 0.3) -> None:
    clients = []
    try:
        for _ in range(count):
            clients.append(client := socket.create_connection(("127.0.0.1", ground.port), 5))
            with suppress(OSError):
                client.sendall(data)
        time.sleep(seconds)
    except OSError:
        pass  # in chaos, it may be gone
    finally:
        for client in clients:
            client.close()


@under_load(
    OTHERS,
    "1,000 clients connect and say nothing",
    how="connected for a second",
    promise="requests of others still work",
)
def _(ground: Ground, _chance: Random) -> None:
    _from_many(ground, b"", 1000, 1)


@under_load(
    OTHERS,
    "clients leave in the middle of a stream",
    how="ten endless streams, closed after 0.3 s",
    promise="llama-server stops working for them; requests of others still work",
)
def _(ground: Ground, chance: Random) -> None:
    _from_many(ground, request_bytes("/completion", ENDLESS | {"model": chance.choice(ground.names)}))


@under_load(
    OTHERS,
    "a client reads nothing",
    how="a client asks for a long stream, and for 2 s reads nothing of it (a receive buffer of 4 KiB)",
    promise="other clients are not delayed",
)
def _(ground: Ground, chance: Random) -> None:
    asked = ENDLESS | {"n_predict": 500, "n_probs": 100, "model": chance.choice(ground.names)}
    try:
        with socket.create_connection(("127.0.0.1", ground.port), 5) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(request_bytes("/completion", asked))
            time.sleep(2)
    except OSError:
        pass


@under_load(
    OTHERS,
    "a request names an unknown model",
    how="a chat with such a `model`",
    promise="the model that is loaded answers, or 404; nothing is loaded or unloaded",
)
def _(ground: Ground, _chance: Random) -> None:
    body = {"model": "nobody/nothing", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    _from_many(ground, request_bytes(CHAT, body))
