"""
One model over two workers, each a computer of its own, with the real engine: what comes of a worker that is
killed, restarted, frozen or unplugged, and of those who ask meanwhile.

The computers are network namespaces.  The tests share one daemon, and leave it whole.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from supervisor.profile.worker_address import PORT

from .. import older_rpc
from ..models import CannotGet
from ..namespaces import Hosts, why_not
from .conftest import BUILT, PATIENCE, Home, engine_settings
from .gateway_load import Clients, Request, demo_profile

RPC_SERVER = "ggml-rpc-server"
CABLE_OUT_SECONDS = 8.0
ANSWER_TOKENS = 2000  # takes seconds


@dataclass
class HostHome(Home):
    """On one of the computers."""

    hosts: Hosts | None = None

    def command(self, *words: str) -> list[str]:
        return self.hosts.command("main", *super().command(*words))


@dataclass
class Worker:
    """The RPC server of one computer."""

    hosts: Hosts
    name: str
    program: Path
    process: subprocess.Popen | None = field(default=None)

    @property
    def address(self) -> str:
        return f"{self.hosts.address(self.name)}:{PORT}"

    def start(self, program: Path | None = None) -> None:
        """With the libraries next to it."""
        program = program or self.program
        words = (
            "env",
            f"LD_LIBRARY_PATH={program.parent}",
            str(program),
            "-H",
            self.hosts.address(self.name),
            "-p",
            str(PORT),
        )
        self.process = subprocess.Popen(
            self.hosts.command(self.name, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            restore_signals=False,  # SIGPIPE stays ignored, as `goss-supervisor worker` has it
        )

    def serves(self) -> bool:
        """Whether it has accepted a connection that is still open."""
        look = self.hosts.command(self.name, "cat", "/proc/net/tcp")
        table = subprocess.run(look, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
        rows = [line.split() for line in table.splitlines()[1:]]
        return any(row[1].endswith(f":{PORT:04X}") and row[3] == "01" and row[9] != "0" for row in rows)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def revive(self) -> None:
        """Whatever was done to it."""
        self.hosts.plug(self.name)
        self.send(signal.SIGCONT)
        if self.process.poll() is not None:
            self.start()


@dataclass
class Pool:
    """The daemon on the computer ``main``, and its two workers."""

    home: HostHome
    clients: Clients
    workers: tuple[Worker, ...]

    def profile(self, **sections: dict[str, str]) -> None:
        base = {
            "server": {
                "rpc": ",".join(each.address for each in self.workers),
                "gpu-layers": 99,
                "tensor-split": "1,1",
                "parallel": 2,
            },
            "restart": {"max": 1, "backoff": "0.1s"},
            "stop": {"grace": "1s"},
            "health": {"interval": "0.2s", "timeout": "1s"},
        }
        merged = {name: base.get(name, {}) | sections.get(name, {}) for name in base | sections}
        demo_profile(self.home, "pooled", **merged)

    async def whole(self) -> None:
        """Whatever happened before."""
        for worker in self.workers:
            worker.revive()
        await self.clients.until_state("ready")
        assert (await self.clients.ask().result()).outcome == "whole"

    async def waits_for(self, worker: Worker) -> dict:
        """Until the status says that it waits for this one, and for no other."""
        now = await self.clients.until(lambda now: "waits for" in now["server"]["why"])
        assert f"waits for the worker {worker.address}:" in now["server"]["why"]
        assert (now["server"]["state"], now["server"]["restarts"]) == ("preparing", 0)
        return now["server"]


@pytest.fixture(scope="module")
def hosts():
    if why := why_not():
        pytest.skip(why)
    with Hosts("main", "one", "two") as made:
        yield made


@pytest.fixture
def pool(shared):
    """All is well when a test begins."""
    asyncio.run(shared.whole())
    return shared


@pytest.fixture(scope="module")
def shared(hosts, tmp_path_factory):
    root = tmp_path_factory.mktemp("pool")
    settings = engine_settings("built", root)
    program = Path(os.environ[BUILT]).with_name(RPC_SERVER)
    if not program.exists():
        pytest.skip(
            f"the engine of the tests has no {RPC_SERVER}: remove its folder, and bin/test makes it anew"
        )
    workers = tuple(Worker(hosts, name, program) for name in ("one", "two"))
    home = HostHome(root, settings, 21434, hosts=hosts)
    clients = Clients(
        root, home.port, connect=partial(hosts.connect, "main", "127.0.0.1", home.port, PATIENCE)
    )
    made = Pool(home, clients, workers)
    for worker in workers:
        worker.start()
    made.profile()
    home.run("start", "--profile", "pooled", "--detach")
    yield made
    home.close()
    for worker in workers:
        worker.kill()


async def begun(stream: Request) -> Request:
    await stream.until_begun()
    return stream


async def broken_by(stream: Request, *suspects: Worker) -> None:
    """It ends, visibly not whole, and says whose fault that may be."""
    answer = await stream.result()
    assert answer.outcome == "broken"
    assert any(each.address in answer.events[-1]["error"]["message"] for each in suspects), answer.events[-1]


def test_one_model_is_in_the_memory_of_two_machines(pool):
    for worker in pool.workers:
        assert worker.serves()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_while_it_answers_breaks_what_was_told_and_holds_the_rest(pool, number):
    _, two = pool.workers

    async def run():
        stream = await begun(pool.clients.endless())
        two.send(number)
        await broken_by(stream, two)
        held = [pool.clients.ask(), pool.clients.stream()]
        await pool.waits_for(two)
        assert two.address in pool.home.run("ps").stdout
        await pool.clients.until_busy(waiting=2)
        two.process.wait(PATIENCE)
        await pool.whole()
        assert [(await each.result()).outcome for each in held] == ["whole", "whole"]

    asyncio.run(run())


def test_a_worker_that_dies_while_nobody_asks_is_seen_before_the_next_question(pool):
    one, _ = pool.workers

    async def run():
        one.kill()
        server = await pool.waits_for(one)
        assert server["last_failure"]["kind"] == "worker-lost"
        assert f"The worker {one.address} is gone" in server["last_failure"]["message"]
        await pool.whole()

    asyncio.run(run())


def test_a_worker_that_was_restarted_while_nobody_asked_costs_no_question(pool):
    one, _ = pool.workers

    async def run():
        before = await pool.clients.pid()
        one.kill()
        one.start()
        await pool.clients.until(lambda now: now["server"]["pid"] not in {None, before})
        await pool.whole()
        (asked, *_) = reversed(await pool.clients.requests())
        assert not asked["replayed"]

    asyncio.run(run())


def test_a_cable_that_is_out_for_some_seconds_costs_only_them(pool):
    one, _ = pool.workers

    async def run():
        before, stream = await pool.clients.pid(), await begun(pool.clients.endless(n_predict=ANSWER_TOKENS))
        one.hosts.unplug(one.name)
        assert await stream.is_under_way_after(CABLE_OUT_SECONDS)
        one.hosts.plug(one.name)
        assert (await stream.result()).outcome == "whole"
        assert await pool.clients.pid() == before

    asyncio.run(run())


def test_a_cable_that_is_out_for_good_is_found_long_before_the_kernel_gives_up(pool):
    """It tries for a quarter of an hour."""
    one, _ = pool.workers

    async def run():
        stream = await begun(pool.clients.endless())
        one.hosts.unplug(one.name)
        await broken_by(stream, one)
        server = await pool.waits_for(one)
        assert "cannot be reached" in server["why"]
        one.kill()  # its connections died with the cable
        await pool.whole()

    asyncio.run(run())


def test_a_worker_that_hangs_is_found_while_a_request_waits_and_clients_are_told_which(pool):
    one, _ = pool.workers
    pool.profile(health={"hang-timeout": "5s"}, gateway={"hold-timeout": "1s"})
    pool.home.run("restart")

    async def run():
        stream = await begun(pool.clients.endless())
        one.send(signal.SIGSTOP)
        await broken_by(stream, one)
        server = await pool.waits_for(one)
        assert "hangs" in server["why"]
        refused = await pool.clients.ask().result()
        assert (refused.status, refused.error["code"]) == (503, "not_ready")
        assert one.address in refused.error["message"]
        assert b"retry-after:" in refused.head

    asyncio.run(run())
    pool.profile()  # with the patience that a busy machine needs
    one.revive()
    pool.home.run("restart")


def test_a_worker_of_another_protocol_is_told_from_one_that_is_gone(pool):
    """It would be the same at every try, so there is one."""
    _, two = pool.workers
    try:
        older = older_rpc.provide()
    except CannotGet as reason:
        pytest.skip(f"no RPC server of another version: {reason}")

    async def run():
        before = (await pool.clients.status())["server"]["restarts"]
        two.kill()
        two.start(older)
        return before, (await pool.clients.until_state("failed"))["server"]

    before, server = asyncio.run(run())
    assert f"The worker {two.address} speaks another version" in server["why"]
    assert server["why"].endswith(f": {older_rpc.VERSION}.")
    assert "engine update" in server["last_failure"]["hint"]
    assert server["restarts"] == before
    two.kill()
    two.start()
    pool.home.run("restart")
    asyncio.run(pool.whole())
