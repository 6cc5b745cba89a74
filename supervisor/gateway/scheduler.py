"""
Which request goes to the server, which waits, and when to switch profiles.  Pure; time is given.

A request has a *ticket*.  It goes at once if the profile that it asks for serves and has room; otherwise it
waits in order until it goes, is refused with a reason, or its client leaves.

Two clients that ask for different profiles must not make the machine load models all day.  So the active
profile stays until nobody uses it and it has been ready for ``min_warm_seconds``, or until a request has
waited ``max_wait_seconds`` for another one; all that wait for that one are then served together.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from ..profile.definition import GatewaySettings

ServerPhase = Literal["serving", "coming", "asleep", "down", "ending"]
Reason = Literal["full", "late", "down", "ending", "asleep", "switch"]


@dataclass(frozen=True, slots=True)
class Situation:
    """
    The server as requests see it: ``coming`` by a start, a restart or a switch, or serving since ``since``.
    ``launch`` numbers what serves or sleeps: no two sleeps have the same one.
    """

    phase: ServerPhase
    profile: str = ""
    launch: int = 0
    since: float = 0.0


@dataclass(slots=True, eq=False)
class Ticket:
    """
    One request's place; ``profile`` "" is whichever is active, and ``number`` is given by `Scheduler`.

    ``lost_launch`` failed it: it goes there again only after ``not_before``, if that one is alive after all.
    """

    arrived: float
    profile: str = ""
    generates: bool = True  # counts for max_concurrent
    wakes: bool = True
    lost_launch: int = -1
    not_before: float = 0.0
    number: int = 0
    server: str = ""  # the name of the one that it went to


@dataclass(frozen=True, slots=True)
class Go:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Refuse:
    """``full``: too many wait.  ``late``: it has waited too long.  ``switch``: its profile cannot be run."""

    ticket: Ticket
    reason: Reason
    why: str = ""


@dataclass(frozen=True, slots=True)
class Wake:
    """Load the model again."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Run this profile in place of the one that serves."""

    profile: str


Action = Go | Refuse | Wake | Switch


