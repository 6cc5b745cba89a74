"""This home: its profiles, keys, daemon, service, leftover servers, and the network that downloads need."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..disk import noexec_mount
from ..errors import NotRunning, SupervisorError
from ..gateway.auth.keys import KeyFile
from ..hardware.machine import Machine
from ..home import client
from ..home.event_log import read_events
from ..home.orphan import SURVIVOR_HINT, UNPROVED_HINT, left_running, left_unproved, unproved_text
from ..home.places import daemon_lock, keys_file
from ..home.run_history import Run, runs_in, with_notes
from ..locks import held_by
from ..paths import Paths
from ..prepare.profile_listen import unservable
from ..profile.resolve import check_profiles
from ..profile.store import ProfileStore
from ..service.contract import Service, ServiceScope
from ..service.this_system import chosen
from .finding import Finding

_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
LEAST_DESCRIPTORS = 1024
OUR_OOM_SCORE = 300
"""What `server.mechanism.linux_process` gives each server, so that it ends before the desktop."""


def home_findings(paths: Paths, machine: Machine, scope: ServiceScope) -> Iterator[Finding]:
    """All of it; what a daemon says of itself included, if one runs."""
    yield from _profiles(paths)
    yield from _keys(paths)
    yield from _folders(paths)
    yield from _network()
    yield from speed_findings(runs_in(read_events(paths)))
    status = _status(paths)
    if isinstance(status, Finding):
        yield status
        if status.id == "daemon" and status.state == "ok":
            yield from _leftovers(paths)
    else:
        yield from daemon_findings(status, machine)
    yield _service(scope)


def _profiles(paths: Paths) -> Iterator[Finding]:
    store = ProfileStore(paths.profiles)
    try:
        checked = check_profiles((), store)
        problems = (*checked.problems, *unservable(store))
    except SupervisorError as error:
        yield Finding("profiles", "problem", str(error), error.hint or "goss-supervisor profile check")
        return
    for each in problems:
        fix = "goss-supervisor profile edit NAME; profile check tells all."
        if each.startswith(str(store.settings)):
            fix = f"Correct {store.settings}; goss-supervisor profile check tells all."
        yield Finding("profiles", "problem", each, fix)
    if not problems:
        yield Finding("profiles", "ok", f"config.yaml and {len(checked.sound)} profiles are sound.")


def speed_findings(runs: Iterable[Run]) -> Iterator[Finding]:
    """Of each profile, whether its last run was as fast as those before it."""
    last = {run.profile: run for run in with_notes(runs)}
    slow = [run for run in last.values() if run.note]
    for run in slow:
        fix = f"goss-supervisor history {run.profile} shows all runs; look for other programs, swaps, heat."
        yield Finding("speed", "warning", f"In its last run, {run.profile} {run.note}.", fix)
    if last and not slow:
        yield Finding("speed", "ok", "No model loaded or answered more slowly than usual in its last run.")


def _keys(paths: Paths) -> Iterator[Finding]:
    file = keys_file(paths)
    try:
        keys = KeyFile(file).keys()
    except SupervisorError as error:
        yield Finding("keys", "problem", str(error), error.hint)
        return
    open_to = [place for place in (file, file.parent) if _others_may_write(place)]
    if file.exists() and sys.platform != "win32" and file.stat().st_mode & 0o077:
        open_to.append(file)
    if open_to:
        places = " and ".join(str(each) for each in dict.fromkeys(open_to))
        fix = f"chmod go-rwx {places}"
        yield Finding("keys", "problem", f"Other users of this computer may read or change {places}.", fix)
    else:
        yield Finding(
            "keys", "ok", f"{len(keys)} key{'' if len(keys) == 1 else 's'}; nobody else can change them."
        )


def _others_may_write(place: Path) -> bool:
    return sys.platform != "win32" and place.exists() and bool(place.stat().st_mode & 0o022)


def _folders(paths: Paths) -> Iterator[Finding]:
    for folder in dict.fromkeys((paths.data, paths.state, paths.logs, paths.config)):
        there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
        if not os.access(there, os.W_OK):
            yield Finding(
                "folders", "problem", f"This user may not write to {there}.", f"sudo chown -R $USER {there}"
            )
    if mount := noexec_mount(paths.engines):
        text = f"Programs may not run from {mount}, which is mounted noexec; engines are there."
        yield Finding(
            "folders",
            "problem",
            text,
            f"sudo mount -o remount,exec {mount}, or GOSS_SUPERVISOR_HOME elsewhere.",
        )


def _network() -> Iterator[Finding]:
    """What downloads go through; the address of a proxy is shown without its password."""
    for name in _PROXIES:
        if value := os.environ.get(name):
            at = urlsplit(value)
            if not at.hostname:
                yield Finding(
                    "proxy", "problem", f"{name} is no address of a proxy.", f"{name}=http://HOST:PORT"
                )
            else:
                yield Finding("proxy", "ok", f"Downloads go through {at.hostname} ({name}).")
            break
    for name in _CERTIFICATES:
        if (value := os.environ.get(name)) and not Path(value).exists():
            text = f"{name} names {value}, which is not there: no download can be verified."
            yield Finding("certificates", "problem", text, f"unset {name}")


def _status(paths: Paths) -> Mapping[str, Any] | Finding:
    try:
        found: Mapping[str, Any] = client.ask(paths, {"op": "status"})["status"]
    except NotRunning:
        return Finding("daemon", "ok", "No daemon runs here.", "goss-supervisor start")
    except SupervisorError as error:
        return Finding("daemon", "problem", str(error), error.hint)
    return found


def daemon_findings(status: Mapping[str, Any], machine: Machine) -> Iterator[Finding]:
    """What its status and, on Linux, the limits of its processes say."""
    daemon, servers = status["daemon"], status["servers"]
    yield Finding("daemon", "ok", f"A daemon runs here (pid {daemon['pid']}, version {daemon['version']}).")
    for peer in (status.get("gateway") or {}).get("peers", ()):
        yield _peer(peer)
    for server in servers:
        yield from _server(server)
        if server.get("pid"):
            yield from _limits(server, machine)


def _peer(peer: Mapping[str, Any]) -> Finding:
    where = f"{peer['name']} ({peer['url']})"
    if peer["state"] in {"up", "not ready"}:
        return Finding("peer", "ok", f"The peer {where} answers.")
    text = f"The peer {where} is {peer['state']}: {peer['why']}"
    return Finding("peer", "warning", text, "Look at that machine, its network and the key for it.")


def _server(server: Mapping[str, Any]) -> Iterator[Finding]:
    name, why = server["profile"] or server["name"], server.get("why") or ""
    failure = server.get("last_failure")
    if server["state"] in {"failed", "degraded", "backoff"}:
        state = "warning" if server["state"] == "degraded" else "problem"
        hint = (failure or {}).get("hint") or "goss-supervisor status"
        yield Finding("server", state, f"{name} is {server['state']}: {why}", hint)  # type: ignore[arg-type]
    elif failure:
        yield Finding(
            "server",
            "warning",
            f"{name} is {server['state']}; it last failed at {failure['at']}: {failure['message']}",
            failure["hint"],
        )
    else:
        yield Finding("server", "ok", f"{name} is {server['state']}.")
    for each in server.get("warnings", ()):
        yield Finding("server", "warning", f"{name}: {each}")


def _limits(server: Mapping[str, Any], machine: Machine) -> Iterator[Finding]:
    """Those that its process really has (/proc/PID/limits)."""
    pid, name = server["pid"], server["profile"]
    limits = limits_in(machine.read(f"/proc/{pid}/limits") or "")
    if (most := limits.get("Max open files")) is not None and most < LEAST_DESCRIPTORS:
        fix = "ulimit -n 4096 before the start; of a service LimitNOFILE=4096."
        yield Finding("limits", "warning", f"{name} may open {most} files at most.", fix)
    argv = (machine.read(f"/proc/{pid}/cmdline") or "").split("\0")
    locked = limits.get("Max locked memory")
    if (
        locked is not None
        and any("mlock" in word for word in argv)
        and locked < (server.get("memory_bytes") or 0)
    ):
        fix = "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited."
        yield Finding(
            "limits", "problem", f"{name} is to lock its model into memory, and may lock {locked} bytes.", fix
        )
    score = (machine.read(f"/proc/{pid}/oom_score_adj") or "").strip()
    if score.lstrip("-").isdigit() and int(score) > OUR_OOM_SCORE:
        text = f"{name} has oom_score_adj {score}: the kernel ends it before others when memory runs out."
        yield Finding("limits", "warning", text, "In the unit: OOMScoreAdjust=0.")


def limits_in(text: str) -> dict[str, int]:
    """The soft limits that are not unlimited, of /proc/PID/limits."""
    found: dict[str, int] = {}
    for line in text.splitlines()[1:]:
        name, soft = line[:26].strip(), line[26:].split()[:1]
        if soft and soft[0].isdigit():
            found[name] = int(soft[0])
    return found


def _leftovers(paths: Paths) -> Iterator[Finding]:
    """Without a daemon nobody should hold the lock of a server."""
    if held_by(daemon_lock(paths)) is not None:
        return  # one is just starting
    for record, identity in left_running(paths):
        text = f"{record.profile} still runs, though its daemon was killed (pid {identity.pid})."
        yield Finding("leftovers", "problem", text, SURVIVOR_HINT)
    for name, pids in left_unproved(paths).items():
        yield Finding("leftovers", "problem", unproved_text(paths, name, pids), UNPROVED_HINT)


def _service(scope: ServiceScope) -> Finding:
    try:
        manager = chosen(sys.platform)
        found = manager.status(Service(scope))
    except SupervisorError as error:
        return Finding("service", "unknown", str(error))
    if not found.installed:
        return Finding("service", "ok", f"No service is installed ({manager.title}, {scope}).")
    if found.running:
        return Finding("service", "ok", f"The service runs ({manager.title}, {scope}).")
    text = f"The service is installed and does not run: {found.detail or found.state}"
    return Finding(
        "service", "problem", text, "goss-supervisor service start; service logs says why it ended."
    )
