"""
How much of a context that a server's slots share each request is expected to take.  Pure, but for `count`.

llama-server has four slots on one cache by default (``--kv-unified``): any of them may fill all of it, and
when it is full, answers under way end with "Context size has been exceeded.", whoever filled it.  So a
request goes only while what is expected of it fits beside what is expected of those under way.

A prompt is estimated from the bytes of its request, at the fewest bytes for a token that the last ones had,
with a quarter more; an answer as the longest of the last ones with a quarter more, or as the most that the
request allows, if that is less.  Where the estimate decides who waits, the engine counts the prompt.
Refusing is by its own figures: its count of the very body that it would get, and its own context.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol

from ..plan.launch import Parameters
from ..server.probe import counter_of
from .api.body import most_answer_tokens
from .api.routes import Trouble, too_long
from .backends import Backend
from .telemetry.activity import RequestRecord

_FIRST_BYTES_PER_TOKEN = 1.0  # hardly any text has more tokens than bytes; until the first answer tells
_LEAST_BYTES_PER_TOKEN = 0.5
_LEAST_PROMPT_TOKENS = 64  # below it, it is the chat template that is measured
_LONG_PROMPT_TOKENS = 384  # from it on, the template hardly counts
_TEMPLATE_TOKENS = 96  # what the template of gpt-oss adds, 70 to 90
_IMAGE_TOKENS = 1024
_FIRST_ANSWER_SHARE = 8  # of the context, while no answer is known
_MARGIN = 1.25
_REMEMBERED = 32
_MEDIA = (
    *(b";base64,", b'"image_url"', b'"input_audio"', b'"input_video"'),
    *(b'"type":"image"', b'"type": "image"'),  # Anthropic's
)
_COUNT = re.compile(rb'"input_tokens": ?(\d{1,10})')
_ATTACHMENT = re.compile(rb'(?:;base64,|"data"\s*+:\s*+")[A-Za-z0-9+/=\\]{64,}+')


def has_media(body: bytes) -> bool:
    """Whether there may be something in it whose tokens its bytes do not tell."""
    return any(sign in body for sign in _MEDIA)


class ContextBudget:
    """Of one profile; ``tokens`` is what all of its slots together may hold."""

    __slots__ = ("_answers", "_long", "_short", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._long: deque[float] = deque(maxlen=_REMEMBERED)  # bytes for a token, without the template
        self._short: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)  # bytes and tokens of whole prompts
        self._answers: deque[int] = deque(maxlen=_REMEMBERED)

    def expect(self, body: bytes, most_answer_tokens: int | None, prompt_tokens: int | None = None) -> int:
        """Tokens of prompt and answer together; those of the prompt are estimated unless they are known."""
        prompt = self._prompt(body) if prompt_tokens is None else prompt_tokens
        return prompt + self._answer(most_answer_tokens)

    def _prompt(self, body: bytes) -> int:
        attachments = 0
        if has_media(body):
            body, attachments = _ATTACHMENT.subn(b"", body)
        per_token = self._bytes_per_token
        template = max((int(tokens - size / per_token) for size, tokens in self._short), default=0)
        text = int(_MARGIN * len(body) / per_token)
        return text + max(template, _TEMPLATE_TOKENS) + attachments * _IMAGE_TOKENS

    @property
    def _bytes_per_token(self) -> float:
        """By long prompts where there were any: in a short one the template is most of it."""
        short = (max(size / tokens, _LEAST_BYTES_PER_TOKEN) for size, tokens in self._short)
        return min(self._long) if self._long else min(short, default=_FIRST_BYTES_PER_TOKEN)

    def _answer(self, most: int | None) -> int:
        usual = int(_MARGIN * max(self._answers, default=0)) or self.tokens // _FIRST_ANSWER_SHARE
        return usual if most is None or most < 0 else min(usual, most)

    def learn(self, body: bytes, prompt_tokens: int | None, answer_tokens: int | None = None) -> None:
        """What a request has really taken."""
        if prompt_tokens and prompt_tokens >= _LEAST_PROMPT_TOKENS and not has_media(body):
            if prompt_tokens < _LONG_PROMPT_TOKENS:
                self._short.append((len(body), prompt_tokens))
            else:
                per_token = len(body) / (prompt_tokens - _TEMPLATE_TOKENS)
                self._long.append(max(per_token, _LEAST_BYTES_PER_TOKEN))
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

    def expect(self, profile: str, body: bytes, prompt_tokens: int | None = None) -> int:
        """Tokens of this request, those of its prompt if they were counted; 0 where nothing is shared."""
        budget = self._by_profile.get(profile)
        return budget.expect(body, most_answer_tokens(body), prompt_tokens) if budget else 0

    def learn(self, request: RequestRecord, body: bytes) -> None:
        """Learn from a request that is over."""
        if request.status == HTTPStatus.OK and (budget := self._by_profile.get(request.profile)) is not None:
            budget.learn(body, request.prompt_tokens, request.output_tokens)

    def learn_prompt(self, profile: str, body: bytes, prompt_tokens: int) -> None:
        """Learn from a prompt that was counted."""
        if (budget := self._by_profile.get(profile)) is not None:
            budget.learn(body, prompt_tokens)


Ask = Callable[[Backend, str, str], Awaitable[bytes | None]]
"""Posts JSON to a path of this server; the answer, or None."""


class CountedRequest(Protocol):
    """What this module needs of an `Exchange`."""

    @property
    def path(self) -> str: ...

    @property
    def body(self) -> bytes:
        """The body as the client sent it."""

    def body_for(self, settings: Parameters) -> bytes:
        """The body as the profile that answers wants it."""


async def count(
    request: CountedRequest,
    server: Backend,
    ask: Ask,
    context_of: Callable[[Backend], Awaitable[int | None]],
    budgets: ContextBudgets,
) -> Trouble | int | None:
    """
    The tokens that this request is expected to take, or why it can never be answered; None where the engine
    does not tell.  ``context_of`` gives the tokens that one request can have.
    """
    plan, body = server.plan, request.body
    counter = counter_of(plan, request.path) if plan else ""
    if plan is None or not counter or has_media(body):  # how much an image takes, the engine finds out
        return None
    sent = request.body_for(plan.parameters)
    found = _COUNT.search(await ask(server, counter, sent.decode("utf-8", "replace")) or b"")
    if found is None:
        return None
    prompt = int(found[1])
    budgets.learn_prompt(plan.profile, body, prompt)
    most = await context_of(server)
    if most and prompt >= most:
        return too_long(prompt, most)
    return budgets.expect(plan.profile, body, prompt)