class Scheduler:
    """
    The one queue of a gateway, in the order of arrival.  Every method gives what is to be done now, in order.

    A switch is out until the server is settled with that profile, or `switched` tells its end; a wake is out
    for the one sleep that it was meant for.  So neither can be out for ever and keep the queue from moving.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.situations: dict[str, Situation] = {}  # by the server's name
        self.waiting: list[Ticket] = []
        self.under_way: set[Ticket] = set()
        self._arrived = 0
        self._generating = 0
        self._switching = ""  # the profile of the switch that is out
        self._woken = -1  # the sleep that was to end

    # --- what happens

    def arrive(self, ticket: Ticket, now: float) -> list[Action]:
        """A request is there."""
        self._arrived += 1
        ticket.number = self._arrived
        if self._may_go(ticket, now) and not self._is_passed_over(ticket):
            return [self._go(ticket)]
        if len(self.waiting) >= self.settings.max_queue:
            return [Refuse(ticket, "full")]
        self.waiting.append(ticket)
        return self.tick(now)

    def come_again(self, ticket: Ticket, now: float) -> list[Action]:
        """One that was let go, and whose server failed it before its first word: it gets its old place."""
        self._forget(ticket)
        insort(self.waiting, ticket, key=attrgetter("number"))
        return self.tick(now)

    def end(self, ticket: Ticket, now: float) -> list[Action]:
        """It has its answer, or its client has gone."""
        self._forget(ticket)
        return self.tick(now)

    @property
    def situation(self) -> Situation:
        """Of the first server: the one that a switch replaces, and that answers who names no profile."""
        return next(iter(self.situations.values()), Situation("coming"))

    def change(self, situation: Situation, now: float, name: str = "default") -> list[Action]:
        """The server with this name is in another state."""
        if situation.phase != "coming" and situation.profile == self._switching:
            self._switching = ""
        self.situations[name] = situation
        return self.tick(now)

    def switched(self, profile: str, why: str, now: float) -> list[Action]:
        """
        The switch that is out has ended.  ``why`` is "" if it succeeded; else it refuses those who wait.

        Changes nothing where it is known already what came of it: the server had that profile since.
        """
        if profile != self._switching:
            return []
        self._switching = ""
        theirs = [ticket for ticket in self.waiting if why and ticket.profile == profile]
        refused: list[Action] = [self._refuse(ticket, "switch", why) for ticket in theirs]
        return refused + self.tick(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: what follows, as it does from all that happens."""
        if not self.waiting:
            return []
        return [*self._overdue(now), *self._by_phase(now)]

    # --- what follows

    def _overdue(self, now: float) -> Iterator[Action]:
        limit = self.settings.hold_timeout_seconds
        for ticket in [ticket for ticket in self.waiting if now - ticket.arrived >= limit]:
            yield self._refuse(ticket, "late")

    def _by_phase(self, now: float) -> Iterator[Action]:
        match self.situation.phase:
            case "ending":
                yield from [self._refuse(ticket, "ending") for ticket in [*self.waiting]]
            case "down":
                yield from [
                    self._refuse(ticket, "down") for ticket in list(self.waiting) if self._mine(ticket)
                ]
                yield from self._turn(now)
            case "asleep":
                yield from [self._refuse(t, "asleep") for t in [*self.waiting] if not t.wakes]
                yield from self._wake_up(now)
            case "serving":
                yield from self._turn(now)
                yield from self._let_go(now)

    def _wake_up(self, now: float) -> Iterator[Action]:
        if not self.waiting or self._woken == self.situation.launch:
            return
        if self._mine(self.waiting[0]):
            self._woken = self.situation.launch
            yield Wake()
        else:
            yield from self._turn(now)

    def _turn(self, now: float) -> Iterator[Action]:
        """Another profile's turn, if it has come."""
        other = next((ticket for ticket in self.waiting if not self._mine(ticket)), None)
        if other is None or self._switching or now < self._turn_of(other):
            return
        self._switching = other.profile
        yield Switch(other.profile)

    def _turn_of(self, other: Ticket) -> float:
        """When the first who waits for another profile is to have it: the time, or infinity for not yet."""
        if self.situation.phase != "serving":
            return 0.0
        since = self.situation.since
        overdue = max(other.arrived, since) + self.settings.max_wait_seconds
        is_used = self.under_way or any(map(self._mine, self.waiting))
        return overdue if is_used else min(overdue, since + self.settings.min_warm_seconds)

    def _let_go(self, now: float) -> Iterator[Action]:
        for ticket in [ticket for ticket in self.waiting if self._may_go(ticket, now)]:
            if self._may_go(ticket, now):  # the one before may have taken the last place
                self.waiting.remove(ticket)
                yield self._go(ticket)

    def next_time(self, now: float) -> float | None:
        """When `tick` will have something to do though nothing happens; None for never."""
        times = [ticket.arrived + self.settings.hold_timeout_seconds for ticket in self.waiting]
        times += [ticket.not_before for ticket in self.waiting if ticket.not_before > now]
        if self.situation.phase == "serving" and not self._switching:
            others = (ticket for ticket in self.waiting if not self._mine(ticket))
            times += [self._turn_of(ticket) for ticket in others][:1]
        return min(times, default=None)

    # --- the rules

    def _mine(self, ticket: Ticket) -> bool:
        """Whether a server has its profile, whatever that server does."""
        return self._server_of(ticket) is not None

    def _server_of(self, ticket: Ticket) -> str | None:
        """The name of the one that has its profile."""
        has_it = (name for name, each in self.situations.items() if ticket.profile in {"", each.profile})
        return next(has_it, None)

    def _may_go(self, ticket: Ticket, now: float) -> bool:
        there = self.situations.get(self._server_of(ticket) or "")
        if there is None or there.phase != "serving":
            return False  # while a switch is being prepared, what serves goes on serving
        if ticket.lost_launch == there.launch and now < ticket.not_before:
            return False
        return not ticket.generates or self._has_room()

    def _has_room(self) -> bool:
        return not self.settings.max_concurrent or self._generating < self.settings.max_concurrent

    def _is_passed_over(self, ticket: Ticket) -> bool:
        """Whether going now would be going before somebody who waits for the same place."""
        limited = ticket.generates and self.settings.max_concurrent
        return bool(limited) and any(self._mine(each) and each.generates for each in self.waiting)

    # --- the books

    def _go(self, ticket: Ticket) -> Go:
        self.under_way.add(ticket)
        ticket.server = self._server_of(ticket) or ""
        self._generating += ticket.generates
        return Go(ticket)

    def _refuse(self, ticket: Ticket, reason: Reason, why: str = "") -> Refuse:
        self.waiting.remove(ticket)
        return Refuse(ticket, reason, why)

    def _forget(self, ticket: Ticket) -> None:
        if ticket in self.under_way:
            self.under_way.remove(ticket)
            self._generating -= ticket.generates
        elif ticket in self.waiting:
            self.waiting.remove(ticket)
