"""``status`` and ``ps``: what runs, since when, and why."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from .. import __version__
from ..errors import EXIT_DEGRADED, EXIT_OK, NotRunning
from ..home import client
from ..home.places import daemon_lock, record_file
from ..locks import held_by
from ..paths import Paths
from ..progress import duration, iso
from .common import json_option, verbose_option
from .output import echo_json, size, table
from .words_of_status import (
    StatusDocument,
    absent_servers,
    all_servers,
    awaited_loads,
    epoch_of,
    held_text,
    peers_of,
    rows_of_peers,
    why_of,
)

_WELL = {"ready", "sleeping"}
CLEAR = "\x1b[H\x1b[2J"


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Keep showing it as it changes.")
@verbose_option
@json_option
def status(*, watch: bool, verbose: bool, as_json: bool) -> int:
    """
    Show what is running, since when, and why.

    With several models loaded, or with -v, also who has how much of each memory. -v also names servers that
    would end with a daemon that is killed, although their profiles say 'orphan: adopt'.

    Exit code 0: ready, or asleep until the next request; 1: degraded, not ready yet, or failed; 3: no daemon.
    """
    paths = Paths.from_environment()
    if watch:
        return _watch(paths, verbose=verbose, as_json=as_json)
    try:
        now: StatusDocument = client.ask(paths, {"op": "status"})["status"]
    except NotRunning as error:
        return _not_running(paths, error, as_json=as_json)
    click.echo(json.dumps(now) if as_json else "\n".join(_lines(now, verbose=verbose)))
    return _exit_code(now)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@json_option
def ps(quiet: bool, as_json: bool) -> int:
    """
    Show each server in one line.

    It also lists profiles that are not loaded yet or could not be, with the reason, models that peers have
    loaded, and peers that are down.
    """
    try:
        now = client.ask(Paths.from_environment(), {"op": "status"})["status"]
        servers = [*all_servers(now), *absent_servers(now)]
        peers = peers_of(now)
    except NotRunning:
        servers = peers = []
    headers = ("profile", "state", "build", "flavour", "pid", "memory", "port", "uptime", "restarts", "why")
    if quiet and not as_json:
        click.echo("".join(f"{server['profile']}\n" for server in servers), nl=False)
    elif as_json:
        echo_json(servers=servers, peers=peers)
    else:
        click.echo(table(headers, [_row(each) for each in (*servers, *rows_of_peers(peers))]))
    return EXIT_OK


def _row(server: Mapping[str, Any]) -> list[str]:
    names = [_text(server[name]) for name in ("profile", "state", "build", "flavour", "pid")]
    memory, up = size(server["memory_bytes"]), duration(server["uptime_seconds"])
    return [*names, memory, _text(server["port"]), up, _text(server["restarts"]), why_of(server)]


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _exit_code(now: StatusDocument) -> int:
    return EXIT_OK if now["server"]["state"] in _WELL else EXIT_DEGRADED


def _watch(paths: Paths, *, verbose: bool, as_json: bool) -> int:
    for message in client.stream(paths, {"op": "watch"}):
        now = message["status"]
        if as_json:
            click.echo(json.dumps(now))
        else:
            click.echo(
                (CLEAR if sys.stdout.isatty() else "") + "\n".join(_lines(now, verbose=verbose)) + "\n"
            )
    return EXIT_OK


def _not_running(paths: Paths, error: NotRunning, *, as_json: bool) -> int:
    """No daemon: its record still tells how the last one ended, and some of its servers may still run."""
    from ..home import orphan  # noqa: PLC0415 - as below
    from ..home.records import read_record  # noqa: PLC0415 - only here, and ``status`` should be quick

    record = read_record(record_file(paths))
    failure = asdict(record.failure) if record and record.failure and record.state == "failed" else None
    left = orphan.left_running(paths)
    unproved = {} if held_by(daemon_lock(paths)) is not None else orphan.left_unproved(paths)
    if as_json:
        profile = (record.profile or None) if record else None
        server = {"state": "stopped", "profile": profile, "last_failure": failure}
        survivors = [
            {
                "profile": each.profile,
                "pid": identity.pid,
                "since": each.ready_since and iso(each.ready_since),
                "memory": dict(each.held),
            }
            for each, identity in left
        ]
        survivors += [
            {"profile": None, "pid": min(pids, default=None), "since": None, "memory": {}}
            for pids in unproved.values()
        ]
        nothing: dict[str, list[object]] = {
            name: [] for name in ("servers", "served", "memory", "loads_waiting", "jobs")
        }
        echo_json(
            schema=2, daemon=None, server=server, **nothing, gateway=None, update=None, survivors=survivors
        )
        return error.exit_code
    for each, identity in left:
        held = ", ".join(f"{size(number)} of {pool}" for pool, number in each.held.items())
        has = f", with {held}" if held else ""
        click.echo(f"left      {each.profile} still runs (pid {identity.pid}){has}")
    for name, pids in unproved.items():
        click.echo(f"left      {orphan.unproved_text(paths, name, pids)}")
    if left or unproved:
        hint = orphan.SURVIVOR_HINT if left else orphan.UNPROVED_HINT
        raise NotRunning(f"{error} An earlier one was killed.", hint=hint)
    if failure is not None:
        click.echo("\n".join(["state     not running", *_failure_lines(failure)]))
    raise error


def _lines(now: StatusDocument, *, verbose: bool = False) -> Iterator[str]:
    server, daemon = now["server"], now["daemon"]
    since = time.time() - epoch_of(server["since"])
    why = f" ({server['why']})" if server["why"] else ""
    yield f"state     {server['state']}{why}, for {duration(since)}"
    yield f"profile   {_text(server['profile'])}"
    yield f"address   {_text(server['url'])}"
    yield f"model     {_text(server['model'])}"
    yield f"engine    {_text(server['engine'])}"
    yield f"process   {_process(server)}, {_count(server['restarts'], 'restart')}"
    yield from _memory(server.get("memory"))
    yield from _context(server.get("context"))
    yield from _others(all_servers(now)[1:])
    yield from (f"waiting   {profile}: {why}" for profile, why in awaited_loads(now).items())
    yield from _gateway(now.get("gateway"))
    yield f"daemon    {_process(daemon)}, up {duration(daemon['uptime_seconds'])}"
    yield from _of_another_version(daemon["version"])
    if verbose:
        yield from _ending(all_servers(now))
    yield f"log       {server['log']}"
    if held := server.get("held_by"):
        held_for = duration(time.time() - epoch_of(held["since"]))
        yield f"held by   {held['owner']}, {held['why']}, for {held_for}"
    yield from _update(now)
    gateway, memory = now.get("gateway") or {}, server.get("memory") or {}
    for warning in (*server["warnings"], *memory.get("warnings", ()), *gateway.get("warnings", ())):
        yield f"warning   {warning}"
    if server["log_dropped_bytes"]:
        yield f"warning   {size(max(server['log_dropped_bytes'], 1024))} of the log could not be written"
    if server["last_failure"]:
        first, *rest = _failure_lines(server["last_failure"])
        yield first
        yield from rest if server["state"] not in _WELL else ["          goss-supervisor logs --previous"]
    memories = now.get("memory", ())
    if memories and (verbose or any(len(each["shares"]) > 1 for each in memories)):
        yield ""
        yield table(("memory", "who", "planned", "now"), [row for each in memories for row in _shares(each)])


def _shares(memory: StatusDocument) -> Iterator[tuple[str, str, str, str]]:
    """What servers and others have of one memory, and what is left; a reserve is planned for others."""
    shares = [each for each in memory["shares"] if each["planned_bytes"] or each["measured_bytes"]]
    known = [(each["profile"], each["planned_bytes"], each["measured_bytes"]) for each in shares]
    known += [("other programs", memory["leave_bytes"] or None, memory["others_bytes"])]
    known += [("free", None, memory["left_bytes"]), ("total", None, memory["total_bytes"])]
    for index, (who, planned, measured) in enumerate(known):
        yield ("" if index else memory["device"], who, size(planned) if planned else "", size(measured))


def _memory(memory: StatusDocument | None) -> Iterator[str]:
    """What is mapped from the model is left out: the system may drop it, and the process's line has it."""
    if not memory:
        return
    planned = f" of {size(memory['planned_bytes'])} planned" if memory["planned_bytes"] is not None else ""
    held = f"{size(memory['anonymous_bytes'])}{planned}, " if memory["anonymous_bytes"] is not None else ""
    yield f"memory    {held}{size(memory['available_bytes'])} left"
    planned_there, held_there = memory["planned_gpu_bytes"], memory.get("measured_gpu_bytes", {})
    for name in dict.fromkeys([*planned_there, *held_there]):
        held = f"{size(held_there[name])} of " if name in held_there else ""
        yield f"          {held}{size(planned_there.get(name, 0))} planned on {name}"
    if (all_gpus := memory.get("gpu_bytes")) is not None and not held_there:
        yield f"          {size(all_gpus)} held on GPUs; on which of them is not certain, so the plan counts"
    elif "gpu_bytes" in memory and planned_there.keys() - held_there.keys():
        yield "          how much it holds there is not known, so the plan counts"
    if memory["difference"]:
        yield f"          {memory['difference']}"


