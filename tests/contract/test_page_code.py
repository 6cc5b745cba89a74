"""A one-time code for the page is on the command line of a browser: a user who reads it there gets nothing by it."""

from __future__ import annotations

import json
import os
import socket
import sys

import pytest

from supervisor.gateway.auth import page_sessions
from supervisor.gateway.auth.page_sessions import is_of_another_user, user_of

from ..fakes.loops import promise
from ..fakes.relay import post, relay

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whose a socket is")


def connected(family, to, bound):
    """The client's end as the server sees it, with what keeps it open."""
    server = socket.socket(socket.AF_INET6 if ":" in bound else socket.AF_INET)
    if ":" in bound:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind((bound, 0))
    server.listen()
    client = (
        socket.create_connection((to, server.getsockname()[1])) if family is None else socket.socket(family)
    )
    if family is not None:
        client.connect((to, server.getsockname()[1]))
    accepted, end = server.accept()
    return end, (server, client, accepted)


@pytest.mark.parametrize(
    ("family", "to", "bound"),
    [
        (None, "127.0.0.1", "127.0.0.1"),
        (None, "::1", "::1"),
        (None, "127.0.0.1", "::"),  # both at once: the address comes as an IPv6 one
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),  # and who would rather not be found
    ],
)
def test_whoever_has_the_other_end_of_a_connection_on_this_computer_is_known(family, to, bound):
    end, kept = connected(family, to, bound)
    try:
        assert user_of(end) == os.getuid()
        assert not is_of_another_user(end)
    finally:
        for each in kept:
            each.close()


@pytest.mark.parametrize(
    ("end", "user", "told"),
    [
        (("127.0.0.1", 54321), 1001, True),
        (("127.0.0.1", 54321), 1000, False),
        (("127.0.0.1", 54321), 0, False),
        (("127.0.0.1", 54322), 1001, False),  # not in the table
        (("::ffff:127.0.0.1", 54321, 0, 0), 1001, True),
        (("192.168.0.7", 54321), 1001, False),  # of another computer
        ("", 1001, False),  # a Unix socket
        (None, 1001, False),
    ],
)
def test_only_another_user_of_this_computer_is_refused(tmp_path, monkeypatch, end, user, told):
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    loopback = f"{int.from_bytes(bytes((127, 0, 0, 1)), sys.byteorder):08X}"
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        f"   0: {loopback}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1\n"
        f"   1: {loopback}:{54321:04X} {loopback}:1F90 01 00000000:00000000 00:00000000 00000000  {user}        0 2\n"
    )
    assert is_of_another_user(end, (str(table), str(tmp_path / "none"))) is told


@pytest.mark.usefixtures("each_loop")
@promise
async def test_a_code_that_another_user_sends_is_refused_and_good_for_nobody_then():
    async with relay() as it:
        code = it.gateway.sessions.new_code()
        request = post(
            json.dumps({"code": code}).encode(),
            b"/supervisor/session",
            b"Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(page_sessions, "user_of", lambda end, _: 1 + os.getuid() if end else None)
            status, _, body = await it.ask(request)
        assert (status, json.loads(body)["error"]["code"]) == (403, "another_user")
        assert (await it.ask(request))[0] == 401
        again = request.replace(code.encode(), it.gateway.sessions.new_code().encode())
        assert (await it.ask(again))[0] == 204
