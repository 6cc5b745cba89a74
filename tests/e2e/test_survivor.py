"""A daemon that is killed leaves its servers running with their models, and the next start takes them over."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket

import psutil
import pytest

from supervisor.errors import NotRunning
from supervisor.home.places import server_socket
from supervisor.model.demo import DEMO_ANSWER
from supervisor.paths import Paths
from supervisor.server.mechanism.linux_process import PIPE_BYTES

from ..fakes.launching import wait_until_gone
from .conftest import PATIENCE
from .gateway_load import demo_profile, start
from .test_gateway_faults import frozen
from .test_main_job import lives
from .test_several import pids, three


class Inner(http.client.HTTPConnection):
    """Straight to llama-server's own socket, as nobody can who has no daemon."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.host)


def resize_pipe(pid: int, size: int) -> None:
    """Of what this process says; what nobody has read is lost."""
    reader = os.open(f"/proc/{pid}/fd/1", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while os.read(reader, PIPE_BYTES):
                pass
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, size)
    finally:
        os.close(reader)


def kill_daemon(home) -> psutil.Process:
    """And give its main server's process."""
    now = home.status()
    server = psutil.Process(now["server"]["pid"])
    os.kill(now["daemon"]["pid"], signal.SIGKILL)
    assert wait_until_gone(now["daemon"]["pid"])
    return server


def test_the_next_start_takes_the_server_of_a_killed_daemon_over(built_home):
    verbose = ("--set", "server.log-verbosity=5")
    built_home.start("demo", *verbose)
    server = kill_daemon(built_home)
    said = built_home.run("status", code=3)
    assert f"demo still runs (pid {server.pid})" in said.stdout
    assert "start takes it over" in said.stderr
    resize_pipe(server.pid, 4096)
    for _ in range(5):  # each says some 7 kB, which nobody reads
        inner = Inner(str(server_socket(Paths.under(built_home.root), "demo")))
        inner.request("POST", "/completion", json.dumps({"prompt": "hello", "n_predict": 4}))
        assert "content" in json.loads(inner.getresponse().read())
        inner.close()
    resize_pipe(server.pid, PIPE_BYTES)
    started = built_home.start("demo", *verbose)
    assert f"took over demo (pid {server.pid}), loaded since " in started.stderr
    assert built_home.status()["server"]["pid"] == server.pid
    assert built_home.run("ask", "hello").stdout.strip() == DEMO_ANSWER
    [adopted] = built_home.run("events", "--kind", "adopted").stdout.splitlines()
    assert f"took over demo (pid {server.pid})" in adopted
    server.kill()
    healed = built_home.watch_for(lambda now: now["server"]["restarts"] and now["server"]["state"] == "ready")
    log = (built_home.root / "logs" / "llama-server.previous.log").read_text(errors="replace")
    before, _, after = log.partition("--- taken over by goss-supervisor")
    assert "listening on" in before
    assert "slot" in after, "of the request after it"
    assert "how it ended is unknown" in healed["server"]["last_failure"]["message"]
    assert built_home.run("ask", "hello").stdout.strip() == DEMO_ANSWER
    child = psutil.Process(healed["server"]["pid"])
    built_home.run("stop")
    assert not lives(child)


@pytest.mark.parametrize("change", ["server.parallel=1", "orphan=end"])
def test_a_survivor_that_is_no_longer_wanted_so_is_ended_and_the_model_is_loaded_anew(built_home, change):
    built_home.start()
    server = kill_daemon(built_home)
    started = built_home.start("demo", "--set", change)
    assert "took over" not in started.stderr
    assert not lives(server)
    assert built_home.status()["server"]["state"] == "ready"


def test_stop_ends_what_a_killed_daemon_left(built_home):
    built_home.start()
    server = kill_daemon(built_home)
    assert f"(pid {server.pid})" in built_home.run("stop").stderr
    assert not lives(server)
    built_home.run("stop", code=3)


