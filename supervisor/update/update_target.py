"""The target of an engine command: a profile's engine, or the default of ``config.yaml``; and all servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ..engine.released import channel_of
from ..errors import ConfigError, NotRunning, SupervisorError
from ..home import client
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen
from ..plan.plan_json import from_json, listen_from_json
from ..profile.definition import Engine
from ..profile.resolve import engine_settings, resolve
from ..profile.settings import SETTINGS_NAME
from ..profile.store import ProfileStore
from ..profile.worker_address import Worker, parse_worker


@dataclass(frozen=True, slots=True)
class FleetServer:
    """A server of the daemon, with the plan that it runs, sleeps with, or last tried."""

    name: str
    state: str
    plan: LaunchPlan
    engine: Engine = field(default_factory=Engine)  # as its profile has it now
    wants_gpu: bool = False
    trouble: str = ""  # why its profile cannot be read
    is_main: bool = False
    workers: tuple[Worker, ...] = ()  # that its plan uses

    @property
    def control_name(self) -> str | None:
        """As requests to the daemon name it: a profile may be called like the main server."""
        return None if self.is_main else self.name

    @property
    def serves(self) -> bool:
        return self.state in {"ready", "degraded"}


@dataclass(frozen=True, slots=True)
class UpdateTarget:
    """
    ``running`` is the plan that the daemon runs for this very profile; None where it does not.  Of an update
    ``fleet`` is all servers, and ``why`` says why this one is compared.
    """

    engine: Engine
    wants_gpu: bool = False
    profile: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    running: LaunchPlan | None = None
    fleet: tuple[FleetServer, ...] = ()
    why: str = ""
    workers: tuple[Worker, ...] = ()  # of a profile that does not run

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
    plan = running_plan(paths) if profile is None else _plan_of(profile, servers_of(paths))
    if plan is not None:
        found = resolve(plan.profile, store, plan.settings)
        return UpdateTarget(found.engine, found.wants_gpu, found.name, plan.settings, plan)
    if profile is not None:
        found = resolve(profile, store)
        workers = found.workers  # those of config.yaml are only used where they are needed
        if workers and found.origins["workers"].profile == SETTINGS_NAME:
            workers = ()
        return UpdateTarget(found.engine, found.wants_gpu, found.name, workers=workers)
    return UpdateTarget(engine_settings(store))


def update_target_of(paths: Paths, profile: str | None) -> UpdateTarget:
    """The same, where without a name it is the server on which an update compares two builds."""
    fleet = fleet_of(paths)
    found = None if profile else to_compare(fleet, partial(_answered, paths))
    if found is None:
        why = "it was named" if profile else "no other server serves"
        return replace(target_of(paths, profile), fleet=fleet, why=why)
    server, why = found
    plan = server.plan
    return UpdateTarget(server.engine, server.wants_gpu, plan.profile, plan.settings, plan, fleet, why)


def to_compare(
    fleet: Sequence[FleetServer], answered: Callable[[], Mapping[str, int]]
) -> tuple[FleetServer, str] | None:
    """
    The main server, if it serves and follows a channel, else the one of those that do with most requests,
    and why.  None where no server does.  ``answered`` gives the requests of each profile.  Pure.
    """
    able = [each for each in fleet if each.serves and not each.trouble and not why_fixed(each.engine)]
    if not able:
        return None
    if able[0].is_main:
        return able[0], "it is the main server"
    counts = answered()
    found = max(able, key=lambda each: counts.get(each.plan.profile, 0))
    return found, "the main server does not serve, or follows no channel; of the others it has most requests"


def _answered(paths: Paths) -> Mapping[str, int]:
    return Counter(each["profile"] for each in client.ask(paths, {"op": "requests"})["requests"])


def fleet_of(paths: Paths) -> tuple[FleetServer, ...]:
    """All servers that have a plan, the main one first, with what their profiles say by now."""
    store = ProfileStore(paths.profiles)
    return tuple(_with_engine(each, store) for each in servers_of(paths))


def servers_of(paths: Paths) -> tuple[FleetServer, ...]:
    """The same as far as the daemon knows; none without one."""
    try:
        status = client.ask(paths, {"op": "status"})["status"]
        listed = status.get("servers") or [status["server"]]  # a daemon of an older version has one
        return tuple(
            FleetServer(each["name"], each["state"], plan, is_main=number == 0)
            for number, each in enumerate(listed)
            if (plan := running_plan(paths, each["name"] if number else None)) is not None
        )
    except NotRunning:
        return ()


def _with_engine(server: FleetServer, store: ProfileStore) -> FleetServer:
    try:
        profile = resolve(server.plan.profile, store, server.plan.settings)
    except SupervisorError as error:
        return replace(server, trouble=in_line(error))
    written = {str(each.address): each for each in profile.workers}
    workers = tuple(written.get(each) or Worker(parse_worker(each)) for each in server.plan.workers)
    return replace(server, engine=profile.engine, wants_gpu=profile.wants_gpu, workers=workers)


def in_line(error: SupervisorError) -> str:
    """Its first line, as a part of a sentence."""
    return str(error).splitlines()[0].rstrip(".")


def _plan_of(profile: str, servers: Sequence[FleetServer]) -> LaunchPlan | None:
    return next((each.plan for each in servers if each.plan.profile == profile), None)


def running(paths: Paths, server: str | None = None) -> tuple[str | None, LaunchPlan | None, Listen | None]:
    """
    The address of the server, and the plan that the daemon runs or last tried; (None, None) without a daemon.

    Raises SupervisorError for a daemon of another version.
    """
    try:
        answer = client.ask(paths, {"op": "running", "server": server})
        plan = from_json(answer["plan"]) if answer.get("plan") else None
        return answer.get("url"), plan, listen_from_json(answer["listen"]) if answer.get("listen") else None
    except NotRunning:
        return None, None, None


def running_plan(paths: Paths, server: str | None = None) -> LaunchPlan | None:
    return running(paths, server)[1]


def why_fixed(engine: Engine) -> str:
    """Why there is nothing that an update could change; empty where a channel moves.  Pure."""
    if engine.source not in {"auto", "release"}:
        return f"engine.source is {engine.source}: there is no channel to follow"
    if channel_of(engine) is None:
        return f"{engine.channel} is pinned (engine.channel): there is no channel to follow"
    return ""
