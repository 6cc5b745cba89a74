"""
The token counts and speeds at the end of an answer, found without parsing the whole.  Pure.

llama-server (b11434) writes ``timings`` last, after ``usage``; its Anthropic answers and whole Responses have
only ``usage``.  So the last block of either name is the server's.  Text of the model cannot look like one,
because quotes in a JSON string are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

TAIL_BYTES = 16 * 1024  # holds the last event of every API, with the whole answer's text within reason
HEAD_BYTES = 1024  # holds Anthropic's message_start, and the usage before embeddings

_TIMINGS, _USAGE = b'"timings":{', b'"usage":{'
_BLOCK = re.compile(rb'"(?:timings|usage)":\{((?:[^{}]++|\{[^{}]*+\})*+)\}')
_NUMBER = re.compile(rb'"(\w{1,40})":(\d{1,10}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)(?=[,}]|\Z)')
_MOST_TOKENS = 2**31 - 1  # llama.cpp counts in int32_t
_FASTEST = 1e7  # tokens per second; above, it is a division by next to nothing

UsageFields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Usage:
    """``prompt_tokens`` is the whole prompt, ``cached_tokens`` those of it that need not be read again."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    tokens_per_second: float | None = None
    prompt_per_second: float | None = None


def usage_of(tail: bytes, head: bytes = b"") -> Usage:
    """
    From the last `TAIL_BYTES` of a body as it was sent, chunk framing within.  ``head`` is its first
    `HEAD_BYTES`: there Anthropic's streams tell the prompt, and embeddings all.  What is missing is None.
    """
    found = _usage_at(tail, max(tail.rfind(_TIMINGS), tail.rfind(_USAGE)))
    if found.prompt_tokens is not None:
        return found
    start = head or tail
    first = _usage_at(start, start.find(_USAGE))
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