def _context(context: StatusDocument | None) -> Iterator[str]:
    """Of a context that the slots share; else nothing."""
    if context:
        shared = f"{context['slots']} slots share {context['tokens']:,} tokens"
        text = f"{shared}, {context['expected_tokens']:,} of them reserved for requests"
        if waiting := context["waiting"]:
            wait = "request waits" if waiting == 1 else "requests wait"
            text += f"; {waiting} {wait} for room, for up to {duration(context['longest_seconds'])}"
        yield f"context   {text}"


def _others(servers: Sequence[StatusDocument]) -> Iterator[str]:
    """The servers next to the main one."""
    for label, each in zip(["also      ", *["          "] * len(servers)], servers, strict=False):
        why = f" ({why_of(each)})" if why_of(each) else ""
        yield f"{label}{_text(each['profile'])} {each['state']}{why}, {_process(each)}"


def _gateway(gateway: StatusDocument | None) -> Iterator[str]:
    """Nothing where there is none: then llama-server has the address itself."""
    if gateway:
        connections = _count(gateway["connections"], "connection")
        under_way = _count(gateway["requests_under_way"], "request")
        yield f"gateway   {connections}, {under_way} under way, {gateway['requests_waiting']} waiting"
        yield from (f"          {held_text(each)}" for each in gateway.get("waiting", ()))
        yield from _peers(gateway.get("peers", ()))


