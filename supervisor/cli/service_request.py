"""Builds the request to a service manager from ``service``'s command line, and checks what it needs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import which

import click

from ..errors import AlreadyRunning, NotFound, NotRunning, PermissionDenied, UsageError
from ..home import client
from ..paths import HOME_VARIABLE, Paths, named_home
from ..profile.definition import Profile
from ..profile.worker_address import WORKER
from ..service.account import is_root, kept, make_home, path_of_services, prepare_as, user_of_system
from ..service.contract import NAME, Service, ServiceManager, ServiceRequest, ServiceScope
from ..tool import own_program
from .common import parse_settings, settings_of_worker

SYSTEM_HOME = Path("/var/lib") / NAME
SYSTEM_HOME_OF_MACS = Path("/Library/Application Support") / NAME
_ENGINE = "llama-server"


def scope_of(words: str | None) -> ServiceScope:
    """The default: root's services are the system's."""
    if words == "system" or (words is None and is_root()):
        return "system"
    return "user"


def refuse_without_root(scope: ServiceScope) -> None:
    """At once, not halfway through.  Raises PermissionDenied with the command that will do."""
    if scope == "system" and not is_root() and sys.platform != "win32":
        raise PermissionDenied("Only root may change a service of the whole system.", hint=_hint_at_sudo())


def _hint_at_sudo() -> str:
    """The same command as root: sudo has a PATH of its own, and drops the environment."""
    called, home = Path(sys.argv[0]), os.environ.get(HOME_VARIABLE)
    ourselves = (str(called.absolute()),) if called.name == NAME else program()
    settings = ("env", f"{HOME_VARIABLE}={home}") if home else ()
    return f"Use sudo: {shlex.join(('sudo', *settings, *ourselves, *sys.argv[1:]))}"


def home_of(scope: ServiceScope, environ: Mapping[str, str] = os.environ) -> Path | None:
    """What everything of the service is under; None for a user's own folders."""
    named = named_home(environ)
    if named is not None or scope == "user":
        return named
    return SYSTEM_HOME_OF_MACS if sys.platform == "darwin" else SYSTEM_HOME


def paths_of(home: Path | None) -> Paths:
    return Paths.of_user() if home is None else Paths.under(home)


def left_of(scope: ServiceScope) -> tuple[str, ...]:
    """The folders of profiles, models and the like, as far as this user may see them."""
    home = home_of(scope)
    paths = paths_of(home)
    folders = (paths.config, paths.data, paths.state, paths.logs) if home is None else (home,)
    return tuple(dict.fromkeys(str(folder) for folder in folders if os.access(folder, os.F_OK)))


def user_of(scope: ServiceScope, run_as: str | None) -> str:
    """Who it runs as; "" is who runs this program.  Raises as `user_of_system` does, and UsageError."""
    if scope == "system":
        return user_of_system(run_as, os.environ)
    if run_as:
        raise UsageError("--run-as is for a service of the system: a user's service runs as that user.")
    return ""


def program(*words: str) -> tuple[str, ...]:
    """This program, wherever it is called."""
    return (*own_program(), *words)


def request_for(
    scope: ServiceScope, named: str | None, run_as: str | None, *, is_worker: bool = False, **lent: str | None
) -> ServiceRequest:
    """
    Raises UsageError, and NotFound or ConfigError for the profile, which is looked for where the service will
    look: a service of the system has its own.  NotFound for an engine that a service's PATH does not lead to.
    ``lent`` are a worker's ``listen``, ``devices`` and ``memory``.
    """
    user, paths = user_of(scope, run_as), paths_of(home_of(scope))
    settings = _of_worker(named, paths, is_worker=is_worker, **lent)
    try:
        profile = _profile(WORKER if is_worker else named, paths, settings)
    except PermissionError as error:  # only root may read a system service's files
        raise PermissionDenied(f"{error.filename} may not be read.", hint=_hint_at_sudo()) from error
    _refuse_hidden_engine(profile)
    options = [word for name, value in lent.items() if value is not None for word in (f"--{name}", value)]
    words = ("worker", *options) if is_worker else ("start", "--profile", profile.name)
    return replace(request_of(scope, profile, user), command=program(*words), settings=settings)


def _of_worker(named: str | None, paths: Paths, *, is_worker: bool, **lent: str | None) -> tuple[str, ...]:
    """Its options as words of ``--set``.  Raises UsageError for them without ``--worker``."""
    if is_worker and named is not None:
        raise UsageError(f"--worker runs the profile {WORKER}: omit --profile.")
    if is_worker:
        return settings_of_worker(paths, lent["listen"], lent["devices"], lent["memory"])
    if given := [f"--{name}" for name, value in lent.items() if value is not None]:
        raise UsageError(f"{', '.join(given)} needs --worker.")
    return ()


