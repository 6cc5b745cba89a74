"""``stop``, ``restart``, ``switch``, ``reload``, ``load``, ``unload``: requests to the running daemon."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_OK, NotAnswering, NotRunning, SupervisorError, UsageError
from ..home import client
from ..home.places import SERVER, daemon_lock, record_file
from ..home.unresponsive import end_daemon, end_survivors, not_answering
from ..locks import held_by
from ..paths import Paths
from ..plan.listen import Listen
from ..plan.plan_json import ANOTHER_VERSION, listen_to_json, to_json
from ..progress import Progress
from .common import force_option, json_option, parse_settings, profile_argument, server_argument, set_option
from .output import echo_json, show_outcome, upgrade_line, upgraded, waiting_for_the_daemon
from .start import key_lines, prepared, shown_at_the_end

if TYPE_CHECKING:
    from ..prepare.prepare import Preparation

EXIT_SECONDS = 10.0


@click.command()
@server_argument
@click.option("--now", is_flag=True, help="Kill it: do not wait for requests under way or a hung daemon.")
@json_option
def stop(*, name: str | None, now: bool, as_json: bool) -> int:
    """
    Stop the daemon and all its servers.

    With a NAME, stop only that server; it stays down until you load it, and the others keep running.
    """
    paths = Paths.from_environment()
    if name is not None:
        return _follow({"op": "stop", "server": name, "now": now}, f"stopping {name}", as_json=as_json)
    with waiting_for_the_daemon("stopping; --now does not wait for requests under way") as progress:
        try:
            answer = _stopped(paths, progress, now=now)
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
@json_option
def switch(*, profile: str, force: bool, settings: tuple[str, ...], as_json: bool) -> int:
    """
    Run another profile in place of the main one; if it fails, the old one comes back.

    The address does not change: listen, keys and limits stay those of the profile that you started.
    """
    paths = Paths.from_environment()
    running = _running(paths)  # without a daemon, fail before preparing an engine
    found = prepared(profile, parse_settings(settings), paths, force=force)
    listen = None if running["listen"] else found.listen  # none yet: what runs has no gateway
    if listen is None:
        _show_what_stays(running, found)
    return _run(found, listen, {"op": "start"}, as_json=as_json)


@click.command()
@server_argument
@force_option
@set_option
@json_option
def restart(*, name: str | None, force: bool, settings: tuple[str, ...], as_json: bool) -> int:
    """Restart a server (the main one without a NAME) with its profile as it is now."""
    return _again("start", parse_settings(settings), name=name, force=force, as_json=as_json)


@click.command()
@json_option
def reload(as_json: bool) -> int:
    """
    Read the profile and config.yaml again; restart the server only if its plan changed.

    Profiles that are new in config.yaml are offered and loaded.  Profiles that are no longer there stay
    loaded until you stop them.
    """
    return _again("reload", {}, force=False, as_json=as_json)


def _again(
    op: str, settings: Mapping[str, str], *, name: str | None = None, force: bool, as_json: bool
) -> int:
    """The profile that runs, as it is now; its address too, unless it came in at another profile's."""
    paths = Paths.from_environment()
    running = _running(paths, name)
    if running["profile"] is None:
        raise NotRunning("The daemon runs no profile.", hint="goss-supervisor switch PROFILE")
    at = running["listen"]
    named = () if at is None else at.get("named", ())
    settings = {**running["settings"], **settings}
    found = prepared(running["profile"], settings, paths, force=force, named=named if name is None else None)
    listen = found.listen if at is None or at["profile"] == running["profile"] else None
    return _run(found, listen, {"op": op, "server": name}, as_json=as_json)


def _running(paths: Paths, name: str | None = None) -> client.Message:
    """Raises SupervisorError for a daemon of an older version, which takes no plan of ours."""
    running = client.ask(paths, {"op": "running", "server": name})
    if "listen" not in running:
        raise _older_version()
    return running


def _older_version() -> SupervisorError:
    return SupervisorError("The running daemon is of an older version.", hint=ANOTHER_VERSION)


def _servers(paths: Paths) -> list[dict[str, Any]]:
    """
    As ``status`` has them.  Raises SupervisorError for a daemon of an older version: it has only one server,
    and would apply to it any request that is meant for another.
    """
    status: dict[str, Any] = client.ask(paths, {"op": "status"})["status"]
    if "servers" not in status:
        raise _older_version()
    found: list[dict[str, Any]] = status["servers"]
    return found


