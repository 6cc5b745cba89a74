"""Faults while clients ask: of servers, the daemon, commands, the disk, and what others send."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import time
from contextlib import suppress
from random import Random

import psutil

from ..e2e.gateway_load import CHAT, ENDLESS, request_bytes
from .fault import under_load
from .ground import Ground

SERVER, DAEMON, COMMANDS = "A server under load", "The daemon under load", "Commands under load"
OTHERS = "What others send"


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


# --- a server dies, stops or stands still

for _number, _more in (
    (signal.SIGKILL, "as the kernel does when memory is out"),
    (signal.SIGSEGV, "as in a crash"),
    (signal.SIGABRT, "as by a failed assertion"),
    (signal.SIGTERM, "by somebody else"),
    (signal.SIGINT, "by somebody else"),
):

    @under_load(
        SERVER,
        f"gets {_number.name} {_more}",
        how=f"`kill -{_number.name[3:]}` of one of three",
        promise="it comes back; a request without an answer is sent again, half an answer ends with an error",
        servers="new",
        breaks=True,
    )
    def _(ground: Ground, chance: Random, number: int = _number) -> None:
        _signal(ground.server(chance.choice(ground.names)), number)


@under_load(
    SERVER,
    "is killed, and again while it loads",
    how="`kill -9`, and of the next process at once",
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
    "and all others are killed at once",
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
    "stands still for a second",
    how="SIGSTOP, SIGCONT after 1 s",
    promise="it is left alone, and no request breaks",
)
def _(ground: Ground, chance: Random) -> None:
    with ground.stopped(ground.server(chance.choice(ground.names))):
        time.sleep(1)


@under_load(
    SERVER,
    "stands still for good",
    how="SIGSTOP; `health.hang-timeout` is 4 s, by default 60 s",
    promise="it is killed and comes back; its streams break visibly",
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
    promise="what it answers already goes on; it is restarted, since nobody reaches it",
    servers="any",
    breaks=True,
)
def _(ground: Ground, chance: Random) -> None:
    name = chance.choice(ground.names)
    (ground.root / "run" / f"llama-server-{name}.sock").unlink(missing_ok=True)


# --- the daemon


@under_load(
    DAEMON,
    "is killed, `orphan: end`",
    how="`kill -9`, then `start`",
    promise="its servers end with it; requests break visibly; the next start works",
    daemon="new",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    ground.daemon().kill()


@under_load(
    DAEMON,
    "and all its servers are killed at once",
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
    "stands still for two seconds",
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
        promise="it stops in good order: answers under way end whole, later requests are refused until it is back",
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
    promise="it puts them back within seconds, and no request breaks",
    servers="any",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    shutil.rmtree(ground.root / "run", ignore_errors=True)
    deadline = time.monotonic() + 30
    while not ground.is_there():
        assert time.monotonic() < deadline, "the control socket does not come back"
        time.sleep(0.05)


for _file in ("control.sock", "daemon.lock", "default.lock"):

    @under_load(
        DAEMON,
        f"loses `{_file}`",
        how="that file is deleted",
        promise="it is put back; nothing restarts, no request breaks",
    )
    def _(ground: Ground, _chance: Random, file: str = _file) -> None:
        lost = ground.root / "run" / file
        lost.unlink(missing_ok=True)
        deadline = time.monotonic() + 30
        while not lost.exists():
            assert time.monotonic() < deadline, f"{file} does not come back"
            time.sleep(0.05)


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
    how="`prlimit --nofile` of two more than it has open, for 2 s",
    promise="it lives on; requests that it cannot accept wait or are refused",
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
    promise="lines of logs and records are lost, and no request",
    needs_root=True,
)
def _(ground: Ground, _chance: Random) -> None:
    with ground.full_disk():
        time.sleep(2)


@under_load(
    DAEMON,
    "has a full disk when a server dies",
    how="the same, and `kill -9` of a server",
    promise="the server comes back all the same",
    servers="new",
    breaks=True,
    needs_root=True,
)
def _(ground: Ground, chance: Random) -> None:
    with ground.full_disk():
        _signal(ground.server(chance.choice(ground.names)), signal.SIGKILL)
        time.sleep(2)


# --- commands

for _words in (
    ("load", "two"),
    ("restart", "two"),
    ("reload",),
    ("unload", "two"),
    ("switch", "one"),
    ("status", "--watch"),
):

    @under_load(
        COMMANDS,
        f"`{' '.join(_words)}` is killed in the middle",
        how="`kill -9` of the command after 0.1 to 1 s",
        promise="the daemon finishes what it was asked to do, or never hears of it; no request breaks",
        servers="any",
    )
    def _(ground: Ground, chance: Random, words: tuple[str, ...] = _words) -> None:
        ground.cut(chance, *words)


@under_load(
    COMMANDS,
    "`start` is killed in the middle, while another daemon runs",
    how="`kill -9` of the command after 0.1 to 1 s",
    promise="the daemon that runs does not notice",
)
def _(ground: Ground, chance: Random) -> None:
    ground.cut(chance, "start", "-p", "two", "-d")


@under_load(
    COMMANDS,
    "`bench` is killed in the middle",
    how="`kill -9` of the command after 0.5 to 3 s",
    promise="its hold ends; held requests go on",
    servers="any",
)
def _(ground: Ground, chance: Random) -> None:
    ground.cut(chance, "bench", "two", most=3)


@under_load(
    COMMANDS,
    "`restart`",
    how="`restart` of one server",
    promise="answers under way end on the old process, new requests wait for the new one",
    servers="new",
)
def _(ground: Ground, chance: Random) -> None:
    ground.tell(op="reload", plan=(plan := _plan(ground, name := chance.choice(ground.names))), server=name)
    ground.tell(op="start", plan=plan, server=_server_of(ground, name))


def _server_of(ground: Ground, name: str) -> str:
    return next((each["name"] for each in ground.status()["servers"] if each["profile"] == name), name)


def _plan(ground: Ground, name: str) -> object:
    return ground.tell(op="running", server=_server_of(ground, name)).get("plan")


@under_load(
    COMMANDS,
    "`unload` while it is asked",
    how="`unload` of one model",
    promise="answers under way end; the next request loads it again",
    servers="new",
)
def _(ground: Ground, chance: Random) -> None:
    ground.tell(op="unload", server=_server_of(ground, chance.choice(ground.names)))


@under_load(
    COMMANDS,
    "`load --alone` evicts the others",
    how="`load two --alone`",
    promise="answers under way end; the next request loads the others again",
    servers="new",
)
def _(ground: Ground, chance: Random) -> None:
    ground.tell(op="load", server=_server_of(ground, chance.choice(ground.names)), alone=True)


@under_load(
    COMMANDS,
    "`stop` of one server, then `load`",
    how="both, one after the other",
    promise="requests to it are refused in between; the others go on",
    servers="new",
    breaks=True,
)
def _(ground: Ground, chance: Random) -> None:
    name = chance.choice(ground.names[1:])
    ground.tell(op="stop", server=name)
    ground.run("load", name, code=None)


@under_load(
    COMMANDS,
    "`stop`, then `start`",
    how="both, one after the other",
    promise="answers under way end whole; later requests are refused until it is back",
    daemon="new",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    ground.run("stop", code=None)


@under_load(
    COMMANDS,
    "`stop --now`, then `start`",
    how="both, one after the other",
    promise="answers under way break visibly",
    daemon="new",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    ground.run("stop", "--now", code=None)


@under_load(
    COMMANDS,
    "twenty switches in a row",
    how="to the same profile, without waiting for the outcome",
    promise="all but the last are superseded; no request breaks",
    servers="any",
)
def _(ground: Ground, _chance: Random) -> None:
    plan = _plan(ground, ground.names[0])
    for _ in range(20):
        with suppress(OSError):
            _send(
                ground, json.dumps({"protocol": 1, "op": "start", "plan": plan}).encode() + b"\n", read=False
            )


@under_load(
    COMMANDS,
    "`reload` with a broken profile",
    how="a profile with a wrong key, `reload`, and back",
    promise="the error names the line; nothing restarts",
)
def _(ground: Ground, _chance: Random) -> None:
    path = ground.root / "config" / "profiles" / f"{ground.names[0]}.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text("server: {ctx-sizes: 3}\n", encoding="utf-8")
    try:
        ground.run("reload", code=None)
    finally:
        path.write_text(before, encoding="utf-8")


# --- what others send


def _send(ground: Ground, data: bytes, *, read: bool = True) -> None:
    """To the control socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(ground.root / "run" / "control.sock"))
        client.sendall(data)
        if read:
            client.recv(65536)