def _peers(peers: Sequence[StatusDocument]) -> Iterator[str]:
    for label, each in zip(["peers     ", *["          "] * len(peers)], peers, strict=False):
        why = f" ({each['why']})" if each["why"] else ""
        at = f"{each['name']} at {each['url']}: {each['state']}{why}"
        counts = _count(each["models"], "model"), _count(each["requests_under_way"], "request")
        yield f"{label}{at}, {counts[0]}, {counts[1]} of ours under way"


def _of_another_version(version: str) -> Iterator[str]:
    """After an upgrade the old daemon runs on until `upgrade-daemon` or a restart."""
    if version != __version__:
        yield f"          is still version {version}, this program is version {__version__}; to upgrade it"
        yield "          and keep its models loaded: goss-supervisor upgrade-daemon, or service restart"


def _ending(servers: Sequence[StatusDocument]) -> Iterator[str]:
    """Those that end with the daemon though their profiles say `adopt`; an older daemon does not say so."""
    ending: dict[str, list[str]] = {}
    for each in servers:
        orphan = each.get("orphan") or {}
        if orphan.get("asked") == "adopt" and orphan["ends_because"]:
            ending.setdefault(orphan["ends_because"], []).append(each["profile"])
    for why, profiles in ending.items():
        verb = "ends" if len(profiles) == 1 else "end"
        yield f"          if it is killed, {' and '.join(profiles)} {verb} with it: {why}"


def _update(now: StatusDocument) -> Iterator[str]:
    """Only what is about the build that runs: another one may have been chosen since it was written."""
    update = now.get("update") or {}
    if update.get("current") != now["server"]["build"]:
        return
    if update.get("available"):
        note = f" ({update['note']})" if update.get("note") else ""
        yield f"update    {update['available']} is there: goss-supervisor engine update{note}"
    elif update.get("note"):
        yield f"update    {update['note']}"


def _process(of: StatusDocument) -> str:
    return "none" if of["pid"] is None else f"pid {of['pid']}, {size(of['memory_bytes'])}"


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _failure_lines(failure: StatusDocument) -> Iterator[str]:
    yield f"failure   {failure['message']} (at {_text(failure['at'])})"
    if failure["hint"]:
        yield f"          {failure['hint']}"
    yield from (f"  | {line}" for line in failure["log_tail"])
