"""
Which request goes to which server, which waits, and what is loaded for those that wait.  Pure; time is given.

A request has a *ticket*.  It goes at once if the server that has its profile serves and has room; otherwise
it waits in order until it goes, is refused with a reason, or its client leaves.  Nobody waits for the server
of another profile.

A profile that nothing serves is loaded as soon as a request waits for it.  Whether it gets memory at once,
and what is unloaded for it, is not decided here but in `fleet.residency`.

Where slots share a context, a request waits until what it is expected to take fits next to those under way.
What is expected is an estimate on the high side.  So before the estimate makes anybody wait, the engine is
asked to count the prompts that it is about: those under way, the first that waits, and each that may be too
long even for the whole context.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from ..profile.definition import GatewaySettings

ServerPhase = Literal["serving", "coming", "asleep", "down"]
_DISTANCES = {"serving": 0, "coming": 1, "asleep": 2, "down": 2}
Reason = Literal["full", "late", "down", "ending", "asleep", "load"]


@dataclass(frozen=True, slots=True)
class Situation:
    """
    A server as requests see it: ``coming`` by a start, a restart or a switch.

    ``launch`` numbers what serves or sleeps: no two sleeps have the same one.  ``answers_any`` is whether
    requests that name no model may go there, and ``retries`` whether the next request for one that is down
    tries again.  While somebody has it to itself, only requests with the ``hold`` of that one go there.
    """

    phase: ServerPhase
    profile: str = ""
    launch: int = 0
    answers_any: bool = True
    context_tokens: int = 0  # that its slots share; 0: each has its own
    retries: bool = False
    hold: int = 0


@dataclass(slots=True, eq=False)
class Ticket:
    """
    One request's place; ``profile`` "" is any that answers, and ``number`` is given by `Scheduler`.

    ``lost_launch`` of ``server`` failed it: it goes there again only after ``not_before``, if that one is
    alive after all.  ``tokens`` is what it is expected to take of a shared context; one that ran out of it
    goes ``alone``.  It has waited for room there since ``room_since``, and ``room_seconds`` before that.
    """

    arrived: float
    profile: str = ""
    generates: bool = True  # counts for max_concurrent
    wakes: bool = True
    hold: int = 0  # of the operation that it belongs to
    lost_launch: int = -1
    not_before: float = 0.0
    tokens: int = 0
    alone: bool = False
    charged: int = 0  # tokens, while it is under way
    is_counted: bool = False  # or about to be, by the engine: once is enough
    room_since: float | None = None
    room_seconds: float = 0.0
    number: int = 0
    server: str = ""  # the name of the one that it went to

    def waited_for_room(self, now: float) -> float:
        """Seconds, up to now."""
        return self.room_seconds + (now - self.room_since if self.room_since is not None else 0.0)

    def end_wait_for_room(self, now: float) -> None:
        self.room_seconds, self.room_since = self.waited_for_room(now), None


@dataclass(frozen=True, slots=True)
class ContextUse:
    """
    Of a context of so many ``tokens`` that slots share, at this moment: what requests under way are expected
    to take of it in the end, and how many wait for room there, the first of them for ``longest_seconds``.
    """

    tokens: int
    expected_tokens: int
    waiting: int
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Go:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Refuse:
    """``full``: too many wait.  ``late``: it has waited too long.  ``load``: its profile cannot be loaded."""

    ticket: Ticket
    reason: Reason
    why: str = ""


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """Have a server serve this profile."""

    profile: str


@dataclass(frozen=True, slots=True)
class CountPrompt:
    """Ask the engine how many tokens its prompt has, and tell by `Scheduler.counted`."""

    ticket: Ticket


Action = Go | Refuse | LoadProfile | CountPrompt


class Scheduler:
    """
    The one queue of a gateway, in the order of arrival.  Every method gives what is to be done now, in order.

    A load is out until a server serves that profile or is down with it, until it sleeps anew, or until
    `loaded` tells its end.  So none can be out for ever and keep the queue from moving.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.situations: dict[str, Situation] = {}  # by the server's name
        self.waiting: list[Ticket] = []
        self.under_way: set[Ticket] = set()
        self._is_ending = False
        self._arrived = 0
        self._at: Counter[str] = Counter()  # under way, by the server's name
        self._generating: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._loading: dict[str, int] = {}  # profiles whose load is out, and the sleep that it is to end

    # --- what happens

    def arrive(self, ticket: Ticket, now: float) -> list[Action]:
        """Queue a request that has just arrived."""
        self._arrived += 1
        ticket.number = self._arrived
        if self._may_go(ticket, now) and not self._is_passed_over(ticket):
            return [self._go(ticket, now)]
        if len(self.waiting) >= self.settings.max_queue:
            return [Refuse(ticket, "full")]
        self.waiting.append(ticket)
        there = self._situation_of(ticket)
        if there is not None and there.phase == "down" and there.retries and not self.is_shut_out(ticket):
            return [*self._load(there.profile, there.launch), *self.tick(now)]
        return self.tick(now)

    def come_again(self, ticket: Ticket, now: float) -> list[Action]:
        """One that was let go, and whose server failed it before its first word: it gets its old place."""
        self._forget(ticket)
        insort(self.waiting, ticket, key=attrgetter("number"))
        return self.tick(now)

    def end(self, ticket: Ticket, now: float) -> list[Action]:
        """Called when a request has its answer, or its client has gone."""
        self._forget(ticket)
        return self.tick(now)

    def counted(self, ticket: Ticket, tokens: int, now: float) -> list[Action]:
        """Its prompt has been counted: it takes so much, with what its answer is expected to take."""
        ticket.tokens = tokens
        if ticket in self.under_way and not ticket.alone:
            self._tokens[ticket.server] += tokens - ticket.charged
            ticket.charged = tokens
        return self.tick(now)

    def change(self, situation: Situation, now: float, name: str = "default") -> list[Action]:
        """The server with this name is in another state."""
        if situation.phase in {"serving", "down"}:
            self._loading.pop(situation.profile, None)
        self.situations[name] = situation
        return self.tick(now)

    def remove(self, name: str, now: float) -> list[Action]:
        """Forget the server of this name."""
        self.situations.pop(name, None)
        return self.tick(now)

    def loaded(self, profile: str, why: str, now: float) -> list[Action]:
        """
        The load that is out has ended.  ``why`` is "" if it succeeded; else it refuses those who wait.

        Changes nothing where it is known already what came of it: a server had that profile since.
        """
        if self._loading.pop(profile, None) is None:
            return []
        theirs = [ticket for ticket in self.waiting if why and self._profile_of(ticket) == profile]
        refused: list[Action] = [self._refuse(ticket, "load", why) for ticket in theirs]
        return refused + self.tick(now)

    def begin_to_end(self, now: float) -> list[Action]:
        """Nobody who waits, or comes from now on, is let go."""
        self._is_ending = True
        return self.tick(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: what follows, as it does from all that happens."""
        if not self.waiting:
            return []
        return [*self._overdue(now), *self._follow(now)]

    # --- what follows

    def _overdue(self, now: float) -> Iterator[Action]:
        limit = self.settings.hold_timeout_seconds
        for ticket in [ticket for ticket in self.waiting if now - ticket.arrived >= limit]:
            yield self._refuse(ticket, "late")

    def _follow(self, now: float) -> Iterator[Action]:
        full: set[str] = set()  # servers that have no room for the first who waits for them: nobody passes it
        for ticket in [*self.waiting]:
            name = self.server_of(ticket)
            there = self._situation_of(ticket)
            match there.phase if there else "asleep":
                case _ if self._is_ending:
                    yield self._refuse(ticket, "ending")
                case _ if self.is_shut_out(ticket):
                    ticket.end_wait_for_room(now)  # whatever becomes of the server meanwhile
                case "down" if self._profile_of(ticket) not in self._loading:
                    yield self._refuse(ticket, "down")
                case "asleep" if not ticket.wakes:
                    yield self._refuse(ticket, "asleep")
                case "asleep":
                    yield from self._load(self._profile_of(ticket), there.launch if there else -1)
                case "serving" if self._may_go(ticket, now) and not (ticket.generates and name in full):
                    self.waiting.remove(ticket)
                    yield self._go(ticket, now)
                case "serving" if ticket.generates and (name in full or not self._has_room(name, ticket)):
                    yield from self._hold_back(ticket, name, now, is_first=name not in full)
                    full.add(name)
                case _:
                    ticket.end_wait_for_room(now)  # it comes, or backs off

    def _hold_back(self, ticket: Ticket, name: str, now: float, *, is_first: bool) -> Iterator[Action]:
        """It waits for room in the context, unless no more than so many may run at once anyway."""
        context = self.situations[name].context_tokens
        if not context or self._is_full(name):
            return
        if ticket.room_since is None:
            ticket.room_since = now
        uncertain = [ticket] if is_first or ticket.tokens > context else []
        if is_first and not ticket.alone:  # which has to wait for all in any case
            uncertain += sorted(self._answered_by(name), key=attrgetter("number"))
        for each in uncertain:
            if not (each.is_counted or each.alone):
                each.is_counted = True
                yield CountPrompt(each)

    def _load(self, profile: str, launch: int) -> Iterator[Action]:
        """Once for each sleep."""
        if profile and self._loading.get(profile) != launch:
            self._loading[profile] = launch
            yield LoadProfile(profile)

    def next_time(self, now: float) -> float | None:
        """When `tick` will have something to do though nothing happens; None for never."""
        times = [each.arrived + self.settings.hold_timeout_seconds for each in self.waiting]
        return min(times + [each.not_before for each in self.waiting if each.not_before > now], default=None)

    # --- what others ask

    def is_busy(self, name: str) -> bool:
        """Whether this server answers requests, or has some that wait for a place there."""
        if self._at[name]:
            return True
        there = self.situations.get(name)
        serves = there is not None and there.phase == "serving"
        return serves and any(self.server_of(ticket) == name for ticket in self.waiting)

    def context_use(self, name: str, now: float) -> ContextUse | None:
        """Of the context that this server's slots share; None where each has its own."""
        there = self.situations.get(name)
        if there is None or not there.context_tokens:
            return None
        theirs = [
            each for each in self.waiting if each.room_since is not None and self.server_of(each) == name
        ]
        seconds = max((each.waited_for_room(now) for each in theirs), default=0.0)
        return ContextUse(there.context_tokens, self._tokens[name], len(theirs), seconds)

    def waiting_since(self, profile: str) -> float | None:
        """When the first arrived that waits for this profile; None where nobody does."""
        waiting = (ticket.arrived for ticket in self.waiting if self._profile_of(ticket) == profile)
        return next(waiting, None)

    def count_at(self, name: str) -> int:
        """How many requests this server answers now."""
        return self._at[name]

    def is_shut_out(self, ticket: Ticket) -> bool:
        """Whether it is work for a server that somebody else has to itself."""
        there = self.situations.get(self.server_of(ticket)) if ticket.generates else None
        return there is not None and there.hold not in {0, ticket.hold}

    # --- the rules

    def server_of(self, ticket: Ticket) -> str:
        """The name of the server that has its profile, of two the one nearer to serving; "" for none."""
        at = self.situations
        if ticket.profile:
            names = [name for name, each in at.items() if each.profile == ticket.profile]
        else:
            names = [name for name, each in at.items() if each.answers_any] or [*at][:1]
        return min(names, key=lambda name: _DISTANCES[at[name].phase], default="")

    def _situation_of(self, ticket: Ticket) -> Situation | None:
        """None where no server has its profile."""
        if not self.situations:
            return Situation("coming")
        return self.situations.get(self.server_of(ticket))

    def _profile_of(self, ticket: Ticket) -> str:
        there = None if ticket.profile else self._situation_of(ticket)
        return there.profile if there else ticket.profile

    def _may_go(self, ticket: Ticket, now: float) -> bool:
        name = self.server_of(ticket)
        there = self.situations.get(name)
        if self._is_ending or there is None or there.phase != "serving" or self.is_shut_out(ticket):
            return False
        is_the_same = (ticket.server, ticket.lost_launch) == (name, there.launch)
        if is_the_same and now < ticket.not_before:
            return False
        return not ticket.generates or self._has_room(name, ticket)

    def _is_full(self, name: str) -> bool:
        most = self.settings.max_concurrent
        return bool(most) and self._generating[name] >= most

    def _has_room(self, name: str, ticket: Ticket) -> bool:
        if self._is_full(name):
            return False
        context = self.situations[name].context_tokens
        if not context or not self._generating[name]:
            return True  # what does not fit even alone, llama-server refuses with both numbers
        return not ticket.alone and self._tokens[name] + ticket.tokens <= context

    def _is_passed_over(self, ticket: Ticket) -> bool:
        """Whether going now would be going before somebody who waits for the same place."""
        name = self.server_of(ticket)
        limited = self.settings.max_concurrent or self.situations[name].context_tokens
        if not (ticket.generates and limited):
            return False
        return any(
            each.generates and self.server_of(each) == name and not self.is_shut_out(each)
            for each in self.waiting
        )

    # --- the books

    def _answered_by(self, name: str) -> list[Ticket]:
        return [each for each in self.under_way if each.server == name and each.generates]

    def _go(self, ticket: Ticket, now: float) -> Go:
        ticket.end_wait_for_room(now)
        ticket.server = self.server_of(ticket)
        context = self.situations[ticket.server].context_tokens
        ticket.charged = context if ticket.alone else ticket.tokens  # nobody joins one that goes alone
        self.count_in(ticket)
        return Go(ticket)

    def count_in(self, ticket: Ticket) -> None:
        """It is under way at its server, though a copy may answer it (see `copies`)."""
        self.under_way.add(ticket)
        self._at[ticket.server] += 1
        self._generating[ticket.server] += ticket.generates
        self._tokens[ticket.server] += ticket.charged

    def _refuse(self, ticket: Ticket, reason: Reason, why: str = "") -> Refuse:
        self.waiting.remove(ticket)
        return Refuse(ticket, reason, why)

    def _forget(self, ticket: Ticket) -> None:
        if ticket in self.under_way:
            self.under_way.remove(ticket)
            self._at[ticket.server] -= 1
            self._generating[ticket.server] -= ticket.generates
            self._tokens[ticket.server] -= ticket.charged
        elif ticket in self.waiting:
            self.waiting.remove(ticket)
