"""`upgrade-daemon`: the daemon becomes another program in the same process, and its clients do not notice."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from supervisor.errors import NotRunning, SupervisorError
from supervisor.home import client as control
from supervisor.model.demo import DEMO_ANSWER
from supervisor.paths import Paths

from ..fakes.binaries import fake_server, script
from ..fakes.launching import wait_until_gone
from .conftest import PATIENCE, Home, free_port, until
from .gateway_load import CHAT, QUESTION, request_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is tried on Linux only")

PROGRAM = [sys.executable, "-I", "-m", "supervisor.daemon"]
T = TypeVar("T")
STREAM = QUESTION | {"stream": True}


@dataclass
class Line:
    """One connection of a client that keeps it open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    got: bytes = b""

    async def answer(self) -> bytes:
        """The body of the next answer, which has a length."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            return await self.reader.readexactly(length)

    async def until(self, words: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while words not in self.got:
                piece = await self.reader.read(65536)
                assert piece, self.got
                self.got += piece


@dataclass
class UpgradedHome(Home):
    """
    With a scripted server that holds streams behind their first word until `open`; clients come in by plain
    TCP, TLS or a Unix socket.
    """

    way: str = "tcp"
    lines: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.gate = self.root / "gate"
        self.loads = self.root / "loads"  # while it is there, the server loads at once
        self.loads.touch()
        gates = {"stream_gate": str(self.gate), "load_gate": str(self.loads)}
        engine = fake_server(self.root / "engine" / "llama-server", **gates)
        server = self.certificate() if self.way == "tls" else {}
        listen = {"host": str(self.root / "in.sock")} if self.way == "unix" else {"port": self.port}
        self.words = {
            "model": "demo",
            "engine": {"source": "path", "path": str(engine)},
            "listen": listen,
            "server": server,
            "gateway": {"max-concurrent": 1},
        }
        self.profile("one", json.dumps(self.words))
        self.run("start", "--profile", "one", "--detach")

    def certificate(self) -> dict[str, str]:
        key, cert = str(self.root / "key.pem"), str(self.root / "cert.pem")
        words = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout {key} -out {cert}"
        subprocess.run(words.split(), check=True, capture_output=True)
        return {"ssl-key-file": key, "ssl-cert-file": cert}

    def open(self) -> None:
        self.gate.touch()

    def played(self, scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the scenario gives; its connections end with it."""

        async def whole() -> T:
            try:
                return await scenario()
            finally:
                for each in self.lines:
                    each.writer.transport.abort()

        return asyncio.run(whole())

    async def line(self) -> Line:
        if self.way == "unix":
            ends = await asyncio.open_unix_connection(str(self.root / "in.sock"))
        else:
            ends = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=_believing() if self.way == "tls" else None
            )
        self.lines.append(Line(*ends))
        return self.lines[-1]

    async def asked(self, body: dict, sent: int | None = None) -> Line:
        """A request of which so many bytes are sent; all where none are named."""
        line = await self.line()
        line.writer.write(request_bytes(CHAT, body)[:sent])
        return line

    async def upgraded(self, program: list[str] = PROGRAM) -> dict:
        """What the daemon answers.  Raises SupervisorError."""
        request = {"op": "upgrade", "program": program}
        return (await asyncio.to_thread(control.ask, Paths.under(self.root), request))["upgraded"]

    @property
    def pids(self) -> tuple[int, int, int]:
        now = self.status()
        return now["daemon"]["pid"], now["server"]["pid"], now["server"]["restarts"]

    def counts(self) -> tuple[int, int]:
        gateway = self.status()["gateway"]
        return gateway["requests_under_way"], gateway["requests_waiting"]

    async def until_counts(self, under_way: int, waiting: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.counts() != (under_way, waiting):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    def copies(self) -> list[int]:
        """The pids of the daemon's children that are not its server."""
        daemon, server, _ = self.pids
        children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
        return [int(each) for each in children if int(each) != server]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pids[0]}/fd"))


def _believing() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture
def way():
    return "tcp"


@pytest.fixture
def home(tmp_path, way):
    if way == "tls" and shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = UpgradedHome(tmp_path, way=way)
    yield made
    made.open()
    made.close()


def said_in(stream: bytes) -> str:
    events = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return "".join(json.loads(each)["choices"][0]["delta"].get("content") or "" for each in events)


