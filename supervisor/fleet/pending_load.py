"""One load that waits for memory, or was let in and is not decided yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Generic, TypeVar

from ..plan.launch import LaunchPlan
from ..server.outcome import Outcome

Where = TypeVar("Where")


@dataclass(slots=True, eq=False)
class PendingLoad(Generic[Where]):
    """``by_request``: clients wait for it, and no person.  One that is ``over`` never begins."""

    instance: Where
    plan: LaunchPlan
    by_request: bool
    alone: bool
    evicts: bool
    over: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def name(self) -> str:
        return self.plan.profile

    def give_up(self, why: str) -> None:
        """It is superseded, unless it has begun."""
        if not self.over.done():
            self.over.set_result(Outcome("superseded", why, "", self.name, self.plan.digest))

    def waits_for_another(self, undecided: Iterable[PendingLoad[Where]]) -> bool:
        """
        Whether one that a person asked for may make this one needless: of the same profile in another server,
        if it came before, or, if only clients wait for this one, any of the same profile or in the same
        server.  The oldest of ``undecided`` comes first.
        """
        if self.by_request:
            theirs = (each for each in undecided if not each.by_request)
            return any(each.name == self.name or each.instance is self.instance for each in theirs)
        before = (each for each in takewhile(lambda each: each is not self, undecided) if not each.by_request)
        return any(each.name == self.name and each.instance is not self.instance for each in before)


def one_of_each(
    waiting: Iterable[PendingLoad[Where]], has_clients: Callable[[str], bool]
) -> dict[str, PendingLoad[Where]]:
    """
    By profile, since two of the same would wait for each other: a person's before one that clients wait for,
    and what is to be alone, or else others are let in that it takes away again.
    """
    found: dict[str, PendingLoad[Where]] = {}
    for each in sorted(waiting, key=lambda each: (each.by_request, not each.alone)):
        if not each.by_request or has_clients(each.name):
            found.setdefault(each.name, each)
    return found
