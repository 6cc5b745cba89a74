"""The target of an engine command: one profile's engine, or the default of ``config.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..engine.released import channel_of
from ..errors import ConfigError, NotRunning
from ..home import client
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen
from ..plan.plan_json import from_json, listen_from_json
from ..profile.definition import Engine
from ..profile.resolve import engine_settings, resolve
from ..profile.store import ProfileStore


@dataclass(frozen=True, slots=True)
class UpdateTarget:
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


def target_of(paths: Paths, profile: str | None = None) -> UpdateTarget:
    """
    The profile that is named, else the one that runs, else none of them.

    Raises NotFound and ConfigError of a profile that cannot be resolved.
    """
    store = ProfileStore(paths.profiles)
    plan = running_plan(paths)
    if plan is not None and profile in {None, plan.profile}:
        found = resolve(plan.profile, store, plan.settings)
        return UpdateTarget(found.engine, found.wants_gpu, found.name, plan.settings, plan)
    if profile is not None:
        found = resolve(profile, store)
        return UpdateTarget(found.engine, found.wants_gpu, found.name)
    return UpdateTarget(engine_settings(store))


def running(paths: Paths) -> tuple[str | None, LaunchPlan | None, Listen | None]:
    """
    The address of the server, and the plan that the daemon runs or last tried; (None, None) without a daemon.

    Raises SupervisorError for a daemon of another version.
    """
    try:
        answer = client.ask(paths, {"op": "running"})
        plan = from_json(answer["plan"]) if answer.get("plan") else None
        return answer.get("url"), plan, listen_from_json(answer["listen"]) if answer.get("listen") else None
    except NotRunning:
        return None, None, None


def running_plan(paths: Paths) -> LaunchPlan | None:
    return running(paths)[1]


def why_fixed(engine: Engine) -> str:
    """Why there is nothing that an update could change; empty where a channel moves.  Pure."""
    if engine.source not in {"auto", "release"}:
        return f"engine.source is {engine.source}: there is no channel to follow"
    if channel_of(engine) is None:
        return f"{engine.channel} is pinned (engine.channel): there is no channel to follow"
    return ""