def test_who_does_not_want_it_has_a_server_that_ends_with_its_daemon(built_home):
    built_home.start("demo", "--set", "orphan=end")
    assert wait_until_gone(kill_daemon(built_home).pid)


def test_all_servers_that_are_still_offered_are_taken_over_and_the_others_end(built_home):
    clients = three(built_home)
    built_home.run("load", "two")
    built_home.run("load", "three")
    before = asyncio.run(pids(clients))
    kill_daemon(built_home)
    demo_profile(built_home, "one", gateway={"models": ["two"]})
    built_home.run("start", "--profile", "one", "--detach")
    built_home.watch_for(lambda now: [each["state"] for each in now["servers"]] == ["ready", "ready"])
    after = asyncio.run(pids(clients))
    assert after == {"one": before["one"], "two": before["two"]}
    assert wait_until_gone(before["three"])


def test_the_main_server_takes_over_what_ran_next_to_another_again_and_again(built_home):
    clients = three(built_home)
    built_home.run("load", "two")
    before = asyncio.run(pids(clients))
    for _ in range(2):  # the second time, it was the main server's
        kill_daemon(built_home)
        started = built_home.run("start", "--profile", "two", "--detach")
        assert f"took over two (pid {before['two']})" in started.stderr
        assert asyncio.run(pids(clients)) == {"two": before["two"]}
    assert wait_until_gone(before["one"])
    os.kill(before["two"], signal.SIGKILL)
    healed = built_home.watch_for(lambda now: now["server"]["restarts"] and now["server"]["state"] == "ready")
    assert built_home.run("ask", "hello").stdout.strip() == DEMO_ANSWER
    child = psutil.Process(healed["server"]["pid"])
    built_home.run("stop")
    assert not lives(child)


def test_a_stop_right_after_the_start_ends_also_what_is_not_taken_over_yet(built_home):
    clients = three(built_home)
    built_home.run("load", "two")
    before = asyncio.run(pids(clients))
    kill_daemon(built_home)
    built_home.run("start", "--profile", "one", "--detach")
    assert built_home.ask_daemon(op="stop")["outcome"]["result"] == "stopped"
    assert all(wait_until_gone(each) for each in before.values())


def test_what_holds_the_lock_of_a_server_and_was_launched_as_that_is_ended_without_any_record(built_home):
    """The folder of the records is moved away, and the daemon killed before it has written them again."""
    built_home.start()
    (built_home.root / "state").rename(built_home.root / "before")
    left = kill_daemon(built_home)
    assert lives(left)
    built_home.start()
    assert wait_until_gone(left.pid)
    assert built_home.run("ask", "hello").stdout.strip() == DEMO_ANSWER


def test_a_server_that_the_main_one_took_over_is_found_by_its_lock_alone(built_home):
    clients = three(built_home)
    built_home.run("load", "two")
    two = asyncio.run(pids(clients))["two"]
    kill_daemon(built_home)
    built_home.run("start", "--profile", "two", "--detach")
    (built_home.root / "state").rename(built_home.root / "before")
    kill_daemon(built_home)
    built_home.run("start", "--profile", "two", "--detach")
    assert wait_until_gone(two)


def test_a_server_that_was_being_unloaded_when_the_daemon_was_killed_is_ended(built_home):
    clients = start(built_home, stop={"grace": f"{PATIENCE}s"})

    async def killed_while_it_drains():
        stream = clients.endless()
        await stream.until_begun()
        with frozen(await clients.pid()):  # so that it is under way for certain
            unloading = asyncio.create_task(asyncio.to_thread(built_home.run, "unload", code=None))
            await clients.until_state("draining")
            server = kill_daemon(built_home)
        await stream.leave()
        assert (await unloading).returncode == NotRunning.exit_code
        return server

    server = asyncio.run(killed_while_it_drains())
    assert lives(server)
    started = built_home.run("start", "--profile", "one", "--detach")
    assert "took over" not in started.stderr
    assert not lives(server)
    assert built_home.status()["server"]["state"] == "ready"
