"""What a daemon hands over to the program that takes its place, and the proof that this one can take it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from supervisor.errors import SupervisorError
from supervisor.gateway import copies
from supervisor.gateway.copies import CopiedRequest, Copies, CopyProcess, HandedGateway
from supervisor.gateway.http_heads import parse_head
from supervisor.gateway.successor import Successor
from supervisor.gateway.telemetry.activity import RequestRecord
from supervisor.home.identity import Identity
from supervisor.plan.listen import Listen
from supervisor.plan.plan_json import listen_to_json, to_json

from ..fakes.launching import BOUND_SECONDS
from .test_server import plan

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no process can become another program there")

if sys.platform != "win32":
    from supervisor.daemon import upgrade
    from supervisor.daemon.handover import (
        CHECK,
        SCHEMA,
        HandedServer,
        Handover,
        RunningProcess,
        read_handover,
        written,
    )


def a_handover(tmp_path):
    wanted = to_json(plan(tmp_path))
    process = RunningProcess(Identity(4711, 1.5, "boot"), wanted, 9)
    listen = listen_to_json(Listen("p", "127.0.0.1", 8080))
    gateway = HandedGateway(
        listen, (7,), "key", "cookie", copies=(CopyProcess(12, 5, (CopiedRequest(3, "default"),)),)
    )
    servers = (HandedServer("default", 8, wanted, process), HandedServer("b", rests="failed"))
    return Handover(SCHEMA, "0.0.1", 3, 4, servers, gateway, started=1.0, foreground=True)


def as_json(document):
    """As it is after a way through JSON, in which there are no tuples."""
    return json.loads(json.dumps(document))


def test_it_is_read_as_it_was_written(tmp_path):
    handed = a_handover(tmp_path)
    assert as_json(json.loads(written(read_handover(written(handed))))) == json.loads(written(handed))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda it: it | {"schema": SCHEMA + 1}, "its schema is"),
        (lambda it: it | {"of_a_newer_version": 1}, "of_a_newer_version: is no key here"),
        (lambda it: it | {"lock_fd": None}, "lock_fd: must be a whole number"),
        (
            lambda it: it | {"servers": [it["servers"][0] | {"plan": {"schema": 1}}]},
            "The plan cannot be read",
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_reason(tmp_path, change, why):
    document = change(json.loads(written(a_handover(tmp_path))))
    with pytest.raises(SupervisorError, match=why):
        read_handover(json.dumps(document).encode())


def test_the_daemon_proves_that_it_could_go_on(tmp_path):
    """It imports all that it needs for that."""
    command = [sys.executable, "-I", "-m", "supervisor.daemon", CHECK]
    for handed, key in (
        (a_handover(tmp_path), "version"),
        (replace(a_handover(tmp_path), schema=0), "error"),
    ):
        ran = subprocess.run(command, input=written(handed), capture_output=True, check=False)
        assert list(json.loads(ran.stdout)) == [key]


def test_a_program_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(upgrade, "CHECK_SECONDS", 0.1)
    with pytest.raises(SupervisorError, match="did not answer") as raised:
        upgrade._proved([sys.executable, "-c", "import time; time.sleep(60)"], b"{}")
    assert "goes on unchanged" in raised.value.hint


# --- the connections


class Moved(asyncio.Protocol):
    """A connection as the daemon gets it."""

    def __init__(self):
        self.has_head = self.closes = False
        self.data = bytearray()
        self.came = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        self.came.set()

    async def until(self, words):
        while not self.data.endswith(words):
            self.came.clear()
            await self.came.wait()


class Host:
    """What stands for the gateway of the daemon."""

    def __init__(self):
        self.clients, self.out = asyncio.Queue(), asyncio.Queue()

    def connected(self):
        client = Moved()
        self.clients.put_nowait(client)
        return client

    def count_out(self, ticket, request):
        self.out.put_nowait((ticket, request))


@asynccontextmanager
async def both_ends(monkeypatch, host, under_way=(), count_in=lambda _: None):
    """The copy's end and the daemon's, in one process, which must not end with the copy."""
    monkeypatch.setattr(copies.os, "_exit", lambda _: None)
    ours, theirs = socket.socketpair()
    daemon = Copies(host, count_in)
    cuts = asyncio.Queue()
    copy = Successor(theirs.detach(), lambda *cut: cuts.put_nowait(cut))
    daemon.add(CopyProcess(os.getpid(), ours.detach(), under_way))
    async with asyncio.timeout(BOUND_SECONDS):
        yield copy, daemon, cuts
    for task in copy._tasks:
        task.cancel()
    copy._socket.close()
    daemon.let_go()


async def a_client():
    """A client's end, and the transport of the connection in the copy."""
    client, ours = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, sock=ours)
    client.setblocking(False)
    return client, transport


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_connection_moves_with_what_has_come_of_its_request(monkeypatch):
    """Its body is longer than the pair of sockets holds, and a stream that waits was told why already."""

    async def scenario():
        host, body = Host(), b"x" * 3_000_000
        client, transport = await a_client()
        async with both_ends(monkeypatch, host) as (copy, _, _):
            copy.take(transport, (parse_head(HEAD), body), b"next", has_head=True)
            moved = await host.clients.get()
            await copy.finished()
            await moved.until(b"next")
            head, _, rest = moved.data.partition(b"\r\n\r\n")
            assert parse_head(head + b"\r\n\r\n").length == len(body)
            assert b"authorization: Bearer k" in head
            assert rest == body + b"next"
            assert (moved.has_head, moved.closes) == (True, False)
            moved.transport.write(b"answer")
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"answer"
        moved.transport.abort()
        client.close()

    asyncio.run(scenario())


