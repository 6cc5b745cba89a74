"""Faults of the daemon that are not for a time in which clients ask: killed in each state, files that are broken."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from ..e2e.conftest import PATIENCE, until
from .fault import fault
from .ground import Ground

KILLED, FILES = "The daemon is killed", "Files that the daemon finds"


def _kill(ground: Ground) -> None:
    daemon = ground.daemon()
    daemon.kill()
    daemon.wait(PATIENCE)


def _while_it_loads(ground: Ground) -> None:
    ground.scripted(load=3600)
    ground.begin("start", "-p", "one", "-d")
    until(ground.is_there)
    ground.until_state("starting")


def _while_it_stops(ground: Ground) -> None:
    ground.scripted(term="ignore", sections={"stop": {"grace": "1h"}})
    ground.up()
    stop = ground.begin("stop")
    ground.until_state("stopping")
    stop.kill()  # else it would end the server itself once there is no daemon
    stop.wait()


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
        promise="the next start works, with the same server or a new one; `stop` leaves nothing",
    )
    def _(ground: Ground, reach: Callable[[Ground], None] = _reach) -> str:
        reach(ground)
        _kill(ground)
        return ground.goes_on()


@fault(
    KILLED,
    "while it starts",
    how="`start --detach`, and `kill -9` of all its processes after 0.1 to 1.5 s; five times",
    promise="the next start works",
)
def _(ground: Ground) -> str:
    ground.scripted()
    for moment in (0.1, 0.3, 0.6, 1.0, 1.5):
        ground.begin("start", "-p", "one", "-d")
        time.sleep(moment)
        for each in ground.processes():
            if each.is_running():
                each.kill()
    return ground.goes_on()


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
    return ground.goes_on()


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
        promise="the daemon ignores it or sets it aside, and the next start works",
    )
    def _(ground: Ground, file: str = _file, spoil: Callable[[Path], None] = _spoil) -> str:
        ground.scripted()
        ground.up()
        _kill(ground)
        path = ground.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        spoil(path)
        return ground.goes_on()


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
    how="a long transaction, while a client gets an answer",
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
