"""
How much of a context that a server's slots share each request is expected to take.  Pure.

llama-server has four slots on one cache by default (``--kv-unified``): any of them may fill all of it, and
when it is full, answers under way end with "Context size has been exceeded.", whoever filled it.  So a
request goes only while what is expected of it fits beside what is expected of those under way.

A prompt is estimated from the bytes of its request, at the fewest bytes for a token that earlier requests
had; an answer as the longest of the last ones with a quarter more, or as the most that the request allows,
if that is less.
"""

from __future__ import annotations

import re
from collections import deque
from http import HTTPStatus

from .api.body import most_answer_tokens
from .telemetry.activity import RequestRecord

OUT_OF_CONTEXT = b"Context size has been exceeded"
"""llama-server's words (b11434, tools/server/server-context.cpp)."""

_FIRST_BYTES_PER_TOKEN = 1.0  # no text has more tokens than bytes; until the first answer tells
_LEAST_BYTES_PER_TOKEN = 0.5
_SHORT_PROMPT_TOKENS = 64  # below it, it is the chat template that is measured
_TEMPLATE_TOKENS = 96  # what the template of gpt-oss adds, 70 to 90
_IMAGE_TOKENS = 1024
_FIRST_ANSWER_SHARE = 8  # of the context, while no answer is known
_MARGIN = 1.25
_REMEMBERED = 32
_ATTACHMENT = re.compile(rb';base64,[^"]*')


class ContextBudget:
    """Of one profile; ``tokens`` is what all of its slots together may hold."""

    __slots__ = ("_answers", "_ratios", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)  # bytes of a request for a token of its prompt
        self._answers: deque[int] = deque(maxlen=_REMEMBERED)

    def expect(self, body: bytes, most_answer_tokens: int | None) -> int:
        """Tokens of prompt and answer together."""
        return self._prompt(body) + self._answer(most_answer_tokens)

    def _prompt(self, body: bytes) -> int:
        attachments = 0
        if b";base64," in body:
            body, attachments = _ATTACHMENT.subn(b"", body)
        per_token = min(self._ratios, default=_FIRST_BYTES_PER_TOKEN)
        return int(len(body) / per_token) + _TEMPLATE_TOKENS + attachments * _IMAGE_TOKENS

    def _answer(self, most: int | None) -> int:
        usual = int(_MARGIN * max(self._answers, default=0)) or self.tokens // _FIRST_ANSWER_SHARE
        return usual if most is None or most < 0 else min(usual, most)

    def learn(self, request_bytes: int, prompt_tokens: int | None, answer_tokens: int | None) -> None:
        """What a request has really taken."""
        if prompt_tokens and prompt_tokens >= _SHORT_PROMPT_TOKENS:
            self._ratios.append(max(request_bytes / prompt_tokens, _LEAST_BYTES_PER_TOKEN))
        if answer_tokens:
            self._answers.append(answer_tokens)


class ContextBudgets:
    """Of all profiles whose slots share a context."""

    def __init__(self) -> None:
        self._by_profile: dict[str, ContextBudget] = {}

    def set(self, profile: str, tokens: int) -> None:
        """``tokens`` 0: each slot has a context of its own."""
        if tokens:
            self._by_profile.setdefault(profile, ContextBudget(tokens)).tokens = tokens
        else:
            self._by_profile.pop(profile, None)

    def expect(self, profile: str, body: bytes) -> int:
        """Tokens of this request; 0 where nothing is shared."""
        budget = self._by_profile.get(profile)
        return budget.expect(body, most_answer_tokens(body)) if budget else 0

    def learn(self, request: RequestRecord) -> None:
        """From one that is over."""
        if request.status == HTTPStatus.OK and (budget := self._by_profile.get(request.profile)) is not None:
            budget.learn(request.request_bytes, request.prompt_tokens, request.output_tokens)
