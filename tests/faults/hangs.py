"""Faults of the daemon and of commands that meet: hangs, races, kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from typing import Any

from ..e2e.conftest import PATIENCE, until
from .fault import fault
from .ground import Ground, answer_of
from .load import Load, questions_of

HANGS = "The daemon and its commands"


@fault(
    HANGS,
    "the daemon is frozen for good",
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
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 12, (process.returncode, said)
    return f"exit codes 12 and {second.returncode}: {ground.plain(said)}"


@fault(
    HANGS,
    "two switches at once",
    how="`switch two`, which loads for an hour, and `switch one` meanwhile",
    promise="the earlier one ends as superseded, exit code 12; the later one wins",
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
    "a start while the daemon stops",
    how="`start` during a `stop` that takes 4 s, since the server ignores SIGTERM",
    promise="the start waits, or is refused with the reason; the next one works",
)
def _(ground: Ground) -> str:
    ground.scripted(term="ignore")
    ground.up()
    stopping = ground.begin("stop")
    ground.until_state("stopping")
    done = ground.run("start", "-p", "one", "-d", code=None, waits=True)
    assert "Traceback" not in done.stderr
    stopping.wait(PATIENCE)
    seen = f"exit code {done.returncode}: {ground.plain(done.stderr or done.stdout)}"
    began = time.monotonic()
    ground.up()
    ground.recover(began)
    return f"{seen.partition(' (pid')[0]}; then it answers"


@fault(
    HANGS,
    "`start --detach` is killed in the middle",
    how="`kill -9` of the command after 0.1 to 4 s, without a daemon; five times",
    promise="either the daemon started and goes on, or it did not start; the next start works, or says that it runs",
)
def _(ground: Ground) -> str:
    ground.scripted()
    chance, ran = random.Random(1), 0
    for _ in range(5):
        ground.cut(chance, "start", "-p", "one", "-d", most=4)
        ran += ground.is_there()
        ground.run("stop", code=None)
    return f"{ran} of 5 began; {ground.goes_on()}"


@fault(
    HANGS,
    "`bench` is killed, and no daemon ran before",
    how="`kill -9` of the command, which started its own daemon for its model",
    promise="that daemon ends its server and itself",
)
def _(ground: Ground) -> str:
    ground.write_profile("one")
    bench = ground.begin("bench", "one")
    until(lambda: any("--host" in words for words in ground.commands().values()), "bench starts no server")
    bench.kill()
    bench.wait()
    began = time.monotonic()
    until(lambda: not ground.leftovers())
    ground.took = time.monotonic() - began
    return "nothing is left"


@fault(
    HANGS,
    "a client waits when the daemon is stopped",
    how="`stop --now` while a request waits for a model that loads for an hour",
    promise="the client gets an error at once",
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
    promise="exit code 3, or what the command knows without one; no traceback",
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
    promise="the daemon reads its files again and goes on serving",
)
def _(ground: Ground) -> str:
    ground.scripted()
    process = ground.foreground("one")
    until(lambda: ground.is_there() and ground.status()["server"]["state"] == "ready")
    assert process.stdout
    process.stdout.close()
    process.stdout = None  # which `close` would read
    os.kill(process.pid, signal.SIGHUP)
    ground.recover(time.monotonic())
    return f"it serves; {ground.end()}"
