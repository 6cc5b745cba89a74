"""One load that waits for memory, or was let in and is not decided yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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

    def waits_for_a_person(self, others: Iterable[PendingLoad[Where]]) -> bool:
        """Whether a person's makes this one needless: of the same profile, or in the same server."""
        return self.by_request and any(
            not each.by_request and (each.name == self.name or each.instance is self.instance)
            for each in others
        )


def one_of_each(
    waiting: Iterable[PendingLoad[Where]], has_clients: Callable[[str], bool]
) -> dict[str, PendingLoad[Where]]:
    """By profile, a person's before one that clients wait for: two of the same would wait for each other."""
    found: dict[str, PendingLoad[Where]] = {}
    for each in sorted(waiting, key=lambda each: each.by_request):
        if not each.by_request or has_clients(each.name):
            found.setdefault(each.name, each)
    return found
