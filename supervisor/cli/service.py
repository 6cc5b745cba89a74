"""``service``: goss-supervisor as a service of systemd, launchd or the Task Scheduler."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

import click

from ..errors import EXIT_OK, NotFound, NotRunning, StartFailed, SupervisorError
from ..home import client
from ..paths import HOME_VARIABLE, Paths
from ..service.contract import Service, ServiceManager, ServiceRequest, ServiceScope, ServiceStatus, become
from ..service.this_system import chosen
from .common import Function, json_option, parse_settings, profile_option, set_option, worker_options
from .output import echo_json, show_outcome, upgrade_line, upgraded, waiting
from .service_request import (
    home_of,
    left_of,
    paths_of,
    prepare_for,
    refuse_another_daemon,
    refuse_without_root,
    request_for,
    scope_of,
)

_UNTIL_STOPPED = "waiting until it has stopped"
UNTIL_READY = "waiting until it is ready; goss-supervisor service logs -f shows more"
APPEARS_SECONDS = 60.0  # launchd may wait 30 s between two starts (launchd.py), and ours takes some more
_LOOK_SECONDS = 0.25


def scope_option(function: Function) -> Function:
    """Adds ``scope``: "user", "system", or None without an option."""
    about = "A service of the whole system, from boot on (the default for root)."
    system = click.option("--system", "scope", flag_value="system", help=about)
    user = click.option(
        "--user", "scope", flag_value="user", help="Your own service (the default, except for root)."
    )
    return user(system(function))


def request_options(function: Function) -> Function:
    about = "User that a system service runs as. Default: the user who ran sudo."
    who = click.option("--run-as", metavar="USER", help=about)
    about = "Run a worker, which lends this computer's memory, with the options of `worker`."
    lends = click.option("--worker", "is_worker", is_flag=True, help=about)
    return scope_option(profile_option()(lends(worker_options(who(function)))))


@click.group
def service() -> None:
    """Run as a service of systemd, launchd or the Task Scheduler."""


@service.command("install")
@request_options
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the first download.")
@click.option(
    "--force", is_flag=True, help="Overwrite the file even if it is not ours or was changed by hand."
)
def install(
    *,
    scope: str | None,
    profile: str | None,
    run_as: str | None,
    yes: bool,
    force: bool,
    is_worker: bool,
    **lent: str | None,
) -> None:
    """Get engine and model, install the service, and start it."""
    manager, meant = chosen(sys.platform), scope_of(scope)
    refuse_without_root(meant)
    request = request_for(meant, profile, run_as, is_worker=is_worker, **lent)
    manager.refuse(request, force=force)  # before a long download
    refuse_another_daemon(manager, request)
    prepare_for(request, is_default=profile is None and not request.settings, yes=yes)
    nothing = "nothing to do: it is installed like this and runs"
    report(manager.install(request, force=force), meant, UNTIL_READY, undo=True, nothing=nothing)
    _until_ready(manager, meant)
    if request.data is not None:
        click.echo(f"to talk to it: {with_home(request)} goss-supervisor status", err=True)


@service.command("uninstall")
@scope_option
@click.option("--force", is_flag=True, help="Remove the file even if it is not ours or was changed by hand.")
def uninstall(*, scope: str | None, force: bool) -> None:
    """Stop and remove the service; keep profiles, models and engines."""
    meant = scope_of(scope)
    refuse_without_root(meant)  # polkit may let somebody stop it who may not remove it
    report(chosen(sys.platform).uninstall(Service(meant), force=force), meant, _UNTIL_STOPPED)
    if left := left_of(meant):
        click.echo(f"profiles, models and other files are still in {', '.join(left)}", err=True)


@service.command("start")
@scope_option
def start(*, scope: str | None) -> None:
    """Start the service, and return when the model is ready."""
    manager, meant = chosen(sys.platform), scope_of(scope)
    report(manager.start(Service(meant)), meant, UNTIL_READY)
    _until_ready(manager, meant)


@service.command("stop")
@scope_option
def stop(*, scope: str | None) -> None:
    """Stop the service until you, a boot or a login starts it."""
    meant = scope_of(scope)
    report(chosen(sys.platform).stop(Service(meant)), meant, _UNTIL_STOPPED)


@service.command("restart")
@scope_option
@click.option("--full", is_flag=True, help="Always stop and start it, which loads the model again.")
def restart(*, scope: str | None, full: bool) -> None:
    """
    Restart the service with this version of the program.

    If possible, it upgrades in place (see upgrade-daemon): models stay loaded, and clients do not notice.
    Otherwise, and with --full, it stops and starts the service.
    """
    manager, meant = chosen(sys.platform), scope_of(scope)
    if not full and _is_upgraded(manager, meant):
        return
    report(manager.restart(Service(meant)), meant, UNTIL_READY)
    _until_ready(manager, meant)


@service.command("status")
@scope_option
@json_option
def status(*, scope: str | None, as_json: bool) -> int:
    """
    Show what the service manager reports.

    Exit code 3: it is not running; 5: it is not installed.
    """
    meant = scope_of(scope)
    manager = chosen(sys.platform)
    found = manager.status(Service(meant))
    if as_json:
        echo_json(scope=meant, manager=manager.title, **asdict(found))
    else:
        click.echo(rows(f"{Service(meant).name}, {meant}, {manager.title}", found))
    if not found.installed:
        return NotFound.exit_code
    return EXIT_OK if found.running else NotRunning.exit_code


@service.command("logs")
@scope_option
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Show only this many of the last lines.")
def logs(*, scope: str | None, follow: bool, lines: int | None) -> int:
    """Show the service's log, as the service manager keeps it."""
    command = chosen(sys.platform).logs(Service(scope_of(scope)), lines=lines, follow=follow)
    return become(command)