def _profile(named: str | None, paths: Paths, settings: tuple[str, ...] = ()) -> Profile:
    from ..profile.resolve import resolve  # noqa: PLC0415 - YAML: not for start, stop and status
    from ..profile.store import ProfileStore  # noqa: PLC0415
    from .common import show_default_profile  # noqa: PLC0415

    named = show_default_profile(paths).name if named is None else named
    try:
        return resolve(named, ProfileStore(paths.profiles), parse_settings(settings))
    except NotFound as error:
        error.hint = f"This service's own profiles are in {paths.profiles}. {error.hint}".rstrip()
        raise


def prepare_for(request: ServiceRequest, *, is_default: bool = False, yes: bool = False) -> None:
    """
    Here is the terminal for it: nobody would see a service that downloads gigabytes at its start.

    ``is_default``: nobody named a profile, so ask, unless ``yes``.  Ends the program where that fails.
    """
    if request.user and request.data is not None:
        make_home(request.data, request.user)
    more = (*["--usual"] * is_default, *["--yes"] * yes, *(f"--set={each}" for each in request.settings))
    words = program("service", "prepare", request.profile, *more)
    if failed := prepare_as(request.user, words, request.environment):
        raise click.exceptions.Exit(failed)


def refuse_another_daemon(manager: ServiceManager, request: ServiceRequest) -> None:
    """Raises AlreadyRunning where one that a person started holds the lock that the service's own needs."""
    found = manager.status(request.service)
    try:
        answer = client.ask(paths_of(request.data), {"op": "status"})
    except NotRunning:
        return
    if found.running:
        return
    pid = answer["status"]["daemon"]["pid"]
    raise AlreadyRunning(
        f"Another daemon than the service's runs here already (pid {pid}).",
        hint="goss-supervisor stop, then install again.",
    )


def request_of(scope: ServiceScope, profile: Profile, user: str) -> ServiceRequest:
    home = home_of(scope)
    return ServiceRequest(
        service=Service(scope),
        command=program("start", "--profile", profile.name),
        reload=program("reload"),
        stop_seconds=stop_seconds(profile),
        logs=paths_of(home).logs,
        profile=profile.name,
        user=user,
        data=home,
        environment=kept(scope, os.environ) | ({HOME_VARIABLE: str(home)} if home else {}),
        needs_network=not _is_at_home(profile),
        files=_files_of(profile, paths_of(home)),
    )


def _files_of(profile: Profile, paths: Paths) -> tuple[str, ...]:
    """What the profile names by its whole path, and the models folder where that is a link elsewhere."""
    named = [
        *(profile.model.path, profile.model.draft_path, profile.model.projector_path),
        *(Path(value) for value in profile.server.values() if isinstance(value, str)),
    ]
    linked = [paths.models.resolve()] if paths.models.is_symlink() else []
    found = [path for path in (*named, *linked) if path is not None and path.is_absolute()]
    return tuple(dict.fromkeys(map(str, found)))


def stop_seconds(profile: Profile) -> float:
    """What a stop takes at most: notice, requests under way, TERM, TERM again, KILL (lifecycle.py)."""
    from ..server.restart_budget import GONE_SECONDS  # noqa: PLC0415 - only here

    gateway = profile.gateway
    drain = gateway.stop_notice_seconds + profile.stop.grace_seconds if gateway.mode == "on" else 0.0
    return drain + profile.stop.grace_seconds + profile.stop.insist_seconds + GONE_SECONDS


def _refuse_hidden_engine(profile: Profile) -> None:
    """If PATH decides the engine, it is the service manager's PATH."""
    path = path_of_services(os.environ)
    if profile.engine.source != "system" or which(_ENGINE, path=path):
        return
    here = which(_ENGINE) or f"/path/to/{_ENGINE}"
    raise NotFound(
        f"There is no {_ENGINE} on the PATH that a service has: {path}.",
        hint=f"In the profile {profile.name}: engine: {{source: path, path: {here}}}",
    )


def _is_at_home(profile: Profile) -> bool:
    """Whether all that it listens on is there without a network."""
    from ..gateway.auth.guard import rules_of  # noqa: PLC0415 - only here
    from ..plan.listen import Listen, is_loopback  # noqa: PLC0415

    lent = profile.lend.address
    return (lent is None or is_loopback(lent.host)) and (
        rules_of(Listen(profile.name, profile.listen.host, profile.listen.port)).needs_key != "always"
    )
