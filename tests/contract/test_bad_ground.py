"""A real daemon that lacks descriptors, loses its folders or does not run for a while: its server goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from supervisor.__main__ import close_to_others
from supervisor.daemon.daemon import Daemon
from supervisor.daemon.service_notify import ServiceNotifier
from supervisor.errors import NotRunning, PermissionDenied
from supervisor.gateway.listener import missing_address
from supervisor.gateway.relay.connections import unsent_bytes
from supervisor.home import client
from supervisor.home.control_socket import endpoint
from supervisor.home.places import make_folders, private_folder, server_socket
from supervisor.locks import Lock
from supervisor.paths import Paths
from supervisor.plan.listen import Listen, bind_addresses
from supervisor.plan.plan_json import listen_to_json, to_json
from supervisor.profile.definition import Health
from supervisor.server.preflight import bound, why_not_bound
from supervisor.server.process import family
from supervisor.tool import own_program

from ..fakes.launching import BOUND_SECONDS, end_daemon, free_port, wait_until, wait_until_gone
from .test_server import PATIENT, behind, plan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is promised here is Linux's")

HASTY = Health(interval_seconds=0.1, timeout_seconds=0.3, hang_timeout_seconds=2.0, busy_timeout_seconds=60.0)
"""Where the promise is that nobody is killed: longer than a busy machine makes a probe late."""


@dataclass
class Running:
    """A daemon of a home of its own, behind whose gateway the scripted llama-server runs."""

    paths: Paths
    port: int
    process: subprocess.Popen[bytes]

    def status(self) -> dict:
        return client.ask(self.paths, {"op": "status"})["status"]

    def server(self) -> dict:
        return self.status()["server"]

    def get(self, path: str = "/v1/models") -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=BOUND_SECONDS) as answer:
            return answer.status

    def chat(self) -> int:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=BOUND_SECONDS) as answer:
            return answer.status


def until(look):
    """The first thing that it sees which is not false."""

    def running():
        with contextlib.suppress(NotRunning):
            return look()

    return wait_until(running)


@contextlib.contextmanager
def daemon(
    tmp_path: Path, *, limit: int = 0, health: Health = PATIENT, wrapper: tuple[str, ...] = (), **faults
):
    paths = Paths.under(tmp_path / "home")
    place = server_socket(paths, "p")
    asked = replace(behind(plan(tmp_path, **faults), host=str(place)), health=health)
    asked = replace(asked, argv=(*wrapper, *asked.argv))
    listen = Listen("p", "127.0.0.1", free_port())
    orders = {"foreground": False, "plan": to_json(asked), "listen": listen_to_json(listen)}
    process = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f'{f"ulimit -n {limit}; " * bool(limit)}exec "$@"',
            "sh",
            *own_program("supervisor.daemon"),
        ],
        env={"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(tmp_path / "home")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(orders).encode())
        process.stdin.close()
        told = json.loads(process.stdout.readline())
        assert told["outcome"]["result"] == "ready", told
        yield Running(paths, listen.port, process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_idle_connections_take_no_descriptor_that_the_daemon_needs(tmp_path):
    with daemon(tmp_path, limit=256, health=HASTY) as it, contextlib.ExitStack() as idle:
        pid = it.server()["pid"]
        for _ in range(400):
            idle.enter_context(socket.create_connection(("127.0.0.1", it.port), BOUND_SECONDS))
        assert it.chat() == 200  # a new client is heard
        time.sleep(1.3 * HASTY.hang_timeout_seconds)  # probes that failed would have killed it by then
        assert it.chat() == 200
        assert (it.server()["pid"], it.server()["state"], it.server()["restarts"]) == (pid, "ready", 0)
        os.kill(pid, signal.SIGKILL)  # and there are descriptors left for a launch
        until(lambda: it.server()["restarts"] == 1 and it.server()["state"] == "ready")
        assert it.chat() == 200


def test_a_runtime_folder_that_is_removed_costs_neither_a_request_nor_the_server(tmp_path):
    """As logind does it at the logout."""
    with daemon(tmp_path) as it:
        pid = it.server()["pid"]
        shutil.rmtree(it.paths.runtime)
        assert it.chat() == 200
        assert until(lambda: it.server()["pid"]) == pid
        until((it.paths.runtime / "daemon.lock").exists)
        second = subprocess.run(
            [sys.executable, "-I", "-m", "supervisor.daemon"],
            env={"GOSS_SUPERVISOR_HOME": str(it.paths.runtime.parent)},
            input=json.dumps({"foreground": True, "plan": {}}).encode(),
            capture_output=True,
            timeout=BOUND_SECONDS,
            check=False,
        )
        assert b"already running" in second.stderr
        os.kill(pid, signal.SIGKILL)
        until(lambda: it.server()["restarts"] == 1 and it.server()["state"] == "ready")
        assert it.chat() == 200


def test_pythonpath_and_pythonhome_reach_neither_the_daemon_nor_its_helpers(tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "json.py").write_text("raise SystemExit('the wrong json')")
    for words in (own_program(), own_program("supervisor.daemon")):
        done = subprocess.run(
            [*words, *["--version"] * (words[-1] == "supervisor")],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(bad),
                "PYTHONHOME": str(bad),
                "HOME": str(bad),
            },
            input=b"",
            capture_output=True,
            timeout=BOUND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_program_that_only_pythonpath_finds_keeps_it():
    project = str(Path(__file__).parents[2])
    assert own_program(environ={"PYTHONPATH": f"/else{os.pathsep}{project}"})[1] == "-P"
    assert own_program(environ={"PYTHONPATH": "/else"})[1] == "-I"


def test_a_link_is_not_followed_to_a_folder_of_somebody_else(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    (tmp_path / "run").symlink_to(theirs)
    with pytest.raises(PermissionDenied, match="is a link"):
        private_folder(tmp_path / "run")
    assert theirs.stat().st_mode & 0o777 == 0o755
    private_folder(tmp_path / "ours")
    assert (tmp_path / "ours").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("mask", "then"), [(0, 0o022), (0o022, 0o022), (0o002, 0o002), (0o077, 0o077)])
def test_nothing_that_we_write_is_open_to_everybody(mask, then):
    before = os.umask(mask)
    try:
        close_to_others()
        assert os.umask(before) == then
    finally:
        os.umask(before)


def test_what_the_kernel_holds_counts_as_not_taken():
    """A reader of 10 KB/s takes minutes until the kernel says that there is room again."""

    async def story():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            reader = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        with reader:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=accepted)
            transport.write(b"x" * 32 * 2**20)
            await asyncio.sleep(0)
            waiting, unsent = transport.get_write_buffer_size(), unsent_bytes(transport)
            assert unsent > waiting
            reader.settimeout(BOUND_SECONDS)
            while unsent_bytes(transport) >= unsent:
                reader.recv(65536)
            transport.abort()

    asyncio.run(story())


@pytest.mark.parametrize("name", ["control.sock", "llama-server-p.sock", "daemon.lock", "default.lock"])
def test_a_single_file_that_is_removed_comes_back_or_is_not_needed(tmp_path, name):
    with daemon(tmp_path) as it:
        pid, file = it.server()["pid"], it.paths.runtime / name
        file.unlink()
        assert it.chat() == 200
        if not name.startswith("llama-server"):
            until(file.exists)
        assert until(lambda: it.server()["pid"]) == pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: it.server()["restarts"] == 1 and it.server()["state"] == "ready")
        assert it.chat() == 200


def test_a_server_that_a_script_started_is_ended_by_the_next_daemon(tmp_path):
    """The first daemon is killed, and its script with it; the server would hold the memory of two."""
    script = ("/bin/sh", "-c", '"$@"; :', "sh")
    with daemon(tmp_path, wrapper=script) as it:
        wrapped = it.server()["pid"]
        (server,) = family(wrapped)[1:]
    assert wait_until_gone(wrapped)
    os.kill(server, 0)  # it lives
    with daemon(tmp_path, wrapper=script) as it:
        assert wait_until_gone(server)
        assert it.chat() == 200
        end_daemon(tmp_path / "home")  # and its server: that of one that is killed would live for ever


def test_a_service_waits_for_an_address_that_is_not_ours_yet(tmp_path, monkeypatch):
    missing, told, ready = ["198.51.100.7 is not an address of this computer."], [], asyncio.Event()
    monkeypatch.setattr("supervisor.daemon.daemon.missing_address", lambda _: missing[0])
    monkeypatch.setattr("supervisor.daemon.daemon.ADDRESS_PAUSE_SECONDS", 0.01)
    paths = Paths.under(tmp_path)
    make_folders(paths)

    class Notifier(ServiceNotifier):
        def status(self, line):
            told.append(line)
            missing[0] = ""

    async def story():
        made = Daemon(
            paths,
            endpoint(paths.runtime),
            lambda message: ready.set(),
            lock=Lock.acquire(paths.runtime / "daemon.lock", {}),
            manager=Notifier(),
            is_service=True,
        )
        asked = behind(plan(tmp_path), host=str(server_socket(paths, "p")))
        running = asyncio.create_task(made.run(asked, Listen("p", "127.0.0.1", free_port())))
        async with asyncio.timeout(BOUND_SECONDS):
            await ready.wait()
            assert "waiting for the address: 198.51.100.7" in told[0]
            made._shut_down(now=True)
            await running

    asyncio.run(story())


@pytest.mark.parametrize("host", ["198.51.100.7", "no-such-host.invalid", "a..b", "2001:db8::7"])
def test_the_hint_about_an_address_that_is_not_ours_speaks_of_no_port(host):
    assert missing_address(Listen("p", host, 8080))
    try:
        bound(bind_addresses(host)[0], 8080, backlog=1)
    except OSError as error:
        problem = why_not_bound(error, host, 8080)
    assert "port" not in f"{problem.message} {problem.hint}"


def test_a_pause_of_all_processes_kills_nobody(tmp_path):
    """As of a virtual machine or a container: the first probe afterwards is late."""
    with daemon(tmp_path, health=HASTY) as it:
        pid = it.server()["pid"]
        os.kill(it.process.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.3 * HASTY.hang_timeout_seconds)
        os.kill(it.process.pid, signal.SIGCONT)  # first: its probe finds nobody
        time.sleep(HASTY.timeout_seconds * 2)
        os.kill(pid, signal.SIGCONT)
        assert it.chat() == 200
        assert (it.server()["pid"], it.server()["restarts"]) == (pid, 0)


def test_a_server_that_closed_its_socket_is_replaced_at_once(tmp_path):
    gate = tmp_path / "deaf"
    patient = replace(PATIENT, interval_seconds=60.0)
    with daemon(tmp_path, health=patient, deaf=str(gate)) as it:
        pid = it.server()["pid"]
        gate.touch()
        until(lambda: not gate.exists())
        assert it.chat() == 200  # held until the next one is there
        assert wait_until_gone(pid)
        assert it.server()["last_failure"]["kind"] == "unreachable"
