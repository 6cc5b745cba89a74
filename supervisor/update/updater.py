"""
Changes the engine: ``engine update``, ``use`` and ``rollback``.

All that can take long or fail comes before anything is stopped: the new build is downloaded and tested while
the old one runs, and the profile's options are checked against its ``--help``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ..engine.catalogue.releases import REPOSITORY
from ..engine.choose import acquire
from ..engine.install_context import InstallContext
from ..engine.inventory import installed, key_of
from ..engine.released import chosen_tag
from ..errors import NotFound, StartFailed, Superseded, SupervisorError
from ..locks import Lock
from ..measure.comparison import Comparison, ComparisonVerdict, indented, log_of, rolled_back
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..prepare.prepare import prepare
from .update_check import released
from .update_target import UpdateTarget, running_plan


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The outcome: ``text`` for people, in a sentence without its full stop."""

    result: Literal["updated", "installed", "rolled back"]
    tag: str  # the one that is in use now
    text: str
    why: str = ""  # of a build that was taken back
    log: tuple[str, ...] = ()  # its last lines


@dataclass(frozen=True, slots=True)
class Updater:
    """
    Changes the engine of one target.

    Its methods raise ConfigError for options that the new build does not know, NetworkError,
    VerificationFailed and NoSuitableEngine before anything is stopped, and StartFailed after it.
    """

    target: UpdateTarget
    context: InstallContext
    comparison: Comparison

    def update(self, tag: str) -> UpdateResult:
        """Go to a release, and back again if it is worse; then it is marked bad, with the reason."""
        with alone(self.context.paths):
            if self.target.running is None:
                self._prepare(tag)
                self._choose(tag)
                return UpdateResult("installed", tag, f"{tag} is installed, the next start takes it")
            new = self._plan(tag)
            old = self._still_running(self.target.running)
            verdict = self.comparison.between(new, old)
            if verdict.withdrawn:
                raise Superseded(
                    f"{_name(new)} was not judged: {verdict.withdrawn}.", hint="goss-supervisor status"
                )
            if verdict.worse:
                return self._taken_back(new, old, verdict)
            self._choose(tag)
        figures = f": {verdict.figures}" if verdict.figures else ""
        return UpdateResult("updated", tag, f"{new.profile} runs on {_name(new)} now{figures}")

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
            left, tag = self._two_last()
            if self.target.running is not None and self.target.running.build != tag:
                self._switch(tag)
            self.context.chosen.back(self.target.channel)
            for install in installed(self.context.paths.engines):
                if (install.repository, install.tag) == (REPOSITORY, left):
                    key = key_of(REPOSITORY, left, install.flavour)
                    self.context.chosen.mark_bad(key, "it was left by engine rollback")
        return UpdateResult("updated", tag, f"back to {tag}; {left} is not taken again by itself")

    def _taken_back(self, new: LaunchPlan, old: LaunchPlan, verdict: ComparisonVerdict) -> UpdateResult:
        text = f"{_name(new)} was taken back, and {old.build} runs again"
        why = verdict.worse
        if verdict.proved:
            self.context.chosen.mark_bad(key_of(REPOSITORY, new.build, new.flavour), why)
        else:
            why = f"{why}, but so is {old.build} by now: the machine is too busy to tell"
        return UpdateResult("rolled back", old.build, text, why, verdict.log)

    def _plan(self, tag: str) -> LaunchPlan:
        target, context = self.target, self.context
        assert target.profile is not None
        return prepare(target.profile, target.settings, context.paths, context.progress, tag=tag).plan

    def _prepare(self, tag: str) -> None:
        """On disk and proved; with a profile its options are checked too."""
        if self.target.profile is not None:
            self._plan(tag)
        else:
            acquire(self.target.engine, wants_gpu=self.target.wants_gpu, context=self.context, tag=tag)

    def _still_running(self, seen: LaunchPlan) -> LaunchPlan:
        """A download takes minutes.  Raises SupervisorError if something else runs by now."""
        now = running_plan(self.context.paths)
        if now is None or now.digest != seen.digest:
            name = now.profile if now else "nothing"
            raise SupervisorError(f"Meanwhile {name} runs in place of {seen.profile}; it was left alone.")
        return now

    def _switch(self, tag: str) -> None:
        plan = self._plan(tag)
        answer = self.comparison.run(plan)
        if reason := rolled_back(answer):
            raise StartFailed(
                f"{_name(plan)} did not become ready, and {plan.profile} runs on as before: "
                f"{reason}{indented(log_of(answer))}"
            )

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
