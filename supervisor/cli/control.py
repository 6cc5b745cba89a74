"""``stop``, ``restart``, ``switch`` and ``reload``: requests to the daemon that runs."""

from __future__ import annotations

import time
from collections.abc import Mapping

import click

from ..daemon import client
from ..daemon.places import daemon_lock
from ..errors import NotRunning, SupervisorError
from ..locks import held_by
from ..paths import Paths
from ..plan.wire import to_json
from .common import force_option, json_option, parse_settings, profile_argument, set_option
from .outcome import show_outcome
from .progress import waiting
from .start import prepared

EXIT_SECONDS = 10.0


@click.command()
@click.option("--now", is_flag=True, help="Kill it: do not wait for requests under way.")
@json_option
def stop(now: bool, as_json: bool) -> int:
    """Stop the server and the daemon; nothing of them is left."""
    paths = Paths.from_environment()
    with waiting("stopping; --now does not wait for requests under way"):
        answer = client.ask(paths, {"op": "stop", "now": now}, timeout=None)
        _wait_until_gone(paths)
    return show_outcome(answer, as_json=as_json)


@click.command()
@profile_argument
@force_option
@set_option
@json_option
def switch(profile: str, force: bool, settings: tuple[str, ...], as_json: bool) -> int:
    """Run another profile; the old one comes back if that fails."""
    paths = Paths.from_environment()
    client.ask(paths, {"op": "status"})  # nobody shall wait for an engine to hear that nothing runs
    return _run("start", profile, parse_settings(settings), paths, force=force, as_json=as_json)


@click.command()
@force_option
@set_option
@json_option
def restart(force: bool, settings: tuple[str, ...], as_json: bool) -> int:
    """Restart the server with its profile as it is now."""
    paths = Paths.from_environment()
    profile, before = _running(paths)
    return _run("start", profile, {**before, **parse_settings(settings)}, paths, force=force, as_json=as_json)


@click.command()
@json_option
def reload(as_json: bool) -> int:
    """Read the profile again; the server is restarted only if its plan's digest changed."""
    paths = Paths.from_environment()
    return _run("reload", *_running(paths), paths, as_json=as_json)


def _run(
    op: str,
    profile: str,
    settings: Mapping[str, str],
    paths: Paths,
    *,
    force: bool = False,
    as_json: bool,
) -> int:
    plan = prepared(profile, settings, paths, force=force)
    with waiting(f"waiting until {profile} is ready") as progress:
        answer = client.follow(paths, {"op": op, "plan": to_json(plan)}, progress.step)
    return show_outcome(answer, as_json=as_json)


def _running(paths: Paths) -> tuple[str, Mapping[str, str]]:
    """What the daemon was last told to run: the profile, and what ``--set`` said."""
    running = client.ask(paths, {"op": "running"})
    if running["profile"] is None:
        raise NotRunning("The daemon runs no profile.", hint="goss-supervisor switch PROFILE")
    return running["profile"], running["settings"]


def _wait_until_gone(paths: Paths) -> None:
    """The daemon has answered; its process ends right after.  Its lock tells when."""
    deadline = time.monotonic() + EXIT_SECONDS
    while (holder := held_by(daemon_lock(paths))) is not None:
        if time.monotonic() > deadline:
            pid = holder.get("pid", "unknown")
            raise SupervisorError(
                f"The daemon (pid {pid}) has stopped its server and does not end.",
                hint=f"kill -9 {pid}",
            )
        time.sleep(0.01)
