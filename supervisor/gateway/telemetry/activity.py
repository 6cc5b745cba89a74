"""
The last requests, and what each of them used: figures and names, never their content.

llama-server (b11434) writes ``timings`` last, after ``usage``; its Anthropic answers and whole Responses have
only ``usage``.  So the last block of either name is the server's.  Text of the model cannot look like one,
because quotes in a JSON string are escaped.  Other engines put spaces into their JSON.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Literal

from ..api.routes import Dialect

KEPT = 1000
LONGEST_NAME = 80  # characters of what a client called the model: a name, not a place for a text
_LONGEST_NOTE = 200

RequestResult = Literal["answered", "refused", "cancelled", "broken", "failed"]
RESULTS: tuple[RequestResult, ...] = ("answered", "refused", "cancelled", "broken", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """
    One request that is over.

    ``result``: refused is by us, broken in the middle of an answer, failed before it, or by an error in its
    stream.  ``status`` is None where no answer was begun.  Times but ``held_seconds`` count from its arrival,
    waiting included; the first byte of a stream is that of its first token.
    """

    number: int = 0
    at: float  # when it came, in seconds of the epoch
    caller: str  # the name of its key, or ""
    method: str
    endpoint: str  # the route's label
    profile: str  # that answered, or would have
    model: str  # as the client called it
    stream: bool
    status: int | None
    result: RequestResult
    replayed: bool = False
    held_seconds: float = 0.0
    context_wait_seconds: float = 0.0  # of those: for room in a context that slots share
    first_byte_seconds: float | None = None
    seconds: float
    request_bytes: int = 0
    answer_bytes: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    partial_tokens: int | None = None  # of a stream that told of no output_tokens: how many came, at least
    tokens_per_second: float | None = None
    prompt_per_second: float | None = None
    drafted_tokens: int | None = None  # what a draft proposed; None where it proposed nothing
    accepted_tokens: int | None = None  # of those, what the model would have said itself
    note: str = ""  # why it ended as it did, in a few words


class Activity:
    """
    The last ``size`` requests, numbered from 1 in the order in which they ended.  `changed` is set with the
    next one and replaced by another event: who follows takes the event first, then reads, then waits.
    """

    def __init__(self, size: int = KEPT) -> None:
        self._requests: deque[RequestRecord] = deque(maxlen=size)
        self.count = 0  # the number of the last one
        self.changed = asyncio.Event()

    def add(self, request: RequestRecord) -> None:
        """Keep it as it is: every request comes here, and hardly anybody looks."""
        self.count += 1
        self._requests.append(request)
        self.changed.set()
        self.changed = asyncio.Event()

    def since(self, number: int, last: int | None = None, *, first: int | None = None) -> list[RequestRecord]:
        """
        Those after ``number`` that are still kept, oldest first; at most the ``last`` so many of them, and of
        those the ``first``.  They have their numbers, and their texts are cut to short printable ones, so
        that none gets by.
        """
        missed = min(max(self.count - number, 0), len(self._requests))
        wanted = missed if last is None else min(missed, max(last, 0))
        before = len(self._requests) - wanted
        until = None if first is None else before + first
        return [
            replace(
                request,
                number=self.count - wanted + place,
                model=printable(request.model, LONGEST_NAME),
                note=printable(request.note, _LONGEST_NOTE),
            )
            for place, request in enumerate(islice(self._requests, before, until), 1)
        ]


def printable(text: str, longest: int) -> str:
    """Nothing that moves a cursor, hides or turns around what a terminal shows."""
    if len(text) <= longest and text.isprintable():
        return text
    return "".join(character for character in text[:longest] if character.isprintable())


TAIL_BYTES = 16 * 1024  # holds the last event of every API, with the whole answer's text within reason
HEAD_BYTES = 1024  # holds Anthropic's message_start, and the usage before embeddings

_TIMINGS = (b'"timings":{', b'"timings": {')
_USAGE = (b'"usage":{', b'"usage": {')
_BLOCK = re.compile(rb'"(?:timings|usage)": ?\{((?:[^{}]++|\{[^{}]*+\})*+)\}')
_NUMBER = re.compile(rb'"(\w{1,40})": ?(\d{1,10}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)(?=[,}]|\Z)')
_MOST_TOKENS = 2**31 - 1  # llama.cpp counts in int32_t
_FASTEST = 1e7  # tokens per second; above, it is a division by next to nothing

_TOKEN = re.compile(
    rb'"(?:content|text|thinking|reasoning|reasoning_content|partial_json|arguments|refusal)": ?"[^"]'
    rb'|"tool_calls": ?\[\{|"type": ?"[a-z_.]*delta"'
)
_LAST_EVENT = re.compile(
    rb'data: ?\[DONE\]|"finish_reason": ?"|"stop": ?true|"error": ?\{'
    rb'|"type": ?"(?:error|message_stop|response\.(?:completed|incomplete|failed))"'
)


PIECES: Final[Mapping[Dialect, bytes]] = {
    "openai": b"\ndata: {",
    "anthropic": b"\nevent: content_block_delta",
    "responses": b".delta\ndata: {",
}
"""How llama-server (b11434) begins the event of a token; no text of the model holds a plain line feed."""


_OF_THIS_ENGINE: Final = "llamacpp"  # which sends an event for each token


def tokens_of_pieces(pieces: int, endpoint: str, adapter: str) -> int | None:
    """The tokens in so many `PIECES` of a stream; a chat's first event has only the role of who speaks."""
    return max(pieces - endpoint.endswith("/chat/completions"), 0) if adapter == _OF_THIS_ENGINE else None


