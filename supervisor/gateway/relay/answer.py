"""
An answer on its way from the engine: who takes it as it comes, and what is done to it; or a long one of ours.

Its chunks are taken off for clients of HTTP/1.0, who know none, and to write another name of the model into
it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Protocol

from ...plan.launch import Parameters
from ..api.routes import Trouble
from ..http_heads import HEAD_END, LAST_CHUNK, Head, HeaderLine, ResponseHead, chunk

_KEY = b'"model"'
_UNFINISHED = re.compile(rb'"model"\s*+(?::\s*+(?:"[^"]*+)?)?')
_LONGEST = 1024  # of a key with its value that may be cut between two pieces
_TEXTS = (b"application/json", b"text/event-stream")


class Taker(Protocol):
    """Gets `connected` or `unreachable` where it has to; then `begin`, `go_on`s, `complete`; or `lose`."""

    def connected(self) -> None:
        """Called when the connection is open."""

    def unreachable(self, why: str, *, ours: bool) -> None:
        """Called when no connection can be made; ``ours`` if the fault is not the server's."""

    def begin(self, answer: ResponseHead, *, more: bool) -> None:
        """The head is there; ``more``: another call follows in the same breath."""

    def go_on(self, data: bytes) -> None:
        """Take a piece of the body that is not the last."""

    def complete(self, data: bytes) -> None:
        """Take the last piece of the body, which may be empty."""

    def lose(self, why: str) -> None:
        """Called when the rest of the answer will not come."""


class AnsweredClient(Protocol):
    """What gets an answer: a `ClientConnection`."""

    is_paused: bool
    has_head: bool  # of the answer: it went out before an upgrade, see `copies`

    def write(self, data: bytes) -> None: ...

    def refuse(self, trouble: Trouble, *, keep_alive: bool = False) -> None: ...

    def next_request(self, *, keep_alive: bool) -> None: ...

    def break_off(self, event: bytes, *, reset: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelName:
    """What the engine calls its model, and what clients do."""

    upstream: str
    public: str


def name_of(settings: Parameters) -> ModelName | None:
    """None where an answer may call its model what it does."""
    theirs = settings.upstream_model
    return ModelName(theirs, settings.public_model) if theirs else None


class Renamer:
    """
    Replaces the values of ``"model"`` in JSON that comes in pieces, with the revision that ``transformers
    serve`` puts behind a name (``openai/gpt-oss-20b@main``).  In a text that the model writes the
    quotes are escaped, so nothing there is taken for it.
    """

    def __init__(self, name: ModelName) -> None:
        texts = {json.dumps(name.upstream)[1:-1], json.dumps(name.upstream, ensure_ascii=False)[1:-1]}
        texts |= {text.replace("/", "\\/") for text in texts}
        values = b"|".join(sorted(re.escape(text.encode()) for text in texts))
        self._pattern = re.compile(rb'("model"\s*+:\s*+)"(?:%s)(?:@[\w./-]*)?"' % values)
        self._public = json.dumps(name.public).encode()
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """What can go on; a key or value that may go on in the next piece is kept."""
        data = self._pattern.sub(lambda found: found[1] + self._public, self._kept + data)
        cut = _unfinished(data)
        self._kept = data[cut:]
        return data[:cut]

    def end(self) -> bytes:
        """The rest."""
        rest, self._kept = self._kept, b""
        return rest


def _unfinished(data: bytes) -> int:
    """Where that begins which may be cut off; the length of ``data`` where nothing is."""
    at = data.rfind(_KEY)
    if at >= 0 and len(data) - at < _LONGEST and _UNFINISHED.fullmatch(data, at):
        return at
    cut = (size for size in range(len(_KEY) - 1, 0, -1) if data.endswith(_KEY[:size]))
    return len(data) - next(cut, 0)


class DecodedResponse(ResponseHead):
    """With ``wraps`` it goes out in chunks of ours, else up to the connection's end."""

    __slots__ = ("_pieces", "_renamer", "_wraps")

    def __init__(
        self, head: bytes, *, to_head_request: bool, wraps: bool, name: ModelName | None = None
    ) -> None:
        self._pieces: list[bytes] = []
        self._wraps = wraps
        super().__init__(head, to_head_request=to_head_request)
        is_text = self.get(b"content-type").startswith(_TEXTS) and not self.get(b"content-encoding")
        self._renamer = Renamer(name) if name and is_text and self.framing != "none" else None

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_chunk_header(self) -> None:
        super().on_chunk_header()
        self.in_chunk = False  # ours are whole, wherever theirs broke off

    @property
    def _keeps_length(self) -> bool:
        return self.framing in {"none", "length"} and self._renamer is None

    def take(self, data: bytes) -> bytes:
        data = super().take(data)
        if self.framing == "chunked":
            data = b"".join(self._pieces)
            self._pieces.clear()
        if self._renamer is not None:
            data = self._renamer.feed(data) + (self._renamer.end() if self.ended else b"")
        if self._keeps_length or not self._wraps:
            return data
        return chunk(data) + (LAST_CHUNK if self.ended else b"")

    def _framed(self, data: bytes) -> bytes:
        return data  # `take` does it

    def close(self) -> bytes:
        last = super().close()
        rest = self._renamer.end() if self._renamer is not None else b""
        return chunk(rest) + last if self._wraps else rest

    @property
    def is_chunked_for_client(self) -> bool:
        return self._wraps and not self._keeps_length

    def head_for_client(self, extra: tuple[HeaderLine, ...] = ()) -> bytes:
        if self._renamer is not None:
            self.headers = [line for line in self.headers if line[0] != b"content-length"]
        return super().head_for_client(extra)


def read_head(head: bytes, *, to_head_request: bool, wraps: bool, name: ModelName | None) -> ResponseHead:
    """Of an answer; one that can go on as it comes is not decoded.  Raises BadResponse."""
    if wraps and name is None:
        return ResponseHead(head, to_head_request=to_head_request)
    return DecodedResponse(head, to_head_request=to_head_request, wraps=wraps, name=name)


class LongAnswer:
    """An answer of our own that comes piece by piece, in chunks where the client knows them."""

    def __init__(
        self, client: AnsweredClient, head: Head, headers: tuple[HeaderLine, ...], kind: bytes
    ) -> None:
        self._client, self._headers, self._kind = client, headers, kind
        self._is_chunked, self._persists = head.version == "1.1", head.persists

    @property
    def is_paused(self) -> bool:
        """Whether the client takes nothing for now."""
        return self._client.is_paused

    def begin(self) -> None:
        """Send the head."""
        lines = [b"HTTP/1.1 200 OK", b"content-type: " + self._kind, b"cache-control: no-store"]
        lines += [b"%s: %s" % header for header in self._headers]
        lines.append(b"transfer-encoding: chunked" if self._is_chunked else b"connection: close")
        self._client.write(b"\r\n".join(lines) + HEAD_END)

    def send(self, piece: bytes) -> None:
        self._client.write(chunk(piece) if self._is_chunked else piece)

    def end(self, *, keep_alive: bool = True) -> None:
        """That was all; the client may ask for something else on the same connection."""
        if self._is_chunked:
            self._client.write(LAST_CHUNK)
        self._client.next_request(keep_alive=keep_alive and self._persists)
