"""
What an update does with each server, and in which order.  Pure, but for what a `Mover` does.

The first server shows whether the new build is worse.  Then the others of its channel are moved one by one,
and measured where nobody uses them.  If the new build fails one of them or is slower there, all go back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from ..engine.catalogue.catalogue import number
from ..engine.catalogue.releases import REPOSITORY
from ..engine.released import channel_of
from ..errors import NotRunning, StartFailed, SupervisorError
from ..measure.comparison import ComparisonVerdict
from .update_target import FleetServer, in_line, why_fixed

Fate = Literal["compared", "moved", "next load", "unchanged", "taken back", "stuck"]


@dataclass(frozen=True, slots=True)
class ServerResult:
    """What became of a server; ``build`` is what it has now, and ``stuck`` is one that could not go back."""

    server: str
    profile: str
    result: Fate
    build: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """``moves`` in this order; ``resting`` sleep, and their next load takes it; the rest is left alone."""

    moves: tuple[FleetServer, ...] = ()
    resting: tuple[FleetServer, ...] = ()
    others: tuple[ServerResult, ...] = ()

    def without(self, server: FleetServer, why: str) -> Rollout:
        """The same, with this resting one left alone."""
        resting = tuple(each for each in self.resting if each is not server)
        return replace(self, resting=resting, others=(*self.others, _result(server, "unchanged", why)))

    @property
    def behind(self) -> tuple[str, ...]:
        """Profiles that do not have the build yet."""
        return tuple(each.plan.profile for each in (*self.moves, *self.resting))


class Mover(Protocol):
    """Does what a rollout decides."""

    def compare(self, server: FleetServer) -> ComparisonVerdict:
        """Move it and measure it; if it is worse, it goes back by itself.  Raises as `Comparison` does."""

    def relocate(self, server: FleetServer) -> ComparisonVerdict:
        """The same without measuring."""

    def is_idle(self, server: FleetServer) -> bool:
        """Whether no request is under way there now, which would be measured too."""

    def back(self, server: FleetServer) -> str:
        """Have it run its old plan again; why not, or empty."""

    def keep(self) -> None:
        """All were moved: the channel has the new build from now on."""

    def rest(self, server: FleetServer) -> str:
        """Have its next load take the new build; why not, or empty."""


@dataclass(frozen=True, slots=True)
class RolloutEnd:
    """``failed`` is the server that the new build failed, ``verdict`` the one on it, else on the first."""

    servers: tuple[ServerResult, ...]
    verdict: ComparisonVerdict
    failed: FleetServer | None = None


def is_newer(tag: str, than: str | None) -> bool:
    """By number; what has none is older than all that have one.  Pure."""
    return (number(tag) or 0) > (number(than or "") or 0)


def roll_out(
    fleet: Sequence[FleetServer], channel: str, tag: str, *, first: str | None = None, back: bool = False
) -> Rollout:
    """
    From the servers as they are now; ``first`` is the profile to begin with, which need not serve for that.
    ``back`` is for a tag that may be older than what runs.  Pure.
    """
    moves, resting, others = [], [], []
    for server in sorted(fleet, key=lambda each: each.plan.profile != first):
        if why := _why_not(server, channel, tag, back=back):
            others.append(_result(server, "unchanged", why))
        elif server.state == "sleeping":
            resting.append(server)
        elif server.serves or (server.plan.profile == first and server.state != "stopped"):
            moves.append(server)
        elif server.state in {"stopped", "failed"}:
            others.append(_result(server, "next load", f"it is {server.state}"))
        else:
            others.append(_result(server, "unchanged", f"it is {server.state} now"))
    return Rollout(tuple(moves), tuple(resting), tuple(others))


def _why_not(server: FleetServer, channel: str, tag: str, *, back: bool) -> str:
    """Why it is no matter of this update; empty where it is."""
    plan = server.plan
    if reason := server.trouble or why_fixed(server.engine):
        return reason
    if (its := channel_of(server.engine)) != channel:
        return f"it follows the {its} channel"
    if plan.repository != REPOSITORY:
        return ""  # something stood in for a release
    if plan.build == tag:
        return f"it has {tag} already"
    return "" if back or is_newer(tag, plan.build) else f"{plan.build} is newer than {tag}"


def carry_out(rollout: Rollout, tag: str, mover: Mover, *, compares: bool = True) -> RolloutEnd:
    """
    With ``compares`` the first is measured, and others that are idle.  What the daemon refuses, and what a
    later request replaces, is no fault of the build: the server is left alone, and for the first one the
    error is raised.
    """
    return _Rolling(rollout, tag, mover, compares).run()


@dataclass(slots=True)
class _Rolling:
    rollout: Rollout
    tag: str
    mover: Mover
    compares: bool
    moved: list[FleetServer] = field(default_factory=list)
    results: list[ServerResult] = field(default_factory=list)

    def run(self) -> RolloutEnd:
        first = None
        for server in self.rollout.moves:
            verdict = self._judged(server)
            if verdict is not None and verdict.worse:
                return RolloutEnd(self._all_back(server, verdict.worse), verdict, server)
            first = first or verdict
        self.mover.keep()
        for server in self.rollout.resting:
            why = self.mover.rest(server)
            self.results.append(_result(server, "unchanged" if why else "next load", why))
        return RolloutEnd((*self.results, *self.rollout.others), first or ComparisonVerdict())

    def _judged(self, server: FleetServer) -> ComparisonVerdict | None:
        """None for one that is left alone."""
        try:
            compares = self.compares and (not self.moved or self.mover.is_idle(server))
            verdict = self.mover.compare(server) if compares else self.mover.relocate(server)
        except KeyboardInterrupt:
            self._back()
            raise
        except SupervisorError as error:
            if not self.moved or isinstance(error, NotRunning):
                raise
            if isinstance(error, StartFailed):
                stuck = self.mover.back(server)
                return ComparisonVerdict(f"{in_line(error)}{f'; it is down: {stuck}' if stuck else ''}")
            self.results.append(_result(server, "unchanged", in_line(error)))
            return None
        if not verdict.worse:
            self.moved.append(server)
            fate: Fate = "compared" if compares else "moved"
            self.results.append(_result(server, fate, verdict.figures, self.tag))
        return verdict

    def _back(self) -> list[ServerResult]:
        found = []
        for each in reversed(self.moved):
            stuck = self.mover.back(each)
            found.append(_result(each, "stuck", stuck, self.tag) if stuck else _result(each, "taken back"))
        return found

    def _all_back(self, failed: FleetServer, worse: str) -> tuple[ServerResult, ...]:
        """The one that failed went back by itself."""
        back = self._back()
        left = [each for each in self.results if each.result == "unchanged"]
        seen = {failed.name, *(each.server for each in self.results)}
        waited = [
            _result(each, "unchanged", "its turn had not come")
            for each in (*self.rollout.moves, *self.rollout.resting)
            if each.name not in seen
        ]
        return (_result(failed, "taken back", worse), *back, *left, *waited, *self.rollout.others)


def _result(server: FleetServer, fate: Fate, why: str = "", build: str = "") -> ServerResult:
    return ServerResult(server.name, server.plan.profile, fate, build or server.plan.build, why)
