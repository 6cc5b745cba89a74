"""
Changes the engine: ``engine update``, ``use`` and ``rollback``.

All that can take long or fail comes before anything is stopped: the new build is downloaded and tested while
the old one runs, and the profile's options are checked against its ``--help``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from ..engine.catalogue.releases import REPOSITORY
from ..engine.choose import acquire
from ..engine.install_context import InstallContext
from ..engine.inventory import installed, key_of
from ..engine.released import chosen_tag
from ..engine.worker_probe import protocol_of
from ..errors import DoesNotFit, NotFound, StartFailed, SupervisorError
from ..home import client
from ..locks import Lock
from ..measure.comparison import Comparison, ComparisonVerdict, indented, rolled_back
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.plan_json import to_json
from ..prepare.prepare import prepare
from .rollout import Rollout, RolloutEnd, ServerResult, carry_out, roll_out
from .update_check import half_way, released
from .update_target import FleetServer, UpdateTarget, fleet_of, in_line, servers_of
from .worker_machine import WorkerMachine
from .worker_moves import WorkerMoves, broken_off, check_that_stays

_SETTLE_SECONDS = 600.0  # a large model is sent over the network again
_PAUSE_SECONDS = 0.5
_SETTLED = {"ready", "degraded", "failed", "stopped", "sleeping"}


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The outcome: ``text`` for people, in a sentence without its full stop."""

    result: Literal["updated", "installed", "rolled back"]
    tag: str  # the one that is in use now
    text: str
    why: str = ""  # of a build that was taken back
    log: tuple[str, ...] = ()  # its last lines
    servers: tuple[ServerResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Updater:
    """
    Changes the engine of one target's channel.

    Its methods raise ConfigError for options that the new build does not know, NetworkError,
    VerificationFailed and NoSuitableEngine before anything is stopped, and StartFailed after it.
    """

    target: UpdateTarget
    context: InstallContext
    comparison: Comparison

    def update(self, tag: str) -> UpdateResult:
        """Go to a release, and back again if it is worse; then it is marked bad, with the reason."""
        with alone(self.context.paths):
            self._recover()
            workers, protocol = self._ready_to_move(tag, self._rollout(tag))
            self._still_running()
            if (before := half_way(self.target.engine, self.context, tag)) is not None:
                self._finish_going_back(tag, before)
            rollout = self._rollout(tag)
            why = self._why(rollout)
            self.context.progress.step(why)
            back_here = partial(self._again, [(each, each.plan) for each in rollout.moves if each.workers])
            with workers.moved(tag, protocol, back_here):
                self._settle(rollout, workers)
                keep = partial(self._keep, partial(self._choose, tag), workers)
                moves, end = self._carry_out(rollout, tag, keep)
                if end.failed is not None:
                    return self._taken_back(rollout, moves, end, workers.back(back_here))
        if not rollout.moves:
            later = "next load" if rollout.resting else "next start"
            text = f"{tag} is installed, the {later} takes it"
            return UpdateResult("installed", tag, text, servers=end.servers)
        first = moves.plans[rollout.moves[0].name]
        text = f"{first.profile} runs on {_name(first)} now"
        if len(rollout.moves) > 1:
            moved = [each.profile for each in end.servers if each.result in {"compared", "moved"}]
            text = f"{' and '.join(moved)} run on {first.build} now; {why}"
        if end.verdict.figures:
            text = f"{text}: {end.verdict.figures}"
        return UpdateResult("updated", tag, text, servers=end.servers)

    def install(self, tag: str) -> UpdateResult:
        """On disk and proved, and nothing else."""
        self._prepare(tag)
        return UpdateResult(
            "installed", tag, f"{tag} is installed; goss-supervisor engine use {tag} chooses it"
        )

    def use(self, tag: str, *, force: bool) -> UpdateResult:
        """
        Install a release if it is not, and choose it for the channel; what runs goes on running.

        Raises SupervisorError for one that is marked bad; ``force`` forgives.
        """
        self._forgive(tag) if force else self._refuse_a_bad(tag)
        self._prepare(tag)
        self._choose(tag)
        running = self.target.running
        more = "; goss-supervisor restart runs it" if running and running.build != tag else ""
        return UpdateResult("installed", tag, f"{tag} is chosen ({self.target.channel}){more}")

    def rollback(self) -> UpdateResult:
        """
        Go to what the channel had before.  What is left is marked bad, so that no update takes it again.

        Raises NotFound where there is nothing to go back to.
        """
        with alone(self.context.paths):
            self._recover()
            left, tag = self._two_last()
            rollout = self._rollout(tag, back=True)
            workers, protocol = self._ready_to_move(tag, rollout)
            back_here = partial(self._again, [(each, each.plan) for each in rollout.moves if each.workers])
            with workers.moved(tag, protocol, back_here):
                keep = partial(self._keep, partial(self._leave, left), workers)
                moves, end = self._carry_out(rollout, tag, keep, compares=False)
                if end.failed is not None:
                    plan, verdict = moves.plans[end.failed.name], end.verdict
                    raise StartFailed(
                        f"{_name(plan)} will not do for {plan.profile}, and all run on as before: "
                        f"{verdict.worse}{indented(verdict.log)}"
                    )
        return UpdateResult(
            "updated", tag, f"back to {tag}; {left} is not taken again by itself", servers=end.servers
        )

    def recover(self) -> None:
        """Take workers back that an update which was killed has left on another build."""
        with alone(self.context.paths):
            self._recover()

    def _recover(self) -> None:
        target, context = self.target, self.context
        left = broken_off(context.paths, context.progress, WorkerMachine)
        if left is None:
            return
        chosen = chosen_tag(target.engine, context)
        if chosen == left.tag:  # it was killed when all was done
            left.kept()
            return
        names = ", ".join(each.name for each in left.machines)
        context.progress.step(f"an update was broken off: first {names} back")
        fleet = fleet_of(context.paths)
        moved = [each for each in fleet if each.workers and each.state not in {"stopped", "sleeping"}]
        plans = [
            (each, self._plan(chosen, each.plan) if chosen and each.plan.build == left.tag else each.plan)
            for each in moved
        ]
        told = left.back(partial(self._again, plans))
        if left.begun:
            raise SupervisorError(f"An update was broken off.{told}", hint="Mend that, and repeat this.")

    def _ready_to_move(self, tag: str, rollout: Rollout) -> tuple[WorkerMoves, str]:
        """
        All that can be done before anything is stopped; the workers, and the RPC version of the build here.

        With workers the options of profiles are only checked when those were moved: a worker that is free is
        asked for that, and would be of another RPC version until then.
        """
        target, context = self.target, self.context
        servers = (*rollout.moves, *rollout.resting)
        named = {each.address: each for server in servers for each in server.workers}
        workers = {**{each.address: each for each in target.workers}, **named}.values()
        machines = [WorkerMachine(each) for each in workers if each.supervisor]
        moves = WorkerMoves(context.paths, context.progress, machines)
        if not workers:
            self._prepare(tag)
            return moves, ""
        moves.look()
        build = acquire(target.engine, wants_gpu=target.wants_gpu, context=context, tag=tag)
        protocol = protocol_of(build)
        for each in workers:
            if not each.supervisor:
                check_that_stays(each, tag, protocol, context)
        return moves, protocol

    def _settle(self, rollout: Rollout, workers: WorkerMoves) -> None:
        """A server whose worker was restarted loads again; what is loading cannot be measured."""
        names = {each.name for each in rollout.moves if each.workers} if workers.begun else set()
        deadline = time.monotonic() + _SETTLE_SECONDS
        while names and time.monotonic() < deadline:
            listed = client.ask(self.context.paths, {"op": "status"})["status"]["servers"]
            names &= {each["name"] for each in listed if each["state"] not in _SETTLED}
            if names:
                time.sleep(_PAUSE_SECONDS)

    def _keep(self, choose: Callable[[], None], workers: WorkerMoves) -> None:
        choose()
        workers.kept()

    def _again(self, plans: Sequence[tuple[FleetServer, LaunchPlan]]) -> None:
        """The workers went back, which has ended the servers that use them, or left them without any."""
        for server, plan in plans:
            try:
                with self.comparison.holding(server.control_name, "its workers were moved back") as held:
                    held.run(plan)
            except SupervisorError as error:
                self.context.progress.step(f"note: {plan.profile} is not back: {in_line(error)}")

    def _leave(self, left: str) -> None:
        self.context.chosen.back(self.target.channel)
        for install in installed(self.context.paths.engines):
            if (install.repository, install.tag) == (REPOSITORY, left):
                key = key_of(REPOSITORY, left, install.flavour)
                self.context.chosen.mark_bad(key, "it was left by engine rollback")

    def _taken_back(self, rollout: Rollout, moves: _Moves, end: RolloutEnd, told: str) -> UpdateResult:
        """The build is marked in each flavour that took part: else the next look would try it again."""
        failed, verdict = end.failed, end.verdict
        assert failed is not None
        new, old = moves.plans[failed.name], failed.plan
        why = f"{verdict.worse}, on {old.profile}" if len(rollout.moves) > 1 else verdict.worse
        if verdict.proved:
            for server in rollout.moves[: rollout.moves.index(failed) + 1]:
                plan = moves.plans[server.name]
                self.context.chosen.mark_bad(key_of(REPOSITORY, plan.build, plan.flavour), why)
        else:
            why = f"{why}, but so is {old.build} by now: the machine is too busy to tell"
        text = f"{_name(new)} was taken back, and {old.build} runs again"
        return UpdateResult("rolled back", old.build, text, f"{why}{told}", verdict.log, end.servers)

    def _finish_going_back(self, tag: str, before: str) -> None:
        """An update was broken off when some had been moved: nobody knows whether they are worse."""
        left = [each for each in fleet_of(self.context.paths) if each.plan.build == tag]
        rollout = roll_out(left, self.target.channel, before, back=True)
        if rollout.moves:
            names = ", ".join(each.plan.profile for each in rollout.moves)
            self.context.progress.step(f"an update was broken off: first {names} back to {before}")
        self._carry_out(rollout, before, lambda: None, compares=False)

    def _rollout(self, tag: str, *, back: bool = False) -> Rollout:
        fleet = fleet_of(self.context.paths)
        return roll_out(fleet, self.target.channel, tag, first=self.target.profile, back=back)

    def _why(self, rollout: Rollout) -> str:
        """On which server the builds are compared, and why there."""
        if not rollout.moves:
            return "nothing is loaded that could show which build is better"
        first = rollout.moves[0].plan.profile
        why = self.target.why if first == self.target.profile else "it is the first that lacks the build"
        return f"compared on {first} ({why})"

    def _carry_out(
        self, rollout: Rollout, tag: str, keep: Callable[[], None], *, compares: bool = True
    ) -> tuple[_Moves, RolloutEnd]:
        """All plans are made first: an option that the build does not know stops nothing."""
        plans = {each.name: self._plan(tag, each.plan) for each in rollout.moves}
        for each in rollout.resting:
            try:
                plans[each.name] = self._plan(tag, each.plan)
            except DoesNotFit as error:
                rollout = rollout.without(each, in_line(error))
        with ExitStack() as holds:
            moves = _Moves(self.comparison, plans, holds, keep)
            return moves, carry_out(rollout, tag, moves, compares=compares)

    def _plan(self, tag: str, runs: LaunchPlan) -> LaunchPlan:
        paths, progress = self.context.paths, self.context.progress
        return prepare(runs.profile, runs.settings, paths, progress, tag=tag).plan

    def _prepare(self, tag: str) -> None:
        """On disk and proved; with a profile its options are checked too."""
        target, context = self.target, self.context
        if target.profile is not None:
            prepare(target.profile, target.settings, context.paths, context.progress, tag=tag)
        else:
            acquire(target.engine, wants_gpu=target.wants_gpu, context=context, tag=tag)

    def _still_running(self) -> None:
        """A download takes minutes.  Raises SupervisorError if something else runs by now."""
        seen = self.target.running
        if seen is None:
            return
        servers = servers_of(self.context.paths)
        if not any(each.plan.digest == seen.digest for each in servers):
            name = servers[0].plan.profile if servers else "nothing"
            raise SupervisorError(f"Meanwhile {name} runs in place of {seen.profile}; it was left alone.")

    def _two_last(self) -> tuple[str, str]:
        tags = self.context.chosen.tags(self.target.channel)
        if len(tags) < 2:
            raise NotFound(
                f"There is no earlier engine of the {self.target.channel} channel.",
                hint="goss-supervisor engine ls, then goss-supervisor engine use TAG",
            )
        return tags[0], tags[1]

    def _choose(self, tag: str) -> None:
        """A build in use that was never chosen is recorded too, so that a rollback finds it."""
        channel, chosen = self.target.channel, self.context.chosen
        running = self.target.running
        is_release = running is not None and running.repository == REPOSITORY
        before = running.build if running and is_release else chosen_tag(self.target.engine, self.context)
        if before not in {None, tag} and not chosen.tags(channel):
            chosen.choose(channel, str(before))
        chosen.choose(channel, tag)

    def _refuse_a_bad(self, tag: str) -> None:
        release = self.context.catalogue(self.target.engine).release(tag)
        if bad := released(self.target, self.context).why_bad(release):
            raise SupervisorError(
                f"{tag} is not taken: {bad}.", hint=f"goss-supervisor engine use {tag} --force"
            )

    def _forgive(self, tag: str) -> None:
        release = self.context.catalogue(self.target.engine).release(tag)
        for option in released(self.target, self.context).survey(release).ranked:
            self.context.chosen.forgive(key_of(REPOSITORY, tag, option.flavour))


@dataclass(frozen=True, slots=True)
class _Moves:
    """
    The `Mover` of real servers: each is held from its move until all is over, so that nobody starts or
    unloads it.  ``plans`` are the new ones, by server.
    """

    comparison: Comparison
    plans: Mapping[str, LaunchPlan]
    holds: ExitStack
    keep: Callable[[], None]
    held: dict[str, Comparison] = field(default_factory=dict)  # by server

    def compare(self, server: FleetServer) -> ComparisonVerdict:
        new, old = self.plans[server.name], server.plan
        return self._on(server, f"comparing {new.build} with {old.build}").compared(new, old)

    def relocate(self, server: FleetServer) -> ComparisonVerdict:
        new = self.plans[server.name]
        self.comparison.progress.step(f"{server.plan.profile}: from {server.plan.build} to {new.build}")
        return self._on(server, f"moving it to {new.build}").moved(new, server.plan)

    def is_idle(self, server: FleetServer) -> bool:
        listed = client.ask(self.comparison.paths, {"op": "status"})["status"]["servers"]
        return any(each["name"] == server.name and not each["requests_under_way"] for each in listed)

    def back(self, server: FleetServer) -> str:
        self.comparison.progress.step(f"{server.plan.profile}: back to {server.plan.build}")
        try:
            return rolled_back(self.held[server.name].run(server.plan))
        except SupervisorError as error:
            return in_line(error)

    def rest(self, server: FleetServer) -> str:
        request = {
            "op": "reload",
            "server": server.control_name,
            "plan": to_json(self.plans[server.name]),
        }
        try:
            client.ask(self.comparison.paths, request)
        except SupervisorError as error:
            return in_line(error)
        return ""

    def _on(self, server: FleetServer, why: str) -> Comparison:
        held = self.holds.enter_context(self.comparison.holding(server.control_name, why))
        self.held[server.name] = held
        return held


@contextmanager
def alone(paths: Paths) -> Iterator[None]:
    """Raises SupervisorError while another update of this home is under way."""
    lock = Lock.acquire(paths.runtime / "update.lock", {"pid": os.getpid()})
    if lock is None:
        raise SupervisorError("Another update is under way here.", hint="goss-supervisor status")
    try:
        yield
    finally:
        lock.release()


def _name(plan: LaunchPlan) -> str:
    return f"{plan.build} ({plan.flavour})"