def test_what_a_slow_client_has_not_taken_comes_before_the_next_answer(monkeypatch):
    """The bytes are in the copy, so it stays between them; and the daemon closes behind its answer."""

    async def scenario():
        host, loop, before = Host(), asyncio.get_running_loop(), b"b" * 2_000_000
        client, transport = await a_client()
        async with both_ends(monkeypatch, host) as (copy, _, _):
            transport.write(before)
            copy.take(transport, None, b"", has_head=False)
            moved = await host.clients.get()
            assert moved.closes
            await loop.sock_sendall(client, b"question")
            await moved.until(b"question")
            moved.transport.write(b"answer")
            moved.transport.close()
            got = b""
            while piece := await loop.sock_recv(client, 1_000_000):
                got += piece
            assert got == before + b"answer"
            await copy.finished()
        client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("short", ["copy", "daemon"])
def test_where_too_many_files_are_open_one_client_is_lost_and_nobody_gets_its_place(monkeypatch, short):
    receive, duplicate, lost = socket.recv_fds, os.dup, []

    def dup(descriptor):
        if short == "copy" and not lost:
            lost.append(descriptor)
            raise OSError(errno.EMFILE, "too many")
        return duplicate(descriptor)

    def recv_fds(*arguments):
        data, fds, flags, address = receive(*arguments)
        if short == "daemon" and fds and not lost:  # Linux closes what has no room, and says so
            lost.extend(fds)
            os.close(fds[0])
            return data, [], flags | socket.MSG_CTRUNC, address
        return data, fds, flags, address

    async def scenario():
        host, loop = Host(), asyncio.get_running_loop()
        first, second = await a_client(), await a_client()
        async with both_ends(monkeypatch, host) as (copy, _, _):
            monkeypatch.setattr(copies.os, "dup", dup)
            monkeypatch.setattr(copies.socket, "recv_fds", recv_fds)
            copy.take(first[1], None, b"first", has_head=False)
            copy.take(second[1], None, b"second", has_head=False)
            moved = await host.clients.get()
            await moved.until(b"second")
            assert moved.data == b"second"
            moved.transport.write(b"answer")
            assert await loop.sock_recv(second[0], 100) == b"answer"
            assert await loop.sock_recv(first[0], 100) == b"", "it is closed"
        assert lost
        moved.transport.abort()
        for client, _ in (first, second):
            client.close()

    asyncio.run(scenario())


def test_the_daemon_counts_what_the_copy_answers_and_says_what_is_cut(monkeypatch, caplog):
    async def scenario():
        host, counted = Host(), []
        under_way = tuple(CopiedRequest(number, "default", tokens=9) for number in (1, 2, 3))
        done = RequestRecord(
            at=1.0, caller="c", method="POST", endpoint="/x", profile="p", model="m", stream=True, status=200,
            result="answered", seconds=2.0,
        )  # fmt: skip
        async with both_ends(monkeypatch, host, under_way, counted.append) as (copy, daemon, cuts):
            assert [(each.server, each.charged) for each in counted] == [("default", 9)] * 3
            assert [each.under_way for each in daemon.processes] == [under_way]
            copy.ended(1, done)
            copy.ended(2)
            copy.ended(0, done)  # of a peer
            out = [await host.out.get() for _ in range(3)]
            assert out == [(counted[0], done), (counted[1], None), (None, done)]
            assert len(daemon) == 1
            daemon.cut("default", "why")
            assert await cuts.get() == ("default", "why")
            copy._socket.shutdown(socket.SHUT_RDWR)  # it dies: what it answered is over
            assert await host.out.get() == (counted[2], None)
            assert "cut off: 1" in caplog.text

    asyncio.run(scenario())
