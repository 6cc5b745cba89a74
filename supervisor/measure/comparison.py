"""
Puts a new plan in place of the one that a server runs: it stays only if it serves as well.

The daemon's lifecycle rolls back by itself if the new plan does not become ready.  If it does but is worse,
we request the old plan again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..errors import NetworkError, StartFailed, Superseded, SupervisorError
from ..home import client
from ..home.client import Message
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.plan_json import to_json
from ..progress import Progress
from . import speed
from .measurement import Target, Workload
from .session import Waiting
from .speed import Speed


@dataclass(frozen=True, slots=True)
class ComparisonVerdict:
    """
    ``worse`` is why the old plan runs again, empty where the new one stays.

    It is ``proved`` unless the machine itself got slower meanwhile.  The rest is for people.
    """

    worse: str = ""
    proved: bool = True
    figures: str = ""
    log: tuple[str, ...] = ()  # the new one's last lines


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Of two plans on one server, the main one where none is named; see `holding`.

    `compared` and `moved` leave the old plan running where the new one is worse.  They raise Superseded where
    a later request replaced ours (what it asked for is left alone), StartFailed where neither plan became
    ready, and SupervisorError for what the daemon refuses.  ``waiting`` shows a wait whose end is not known.
    """

    paths: Paths
    progress: Progress
    waiting: Waiting
    server: str | None = None
    held: int = 0  # the id of our hold of the server

    @contextmanager
    def holding(self, server: str | None, why: str) -> Iterator[Comparison]:
        """The same on this server, which nobody else changes meanwhile.  Raises as `client.hold` does."""
        with client.hold(self.paths, "engine update", why, server) as held:
            yield replace(self, server=server, held=held)

    def compared(self, new: LaunchPlan, old: LaunchPlan) -> ComparisonVerdict:
        """Run the new plan in place of the old one, and judge it by its speed too."""
        before = self._measured(old) if self._state() in _SERVING else None
        with self._undone(old):
            verdict = self._replaced(new, old)
            return verdict if verdict.worse or before is None else self._by_speed(new, old, before)

    def moved(self, new: LaunchPlan, old: LaunchPlan) -> ComparisonVerdict:
        """The same without a measurement: it must answer one short question if the old plan did."""
        answered = self._state() in _SERVING and not self._silence(old)
        with self._undone(old):
            verdict = self._replaced(new, old)
            if not verdict.worse and answered and (silence := self._silence(new)):
                return self._back_to(old, ComparisonVerdict(f"it does not answer: {silence}"))
            return verdict

    def run(self, plan: LaunchPlan) -> Message:
        """The daemon's answer; raises StartFailed where nothing runs afterwards, and Superseded."""
        with self.waiting(f"waiting until {plan.build} is ready") as progress:
            request = {
                "op": "start",
                "server": self.server,
                "plan": to_json(plan),
                "hold": self.held,
                "evicts": False,
            }
            answer = client.follow(self.paths, request, progress.step)
        outcome = answer["outcome"]
        if outcome["result"] == "superseded":
            raise Superseded(f"{_not_judged(plan)}: its start was {outcome['why']}.", hint=_STATUS)
        if outcome["result"] == "failed":
            why = f"{plan.profile} did not become ready on {plan.build}: {outcome['why']}"
            raise StartFailed(f"{why}{indented(log_of(answer))}", hint=outcome["hint"])
        if outcome["result"] == "stopped":
            raise SupervisorError("The server was stopped meanwhile.", hint=_STATUS)
        return answer

    @contextmanager
    def _undone(self, old: LaunchPlan) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.progress.step(f"interrupted, so {old.build} is started again")
            self.run(old)
            raise

    def _replaced(self, new: LaunchPlan, old: LaunchPlan) -> ComparisonVerdict:
        """It has to become ready, and not on the CPU by mistake."""
        was_ready = self._state() == "ready"
        answer = self.run(new)
        if reason := rolled_back(answer):
            return ComparisonVerdict(reason, log=log_of(answer))
        outcome = answer["outcome"]
        if outcome["result"] == "degraded" and was_ready:
            return self._back_to(old, ComparisonVerdict(str(outcome["why"]).rstrip(".")))
        return ComparisonVerdict()

    def _by_speed(self, new: LaunchPlan, old: LaunchPlan, before: Speed) -> ComparisonVerdict:
        """A bad figure is measured twice before it counts, and the old build once more after it."""
        try:
            after = self._measure(new, before.load)
            if speed.is_slower(after, before):
                self.progress.step(f"{new.build}: {speed.comparison(after, before, old.build)}; once more")
                after = speed.best(after, self._measure(new, before.load))
        except NetworkError as error:
            reason = f"it fails at the measurement that {old.build} took: {str(error).rstrip('.')}"
            return self._back_to(old, ComparisonVerdict(reason))
        figures = speed.comparison(after, before, old.build)
        if not speed.is_slower(after, before):
            return ComparisonVerdict(figures=figures)
        verdict = self._back_to(old, ComparisonVerdict(figures))
        return verdict if self._is_still_ahead(old, before, after) else replace(verdict, proved=False)

    def _is_still_ahead(self, old: LaunchPlan, before: Speed, after: Speed) -> bool:
        """Whether the old build still leaves the new one behind: else it is the machine that is busy now."""
        try:
            return speed.is_slower(after, self._measure(old, before.load))
        except NetworkError:
            return True

    def _back_to(self, old: LaunchPlan, verdict: ComparisonVerdict) -> ComparisonVerdict:
        self.progress.step(f"back to {old.build}: {verdict.worse}")
        if reason := rolled_back(self.run(old)):
            raise StartFailed(f"{old.build} did not come back, so the new one goes on: {reason}")
        return verdict

    def _state(self) -> str:
        servers = client.ask(self.paths, {"op": "status"})["status"]["servers"]
        return next((each["state"] for each in servers if self.server in {None, each["name"]}), "")

    def _measured(self, old: LaunchPlan) -> Speed | None:
        """None, said aloud, where there is nothing to compare with."""
        self.progress.step(f"measuring {old.build}, which runs now")
        try:
            return self._measure(old, None)
        except NetworkError as error:
            self.progress.step(f"note: the speeds will not be compared: {error}")
            return None

    def _measure(self, plan: LaunchPlan, load: Workload | None) -> Speed:
        return speed.measure(self._target(plan), load)

    def _silence(self, plan: LaunchPlan) -> str:
        """Why it does not answer a short question; empty where it does."""
        try:
            speed.glance(self._target(plan))
        except NetworkError as error:
            return str(error).rstrip(".")
        return ""

    def _target(self, plan: LaunchPlan) -> Target:
        """Raises Superseded where something else runs by now: what it does says nothing about this plan."""
        running = client.ask(self.paths, {"op": "running", "server": self.server})
        digests = {plan.digest, plan.adjusted.digest if plan.adjusted else plan.digest}
        if running["plan"] is None or running["plan"]["digest"] not in digests:
            instead = running["profile"] or "Nothing"
            raise Superseded(f"{_not_judged(plan)}: {instead} runs in place of {plan.profile}.", hint=_STATUS)
        return Target(running["url"], running["key"], plan.profile)


_STATUS = "goss-supervisor status"
_SERVING = {"ready", "degraded"}


def _not_judged(plan: LaunchPlan) -> str:
    return f"{plan.build} ({plan.flavour}) was not judged"


def rolled_back(answer: Message) -> str:
    """Why the lifecycle went back; empty where it did not.  Pure."""
    outcome = answer["outcome"]
    return str(outcome["why"]).rstrip(".") if outcome["result"] == "rolled back" else ""


def log_of(answer: Message) -> tuple[str, ...]:
    """The last lines of what failed.  Pure."""
    failure = answer["status"]["server"]["last_failure"] or {}
    return tuple(failure.get("log_tail", ()))


def indented(log: tuple[str, ...]) -> str:
    """Indented below a sentence.  Pure."""
    return "".join(f"\n  | {line}" for line in log)