for _name, _line in (
    ("a word", b"hello\n"),
    ("an empty line", b"\n"),
    ("bytes that are not UTF-8", b"\xff\xfe\x00\xc3(\n"),
    ("another protocol", b'{"protocol": 99, "op": "status"}\n'),
    ("an unknown operation", b'{"protocol": 1, "op": "dance"}\n'),
    ("a plan of another schema", b'{"protocol": 1, "op": "reload", "plan": {"schema": 99}}\n'),
    ("a plan without a command", b'{"protocol": 1, "op": "start", "plan": {"schema": 1, "argv": []}}\n'),
    ("fields of wrong types", b'{"protocol": 1, "op": "stop", "now": "yes", "server": 7}\n'),
    ("a line of 5 MB", b"x" * 5_000_000 + b"\n"),
    ("100,000 brackets", b"[" * 100_000 + b"\n"),
):

    @under_load(
        OTHERS,
        f"the control socket gets {_name}",
        how="written into it as one line",
        promise="an error that names the mistake; no request breaks",
    )
    def _(ground: Ground, _chance: Random, line: bytes = _line) -> None:
        with suppress(OSError):
            _send(ground, line)


@under_load(
    OTHERS,
    "the control socket has 200 clients that say nothing",
    how="connected for a second",
    promise="commands and requests go on",
)
def _(ground: Ground, _chance: Random) -> None:
    path, silent = str(ground.root / "run" / "control.sock"), []
    try:
        for _ in range(200):
            silent.append(client := socket.socket(socket.AF_UNIX))
            client.settimeout(5)
            client.connect(path)
        time.sleep(1)
        ground.tell(op="status")
    except OSError:
        pass  # in chaos, it may be gone
    finally:
        for client in silent:
            client.close()


