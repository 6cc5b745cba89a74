"""Faults of servers, of the daemon and of its disk while clients ask."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import time
from contextlib import suppress
from random import Random

import psutil

from ..e2e.conftest import until
from .fault import fault, tried, under_load
from .ground import NAMES, Ground
from .load import HUNG_SECONDS

SERVER, DAEMON = "A server under load", "The daemon under load"


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


# --- a server dies, stops or stands still

for _number, _more in (
    (signal.SIGKILL, ", as from the kernel when memory runs out"),
    (signal.SIGSEGV, ", as in a crash"),
    (signal.SIGABRT, ", as after a failed assertion"),
    (signal.SIGTERM, " from another program"),
    (signal.SIGINT, " from another program"),
):

    @under_load(
        SERVER,
        f"gets {_number.name}{_more}",
        how=f"`kill -{_number.name[3:]}` of one of three",
        promise="it comes back; the gateway sends a request without an answer again, and ends half an answer with an error",
        servers="new",
        breaks=True,
    )
    def _(ground: Ground, chance: Random, number: int = _number) -> None:
        _signal(ground.server(chance.choice(ground.names)), number)


@under_load(
    SERVER,
    "is killed, and killed again while it loads",
    how="`kill -9`, then the same for its next process at once",
    promise="it comes back",
    servers="new",
    breaks=True,
)
def _(ground: Ground, chance: Random) -> None:
    name = chance.choice(ground.names)
    first = ground.server(name)
    _signal(first, signal.SIGKILL)
    ground.watch_for(
        lambda now: any(
            each["profile"] == name and each["pid"] not in {None, first.pid} for each in now["servers"]
        )
    )
    _signal(ground.server(name), signal.SIGKILL)


@under_load(
    SERVER,
    "is killed together with all others",
    how="`kill -9` of all three",
    promise="all come back",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    for name in ground.names:
        _signal(ground.server(name), signal.SIGKILL)


@under_load(
    SERVER,
    "is frozen for a second",
    how="SIGSTOP, SIGCONT after 1 s",
    promise="the daemon leaves it alone, and no request breaks",
)
def _(ground: Ground, chance: Random) -> None:
    with ground.stopped(ground.server(chance.choice(ground.names))):
        time.sleep(1)


@under_load(
    SERVER,
    "is frozen for good",
    how="SIGSTOP; `health.hang-timeout` is 4 s, by default 60 s",
    promise="the daemon kills and restarts it; its streams break visibly",
    servers="new",
    breaks=True,
)
def _(ground: Ground, chance: Random) -> None:
    server = ground.server(chance.choice(ground.names))
    server.suspend()
    psutil.wait_procs([server], timeout=30)


@under_load(
    SERVER,
    "loses its socket",
    how="its socket behind the gateway is deleted",
    promise="the gateway still reaches it: nothing restarts, no request breaks",
)
def _(ground: Ground, chance: Random) -> None:
    name = chance.choice(ground.names)
    (ground.root / "run" / f"llama-server-{name}.sock").unlink(missing_ok=True)


# --- the daemon


@under_load(
    DAEMON,
    "is killed, `orphan: adopt`",
    how="`kill -9`, then `start`",
    promise="requests break visibly; its servers go on, and the next start takes them over without a load",
    daemon="new",
    breaks=True,
)
def _kill(ground: Ground, _chance: Random) -> None:
    ground.daemon().kill()


@fault(
    DAEMON,
    "is killed, `orphan: end`",
    how="`kill -9`, then `start`",
    promise="requests break visibly; its servers end with it, and the next start loads them again",
)
def _(ground: Ground) -> str:
    ground.serve(NAMES, orphan="end")
    return tried(ground, _kill, daemon="new", servers="new", breaks=True)


@under_load(
    DAEMON,
    "is upgraded in place",
    how="`upgrade-daemon`, to the same code",
    promise="the same process and the same servers; no connection is refused, no answer is cut",
)
def _(ground: Ground, _chance: Random) -> None:
    ground.run("upgrade-daemon", code=None, timeout=HUNG_SECONDS)


@under_load(
    DAEMON,
    "is upgraded in place, and the command is killed in the middle",
    how="`kill -9` of `upgrade-daemon` after 0.1 to 1.2 s, three times",
    promise="it is upgraded, or goes on unchanged; no request breaks",
)
def _(ground: Ground, chance: Random) -> None:
    for _ in range(3):
        ground.cut(chance, "upgrade-daemon")


@under_load(
    DAEMON,
    "is killed together with all its servers",
    how="`kill -9` of all, then `start`",
    promise="the next start works",
    daemon="new",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    for process in (ground.daemon(), *(psutil.Process(pid) for pid in ground.servers().values() if pid)):
        _signal(process, signal.SIGKILL)


@under_load(
    DAEMON,
    "is killed, and its record names another program's process",
    how="`kill -9`, another program's pid in `state/default.json`, then `start`",
    promise="that process gets no signal; the next start works",
    daemon="new",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    record = ground.root / "state" / "default.json"
    daemon = ground.daemon()
    daemon.kill()
    psutil.wait_procs([daemon], timeout=30)
    known = json.loads(record.read_text(encoding="utf-8"))
    known["identity"]["pid"] = ground.stranger().pid
    record.write_text(json.dumps(known), encoding="utf-8")


@under_load(
    DAEMON,
    "is frozen for two seconds",
    how="SIGSTOP, SIGCONT after 2 s",
    promise="nothing restarts, no request breaks",
)
def _(ground: Ground, _chance: Random) -> None:
    with ground.stopped(ground.daemon()):
        time.sleep(2)


for _number in (signal.SIGTERM, signal.SIGINT):

    @under_load(
        DAEMON,
        f"gets {_number.name}, and is started again",
        how=f"`kill -{_number.name[3:]}`, wait, `start`",
        promise="a clean stop: answers under way end whole, and later requests are refused until it is back",
        daemon="new",
        servers="new",
        breaks=True,
    )
    def _(ground: Ground, _chance: Random, number: int = _number) -> None:
        daemon = ground.daemon()
        _signal(daemon, number)
        psutil.wait_procs([daemon], timeout=30)


@under_load(
    DAEMON,
    "gets fifty SIGHUP",
    how="`kill -HUP`, fifty times at once",
    promise="it reads its files again; nothing restarts",
)
def _(ground: Ground, _chance: Random) -> None:
    daemon = ground.daemon()
    for _ in range(50):
        _signal(daemon, signal.SIGHUP)


@under_load(
    DAEMON,
    "loses its runtime folder",
    how="`rm -r` of the folder with its sockets and locks",
    promise="it puts them back within seconds; nothing restarts, no request breaks",
)
def _(ground: Ground, _chance: Random) -> None:
    shutil.rmtree(ground.root / "run", ignore_errors=True)
    until(ground.is_there, "the control socket does not come back")


for _file in ("control.sock", "daemon.lock", "default.lock"):

    @under_load(
        DAEMON,
        f"loses `{_file}`",
        how="that file is deleted",
        promise="the daemon puts it back; nothing restarts, no request breaks",
    )
    def _(ground: Ground, _chance: Random, file: str = _file) -> None:
        lost = ground.root / "run" / file
        lost.unlink(missing_ok=True)
        until(lost.exists, f"{file} does not come back")


for _folder in ("logs", "state"):

    @under_load(
        DAEMON,
        f"loses its folder `{_folder}`",
        how="`rm -r` of it",
        promise="nothing restarts, no request breaks",
    )
    def _(ground: Ground, _chance: Random, folder: str = _folder) -> None:
        shutil.rmtree(ground.root / folder, ignore_errors=True)


@under_load(
    DAEMON,
    "is short of descriptors",
    how="`prlimit --nofile` to two more than it has open, for 2 s",
    promise="it goes on; requests that it cannot accept wait or are refused",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    daemon = ground.daemon()
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (daemon.num_fds() + 2, before[1]))
    try:
        time.sleep(2)
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)


@under_load(
    DAEMON,
    "has a full disk",
    how="its home, on a file system of 64 MiB, is filled for 2 s",
    promise="log lines and records are lost, but no request",
    needs_root=True,
)
def _(ground: Ground, _chance: Random) -> None:
    with ground.full_disk():
        time.sleep(2)


@under_load(
    DAEMON,
    "has a full disk when a server dies",
    how="the same, and `kill -9` of a server",
    promise="the server comes back",
    servers="new",
    breaks=True,
    needs_root=True,
)
def _(ground: Ground, chance: Random) -> None:
    with ground.full_disk():
        _signal(ground.server(chance.choice(ground.names)), signal.SIGKILL)
        time.sleep(2)
