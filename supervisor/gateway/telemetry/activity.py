"""The last requests without their content: caller, model, endpoint and result."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

KEPT = 1000
_LONGEST_NAME = 80  # characters of what a client called the model: a name, not a place for a text
_LONGEST_NOTE = 200

RequestResult = Literal["answered", "refused", "cancelled", "broken", "failed"]
RESULTS: tuple[RequestResult, ...] = ("answered", "refused", "cancelled", "broken", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """
    One request that is over.

    ``result``: refused is by us, broken in the middle of an answer, failed before it.  ``status`` is None
    where no answer was begun.  Times but ``held_seconds`` count from its arrival, waiting included.
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
    first_byte_seconds: float | None = None
    seconds: float
    request_bytes: int = 0
    answer_bytes: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    tokens_per_second: float | None = None
    prompt_per_second: float | None = None
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

    def since(self, number: int, last: int | None = None) -> list[RequestRecord]:
        """
        Those after ``number`` that are still kept, oldest first; at most the ``last`` so many of them.  They
        have their numbers, and their texts are cut to short printable ones, so that none gets by.
        """
        missed = min(max(self.count - number, 0), len(self._requests))
        wanted = missed if last is None else min(missed, max(last, 0))
        first = len(self._requests) - wanted
        return [
            replace(
                request,
                number=self.count - wanted + place,
                model=_printable(request.model, _LONGEST_NAME),
                note=_printable(request.note, _LONGEST_NOTE),
            )
            for place, request in enumerate(list(self._requests)[first:], 1)
        ]


def _printable(text: str, longest: int) -> str:
    """Nothing that moves a cursor, hides or turns around what a terminal shows."""
    if len(text) <= longest and text.isprintable():
        return text
    return "".join(character for character in text[:longest] if character.isprintable())
