"""Whose engine a command is about: that of a profile, or what ``config.yaml`` says for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..daemon import client
from ..engine.released import channel_of
from ..errors import ConfigError, NotRunning, SupervisorError
from ..paths import Paths
from ..plan.types import LaunchPlan
from ..plan.wire import from_json
from ..profile.definition import Engine
from ..profile.resolve import engine_settings, resolve
from ..profile.store import ProfileStore


@dataclass(frozen=True, slots=True)
class Subject:
    """``running`` is the plan that the daemon runs for this very profile; None where it does not."""

    engine: Engine
    wants_gpu: bool = False
    profile: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    running: LaunchPlan | None = None

    @property
    def channel(self) -> str:
        """default, stable or nightly.  Raises ConfigError where a tag is pinned, or there is no channel."""
        if reason := why_fixed(self.engine):
            raise ConfigError(
                f"{self.profile or 'config.yaml'}: {reason}.",
                hint="Name another profile with --profile, or change engine.source and engine.channel.",
            )
        channel = channel_of(self.engine)
        assert channel is not None
        return channel


def subject_of(paths: Paths, profile: str | None = None) -> Subject:
    """
    The profile that is named, else the one that runs, else none of them.

    Raises NotFound and ConfigError of a profile that cannot be resolved.
    """
    store = ProfileStore(paths.profiles)
    running = running_plan(paths)
    if running is not None and profile in {None, running.profile}:
        found = resolve(running.profile, store, running.settings)
        return Subject(found.engine, found.wants_gpu, found.name, running.settings, running)
    if profile is not None:
        found = resolve(profile, store)
        return Subject(found.engine, found.wants_gpu, found.name)
    return Subject(engine_settings(store))


def running_plan(paths: Paths) -> LaunchPlan | None:
    """
    What the daemon runs, or last tried to; None without a daemon.

    Raises SupervisorError for a daemon of another version.
    """
    try:
        plan = client.ask(paths, {"op": "running"}).get("plan")
        return None if plan is None else from_json(plan)
    except NotRunning:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise SupervisorError(
            "The daemon is of another version.", hint="goss-supervisor stop, then start it again"
        ) from error


def why_fixed(engine: Engine) -> str:
    """Why there is nothing that an update could change; empty where a channel moves.  Pure."""
    if engine.source not in {"auto", "release"}:
        return f"engine.source is {engine.source}: there is no channel to follow"
    if channel_of(engine) is None:
        return f"{engine.channel} is pinned (engine.channel): there is no channel to follow"
    return ""