@service.command("print")
@request_options
@json_option
def print_(
    *,
    scope: str | None,
    profile: str | None,
    run_as: str | None,
    as_json: bool,
    is_worker: bool,
    **lent: str | None,
) -> None:
    """Show the files and commands of install; change nothing."""
    manager, meant = chosen(sys.platform), scope_of(scope)
    request = request_for(meant, profile, run_as, is_worker=is_worker, **lent)
    files, commands = manager.files(request), manager.commands(request)
    if as_json:
        listed = [{"path": str(file.path), "mode": f"{file.mode:04o}", "text": file.text} for file in files]
        echo_json(manager=manager.title, files=listed, commands=commands)
        return
    for file in files:
        click.echo(f"# file {file.path}, mode {file.mode:04o}\n\n{file.text}")
    click.echo("# then")
    for command in commands:
        click.echo(shlex.join(command))


@service.command("prepare", hidden=True)
@click.argument("profile")
@click.option("--usual", "is_default", is_flag=True)
@click.option("--yes", is_flag=True)
@set_option
def prepare(*, profile: str, is_default: bool, yes: bool, settings: tuple[str, ...]) -> None:
    """As the service's own user: get the engine and the model, and show the first key where one is made."""
    from ..home.places import make_folders  # noqa: PLC0415 - YAML and all the rest: only here
    from ..profile.matching import Fit  # noqa: PLC0415
    from .first_run import welcome  # noqa: PLC0415
    from .start import key_lines, prepared, show_lines  # noqa: PLC0415

    paths = Paths.from_environment()
    make_folders(paths)  # launchd opens a log before the daemon could make its folder
    if is_default:
        welcome(Fit(profile, ""), {}, paths, yes=yes, command="service install")
    show_lines(key_lines(paths, prepared(profile, parse_settings(settings), paths), sys.stderr))


def _is_upgraded(manager: ServiceManager, scope: ServiceScope) -> bool:
    """Whether its daemon now runs this version; if not, says why."""
    paths, found = paths_of(home_of(scope)), manager.status(Service(scope))
    if not found.running:
        return False
    try:
        daemon = client.ask(paths, {"op": "status"})["status"]["daemon"]
        why = "the service's file has changed" if found.outdated else ""
        why = why or ("" if daemon["pid"] == found.pid else "the daemon that answers is not the service's")
        line = "" if why else upgrade_line(upgraded(paths))
    except SupervisorError as error:
        why = str(error)
    if why:
        click.echo(f"stopping and starting the service, since an upgrade in place fails: {why}", err=True)
        return False
    click.echo(line)
    click.echo(f"for changed profiles: goss-supervisor reload, or {again('restart', scope)} --full", err=True)
    return True


def _until_ready(manager: ServiceManager, scope: ServiceScope) -> None:
    if not manager.waits:
        until_ready(paths_of(home_of(scope)), scope)


def report(
    done: Iterator[str], scope: ServiceScope, text: str, *, undo: bool = False, nothing: str = ""
) -> None:
    """
    Carry out a request to a manager, and print each of its sentences at once.

    ``undo``: after the first one, print how to take it all back.  ``nothing`` is printed where there is none.
    """
    with waiting(text) as progress:
        try:
            count = 0
            for count, sentence in enumerate(done, 1):
                progress.close()
                click.echo(sentence)
                if undo and count == 1:
                    click.echo(f"to undo this: {again('uninstall', scope)}", err=True)
        except KeyboardInterrupt:
            progress.close()
            click.echo(f"the service manager carries on: {again('status', scope)}", err=True)
            raise
    if not count and nothing:
        click.echo(nothing)


def until_ready(paths: Paths, scope: ServiceScope, appears_seconds: float = APPEARS_SECONDS) -> None:
    """Asks the daemon, which has limits of its own.  Raises StartFailed, also after ``appears_seconds``."""
    deadline = time.monotonic() + appears_seconds
    with waiting(UNTIL_READY) as progress:
        while True:
            try:
                answer = client.follow(paths, {"op": "wait"}, progress.step)
                break
            except NotRunning as error:
                if time.monotonic() >= deadline:
                    raise StartFailed(
                        f"The service was started, but there is no daemon after {appears_seconds:.0f} s.",
                        hint=f"goss-supervisor service logs --{scope} -n 50 tells why.",
                    ) from error
                time.sleep(_LOOK_SECONDS)
    show_outcome(answer, as_json=False)


def again(word: str, scope: ServiceScope) -> str:
    """A command about the same service, as this user has to say it."""
    changes = word not in {"status", "logs"}
    return f"{'sudo ' if scope == 'system' and changes else ''}goss-supervisor service {word} --{scope}"


def with_home(request: ServiceRequest, platform: str = sys.platform) -> str:
    """What to put before a command of ours, so that it finds the service's files."""
    if platform == "win32":  # PowerShell's way; a service of the system there is none
        quoted = str(request.data).replace("'", "''")
        return f"$env:{HOME_VARIABLE} = '{quoted}';"
    home = f"{HOME_VARIABLE}={shlex.quote(str(request.data))}"  # quoted whole, it would be no assignment
    other = request.user and request.user != os.environ.get("SUDO_USER")
    return f"sudo -u {shlex.quote(request.user)} env {home}" if other else home


def rows(service: str, found: ServiceStatus) -> str:
    """``service status`` for people."""
    lines = {
        "service": service,
        "state": found.state,
        "pid": "-" if found.pid is None else str(found.pid),
        "starts by itself": found.starts_by_itself or "unknown",
        "says": found.detail or "-",
    }
    return "\n".join(f"{name:<16}  {text}" for name, text in lines.items())
