"""
Has the engine count a prompt where an estimate would decide who waits for room in a shared context.

Refusing is by the engine's own figures: its count of the very body that it would get, and its own context.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..plan.launch import Parameters
from ..server.probe import counter_of
from .api.routes import Trouble, too_long
from .backends import Backend
from .context_budget import ContextBudgets, has_media

_COUNT = re.compile(rb'"input_tokens": ?(\d{1,10})')

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
