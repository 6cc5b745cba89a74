"""The control endpoint: private, and the same words over a unix socket and over TCP with a token."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from supervisor.daemon.endpoint import TokenEndpoint, UnixEndpoint
from supervisor.daemon.listener import listen
from supervisor.errors import NotRunning, PermissionDenied


@pytest.fixture(params=[UnixEndpoint, TokenEndpoint])
def at(request, tmp_path):
    return request.param(tmp_path / "run" / "control")


async def echo(reader, writer):
    writer.write(b"heard " + await reader.readline())
    writer.close()


def said_to(at, line=b"hello\n"):
    with at.connect(5.0) as client:
        client.sendall(line)
        return client.makefile("rb").readline()


async def served(at, client):
    """What ``client``, a blocking function, gets while somebody listens."""
    server = await listen(at, echo)
    with ThreadPoolExecutor(1) as pool:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, client)
        finally:
            server.close()


def test_a_client_is_heard(at):
    assert asyncio.run(served(at, lambda: said_to(at))) == b"heard hello\n"


def test_only_the_owner_can_use_it(at):
    mode = asyncio.run(served(at, lambda: (at.path.stat().st_mode, at.path.parent.stat().st_mode)))
    assert [stat.S_IMODE(each) for each in mode] == [0o600, 0o700]


def test_what_an_earlier_daemon_left_is_replaced(at):
    at.path.parent.mkdir()
    at.path.write_text("stale")
    assert asyncio.run(served(at, lambda: said_to(at))) == b"heard hello\n"


def test_nobody_there_is_said_with_what_to_do(at):
    with pytest.raises(NotRunning) as error:
        at.connect(1.0)
    assert "start" in error.value.hint


def test_it_leaves_nothing_behind(at):
    asyncio.run(served(at, lambda: None))
    at.remove()
    assert not at.path.exists()
    at.remove()


def test_a_wrong_token_gets_no_answer(tmp_path):
    at = TokenEndpoint(tmp_path / "control.json")

    def intruder():
        port = json.loads(at.path.read_text())["port"]
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"guess\nhello\n")
            return client.makefile("rb").read()

    assert asyncio.run(served(at, intruder)) == b""


def test_a_socket_that_is_not_ours_to_use_is_a_permission_matter(tmp_path):
    folder = tmp_path / "folder.sock"
    folder.mkdir()
    with pytest.raises((PermissionDenied, NotRunning)):
        UnixEndpoint(folder).connect(1.0)