def is_whole(answer: bytes) -> bool:
    return json.loads(answer)["choices"][0]["message"]["content"] == DEMO_ANSWER


@pytest.mark.parametrize("way", ["tcp", "tls", "unix"])
def test_no_client_notices_an_upgrade_or_two(home):
    """A stream under way, a request that waits, an idle connection, half a head and half a body."""
    before = home.pids

    async def run():
        idle = await home.asked({**QUESTION, "max_tokens": 1})
        assert is_whole(await idle.answer())
        stream = await home.asked(STREAM)
        await stream.until(b"content")
        waits = await home.asked(QUESTION)
        whole = request_bytes(CHAT, QUESTION)
        head, body = await home.asked(QUESTION, 20), await home.asked(QUESTION, len(whole) - 9)
        await home.until_counts(1, 1)
        for _ in range(2):
            await home.upgraded()
            assert home.pids == before
            await home.until_counts(1, 1)  # the copy's request counts: the other one still has to wait
        idle.writer.write(whole)
        head.writer.write(whole[20:])
        body.writer.write(whole[-9:])
        await home.until_counts(1, 4)
        home.open()
        await stream.until(b"data: [DONE]")
        assert said_in(stream.got) == DEMO_ANSWER
        for each in (waits, idle, head, body):
            assert is_whole(await each.answer())
        await home.until_counts(0, 0)
        return [each["result"] for each in home.ask_daemon(op="requests", last=9)["requests"]]

    assert home.played(run) == ["answered"] * 5  # after the first upgrade; the one before was counted there
    for each in home.copies():
        assert wait_until_gone(each)


def test_a_drain_waits_for_the_answer_of_a_copy(home):
    async def run():
        stream = await home.asked(STREAM)
        await stream.until(b"content")
        await home.upgraded()
        unloading = asyncio.create_task(asyncio.to_thread(home.ask_daemon, op="unload"))
        await asyncio.to_thread(home.watch_for, lambda now: now["server"]["state"] == "draining")
        home.open()
        await stream.until(b"data: [DONE]")
        assert (await unloading)["outcome"]["result"] == "asleep"

    home.played(run)


def test_a_stop_at_once_ends_a_copy_too(home):
    async def run():
        stream = await home.asked(STREAM)
        await stream.until(b"content")
        await home.upgraded()
        (copy,) = home.copies()
        await asyncio.to_thread(home.run, "stop", "--now")
        assert await asyncio.to_thread(wait_until_gone, copy)
        async with asyncio.timeout(PATIENCE):
            rest = await stream.reader.read(-1)
        assert b"[DONE]" not in stream.got + rest

    home.played(run)


def test_what_sleeps_or_has_failed_stays_so(home):
    home.ask_daemon(op="unload")
    asyncio.run(home.upgraded())
    now = home.status()["server"]
    assert (now["state"], now["profile"], now["pid"]) == ("sleeping", "one", None)
    assert home.ask_daemon(op="load")["outcome"]["result"] == "ready"
    home.profile("one", json.dumps(home.words | {"restart": {"policy": "never"}}))
    home.run("reload")
    os.kill(home.pids[1], signal.SIGKILL)
    before = home.watch_for(lambda now: now["server"]["state"] == "failed")["server"]
    asyncio.run(home.upgraded())
    after = home.status()["server"]
    assert (after["state"], after["last_failure"]) == ("failed", before["last_failure"])


def test_a_server_that_loads_goes_on_loading_and_its_request_waits(home):
    home.loads.unlink()
    os.kill(home.pids[1], signal.SIGKILL)

    async def run():
        waits = await home.asked(QUESTION)
        loads = await asyncio.to_thread(home.watch_for, lambda now: now["server"]["state"] == "starting")
        await home.upgraded()
        after = home.status()["server"]
        assert (after["state"], after["pid"]) == ("starting", loads["server"]["pid"])
        home.loads.touch()
        assert is_whole(await waits.answer())
        assert home.pids[1] == after["pid"]

    home.played(run)


