"""
A web server on loopback that plays a download host or an API, with faults that follow a script.

    with Web() as web:
        web.serve("/a.zip", file(body, etag='"1"'))      # what it honestly answers: ranges, ETags, 304
        web.fault("/a.zip", cut(1000), status(503, {"Retry-After": "1"}))  # the first two requests go wrong
        web.url("/a.zip")                                # http://127.0.0.1:PORT/a.zip
        web.requests                                     # all that arrived, with their headers

A handler is ``Request -> Reply``; ``json_page`` makes one from a value, a lambda will do for the rest, and a
path that ends with ``*`` serves all paths that begin so.  A fault is ``Reply -> Reply`` and spoils the reply
to one request: the first fault the first request on that path, and so on; ``honest`` spoils nothing.
Faults can be laid one on the other: ``both(cut(10), corrupt(3))``.  Two servers are two hosts.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

PATIENCE = 30.0  # seconds; the bound of every wait, never its length
CHUNK = 16 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """``target`` is as it came: an absolute URL where we were asked as a proxy.  Header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer, and how its body goes over the wire.

    ``length`` is the Content-Length told (None: the true one, -1: none at all).  After ``stop_after`` bytes
    of the body the server waits for ``gate`` where there is one, and closes where there is none.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    stop_after: int | None = None
    gate: threading.Event | None = None
    bytes_per_second: float | None = None


Handler = Callable[[Request], Reply]
Fault = Callable[[Reply], Reply]


# What is served


def file(
    body: bytes,
    *,
    etag: str | None = "",
    last_modified: str | None = None,
    ranges: bool = True,
    content_type: str = "application/octet-stream",
) -> Handler:
    """A file as a decent host serves it.  ``etag``: "" is one made of the body, None is none."""
    tag = f'"{sha256(body).hexdigest()[:16]}"' if etag == "" else etag
    headers = {"Content-Type": content_type}
    headers |= {"ETag": tag} if tag else {}
    headers |= {"Last-Modified": last_modified} if last_modified else {}
    headers |= {"Accept-Ranges": "bytes"} if ranges else {}
    strong = {value for value in (tag, last_modified) if value and not value.startswith("W/")}

    def answer(request: Request) -> Reply:
        asked = request.headers
        if tag and asked.get("if-none-match") == tag:
            return Reply(304, headers)
        span = _span(asked.get("range", "")) if ranges else None
        same = "if-range" not in asked or asked["if-range"] in strong
        if span is None or not same:
            return Reply(200, headers, body)
        start, end = span[0], min(len(body), span[1] or len(body))
        if start >= len(body):
            return Reply(416, {**headers, "Content-Range": f"bytes */{len(body)}"})
        told = f"bytes {start}-{end - 1}/{len(body)}"
        return Reply(206, {**headers, "Content-Range": told}, body[start:end])

    return answer


def json_page(value: Any, *, etag: str | None = "", headers: Mapping[str, str] | None = None) -> Handler:
    """A page of an API, with an ETag, and 304 for who has it already."""
    honest_page = file(
        json.dumps(value).encode(), etag=etag, ranges=False, content_type="application/json; charset=utf-8"
    )

    def answer(request: Request) -> Reply:
        reply = honest_page(request)
        return replace(reply, headers={**reply.headers, **(headers or {})})

    return answer


def redirect(url: str, status: int = 302) -> Handler:
    return lambda _: Reply(status, {"Location": url})


# What goes wrong


def honest(reply: Reply) -> Reply:
    return reply


def both(*faults: Fault) -> Fault:
    def spoil(reply: Reply) -> Reply:
        for fault in faults:
            reply = fault(reply)
        return reply

    return spoil


def cut(after: int) -> Fault:
    """The connection closes after so many bytes of the body."""
    return lambda reply: replace(reply, stop_after=after, gate=None)


def held(after: int, gate: threading.Event) -> Fault:
    """After so many bytes nothing more comes until ``gate`` is set; then the rest does."""
    return lambda reply: replace(reply, stop_after=after, gate=gate)


def hang(after: int = 0) -> Fault:
    """After so many bytes nothing more comes, until the client gives up or the server is closed."""
    return held(after, threading.Event())


def slow(bytes_per_second: float) -> Fault:
    return lambda reply: replace(reply, bytes_per_second=bytes_per_second)


def corrupt(at: int = 0) -> Fault:
    """One byte of the body is another one."""

    def spoil(reply: Reply) -> Reply:
        body = bytearray(reply.body)
        body[at] ^= 0xFF
        return replace(reply, body=bytes(body))

    return spoil


def told_length(length: int) -> Fault:
    """Another Content-Length than the true one; -1 for none at all."""
    return lambda reply: replace(reply, length=length)


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Fault:
    return lambda _: Reply(code, headers or {}, body)


