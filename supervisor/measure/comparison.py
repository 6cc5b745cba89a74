"""
Compares a new plan with the running one: it stays only if it serves as well.

The daemon's lifecycle rolls back by itself if the new plan does not become ready.  If it does but is worse,
we request the old plan again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from ..errors import NetworkError, StartFailed, Superseded, SupervisorError
from ..home import client
from ..home.client import Message
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.plan_json import to_json
from ..progress import Progress
from . import speed
from .speed import Load, Speed

Waiting = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True)
class ComparisonVerdict:
    """
    ``worse`` is why the old plan runs again, empty where the new one stays.

    ``withdrawn`` is why nothing was judged: a later request replaced ours, and what it asked for is left
    alone.  It is ``proved`` unless the machine itself got slower meanwhile.  The rest is for people.
    """

    worse: str = ""
    withdrawn: str = ""
    proved: bool = True
    figures: str = ""
    log: tuple[str, ...] = ()  # the new one's last lines


@dataclass(frozen=True, slots=True)
class Comparison:
    """``waiting`` shows a wait whose end is not known."""

    paths: Paths
    progress: Progress
    waiting: Waiting
    held: int = 0  # the id of our hold of the server

    def between(self, new: LaunchPlan, old: LaunchPlan) -> ComparisonVerdict:
        """
        Run the new plan in place of the old one, and judge it.

        Raises StartFailed where neither became ready, and SupervisorError if somebody stops them meanwhile.
        """
        why = f"comparing {new.build} with {old.build}"
        with client.hold(self.paths, "engine update", why) as held:
            return replace(self, held=held).judged(new, old)

    def judged(self, new: LaunchPlan, old: LaunchPlan) -> ComparisonVerdict:
        """The same, while the server is held."""
        was_ready = client.ask(self.paths, {"op": "status"})["status"]["server"]["state"] == "ready"
        before = self._measured(old)
        try:
            answer = self.run(new)
            if reason := rolled_back(answer):
                return ComparisonVerdict(reason, log=log_of(answer))
            outcome = answer["outcome"]
            if outcome["result"] == "degraded" and was_ready:
                return self._back_to(old, ComparisonVerdict(str(outcome["why"]).rstrip(".")))
            return ComparisonVerdict() if before is None else self._compared(new, old, before)
        except Superseded as error:
            return ComparisonVerdict(withdrawn=str(error).rstrip("."))
        except KeyboardInterrupt:
            self.progress.step(f"interrupted, so {old.build} is started again")
            self.run(old)
            raise

    def run(self, plan: LaunchPlan) -> Message:
        """The daemon's answer; raises StartFailed where nothing runs afterwards, and Superseded."""
        with self.waiting(f"waiting until {plan.build} is ready") as progress:
            request = {"op": "start", "plan": to_json(plan), "hold": self.held}
            answer = client.follow(self.paths, request, progress.step)
        outcome = answer["outcome"]
        if outcome["result"] == "superseded":
            raise Superseded(f"The start of {plan.build} was {outcome['why']}.")
        if outcome["result"] == "failed":
            why = f"{plan.profile} did not become ready on {plan.build}: {outcome['why']}"
            raise StartFailed(f"{why}{indented(log_of(answer))}", hint=outcome["hint"])
        if outcome["result"] == "stopped":
            raise SupervisorError("The server was stopped meanwhile.", hint="goss-supervisor status")
        return answer

    def _compared(self, new: LaunchPlan, old: LaunchPlan, before: Speed) -> ComparisonVerdict:
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

    def _measured(self, old: LaunchPlan) -> Speed | None:
        """None, said aloud, where there is nothing to compare with."""
        self.progress.step(f"measuring {old.build}, which runs now")
        try:
            return self._measure(old, None)
        except NetworkError as error:
            self.progress.step(f"note: the speeds will not be compared: {error}")
            return None

    def _measure(self, plan: LaunchPlan, load: Load | None) -> Speed:
        """Raises Superseded where something else runs by now: its speed says nothing about this plan."""
        running = client.ask(self.paths, {"op": "running"})
        digests = {plan.digest, plan.adjusted.digest if plan.adjusted else plan.digest}
        if running["plan"] is None or running["plan"]["digest"] not in digests:
            raise Superseded(f"{running['profile'] or 'Nothing'} runs in place of {plan.profile}.")
        return speed.measure(running["url"], running["key"], load)


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
