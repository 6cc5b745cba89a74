"""What a worker answers to HELLO, whom it serves, and that our questions do it no harm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from supervisor.engine.adapters.rpc_server import HELLO, OLD_HELLO
from supervisor.plan.launch import LaunchPlan
from supervisor.server.child import spawn
from supervisor.server.probe import probe, target_of
from supervisor.server.rpc_probe import client_at, hello

from ..fakes.launching import BOUND_SECONDS, Heard, free_port
from ..fakes.loops import promise, run_story

LOOPBACK = "127.0.0.1"
SERVER = Path(os.environ.get("GOSS_TEST_LLAMA_SERVER", "")).parent / "ggml-rpc-server"
SOON = 0.2  # until a question is given up that nobody will answer

pytestmark = [
    pytest.mark.usefixtures("each_loop"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
real = pytest.mark.skipif(not SERVER.is_file(), reason=f"there is no {SERVER}: run bin/test")


def answer(*version):
    return (28).to_bytes(8, "little") + bytes(version) + bytes(28 - len(version))


@contextlib.asynccontextmanager
async def playing(says):
    """A server that says to each client what ``says`` makes of the greeting; and how each hung up."""
    ends = asyncio.Queue()

    async def serve(reader, writer):
        greeting = await reader.read(len(HELLO))
        writer.write(says(greeting))
        try:
            await ends.put(await reader.read() or "closed")
        except ConnectionResetError:
            await ends.put("reset")
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1], ends


@promise
async def test_the_answer_is_the_version_of_the_protocol_and_the_end_a_reset():
    async with playing(lambda greeting: answer(7, 0, 0) if greeting == HELLO else b"") as (port, ends):
        assert await hello(LOOPBACK, port, timeout_seconds=BOUND_SECONDS) == "7.0.0"
        assert await ends.get() == "reset"


@promise
async def test_an_older_one_is_asked_as_it_wants_to_be():
    async def serve(reader, writer):
        greeting = await reader.read(len(HELLO))
        writer.write((3).to_bytes(8, "little") + bytes((3, 0, 1)) if greeting == OLD_HELLO else b"")
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await hello(LOOPBACK, port, timeout_seconds=BOUND_SECONDS) == "3.0.1"


@promise
async def test_another_program_is_told_from_one_that_says_nothing_and_from_none():
    async with playing(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as (port, _):
        with pytest.raises(ValueError, match="no RPC server"):
            await hello(LOOPBACK, port, timeout_seconds=BOUND_SECONDS)
    with socket.create_server((LOOPBACK, 0)) as silent, pytest.raises(TimeoutError):
        await hello(LOOPBACK, silent.getsockname()[1], timeout_seconds=SOON)
    with pytest.raises(ConnectionRefusedError):
        await hello(LOOPBACK, free_port(), timeout_seconds=BOUND_SECONDS)


def test_only_a_client_that_was_accepted_is_served():
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert client_at(port) == ""
        with socket.create_connection((LOOPBACK, port), BOUND_SECONDS):
            assert client_at(port) == ""
            accepted, _ = server.accept()
            with accepted:
                assert client_at(port) == LOOPBACK


# --- the real one, under the daemon's own spawn


def plan_at(port):
    return LaunchPlan(
        "worker", (str(SERVER),), {}, LOOPBACK, port, "b1", "cpu", "", "", "d", adapter="rpc-server"
    )


@contextlib.asynccontextmanager
async def worker(tmp_path, *, no_sigpipe=True):
    port, heard = free_port(), Heard()
    env = {"PATH": os.environ["PATH"], "LLAMA_CACHE": str(tmp_path)}
    argv = [str(SERVER), "-H", LOOPBACK, "-p", str(port), "-c"]
    child = await spawn(argv, env, on_output=heard, no_sigpipe=no_sigpipe)
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            while (await asked(port)).outcome != "ok":  # noqa: ASYNC110 - it tells nobody that it listens
                await asyncio.sleep(0.01)
        yield port, child
    finally:
        child.kill()
        await child.exited


async def asked(port, seconds=BOUND_SECONDS):
    return await probe(target_of(plan_at(port)), "/health", timeout_seconds=seconds)


def holding(port):
    """A client that the server serves from now on: it has answered HELLO."""
    connection = socket.create_connection((LOOPBACK, port), BOUND_SECONDS)
    connection.sendall(HELLO)
    assert connection.recv(36)
    return connection


@real
@promise
async def test_a_worker_tells_its_protocol_and_while_it_is_in_use_it_is_left_alone(tmp_path):
    async with worker(tmp_path) as (port, _):
        assert (await asked(port)).body == b"7.0.0"
        with holding(port):
            with pytest.raises(TimeoutError):
                await hello(LOOPBACK, port, timeout_seconds=SOON)
            assert client_at(port) == LOOPBACK
            for _ in range(5):  # more than its queue holds
                in_use = await asked(port)
                assert (in_use.outcome, in_use.body) == ("ok", b"")
        while client_at(port):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
        assert (await asked(port)).body == b"7.0.0"


@real
@promise
async def test_a_client_that_hangs_up_while_it_waits_ends_no_worker_of_ours(tmp_path):
    async with worker(tmp_path) as (port, child):
        with holding(port):
            waiting = socket.create_connection((LOOPBACK, port), BOUND_SECONDS)
            waiting.sendall(HELLO)
            waiting.close()
        assert await hello(LOOPBACK, port, timeout_seconds=BOUND_SECONDS) == "7.0.0"
        assert not child.exited.done()


@pytest.mark.parametrize("ignores", [False, True])
def test_a_child_ignores_sigpipe_only_where_that_is_asked_for(ignores):
    async def story():
        heard = Heard()
        child = await spawn(["/bin/cat", "/proc/self/status"], {}, on_output=heard, no_sigpipe=ignores)
        await child.exited
        return heard.data

    words = dict(line.split(":", 1) for line in run_story(story()).decode().splitlines())
    assert bool(int(words["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1))) is ignores
