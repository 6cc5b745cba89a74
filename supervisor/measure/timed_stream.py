"""
One request to a server, with a deadline, and when each event of its streamed answer arrived.

http.client knows of no proxies and checks no certificate here: the server is one of ours, on this machine.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

from ..errors import NetworkError
from .measurement import Target

HOLD_HEADER = "X-Goss-Hold"
CONNECT_SECONDS = 5.0
_LEAST_WAIT_SECONDS = 0.01
_ERRORS = (b"error:", b'data: {"error"', b'data:{"error"')


class Deadline:
    """``limit_seconds`` from now on."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self._ends = time.monotonic() + limit_seconds

    @property
    def left_seconds(self) -> float:
        return max(self._ends - time.monotonic(), _LEAST_WAIT_SECONDS)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """``at`` is of the monotonic clock; ``data`` is JSON, see `parsed`."""

    at: float
    data: bytes


def parsed(data: bytes) -> dict[str, Any]:
    """Raises ValueError for what is no JSON object."""
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - as for what is no JSON
    return found


class TimedConnection:
    """
    A connection for one request.  All methods raise NetworkError, with the server's own message where it has
    one; entering the context connects.
    """

    def __init__(self, target: Target, deadline: Deadline) -> None:
        self._url, self._target, self._deadline = urlsplit(target.url), target, deadline
        self.name = self._url.netloc
        self._connection = self._made()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self._connection.connect()
        except OSError as error:
            raise NetworkError(f"{self.name} broke off the measurement: {error}.") from error
        self._socket = self._connection.sock
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def abort(self) -> None:
        """Ends the answer that another thread reads; harmless if it has ended."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        with self._failures():
            self._send("GET", path, None)
            answer = self._connection.getresponse()
            return answer.status, answer.read()

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[StreamEvent]:
        """The first has no data, and the moment at which the request was sent.  May raise ValueError."""
        content = json.dumps(body).encode()
        with self._failures():
            sent = time.monotonic()
            self._send("POST", path, content)
            answer = self._connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise NetworkError(f"{self.name} answered {answer.status}: {message_in(answer.read())}")
            yield StreamEvent(sent, b"")
            with answer:
                while line := self._line(answer):
                    if line.startswith(_ERRORS):
                        message = message_in(line.partition(b":")[2])
                        raise NetworkError(f"{self.name} broke off its answer: {message}")
                    if line.startswith(b"data:") and not line.startswith(b"data: [DONE]"):
                        yield StreamEvent(time.monotonic(), line[5:])

    def _line(self, answer: http.client.HTTPResponse) -> bytes:
        """A stream that goes on would never run into a timeout of its own."""
        if self._deadline.is_over:
            raise TimeoutError
        if answer.isclosed():  # Python 3.13 closes it, and our socket, with the last byte of a known length
            return b""
        self._wait_no_longer()
        return answer.readline()

    def _send(self, method: str, path: str, content: bytes | None) -> None:
        headers = {"Content-Type": "application/json"} if content else {}
        if self._target.key:
            headers["Authorization"] = f"Bearer {self._target.key}"
        if self._target.hold:
            headers[HOLD_HEADER] = str(self._target.hold)
        self._wait_no_longer()
        self._connection.request(method, self._url.path.rstrip("/") + path, content, headers)

    def _wait_no_longer(self) -> None:
        if self._socket is not None:
            self._socket.settimeout(self._deadline.left_seconds)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            limit = f"{round(self._deadline.limit_seconds, 1):g} s"
            raise NetworkError(f"The measurement did not end within {limit}.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NetworkError(f"{self.name} broke off the measurement: {error}.") from error

    def _made(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        timeout = min(CONNECT_SECONDS, self._deadline.left_seconds)
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        return http.client.HTTPConnection(host, port, timeout=timeout)


def message_in(body: bytes) -> str:
    """The server's own of an error in JSON, else the first line."""
    with suppress(ValueError, AttributeError):
        error = parsed(body)
        error = error.get("error", error)
        if message := error if isinstance(error, str) else error.get("message"):
            return str(message).rstrip(".")
    return (body.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[0][:200]