def test_a_server_whose_socket_was_removed_is_reached_after_an_upgrade_or_two(home):
    """The daemon holds the way to it (`SocketPin`), and hands that over too."""
    before = home.pids
    sockets = list(home.root.rglob("llama-server*.sock"))
    assert sockets
    for each in sockets:
        each.unlink()
    home.open()

    async def run():
        for _ in range(2):
            await home.upgraded()
            answer = await home.asked(QUESTION)
            assert is_whole(await answer.answer())
        assert home.pids == before
        assert home.status()["server"]["state"] == "ready"

    home.played(run)


def test_a_program_that_cannot_take_over_changes_nothing(home, tmp_path):
    """It is not there, dies, says nothing of use, or is gone when its turn comes; a stream goes on."""
    real = " ".join(PROGRAM)
    bad = {
        "cannot be run": [str(tmp_path / "none")],
        "ImportError: no such thing": [
            str(script(tmp_path / "dies", "echo 'ImportError: no such thing' >&2; exit 1\n"))
        ],
        "is of no use": [str(script(tmp_path / "refuses", """echo '{"error": "it is of no use"}'\n"""))],
        "said nothing": [str(script(tmp_path / "silent", "exit 0\n"))],
        "No such file": [str(script(tmp_path / "goes", f'rm -- "$0"; exec {real} "$@"\n'))],
    }
    before = home.pids

    async def run():
        stream = await home.asked(STREAM)
        await stream.until(b"content")
        for words, program in bad.items():
            with pytest.raises(SupervisorError, match=words) as raised:
                await home.upgraded(program)
            assert "goes on unchanged" in raised.value.hint
        assert home.pids == before
        assert home.copies() == []
        home.open()
        await stream.until(b"data: [DONE]")
        assert said_in(stream.got) == DEMO_ANSWER

    home.played(run)
    links = [os.path.realpath(each) for each in Path(f"/proc/{before[0]}/fd").iterdir()]  # one may be closed
    assert links
    assert not [each for each in links if "memfd:" in each], "it has the secrets"
    os.kill(before[1], signal.SIGKILL)  # it watches its server as before
    home.watch_for(lambda now: now["server"]["state"] == "ready" and now["server"]["restarts"] == 1)


def test_if_the_new_program_dies_the_next_start_takes_the_server_over(home, tmp_path):
    real = " ".join(PROGRAM)
    dies = script(tmp_path / "dies", f'[ "$1" != --resume ] || exit 1\nexec {real} "$@"\n')
    daemon, server, _ = home.pids
    with pytest.raises(NotRunning):
        asyncio.run(home.upgraded([str(dies)]))
    assert wait_until_gone(daemon)
    home.run("start", "--profile", "one", "--detach", waits=True)
    assert home.pids[1] == server


def test_it_waits_for_a_hold_and_there_is_one_upgrade_at_a_time(home):
    paths = Paths.under(home.root)
    with control.hold(paths, "bench", "it measures"):
        messages = control.stream(paths, {"op": "upgrade", "program": PROGRAM})
        assert "hold" in next(messages)["waits"]
        with pytest.raises(SupervisorError, match="Another upgrade is under way"):
            asyncio.run(home.upgraded())
    (*_, last) = messages
    assert last["upgraded"]["pid"] == home.pids[0]
    descriptors = home.descriptors()
    asyncio.run(home.upgraded())
    until(lambda: home.descriptors() <= descriptors)  # none is left of the one before; ours closes soon


def test_clients_that_ask_without_pause_for_more_models_than_fit_do_not_put_it_off(home):
    """One load is always under way or waits for memory; those that come meanwhile are the new program's."""
    home.words["gateway"] = {"models": ["two"], "max-loaded": 1, "min-warm": "0s"}
    for name in ("one", "two"):
        home.profile(name, json.dumps(home.words))
    home.run("reload")
    home.open()
    before, is_over = home.pids[0], asyncio.Event()

    async def asks(model: str) -> int:
        line, whole = await home.line(), 0
        while not is_over.is_set():
            line.writer.write(request_bytes(CHAT, QUESTION | {"model": model}))
            assert is_whole(await line.answer())
            whole += 1
        return whole

    async def run():
        clients = [asyncio.create_task(asks(each)) for each in ("one", "two")]
        await asyncio.to_thread(home.watch_for, lambda now: now["loads_waiting"])
        async with asyncio.timeout(PATIENCE):
            done = await home.upgraded()
        is_over.set()
        return done["pid"], await asyncio.gather(*clients)

    pid, answered = home.played(run)
    assert pid == before
    assert all(answered)
