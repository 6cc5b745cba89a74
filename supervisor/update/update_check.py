"""Checks whether a newer engine is available, and keeps the answer for ``status``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from ..engine.catalogue import pins
from ..engine.catalogue.releases import REPOSITORY, Release
from ..engine.install_context import InstallContext
from ..engine.local_engines import LocalEngines
from ..engine.released import DEFAULT, Released, channel_of, chosen_tag
from ..engine.suitability import WantedEngine
from ..files import write_json
from ..home.places import update_file
from ..paths import Paths
from ..profile.definition import Engine
from .rollout import is_newer, roll_out
from .update_target import UpdateTarget, why_fixed


@dataclass(frozen=True, slots=True)
class UpdateCheck:
    """
    ``available`` is the tag that an update would take; ``note`` is what was passed over or taken back.

    ``problem`` is why nobody could tell, or only what was known earlier: a network that is down is recorded,
    and ``status`` does not bother people with it.
    """

    channel: str | None = None
    current: str | None = None
    available: str | None = None
    note: str = ""
    problem: str = ""
    checked_at: str = ""  # ISO 8601, UTC

    @property
    def sentence(self) -> str:
        """For people."""
        notes = "; ".join(filter(None, (self.note, self.problem)))
        note = f" ({notes})" if notes else ""
        if self.available:
            return f"{self.available} is there, {self.current or 'nothing'} is in use{note}"
        return f"nothing newer than {self.current or 'nothing'}{note}"


def look(target: UpdateTarget, context: InstallContext) -> UpdateCheck:
    """
    Ask the catalogue; the default channel knows its tag without a network.

    A build that is marked bad here is passed over, with its reason.  A server that does not have it yet is
    news too, as is one that an update which was broken off left on it.  Raises NetworkError and NotFound.
    """
    running = target.running
    current = running.build if running else chosen_tag(target.engine, context)
    found = UpdateCheck(channel_of(target.engine), current)
    if reason := why_fixed(target.engine):
        return replace(found, note=reason)
    release, passed, problem = _newest(target, context)
    found = replace(found, note="; ".join(passed), problem=problem)
    if release is None:
        return found
    if is_newer(release.tag, current):
        return replace(found, available=release.tag)
    if running and running.repository != REPOSITORY:  # it is replaced whatever its number is
        official = f"an official release, where {current or 'another build'} stands in"
        return replace(found, available=release.tag, note="; ".join((*passed, official)))
    if behind := roll_out(target.fleet, target.channel, release.tag).behind:
        note = f"not on {', '.join(behind)} yet"
        return replace(found, available=release.tag, note="; ".join((*passed, note)))
    if running and running.build == release.tag and half_way(target.engine, context, release.tag):
        return replace(found, available=release.tag, note="; ".join((*passed, "an update was broken off")))
    return found


def with_workers(found: UpdateCheck, target: UpdateTarget) -> UpdateCheck:
    """With a note on the workers that an update cannot move; it is refused if their RPC is another."""
    workers = [*target.workers, *(each for server in target.fleet for each in server.workers)]
    fixed = dict.fromkeys(str(each.address) for each in workers if not each.supervisor)
    if not (found.available and fixed):
        return found
    note = (
        f"the entry of {', '.join(fixed)} has no supervisor:, so it stays, and the update is refused if its "
        "RPC version is another"
    )
    return replace(found, note="; ".join(filter(None, (found.note, note))))


def half_way(engine: Engine, context: InstallContext, tag: str) -> str | None:
    """The channel's older choice, where a server that runs ``tag`` was left so by an update; else None."""
    chosen = chosen_tag(engine, context)
    return chosen if chosen is not None and is_newer(tag, chosen) else None


def record(found: UpdateCheck, paths: Paths) -> None:
    """Keep it for ``status``; raises SupervisorError where nothing may be written."""
    stamped = replace(found, checked_at=datetime.now(UTC).isoformat(timespec="seconds"))
    write_json(update_file(paths), asdict(stamped))


def released(target: UpdateTarget, context: InstallContext) -> Released:
    """Official releases, judged for this target."""
    wanted = WantedEngine(target.engine.flavour, None, target.wants_gpu)
    return Released(target.engine, LocalEngines(context, wanted))


def _newest(target: UpdateTarget, context: InstallContext) -> tuple[Release | None, tuple[str, ...], str]:
    """The release to go to, the newer ones that were passed over, with reasons, and if the list is old."""
    releases, channel = released(target, context), target.channel
    catalogue = context.catalogue(target.engine)
    if channel != DEFAULT:
        found = catalogue.newest(channel, releases.objection)
        return found.release, found.passed, found.note
    release = catalogue.release(pins.DEFAULT_TAG)
    refusal = releases.objection(release)
    return (None, (f"{release.tag}: {refusal}",), "") if refusal else (release, (), "")
