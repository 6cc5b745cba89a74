"""Faults of the daemon that are not for a time in which clients ask: killed in each state, files that are broken."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from .fault import fault
from .ground import Ground, answer_of
from .load import Load, questions_of

KILLED, FILES, HANGS = "The daemon is killed", "Files that the daemon finds", "The daemon and its commands"
_PATIENCE = 30.0


def _kill(ground: Ground) -> None:
    """And wait until its servers are gone with it, by PDEATHSIG."""
    now = ground.status()
    ended = [psutil.Process(now["daemon"]["pid"])]
    ended += [psutil.Process(each["pid"]) for each in now["servers"] if each["pid"]]
    ended[0].kill()
    gone, alive = psutil.wait_procs(ended, timeout=_PATIENCE)
    assert not alive, f"{alive} outlive their daemon"
    assert len(gone) == len(ended)


def _goes_on(ground: Ground) -> str:
    """The next start works, and leaves nothing at its end."""
    began = time.monotonic()
    ground.scripted()
    ground.up()
    ground.recover(began)
    return f"the next start answers; {ground.end()}"


def _asked(ground: Ground, *words: str) -> subprocess.Popen[bytes]:
    """A command that goes on in the background."""
    process = subprocess.Popen(
        ground.command(*words), env=ground.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    ground.at_the_end(lambda: (process.kill(), process.wait()))
    return process


def _while_it_loads(ground: Ground) -> None:
    ground.scripted(load=3600)
    _asked(ground, "start", "-p", "one", "-d")
    deadline = time.monotonic() + _PATIENCE
    while not ground.is_there():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ground.until_state("starting")


def _while_it_stops(ground: Ground) -> None:
    ground.scripted(term="ignore", sections={"stop": {"grace": "1h"}})
    ground.up()
    _asked(ground, "stop")
    ground.until_state("stopping")


def _while_it_backs_off(ground: Ground) -> None:
    ground.scripted(sections={"restart": {"backoff": "1h", "backoff-limit": "1h"}})
    ground.up()
    ground.server().kill()
    ground.until_state("backoff")


def _while_it_sleeps(ground: Ground) -> None:
    ground.scripted()
    ground.up()
    ground.run("unload", "one")


def _while_it_failed(ground: Ground) -> None:
    ground.scripted(sections={"restart": {"max": 0}})
    ground.up()
    ground.server().kill()
    ground.until_state("failed")


for _state, _reach in (
    ("loads", _while_it_loads),
    ("is stopped", _while_it_stops),
    ("waits for a restart", _while_it_backs_off),
    ("sleeps", _while_it_sleeps),
    ("has failed", _while_it_failed),
):

    @fault(
        KILLED,
        f"while its server {_state}",
        how="`kill -9` of the daemon in that state, then `start`",
        promise="no server is left; the next start works",
    )
    def _(ground: Ground, reach: Callable[[Ground], None] = _reach) -> str:
        reach(ground)
        _kill(ground)
        return _goes_on(ground)


@fault(
    KILLED,
    "while it begins",
    how="`start --detach`, and `kill -9` of all its processes after 0.1 to 1.5 s; five times",
    promise="the next start works",
)
def _(ground: Ground) -> str:
    ground.scripted()
    for moment in (0.1, 0.3, 0.6, 1.0, 1.5):
        _asked(ground, "start", "-p", "one", "-d")
        time.sleep(moment)
        for each in ground.processes():
            if each.is_running():
                each.kill()
    return _goes_on(ground)


@fault(
    KILLED,
    "while its disk is full",
    how="`kill -9` with a full disk, which is free again at the next start",
    promise="the next start works",
    needs_root=True,
)
def _(ground: Ground) -> str:
    ground.small_disk()
    ground.scripted()
    ground.up()
    with ground.full_disk():
        _kill(ground)
    return _goes_on(ground)


# --- files


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(4096))


def _other_schema(path: Path) -> None:
    path.write_text(json.dumps({"schema": 99, "server": 7}), encoding="utf-8")


def _of_another_boot(path: Path) -> None:
    known = json.loads(path.read_text(encoding="utf-8"))
    known["identity"] = {"pid": os.getppid(), "started": 1.0, "boot_id": "another"}
    path.write_text(json.dumps(known), encoding="utf-8")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


for _file, _how, _spoil in (
    ("state/default.json", "is cut off", _cut),
    ("state/default.json", "is of another version", _other_schema),
    ("state/default.json", "is of another boot", _of_another_boot),
    ("state/default.json", "is noise", _noise),
    ("state/default.json", "is empty", _empty),
    ("state/figures.json", "is noise", _noise),
    ("state/events.jsonl", "is noise", _noise),
    ("state/usage.sqlite", "is noise", _noise),
    ("state/update.json", "is noise", _noise),
    ("run/daemon.lock", "is noise", _noise),
    ("logs/llama-server.log", "is a folder", _folder),
):

    @fault(
        FILES,
        f"`{_file}` {_how}",
        how="after `kill -9` of the daemon, then `start`",
        promise="it is ignored or set aside, and the next start works",
    )
    def _(ground: Ground, file: str = _file, spoil: Callable[[Path], None] = _spoil) -> str:
        ground.scripted()
        ground.up()
        _kill(ground)
        path = ground.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        spoil(path)
        return _goes_on(ground)


@fault(
    FILES,
    "`run/control.sock` is a folder",
    how="before a start",
    promise="an error that names it; nothing is left",
)
def _(ground: Ground) -> str:
    ground.scripted()
    (ground.root / "run" / "control.sock").mkdir(parents=True)
    done = ground.run("start", "-p", "one", "-d", code=10)
    (ground.root / "run" / "control.sock").rmdir()
    assert "control.sock" in done.stderr
    assert not (left := ground.leftovers()), left
    return f"exit code 10: {ground.plain(done.stderr)}"


@fault(
    FILES,
    "`state/usage.sqlite` is locked by another program",
    how="a transaction that lasts, while a client is answered",
    promise="requests do not wait for it",
)
def _(ground: Ground) -> str:
    ground.scripted()
    ground.up()
    with sqlite3.connect(ground.root / "state" / "usage.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        ground.recover(began)
        other.execute("ROLLBACK")
    other.close()
    return f"whole answers; {ground.end()}"


# --- it hangs, and commands


@fault(
    HANGS,
    "it stands still for good",
    how="SIGSTOP; a command waits 10 to 30 s for it",
    promise="`status` names the process and what to do; `stop --now` ends it and its server",
)
def _(ground: Ground) -> str:
    ground.scripted()
    ground.up()
    daemon = ground.daemon()
    daemon.suspend()
    began = time.monotonic()
    done = ground.run("status", code=None, waits=True)
    assert str(daemon.pid) in done.stderr, done.stderr
    seconds = time.monotonic() - began
    ground.run("stop", "--now", code=None, waits=True)
    ground.took = time.monotonic() - began
    assert not (left := ground.leftovers()), left
    return f"`status` after {seconds:.0f} s: {ground.plain(done.stderr).replace(str(daemon.pid), 'PID')}; nothing left"


def _superseded(ground: Ground, first: list[str], then: list[str]) -> str:
    process = subprocess.Popen(
        ground.command(*first), env=ground.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    ground.until_state("starting", "two")
    second = ground.run(*then, code=None)
    said = process.communicate(timeout=_PATIENCE)[1]
    assert process.returncode == 12, (process.returncode, said)
    return f"exit codes 12 and {second.returncode}: {ground.plain(said)}"


@fault(
    HANGS,
    "two switches at once",
    how="`switch two`, which loads for an hour, and `switch one` meanwhile",
    promise="the earlier one ends as superseded, exit code 12; the later one counts",
)
def _(ground: Ground) -> str:
    ground.scripted("two", load=3600)
    ground.scripted()
    ground.up()
    seen = _superseded(ground, ["switch", "two"], ["switch", "one"])
    assert (became := ground.ask()) == "whole", became
    return seen


@fault(
    HANGS,
    "a stop while a model loads",
    how="`switch two`, which loads for an hour, and `stop` meanwhile",
    promise="the switch ends at once, and nothing is left",
)
def _(ground: Ground) -> str:
    ground.scripted("two", load=3600)
    ground.scripted()
    ground.up()
    seen = _superseded(ground, ["switch", "two"], ["stop"])
    assert not (left := ground.leftovers()), left
    return seen


@fault(
    HANGS,
    "a start while it stops",
    how="`start` during a `stop` that takes 4 s, since the server ignores SIGTERM",
    promise="the start waits or is refused with the reason; the next one works",
)
def _(ground: Ground) -> str:
    ground.scripted(term="ignore")
    ground.up()
    stopping = _asked(ground, "stop")
    ground.until_state("stopping")
    done = ground.run("start", "-p", "one", "-d", code=None, waits=True)
    assert "Traceback" not in done.stderr
    stopping.wait(_PATIENCE)
    seen = f"exit code {done.returncode}: {ground.plain(done.stderr or done.stdout)}"
    began = time.monotonic()
    ground.up()
    ground.recover(began)
    return f"{seen.partition(' (pid')[0]}; then it answers"


@fault(
    HANGS,
    "`start --detach` is killed in the middle",
    how="`kill -9` of the command after 0.1 to 4 s, without a daemon; five times",
    promise="a daemon that has begun goes on, or none has; the next start works or says that it runs",
)
def _(ground: Ground) -> str:
    ground.scripted()
    chance, ran = random.Random(1), 0
    for _ in range(5):
        ground.cut(chance, "start", "-p", "one", "-d", most=4)
        ran += ground.is_there()
        ground.run("stop", code=None)
    return f"{ran} of 5 began; {_goes_on(ground)}"


@fault(
    HANGS,
    "`bench` is killed, and no daemon ran before",
    how="`kill -9` of the command, whose own daemon serves its model",
    promise="that daemon ends its server, and itself",
)
def _(ground: Ground) -> str:
    ground.write_profile("one")
    bench = _asked(ground, "bench", "one")
    deadline = time.monotonic() + _PATIENCE
    while not any("--host" in words for words in ground.commands().values()):
        assert time.monotonic() < deadline, "bench starts no server"
        time.sleep(0.05)
    bench.kill()
    bench.wait()
    began = time.monotonic()
    while left := ground.leftovers():
        assert time.monotonic() - began < 60, left
        time.sleep(0.1)
    ground.took = time.monotonic() - began
    return "nothing is left"


@fault(
    HANGS,
    "a client waits when the daemon is stopped",
    how="`stop --now` while a request waits for a model that loads for an hour",
    promise="the client is told so, at once",
)
def _(ground: Ground) -> str:
    ground.scripted(sections={"gateway": {"preload": False}}, load=3600)
    ground.up()
    with Load(ground.port, {"one": questions_of(answer_of("one"))[:1]}, 1) as load:
        ground.until_state("starting")
        ground.run("stop", "--now")
        load.more(1)
    first = load.asked[0]
    assert (first.verdict, first.detail) == ("broken", "stopping"), first
    return "503 `stopping`"


@fault(
    HANGS,
    "a command without a daemon",
    how="`status`, `stop`, `load`, `logs`, `ps`",
    promise="exit code 3, or what is known without one; no traceback",
)
def _(ground: Ground) -> str:
    ground.write_profile("one")
    seen: dict[str, Any] = {}
    for words in (("status",), ("stop",), ("load", "one"), ("ps",), ("status", "--json")):
        done = ground.run(*words, code=None)
        assert "Traceback" not in done.stderr
        seen[" ".join(words)] = done.returncode
    assert set(seen.values()) <= {0, 3}, seen
    return ", ".join(f"`{words}` {code}" for words, code in seen.items())


@fault(
    HANGS,
    "the terminal goes",
    how="SIGHUP to a foreground start's process, and its pipe is closed",
    promise="it reads its files again and goes on serving",
)
def _(ground: Ground) -> str:
    ground.scripted()
    process = ground.foreground("one")
    deadline = time.monotonic() + _PATIENCE
    while not ground.is_there() or ground.status()["server"]["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.stdout
    process.stdout.close()
    process.stdout = None  # which `close` would read
    os.kill(process.pid, signal.SIGHUP)
    ground.recover(time.monotonic())
    return f"it serves; {ground.end()}"


