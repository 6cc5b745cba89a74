"""From the words of ``service`` to what is asked of a service manager, and what has to be there before."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from ..daemon import client
from ..errors import AlreadyRunning, NotFound, NotRunning, UsageError
from ..paths import HOME_VARIABLE, Paths
from ..profile.types import Profile
from ..service.account import Account, account_of_system, is_root, make_home, run_for
from ..service.types import NAME, Manager, Request, Scope, Service

SYSTEM_HOME = Path("/var/lib") / NAME
SYSTEM_HOME_OF_MACS = Path("/Library/Application Support") / NAME

# where things lie; none of them holds a secret
_KEPT = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "LLAMA_CACHE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
)


def scope_of(words: str | None) -> Scope:
    """Where nothing is said: root's services are the system's."""
    if words == "system" or (words is None and is_root()):
        return "system"
    return "user"


def home_of(scope: Scope, environ: Mapping[str, str] = os.environ) -> Path | None:
    """What everything of the service is under; None for a user's own folders."""
    if named := environ.get(HOME_VARIABLE):
        return Path(named).expanduser().absolute()
    if scope == "user":
        return None
    return SYSTEM_HOME_OF_MACS if sys.platform == "darwin" else SYSTEM_HOME


def paths_of(home: Path | None) -> Paths:
    return Paths.of_user() if home is None else Paths.under(home)


def account_of(scope: Scope, run_as: str | None) -> Account:
    """Raises as `account_of_system` does."""
    return Account(Path.home()) if scope == "user" else account_of_system(run_as, os.environ)


def program(*words: str) -> tuple[str, ...]:
    """This program, wherever it is called; ``-P``: never a `supervisor` folder of the working directory."""
    return (sys.executable, "-P", "-m", "supervisor", *words)


def environment_of(scope: Scope, home: Path | None) -> dict[str, str]:
    kept = _KEPT if scope == "user" else ()
    named = {name: os.environ[name] for name in kept if os.environ.get(name)}
    return named | ({HOME_VARIABLE: str(home)} if home is not None else {})


def request_for(scope: Scope, named: str | None, run_as: str | None) -> Request:
    """
    Raises UsageError, and NotFound or ConfigError for the profile, which is looked for where the service will
    look: a service of the system has its own.
    """
    from ..profile.resolve import resolve  # noqa: PLC0415 - YAML: not for start, stop and status
    from ..profile.store import ProfileStore  # noqa: PLC0415
    from ..usual import usual_profile  # noqa: PLC0415

    if run_as and scope == "user":
        raise UsageError("--run-as is for a service of the system: a user's own runs as that user.")
    account = account_of(scope, run_as)
    paths = paths_of(home_of(scope))
    if named is None:
        usual = usual_profile(paths)
        click.echo(f"profile: {usual.name}, {usual.reason}", err=True)
        named = usual.name
    try:
        profile = resolve(named, ProfileStore(paths.profiles), {})
    except NotFound as error:
        error.hint = f"{error.hint} This service's own profiles are in {paths.profiles}.".lstrip()
        raise
    return request_of(scope, profile, account)


def prepare_for(request: Request) -> None:
    """Here is the terminal for it: nobody would see a service that downloads gigabytes at its start."""
    account = Account(request.home, request.user)
    if request.data is not None:
        make_home(request.data, account)
    assert request.profile is not None
    run_for(account, program("service", "prepare", request.profile), request.environment, "Preparing")


def refuse_another_daemon(manager: Manager, request: Request) -> None:
    """
    One that a person started holds the lock that the service's own would need.

    Raises AlreadyRunning.
    """
    found = manager.status(request.service)
    try:
        answer = client.ask(paths_of(request.data), {"op": "status"})
    except NotRunning:
        return
    if found.running:
        return
    pid = answer["status"]["daemon"]["pid"]
    raise AlreadyRunning(
        f"A daemon that is not the service's runs here already (pid {pid}).",
        hint="goss-supervisor stop, then install again.",
    )


def request_of(scope: Scope, profile: Profile, account: Account) -> Request:
    home = home_of(scope)
    return Request(
        service=Service(scope),
        command=program("start", "--profile", profile.name),
        stop_seconds=stop_seconds(profile),
        home=account.home,
        logs=paths_of(home).logs,
        user=account.name,
        data=home,
        profile=profile.name,
        environment=environment_of(scope, home),
        needs_network=not _is_at_home(profile),
    )


def stop_seconds(profile: Profile) -> float:
    """What a stop takes at most: requests under way, then TERM, grace, TERM, insist, KILL (lifecycle.py)."""
    from ..server.lifecycle import GONE_SECONDS  # noqa: PLC0415 - only here

    drain = profile.stop.grace_seconds if profile.gateway.mode == "on" else 0.0
    return drain + profile.stop.grace_seconds + profile.stop.insist_seconds + GONE_SECONDS


def _is_at_home(profile: Profile) -> bool:
    """Whether all that it listens on is there without a network."""
    from ..gateway.door.rules import rules_of  # noqa: PLC0415 - only here
    from ..plan.types import Door  # noqa: PLC0415

    return rules_of(Door(profile.listen.host, profile.listen.port)).needs_key != "always"