_HTTP = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
for _name, _data in (
    ("random bytes", bytes(range(256)) * 40),
    ("half a head and nothing more", _HTTP),
    ("a head of 1 MB", _HTTP + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"),
    ("a length and chunks", _HTTP + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a bad chunk", _HTTP + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"),
    ("a body shorter than it says", _HTTP + b'Content-Length: 500\r\n\r\n{"messages": ['),
    ("a body that is not JSON", _HTTP + b"Content-Length: 5\r\n\r\n{{{{{"),
    ("a body of 200 MB, as it says", _HTTP + b"Content-Length: 200000000\r\n\r\n" + b" " * 100_000),
    ("a negative length", _HTTP + b"Content-Length: -1\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64)),
):

    @under_load(
        OTHERS,
        f"the gateway gets {_name}",
        how="on ten connections, closed after 0.3 s",
        promise="an error or a closed connection; no request of others breaks",
    )
    def _(ground: Ground, _chance: Random, data: bytes = _data) -> None:
        _from_many(ground, data)


def _from_many(ground: Ground, data: bytes, count: int = 10, seconds: float = 0.3) -> None:
    clients = []
    try:
        for _ in range(count):
            clients.append(client := socket.create_connection(("127.0.0.1", ground.port), 5))
            with suppress(OSError):
                client.sendall(data)
        time.sleep(seconds)
    except OSError:
        pass  # in chaos, it may be gone
    finally:
        for client in clients:
            client.close()


@under_load(
    OTHERS,
    "1,000 clients connect and say nothing",
    how="connected for a second",
    promise="requests of others go on",
)
def _(ground: Ground, _chance: Random) -> None:
    _from_many(ground, b"", 1000, 1)


@under_load(
    OTHERS,
    "clients leave in the middle of a stream",
    how="ten endless streams, closed after 0.3 s",
    promise="llama-server stops working for them; requests of others go on",
)
def _(ground: Ground, chance: Random) -> None:
    _from_many(ground, request_bytes("/completion", ENDLESS | {"model": chance.choice(ground.names)}))


@under_load(
    OTHERS,
    "a client reads nothing",
    how="a long stream to a socket of 4 KiB that nobody reads, for 2 s",
    promise="it holds up nobody",
)
def _(ground: Ground, chance: Random) -> None:
    asked = ENDLESS | {"n_predict": 500, "n_probs": 100, "model": chance.choice(ground.names)}
    try:
        with socket.create_connection(("127.0.0.1", ground.port), 5) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(request_bytes("/completion", asked))
            time.sleep(2)
    except OSError:
        pass


@under_load(
    OTHERS,
    "a request names a model that nobody has",
    how="a chat with such a `model`",
    promise="the model that is loaded answers, or 404; nothing is loaded or unloaded",
)
def _(ground: Ground, _chance: Random) -> None:
    body = {"model": "nobody/nothing", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    _from_many(ground, request_bytes(CHAT, body))