def has_token(piece: bytes) -> bool:
    """
    Whether this piece of a stream holds some of what the model said, rather than comments, pings and the
    events that open a message.  ``delta`` is in the types of Anthropic's and of Responses' events.
    """
    return _TOKEN.search(piece) is not None


def opening_of(piece: bytes) -> bytes:
    """The first of a stream's events in this piece, for `usage_of`; empty where it has comments only."""
    place = piece.find(b"data:")
    return piece[place : place + HEAD_BYTES] if place >= 0 else b""


def is_complete(ending: bytes) -> bool:
    """Whether a stream with this end has told all: its client misses nothing if it hangs up now."""
    return _LAST_EVENT.search(ending) is not None


UsageFields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Usage:
    """
    ``prompt_tokens`` is the whole prompt, ``cached_tokens`` those of it that need not be read again.  The
    ``drafted_tokens`` are None where nothing was drafted.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    tokens_per_second: float | None = None
    prompt_per_second: float | None = None
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None


def usage_of(tail: bytes, head: bytes = b"") -> Usage:
    """
    From the last `TAIL_BYTES` of a body as it was sent, chunk framing within.  ``head`` is its first
    `HEAD_BYTES`: there Anthropic's streams tell the prompt, and embeddings all.  What is missing is None.
    """
    found = _usage_at(tail, max(map(tail.rfind, (*_TIMINGS, *_USAGE))))
    if found.prompt_tokens is not None:
        return found
    start = head or tail
    places = (place for place in map(start.find, _USAGE) if place >= 0)
    first = _usage_at(start, min(places, default=-1))
    return replace(found, prompt_tokens=first.prompt_tokens, cached_tokens=first.cached_tokens)


def _usage_at(data: bytes, place: int) -> Usage:
    block = _BLOCK.match(data, place) if place >= 0 else None
    if block is None:
        return Usage()
    fields = dict(_NUMBER.findall(block[1]))
    return _timings(fields) if data.startswith(_TIMINGS, place) else _usage_fields(fields)


def _timings(fields: UsageFields) -> Usage:
    """server_slot_stats::to_json in server-common.cpp: ``prompt_n`` is without what was cached."""
    read, cached = _tokens(fields, b"prompt_n"), _tokens(fields, b"cache_n")
    return Usage(
        _sum(read, cached),
        cached,
        _tokens(fields, b"predicted_n"),
        _rate(fields, b"predicted_per_second"),
        _rate(fields, b"prompt_per_second"),
        _tokens(fields, b"draft_n"),
        _tokens(fields, b"draft_n_accepted"),
    )


def _usage_fields(fields: UsageFields) -> Usage:
    """
    OpenAI's and Responses' prompt is the whole one; Anthropic's ``input_tokens`` is without the cached.  A
    stream of Anthropic's begins with 0 for ``output_tokens``, which says nothing yet.
    """
    cached = _tokens(fields, b"cache_read_input_tokens")
    if cached is not None:
        output = _tokens(fields, b"output_tokens") or None
        return Usage(_sum(_tokens(fields, b"input_tokens"), cached), cached, output)
    return Usage(
        _tokens(fields, b"prompt_tokens", b"input_tokens"),
        _tokens(fields, b"cached_tokens"),
        _tokens(fields, b"completion_tokens", b"output_tokens"),
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _tokens(fields: UsageFields, *names: bytes) -> int | None:
    for name in names:
        text = fields.get(name)
        if text is not None and text.isdigit() and int(text) <= _MOST_TOKENS:
            return int(text)
    return None


def _rate(fields: UsageFields, name: bytes) -> float | None:
    """llama-server says 0 where there was nothing to measure, as after a single token."""
    rate = float(fields.get(name, b"0"))
    return rate if 0.0 < rate <= _FASTEST else None
