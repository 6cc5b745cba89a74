"""``service``: goss-supervisor as a service of systemd, launchd or the Task Scheduler."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from ..errors import EXIT_OK, NotFound, NotRunning
from ..paths import HOME_VARIABLE, Paths
from ..service.chosen import chosen
from ..service.types import Request, Scope, Service
from .common import complete_profiles, json_option
from .progress import waiting
from .service_request import home_of, paths_of, prepare_for, refuse_another_daemon, request_for, scope_of

Function = TypeVar("Function", bound=Callable[..., Any])


def scope_option(function: Function) -> Function:
    """Adds ``scope``: "user", "system", or None where nothing is said."""
    system = click.option(
        "--system",
        "scope",
        flag_value="system",
        help="Of the whole system, from boot on; the default of root.",
    )
    user = click.option("--user", "scope", flag_value="user", help="Your own; the default, but for root.")
    return user(system(function))


def request_options(function: Function) -> Function:
    profile = click.option(
        "--profile",
        "-p",
        metavar="NAME",
        shell_complete=complete_profiles,
        help="Which profile; without it the last one used, else the one that fits this machine best.",
    )
    who = click.option(
        "--run-as", metavar="USER", help="Who a service of the system runs as; without it who said sudo."
    )
    return scope_option(profile(who(function)))


@click.group
def service() -> None:
    """Run at boot, watched by systemd, launchd or the Task Scheduler."""


@service.command("install")
@request_options
@click.option("--force", is_flag=True, help="Over a file of that name that is not ours, or was changed.")
def install(*, scope: str | None, profile: str | None, run_as: str | None, force: bool) -> int:
    """Get the engine and the model, make the service, and start it."""
    manager, meant = chosen(sys.platform), scope_of(scope)
    request = request_for(meant, profile, run_as)
    manager.files(request)  # what cannot be written is found out before a long download
    refuse_another_daemon(manager, request)
    prepare_for(request)
    with waiting("waiting until it is ready; goss-supervisor service logs -f shows more"):
        done = manager.install(request, force=force)
    _say(done or ("nothing to do: it is installed so, and runs",))
    click.echo(f"to undo this: {_again('uninstall', meant)}", err=True)
    if request.data is not None:
        click.echo(f"to talk to it: {_with_home(request)} goss-supervisor status", err=True)
    return EXIT_OK


@service.command("uninstall")
@scope_option
@click.option("--force", is_flag=True, help="Even if the file is not ours, or was changed by hand.")
def uninstall(*, scope: str | None, force: bool) -> int:
    """Stop the service and remove it; profiles, models and engines stay."""
    meant = scope_of(scope)
    with waiting("waiting until it has stopped"):
        done = chosen(sys.platform).uninstall(Service(meant), force=force)
    _say(done)
    paths = paths_of(home_of(meant))
    kept = dict.fromkeys(
        str(path) for path in (paths.config, paths.data, paths.state, paths.logs) if path.exists()
    )
    if kept:
        click.echo(f"profiles, models and the like are still in {', '.join(kept)}", err=True)
    return EXIT_OK


@service.command("start")
@scope_option
def start(*, scope: str | None) -> int:
    """Start it; returns when it is ready."""
    with waiting("waiting until it is ready; goss-supervisor service logs -f shows more"):
        done = chosen(sys.platform).start(Service(scope_of(scope)))
    return _say(done)


@service.command("stop")
@scope_option
def stop(*, scope: str | None) -> int:
    """Stop it, until it is started or the system boots."""
    with waiting("waiting until it has stopped"):
        done = chosen(sys.platform).stop(Service(scope_of(scope)))
    return _say(done)


@service.command("restart")
@scope_option
def restart(*, scope: str | None) -> int:
    """Stop and start it, as after an upgrade of goss-supervisor."""
    with waiting("waiting until it is ready; goss-supervisor service logs -f shows more"):
        done = chosen(sys.platform).restart(Service(scope_of(scope)))
    return _say(done)


@service.command("status")
@scope_option
@json_option
def status(*, scope: str | None, as_json: bool) -> int:
    """Say what the service manager says; 3 if it does not run, 5 if it is not installed."""
    meant = scope_of(scope)
    manager = chosen(sys.platform)
    found = manager.status(Service(meant))
    if as_json:
        click.echo(json.dumps({"schema": 1, "scope": meant, "manager": manager.title, **asdict(found)}))
    else:
        boot = {True: "yes", False: "no", None: "unknown"}[found.at_boot]
        rows = {
            "service": f"{Service(meant).name}, {meant}, {manager.title}",
            "state": found.state,
            "pid": "-" if found.pid is None else str(found.pid),
            "at boot": boot,
            "says": found.detail or "-",
        }
        click.echo("\n".join(f"{name:<9} {text}" for name, text in rows.items()))
    if not found.installed:
        return NotFound.exit_code
    return EXIT_OK if found.running else NotRunning.exit_code


@service.command("logs")
@scope_option
@click.option("-f", "--follow", is_flag=True, help="Go on as more comes.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last so many lines.")
def logs(*, scope: str | None, follow: bool, lines: int | None) -> int:
    """Show the service's log, where the service manager keeps it."""
    command = chosen(sys.platform).logs(Service(scope_of(scope)), lines=lines, follow=follow)
    return subprocess.run(command, check=False).returncode


@service.command("print")
@request_options
@json_option
def print_(*, scope: str | None, profile: str | None, run_as: str | None, as_json: bool) -> int:
    """Show each file that install would write, and each command that it would run; change nothing."""
    manager, meant = chosen(sys.platform), scope_of(scope)
    request = request_for(meant, profile, run_as)
    files, commands = manager.files(request), manager.commands(request)
    if as_json:
        listed = [{"path": str(file.path), "mode": f"{file.mode:04o}", "text": file.text} for file in files]
        made = {"schema": 1, "manager": manager.title, "files": listed, "commands": commands}
        click.echo(json.dumps(made))
        return EXIT_OK
    for file in files:
        click.echo(f"# file {file.path}, mode {file.mode:04o}\n\n{file.text}")
    click.echo("# then")
    _say(shlex.join(command) for command in commands)
    return EXIT_OK


@service.command("prepare", hidden=True)
@click.argument("profile")
def prepare(*, profile: str) -> int:
    """As the service's own user: get the engine and the model, and show the first key where one is made."""
    from .start import prepared, show_first_key  # noqa: PLC0415 - YAML and all the rest: only here

    paths = Paths.from_environment()
    show_first_key(paths, prepared(profile, {}, paths))
    return EXIT_OK


def _with_home(request: Request) -> str:
    """What to put before a command of ours, so that it finds the service's files."""
    home = shlex.quote(f"{HOME_VARIABLE}={request.data}")
    other = request.user and request.user != os.environ.get("SUDO_USER")
    return f"sudo -u {shlex.quote(request.user)} env {home}" if other else home


def _again(word: str, scope: Scope) -> str:
    return f"{'sudo ' if scope == 'system' else ''}goss-supervisor service {word} --{scope}"


def _say(done: Iterable[str]) -> int:
    for sentence in done:
        click.echo(sentence)
    return EXIT_OK