def without(*names: str) -> Fault:
    """The reply lacks these headers."""
    lower = {name.lower() for name in names}
    return lambda reply: replace(
        reply, headers={name: value for name, value in reply.headers.items() if name.lower() not in lower}
    )


# The server


class Web:
    """Listens from the moment it is made.  ``certificate``: a PEM with key and chain, for https."""

    def __init__(self, *, certificate: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.tunnel_refusal = Reply(502, {}, b"this proxy tunnels nothing")
        self._handlers: dict[str, Handler] = {}
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._news = threading.Condition()
        self._server = _Server(self, certificate)
        self._scheme = "https" if certificate else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody listens any more; what hangs is let go."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def url(self, path: str = "", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def serve(self, path: str, handler: Handler | Reply) -> str:
        """The URL of it."""
        self._handlers[path] = (lambda _: handler) if isinstance(handler, Reply) else handler
        return self.url(path)

    def fault(self, path: str, *faults: Fault) -> None:
        """The next requests on this path go wrong like this, one after the other."""
        self._faults[path].extend(faults)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def wait_for_requests(self, count: int, path: str | None = None) -> None:
        """Until so many have arrived (on this path); bounded."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while len(self.requests if path is None else self.asked(path)) < count:
                assert self._news.wait(deadline - time.monotonic()), f"{count} never came: {self.requests}"

    def answer(self, request: Request) -> Reply:
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
            faults = self._faults[request.path]
            fault = faults.popleft() if faults else honest
        return fault(self._handler(request.path)(request))

    def _handler(self, path: str) -> Handler:
        if found := self._handlers.get(path):
            return found
        for pattern, handler in self._handlers.items():
            if pattern.endswith("*") and path.startswith(pattern[:-1]):
                return handler
        return lambda _: Reply(404, {"Content-Type": "text/plain"}, b"Not Found")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, web: Web, certificate: Path | None) -> None:
        self.web = web
        super().__init__(("127.0.0.1", 0), _Connection)
        self._tls = _tls(certificate) if certificate else None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the connection, so that a client that never shakes hands blocks nobody."""
        if self._tls:
            request = self._tls.wrap_socket(request, server_side=True)
        try:
            super().finish_request(request, client_address)
        finally:
            if self._tls:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what tests do."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.server.web.answer(Request(self.command, self.path, headers)))

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the same

    def do_CONNECT(self) -> None:
        self._send(self.server.web.tunnel_refusal)

    def log_message(self, *args: Any) -> None:
        pass

    def _send(self, reply: Reply) -> None:
        self.close_connection = True
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.length != -1:
            self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(reply)

    def _send_body(self, reply: Reply) -> None:
        stop = len(reply.body) if reply.stop_after is None else min(reply.stop_after, len(reply.body))
        self._pour(reply.body[:stop], reply.bytes_per_second)
        if reply.gate is not None and self._opens(reply.gate):
            self._pour(reply.body[stop:], reply.bytes_per_second)

    def _pour(self, body: bytes, bytes_per_second: float | None) -> None:
        size = CHUNK if bytes_per_second is None else max(1, int(bytes_per_second / 50))
        for start in range(0, len(body), size):
            self.wfile.write(body[start : start + size])
            if bytes_per_second is not None and self.server.web.closing.wait(size / bytes_per_second):
                return

    def _opens(self, gate: threading.Event) -> bool:
        """Whether the gate opened; a client that went away, or the end of the server, is no reason to wait."""
        self.connection.settimeout(0.02)
        deadline = time.monotonic() + PATIENCE
        while not gate.wait(0.02):
            if self.server.web.closing.is_set() or time.monotonic() > deadline or self._is_gone():
                return False
        self.connection.settimeout(None)
        return True

    def _is_gone(self) -> bool:
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


class SocksProxy:
    """SOCKS 5 (RFC 1928) without a password, for one connection after the other.  ``asked`` is where to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # on Windows closing it is what wakes the other thread
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._tunnel(client)

    def _tunnel(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        stream.read(stream.read(2)[1])
        client.sendall(b"\x05\x00")
        kind = stream.read(4)[3]  # 1: an IPv4 address, 3: a name
        host = socket.inet_ntoa(stream.read(4)) if kind == 1 else stream.read(stream.read(1)[0]).decode()
        port = int.from_bytes(stream.read(2))
        self.asked.append((host, port))
        with socket.create_connection((host, port)) as server:
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            there = threading.Thread(target=_copy, args=(client, server), daemon=True)
            there.start()
            _copy(server, client)
            client.shutdown(socket.SHUT_RDWR)
            there.join(PATIENCE)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
    except OSError:
        pass


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _span(asked: str) -> tuple[int, int | None] | None:
    """Start and end of ``bytes=100-`` or ``bytes=100-199``; any other form is not asked of us."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    return (int(found[1]), int(found[2]) + 1 if found[2] else None) if found else None
