"""A daemon that an upgrade left behind: what it can be asked is asked, and what it cannot take is said."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from supervisor.cli.app import main
from supervisor.daemon.control_listener import listen
from supervisor.home.control_socket import endpoint
from supervisor.paths import Paths

SERVER = {
    "profile": "p",
    "state": "ready",
    "build": "b1",
    "flavour": "cpu",
    "pid": 7,
    "memory_bytes": None,
    "port": 8080,
    "uptime_seconds": 1.0,
    "restarts": 0,
}
ANSWERS = {  # of version 0.1.0, as far as it matters here
    "running": {
        "profile": "p",
        "settings": {},
        "url": "http://127.0.0.1:8080",
        "key": "",
        "plan": {"schema": 1},
    },
    "status": {"status": {"schema": 1, "server": SERVER}},
}


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """The exit code of a command beside such a daemon."""
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))

    async def run(words):
        async def answer(reader, writer):
            asked = json.loads(await reader.readline())
            writer.write(json.dumps({**ANSWERS[asked["op"]], "final": True}).encode() + b"\n")
            writer.close()

        server = await listen(endpoint(Paths.from_environment().runtime), answer)
        with ThreadPoolExecutor(1) as pool:
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, main, words)
            finally:
                server.close()

    return lambda *words: asyncio.run(run(words))


@pytest.mark.parametrize(
    "command",
    [
        ("switch", "demo"),
        ("restart",),
        ("reload",),
        ("load", "demo"),
        ("load", "p"),
        ("load", "p", "--alone"),
    ],
)
def test_it_is_asked_for_no_plan_of_ours(beside, capsys, command):
    assert beside(*command) == 1
    said = capsys.readouterr().err
    assert "The running daemon is of an older version." in said
    assert "hint: goss-supervisor stop, then start it again" in said


@pytest.mark.parametrize("command", ["stop", "unload", "restart"])
def test_what_is_asked_of_one_server_is_not_done_to_the_only_one(beside, capsys, command):
    """It knows no names, and would stop all that runs; the answers here have no such request."""
    assert beside(command, "helper") == 1
    said = capsys.readouterr().err
    assert "The running daemon is of an older version." in said
    assert "hint: goss-supervisor stop, then start it again" in said


def test_its_one_server_is_shown(beside, capsys):
    assert beside("ps", "-q") == 0
    assert capsys.readouterr().out == "p\n"