def _show_what_stays(running: Mapping[str, Any], found: Preparation) -> None:
    own, at = found.listen, running["listen"]
    if own is not None and (own.host, own.port) != (at["host"], at["port"]):
        stays = f"clients still use {at['host']} port {at['port']}, as {at['profile']} says"
        other = f"for {own.host} port {own.port}: goss-supervisor stop, then start {own.profile}"
        click.echo(f"note: {stays}; {other}", err=True)


@click.command()
@server_argument
@click.option("--alone", is_flag=True, help="Unload all others that are not pinned.")
@click.option("--no-evict", is_flag=True, help="Unload nothing; refuse the load if the model does not fit.")
@click.option("--by-request", is_flag=True, hidden=True)  # the gateway's, for a client that named a model
@force_option
@json_option
def load(
    *, name: str | None, alone: bool, no_evict: bool, by_request: bool, force: bool, as_json: bool
) -> int:
    """
    Load a profile next to the running ones; without a NAME, the main server's.

    If there is no room for it, the models that cost least to lose are unloaded, but never a pinned one.  If
    it is loaded already, its idle time starts again.
    """
    paths = Paths.from_environment()
    if alone and no_evict:
        raise UsageError("--alone unloads all others, --no-evict none.")
    if name is None or (not by_request and _has(paths, name)):
        request: dict[str, Any] = {"op": "load", "server": name, "alone": alone, "evicts": not no_evict}
        return _follow(request, f"loading {name or 'the model'}", as_json=as_json)
    _running(paths)  # without a daemon, fail before preparing an engine
    found = prepared(name, {}, paths, force=force, named=None, evicts=not no_evict)
    request = {"op": "load", "alone": alone, "by_request": by_request, "evicts": not no_evict}
    return _run(found, None, request, as_json=as_json)


def _has(paths: Paths, name: str) -> bool:
    """Whether a server has this profile, and is well."""
    return any(
        name in {each["profile"], each["name"]} and each["state"] not in {"failed", "stopped"}
        for each in _servers(paths)
    )


@click.command()
@server_argument
@json_option
def unload(name: str | None, as_json: bool) -> int:
    """Unload a server (the main one without a NAME); the next request loads it again."""
    return _follow({"op": "unload", "server": name}, "giving its memory back", as_json=as_json)


@click.command("upgrade-daemon")
@json_option
def upgrade_daemon(*, as_json: bool) -> int:
    """
    Bring the running daemon to this version of the program; models stay loaded.

    It keeps its pid, its addresses and its clients' connections, and answers under way go on.  If this
    version cannot take over, the daemon goes on unchanged.
    """
    done = upgraded(Paths.from_environment())
    if as_json:
        echo_json(**done)
    else:
        click.echo(upgrade_line(done))
    return EXIT_OK


def _run(found: Preparation, listen: Listen | None, request: Mapping[str, Any], *, as_json: bool) -> int:
    paths = Paths.from_environment()
    key = key_lines(paths, found, sys.stderr, first_only=True) if listen is not None else ()
    sent = {**request, "plan": to_json(found.plan), "listen": listen_to_json(listen) if listen else None}
    with shown_at_the_end(key):
        return _follow(sent, f"waiting until {found.plan.profile} is ready", as_json=as_json)


def _follow(request: dict[str, Any], what: str, *, as_json: bool) -> int:
    paths = Paths.from_environment()
    if request.get("server") is not None:
        _servers(paths)
    with waiting_for_the_daemon(what) as progress:
        answer = client.follow(paths, request, progress.step)
    return show_outcome(answer, as_json=as_json)


def _ended(paths: Paths, why: str) -> client.Message:
    """What a daemon would have answered that ended without an answer."""
    from ..home.records import read_record  # noqa: PLC0415 - only here

    record = read_record(record_file(paths))
    profile = record.profile if record else SERVER
    return {"outcome": {"result": "stopped", "profile": profile, "why": why, "hint": ""}}


def _stopped(paths: Paths, progress: Progress, *, now: bool) -> client.Message:
    """
    The daemon's answer to the request; its process ends right after, and its lock tells when.  Without a
    daemon, ends the servers that an earlier one left running.
    """
    try:
        answer = client.ask(paths, {"op": "stop", "now": now})
    except NotRunning:
        if held_by(daemon_lock(paths)) is not None:
            answer = _ended(paths, "it was ending")
        elif ended := end_survivors(paths, progress.step):
            return _ended(paths, f"its daemon had been killed; ended {ended}")
        else:
            raise
    deadline = time.monotonic() + EXIT_SECONDS
    while held_by(daemon_lock(paths)) is not None:
        if time.monotonic() > deadline:
            raise not_answering(paths, "does not end")
        time.sleep(0.01)
    return answer
