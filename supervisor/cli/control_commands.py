"""``stop``, ``restart``, ``switch``, ``reload``, ``load``, ``unload``: requests to the running daemon."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..errors import NotAnswering, NotRunning, SupervisorError
from ..home import client
from ..home.places import SERVER, daemon_lock, record_file
from ..home.unresponsive import end_daemon, not_answering
from ..locks import held_by
from ..paths import Paths
from ..plan.listen import Listen
from ..plan.plan_json import ANOTHER_VERSION, listen_to_json, to_json
from .common import force_option, json_option, parse_settings, profile_argument, set_option
from .output import show_outcome, waiting_for_the_daemon
from .start import prepared, show_first_key

if TYPE_CHECKING:
    from ..prepare.prepare import Preparation

EXIT_SECONDS = 10.0


@click.command()
@click.option("--now", is_flag=True, help="Kill it: do not wait for requests under way or a hung daemon.")
@json_option
def stop(now: bool, as_json: bool) -> int:
    """Stop the server and the daemon; nothing of them is left."""
    paths = Paths.from_environment()
    with waiting_for_the_daemon("stopping; --now does not wait for requests under way") as progress:
        try:
            answer = _stopped(paths, now=now)
        except NotAnswering as error:
            if not now:
                raise
            progress.step(f"{error} Ending it.")
            end_daemon(paths, progress.step)
            answer = _ended(paths, str(error))
    return show_outcome(answer, as_json=as_json)


@click.command()
@profile_argument
@force_option
@set_option
@click.option("--by-request", is_flag=True, hidden=True)  # the gateway's, for a client that named a model
@json_option
def switch(*, profile: str, force: bool, settings: tuple[str, ...], by_request: bool, as_json: bool) -> int:
    """
    Run another profile; the old one comes back if that fails.

    Clients come in where they did: listen, keys and limits stay those of the profile that was started.
    """
    paths = Paths.from_environment()
    running = _running(paths)  # without a daemon, fail before preparing an engine
    found = prepared(profile, parse_settings(settings), paths, force=force)
    listen = None if running["listen"] else found.listen  # none yet: what runs has no gateway
    if listen is None and not by_request:
        _show_what_stays(running, found)
    return _run(found, listen, {"op": "start", "by_request": by_request}, as_json=as_json)


@click.command()
@force_option
@set_option
@json_option
def restart(force: bool, settings: tuple[str, ...], as_json: bool) -> int:
    """Restart the server with its profile as it is now."""
    return _again("start", parse_settings(settings), force=force, as_json=as_json)


@click.command()
@json_option
def reload(as_json: bool) -> int:
    """Read the profile again; the server is restarted only if its plan's digest changed."""
    return _again("reload", {}, force=False, as_json=as_json)


def _again(op: str, settings: Mapping[str, str], *, force: bool, as_json: bool) -> int:
    """The profile that runs, as it is now; its address too, unless it came in at another profile's."""
    paths = Paths.from_environment()
    running = _running(paths)
    if running["profile"] is None:
        raise NotRunning("The daemon runs no profile.", hint="goss-supervisor switch PROFILE")
    found = prepared(running["profile"], {**running["settings"], **settings}, paths, force=force)
    at = running["listen"]
    listen = found.listen if at is None or at["profile"] == running["profile"] else None
    return _run(found, listen, {"op": op}, as_json=as_json)


def _running(paths: Paths) -> client.Message:
    """Raises SupervisorError for a daemon of an older version, which takes no plan of ours."""
    running = client.ask(paths, {"op": "running"})
    if "listen" not in running:
        raise SupervisorError("The daemon that runs is of an older version.", hint=ANOTHER_VERSION)
    return running


def _show_what_stays(running: Mapping[str, Any], found: Preparation) -> None:
    own, at = found.listen, running["listen"]
    if own is not None and (own.host, own.port) != (at["host"], at["port"]):
        stays = f"clients still come in at {at['host']} port {at['port']}, as {at['profile']} says"
        other = f"for {own.host} port {own.port}: goss-supervisor stop, then start {own.profile}"
        click.echo(f"note: {stays}; {other}", err=True)


@click.command()
@json_option
def load(as_json: bool) -> int:
    """Load the model, or keep it loaded: its idle time starts anew."""
    return _follow({"op": "load"}, "loading the model", as_json=as_json)


@click.command()
@json_option
def unload(as_json: bool) -> int:
    """Stop the server and give its memory back; the next request wakes it."""
    return _follow({"op": "unload"}, "giving its memory back", as_json=as_json)


def _run(found: Preparation, listen: Listen | None, request: Mapping[str, Any], *, as_json: bool) -> int:
    if listen is not None:
        show_first_key(Paths.from_environment(), found)
    sent = {**request, "plan": to_json(found.plan), "listen": listen_to_json(listen) if listen else None}
    return _follow(sent, f"waiting until {found.plan.profile} is ready", as_json=as_json)


def _follow(request: dict[str, Any], what: str, *, as_json: bool) -> int:
    with waiting_for_the_daemon(what) as progress:
        answer = client.follow(Paths.from_environment(), request, progress.step)
    return show_outcome(answer, as_json=as_json)


def _ended(paths: Paths, why: str) -> client.Message:
    """What a daemon would have answered that ended without an answer."""
    from ..home.records import read_record  # noqa: PLC0415 - only here

    record = read_record(record_file(paths))
    profile = record.profile if record else SERVER
    return {"outcome": {"result": "stopped", "profile": profile, "why": why, "hint": ""}}


def _stopped(paths: Paths, *, now: bool) -> client.Message:
    """The daemon's answer to the request; its process ends right after, and its lock tells when."""
    try:
        answer = client.ask(paths, {"op": "stop", "now": now})
    except NotRunning:
        if held_by(daemon_lock(paths)) is None:
            raise
        answer = _ended(paths, "it was ending")
    deadline = time.monotonic() + EXIT_SECONDS
    while held_by(daemon_lock(paths)) is not None:
        if time.monotonic() > deadline:
            raise not_answering(paths, "does not end")
        time.sleep(0.01)
    return answer
