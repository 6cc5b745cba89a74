"""`goss-supervisor worker` with the real ggml-rpc-server: it lends, comes back, tells what it is, and refuses."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .conftest import BUILT, PATIENCE, Home, free_port

ENGINE = Path(os.environ.get(BUILT, ""))

pytestmark = pytest.mark.skipif(
    not (ENGINE.parent / "ggml-rpc-server").is_file(), reason=f"{ENGINE.parent} has no ggml-rpc-server"
)


@dataclass
class WorkerHome(Home):
    """A home whose worker lends at ``address``."""

    lends: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.lends}"

    def worker(self, *words: str, listen: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        at = ("--detach", "--listen", listen or self.address, "--set", f"listen.port={self.port}")
        return self.run("worker", *at, *self.engine, *words, code=code)

    def told(self, path: str = "/supervisor/worker", body: str | None = None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST" if body else "GET", path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def seen(self) -> str:
        """The devices that a llama-server of the same build finds there."""
        command = [str(ENGINE), "--rpc", self.address, "--list-devices"]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


@pytest.fixture
def home(tmp_path):
    made = WorkerHome(tmp_path, ("--set", f"engine.path={ENGINE}"), free_port())
    yield made
    made.close()


def test_a_worker_lends_its_memory_comes_back_after_a_kill_and_ends_with_a_stop(home):
    home.worker()
    status, told = home.told()
    assert status == 200
    assert told["build"].startswith("b")
    assert (told["address"], told["state"], told["cache"]) == (home.address, "ready", True)
    assert int(told["rpc_protocol"].partition(".")[0]) >= 5
    [device] = told["devices"]
    assert told["memory"][device["name"]]["total_bytes"] > 0
    assert f"RPC0: {home.address}" in home.seen()
    assert home.told("/supervisor/ready")[0] == 200

    before = home.watch_for(lambda now: now["server"]["state"] == "ready")["server"]["pid"]
    os.kill(before, signal.SIGKILL)
    home.watch_for(lambda now: now["server"]["state"] == "ready" and now["server"]["restarts"] == 1)
    assert f"RPC0: {home.address}" in home.seen()

    home.run("restart")
    assert "nothing was restarted" in home.run("reload").stdout
    assert (home.root / "data" / "cache" / "rpc").is_dir()
    assert "Starting RPC server" in home.run("logs").stdout
    assert home.address in home.run("status").stdout
    home.run("stop")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", home.lends), PATIENCE)


def test_clients_get_no_model_from_a_worker_and_none_is_asked_of_it(home):
    home.worker()
    for path, body in (("/v1/chat/completions", '{"messages": []}'), ("/completion", "{}"), ("/props", None)):
        status, told = home.told(path, body)
        assert (status, told["error"]["code"]) == (404, "a_worker")
    assert home.told("/v1/models")[1]["data"] == []
    assert home.run("logs").stdout.count("Accepted client connection") == 1  # that it is ready was asked


def test_a_port_that_is_taken_and_an_unknown_device_are_said(home):
    with socket.create_server(("127.0.0.1", home.lends)):
        taken = home.worker(code=10).stderr
    assert f"Port {home.lends} is taken by" in taken
    assert "goss-supervisor worker --listen ADDRESS:PORT" in taken
    assert "knows no device CUDA7" in home.worker("--devices", "CUDA7", code=10).stderr
