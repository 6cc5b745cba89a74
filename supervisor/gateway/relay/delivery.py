"""
Sends an answer to the client: complete, or visibly broken.

A small answer is sent when all of it has arrived, so until then it can be requested again or become an honest
error.  A stream is sent as it comes; one that breaks off ends with an error event and no regular end.
"""

from __future__ import annotations

from ..api.routes import Dialect, Trouble, broken_event, chunk, waiting_comment
from ..http_heads import Head, HeaderLine, ResponseHead
from .client_connection import ClientConnection

SMALL_BYTES = 256 * 1024
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n"
)
_CLOSE: tuple[HeaderLine, ...] = ((b"connection", b"close"),)


class Delivery:
    """``has_written``: the client has something, if only a comment; ``has_begun``: some of the answer."""

    def __init__(
        self, client: ClientConnection, head: Head, dialect: Dialect, headers: tuple[HeaderLine, ...]
    ) -> None:
        self._client = client
        self._keep_alive = head.persists
        self._dialect = dialect
        self._headers = headers  # that go with every answer
        self._answer: ResponseHead | None = None
        self._held: list[bytes] | None = None
        self._is_small = False
        self._is_announced = False
        self.has_written = self.has_begun = False

    # --- an answer of llama-server

    def begin(self, answer: ResponseHead, *, more: bool) -> None:
        """Its head; ``more``: a piece of the body follows at once, and goes out together with it."""
        self._answer = answer
        self._is_small = answer.framing == "none" or (
            answer.framing == "length" and answer.left <= SMALL_BYTES
        )
        if self._is_announced:
            self._held = None if answer.is_stream else []
            self._is_small = True
            self.has_begun = self._held is None
            return
        self._keep_alive = self._keep_alive and (
            answer.framing in {"none", "length"} or answer.is_chunked_for_client
        )
        more_headers = self._headers if self._keep_alive else (*self._headers, *_CLOSE)
        self._held = [answer.head_for_client(more_headers)]
        if not more and not self._is_small:
            self._flush()

    def go_on(self, data: bytes) -> None:
        if self._held is None:
            self._client.write(data)
            return
        self._held.append(data)
        if not self._is_small:
            self._flush()

    def complete(self, data: bytes) -> None:
        """The last piece; the client may ask for something else now."""
        if self._held is None:
            self._client.write(data)
        elif self._is_announced:
            error = b"".join([*self._held, data])  # of llama-server, to a stream whose head is written
            self._break_off(error.decode("utf-8", "replace")[:1000])
            return
        else:
            self._held.append(data)
            self._flush()
        self._client.next_request(keep_alive=self._keep_alive)

    def _flush(self) -> None:
        held, self._held = self._held or [], None
        self.has_written = self.has_begun = True
        self._client.write(b"".join(held))

    def forget(self) -> None:
        """What came so far was of a server that died, and the client has seen nothing of it."""
        self._answer = self._held = None

    # --- answers of our own

    def announce(self, text: str) -> None:
        """Tell a stream that waits how long it may take, as a comment that its client passes over."""
        head = (_STREAM_HEAD, *(b"%s: %s\r\n" % header for header in self._headers), b"\r\n")
        comment = chunk(waiting_comment(text))
        self._client.write(comment if self._is_announced else b"".join((*head, comment)))
        self._is_announced = self.has_written = True

    def fail(self, trouble: Trouble) -> None:
        """It cannot be answered: an error in the API's own shape, or a stream that breaks off."""
        if self.has_written:
            self._break_off(trouble.text)
            return
        self._client.refuse(trouble, keep_alive=self._keep_alive)

    def _break_off(self, message: str) -> None:
        """Where the answer's end is that of the connection, this has to be a reset."""
        answer, event = self._answer, broken_event(message, self._dialect)
        if answer is None or self._is_announced:
            fits, reset = answer is None or not answer.in_chunk, False
            self._client.break_off(chunk(event) if fits else b"", reset=reset)
        elif answer.is_chunked_for_client:
            fits = answer.is_stream and not answer.in_chunk
            self._client.break_off(chunk(event) if fits else b"", reset=False)
        else:
            ends_with_connection = answer.framing != "length"
            fits = ends_with_connection and answer.is_stream
            self._client.break_off(event if fits else b"", reset=ends_with_connection)
