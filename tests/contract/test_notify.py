"""What the daemon tells its service manager, and when: against a manager that the test plays."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psutil
import pytest

from supervisor.daemon.service_notify import (
    Notify,
    NotifyProgress,
    ServiceNotifier,
    notifier_in,
    notify_in,
    passed_in,
    watchdog_seconds_in,
    with_notify_progress,
)
from supervisor.home import client
from supervisor.home.control_socket import endpoint
from supervisor.paths import Paths
from supervisor.plan.listen import Listen
from supervisor.plan.plan_json import listen_to_json, to_json
from supervisor.profile.definition import GatewaySettings
from supervisor.progress import Silent
from supervisor.server.inbox import Inbox
from supervisor.server.lifecycle_table import WakeAsked

from ..fakes.launching import BOUND_SECONDS, free_port, until
from ..fakes.loops import run_story
from ..fakes.manager import FakeManager
from .test_server import behind, plan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the manager is played with SO_PASSCRED")


@pytest.fixture
def manager(tmp_path):
    with FakeManager(tmp_path) as played:
        yield played


def keys(messages):
    """In order, without what comes by the clock, and each only where it changes."""
    found = [key for message in messages for key in message if key not in {"EXTEND_TIMEOUT_USEC", "WATCHDOG"}]
    return [key for index, key in enumerate(found) if index == 0 or found[index - 1] != key]


def last_status(messages):
    return [message["STATUS"] for message in messages if "STATUS" in message][-1]


# --- a real daemon, and the fake llama-server


@contextmanager
def daemon(played, tmp_path, asked, *, preload=True, **orders):
    """The daemon as `start` becomes it, in the foreground."""
    at = Listen(asked.profile, "127.0.0.1", free_port(), GatewaySettings(preload=preload))
    orders = {"listen": listen_to_json(at) if asked.behind_gateway else None, **orders}
    process = subprocess.Popen(
        played.command(sys.executable, "-P", "-m", "supervisor.daemon"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(tmp_path / "home"), **played.env},
        pass_fds=[*played.stored.values(), *(fd for fd in [orders.get("ready_fd")] if fd is not None)],
    )
    try:
        process.stdin.write(json.dumps({"foreground": True, "plan": to_json(asked), **orders}).encode())
        process.stdin.close()
        process.stdin = None
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.communicate(timeout=BOUND_SECONDS)


def test_a_start_and_a_stop_are_told_in_order_and_by_the_daemon_itself(manager, tmp_path):
    with daemon(manager, tmp_path, plan(tmp_path)) as process:
        started = manager.until("READY")
        control = endpoint(tmp_path / "home" / "run").path
        assert control.exists()
        process.terminate()
        stopped = manager.until("STATUS", "p: stopped")
        assert process.wait(BOUND_SECONDS) == 0
    assert not control.exists()
    assert keys(started) == ["STATUS", "READY"]
    said = [message["STATUS"] for message in started if "STATUS" in message]
    assert said[0] == "p: preparing"
    assert said[-1].startswith("p: ready at http://127.0.0.1:")
    assert keys(stopped) == ["STOPPING", "STATUS"]
    assert [message for message in stopped if "EXTEND_TIMEOUT_USEC" in message], "nobody asked for time"
    assert manager.speakers == {process.pid}


def test_it_is_not_ready_before_the_model_is_and_asks_for_time_until_then(manager, tmp_path):
    gate = tmp_path / "gate"
    with daemon(manager, tmp_path, plan(tmp_path, load_gate=gate)):
        loading = manager.until("STATUS", "starting") + manager.until("EXTEND_TIMEOUT_USEC")
        assert not [message for message in loading if "READY" in message]
        gate.touch()
        ready = manager.until("READY")
    assert keys(ready)[-1] == "READY"


def test_time_is_asked_for_from_the_first_moment_on_and_no_more_once_it_is_ready(tmp_path):
    with (
        FakeManager(tmp_path, watchdog_seconds=0.1) as manager,
        daemon(manager, tmp_path, plan(tmp_path)),
    ):
        started = manager.until("READY")
        asked = [int(m["EXTEND_TIMEOUT_USEC"]) for m in started if "EXTEND_TIMEOUT_USEC" in m]
        assert asked
        assert set(asked) == {30_000_000}
        manager.until("WATCHDOG")
        assert manager.until("WATCHDOG") == [{"WATCHDOG": "1"}]


def test_a_model_that_waits_to_be_wanted_is_ready(manager, tmp_path):
    with daemon(manager, tmp_path, behind(plan(tmp_path)), preload=False):
        assert last_status(manager.until("READY")) == "p: sleeping (the next request loads it)"
    assert not (tmp_path / "starts").exists()


def test_what_serves_but_not_as_the_profile_asks_is_ready_and_says_so(manager, tmp_path):
    asked = replace(plan(tmp_path, banner="cpu"), wants_gpu=True)
    with daemon(manager, tmp_path, asked):
        said = last_status(manager.until("READY"))
    assert said.startswith(f"p: degraded at http://127.0.0.1:{asked.port} (")


def test_a_daemon_in_the_background_has_no_manager(manager, tmp_path):
    """It was started from a terminal, say, that is a service itself."""
    with daemon(manager, tmp_path, plan(tmp_path), foreground=False) as process:
        assert json.loads(process.stdout.readline())["outcome"]["result"] == "ready"
    assert manager.rest() == []


def test_a_start_that_fails_is_never_ready_and_says_why(manager, tmp_path):
    asked = plan(tmp_path, exit=1, stderr="error: invalid argument: --broken")
    with daemon(manager, tmp_path, asked) as process:
        assert process.wait(BOUND_SECONDS) == 10
    heard = manager.rest()
    assert "READY" not in keys(heard)
    assert "--broken" in last_status(heard)


def test_a_stop_while_it_loads_is_no_start_and_no_failure(manager, tmp_path):
    with daemon(manager, tmp_path, plan(tmp_path, load_gate=tmp_path / "never")) as process:
        manager.until("STATUS", "starting")
        process.terminate()
        assert process.wait(BOUND_SECONDS) == 0
    assert "READY" not in keys(manager.rest())


def test_a_reload_is_announced_and_over_whatever_came_of_it(manager, tmp_path):
    """Here there is no such profile, so the program that reloads ends with an error; the server runs on."""
    with daemon(manager, tmp_path, plan(tmp_path)) as process:
        manager.until("READY")
        process.send_signal(signal.SIGHUP)
        reloaded = manager.until("READY")
        process.terminate()
        manager.until("STOPPING")
    assert keys(reloaded) == ["RELOADING", "MONOTONIC_USEC", "READY"]
    assert int(reloaded[0]["MONOTONIC_USEC"]) > 0
    assert manager.speakers == {process.pid}


def test_time_is_asked_for_while_another_plan_loads_whoever_asked_for_it(manager, tmp_path):
    """As ``systemctl reload`` does, below 253, by a program beside the daemon."""
    gate, place = tmp_path / "gate", Paths.under(tmp_path / "home")
    asked = {"op": "start", "plan": to_json(plan(tmp_path, load_gate=gate))}
    with daemon(manager, tmp_path, plan(tmp_path)), ThreadPoolExecutor() as threads:
        manager.until("READY")
        answer = threads.submit(client.ask, place, asked)
        manager.until("EXTEND_TIMEOUT_USEC")
        gate.touch()
        assert answer.result(BOUND_SECONDS)["outcome"]["result"] == "ready"


def test_a_crash_is_seen_in_the_status_and_not_as_a_new_start(manager, tmp_path):
    with daemon(manager, tmp_path, plan(tmp_path)):
        manager.until("READY")
        server = json.loads((tmp_path / "starts").read_text())["pid"]
        os.kill(server, signal.SIGKILL)
        dead = manager.until("STATUS", "SIGKILL")  # a probe that was refused may be told before that
        back = manager.until("STATUS", "p: ready")
    assert keys(dead + back) == ["STATUS"]


def test_llama_server_and_what_else_we_start_know_nothing_of_the_manager(tmp_path):
    with (
        FakeManager(tmp_path, watchdog_seconds=60) as manager,
        daemon(manager, tmp_path, plan(tmp_path)),
    ):
        manager.until("READY")
    env = json.loads((tmp_path / "starts").read_text())["env"]
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & env.keys()


def test_an_abstract_address_is_spoken_to(tmp_path):
    with (
        FakeManager(tmp_path, abstract=True) as manager,
        daemon(manager, tmp_path, plan(tmp_path)),
    ):
        assert manager.address.startswith("@")
        assert manager.until("READY")[-1]["READY"] == "1"


def test_a_manager_that_hears_nothing_holds_nobody_up(tmp_path):
    """Its queue is full before we begin; the daemon starts, and what counts is said when there is room."""
    reading, writing = os.pipe()
    with FakeManager(tmp_path, watchdog_seconds=0.3) as manager:
        while Notify(manager.address).say({"STATUS": "of somebody else"}):
            pass
        with daemon(manager, tmp_path, plan(tmp_path), ready_fd=writing):
            os.close(writing)
            assert heard_on(reading) == b"\n"  # it is ready
            heard = manager.until("READY")
    assert heard[-1]["STATUS"].startswith("p: ready at")


def test_a_watchdog_is_petted_as_long_as_the_daemon_runs(tmp_path):
    with (
        FakeManager(tmp_path, watchdog_seconds=0.3) as manager,
        daemon(manager, tmp_path, plan(tmp_path)) as process,
    ):
        assert not [message for message in manager.until("READY") if "WATCHDOG" in message]
        manager.until("WATCHDOG")
        manager.until("WATCHDOG")
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        manager.rest()
        with pytest.raises(TimeoutError):
            manager.next(0.5)  # longer than the manager waits
        process.send_signal(signal.SIGCONT)
        manager.until("WATCHDOG")


def test_what_the_watchdog_ends_says_where_it_stood(manager, tmp_path):
    with daemon(manager, tmp_path, plan(tmp_path)) as process:
        manager.until("READY")
        server = psutil.Process(json.loads((tmp_path / "starts").read_text())["pid"])
        process.send_signal(signal.SIGABRT)
        said = process.stderr.read()
        assert process.wait(BOUND_SECONDS) == -signal.SIGABRT
        assert server.wait(BOUND_SECONDS) is None  # it is not our child, so nobody tells how it went
    assert b"Fatal Python error: Aborted" in said
    assert b"daemon/__main__.py" in said


def test_a_ready_descriptor_gets_a_newline_and_its_end_only_when_the_model_is_ready(tmp_path):
    gate, (reading, writing) = tmp_path / "gate", os.pipe()
    with (
        FakeManager(tmp_path) as manager,
        daemon(manager, tmp_path, plan(tmp_path, load_gate=gate), ready_fd=writing),
    ):
        os.close(writing)
        manager.until("STATUS", "starting")
        assert not select.select([reading], [], [], 0)[0]
        gate.touch()
        assert heard_on(reading) == b"\n"


def heard_on(reading: int) -> bytes:
    """All that comes until everybody has closed it: nobody else may have inherited it."""
    data = b""
    while select.select([reading], [], [], BOUND_SECONDS)[0]:
        chunk = os.read(reading, 100)
        if not chunk:
            os.close(reading)
            return data
        data += chunk
    raise AssertionError(f"nobody closed it after {data!r}")


class Journal:
    """A stream that is systemd's journal to those whose environment says so."""

    def __init__(self) -> None:
        self._reading, self.writing = socket.socketpair()
        here = os.fstat(self.writing.fileno())
        self.env = {"JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino}"}

    def lines(self) -> list[str]:
        """All that came, once those who could write have ended."""
        self.writing.close()
        self._reading.settimeout(BOUND_SECONDS)
        with self._reading, self._reading.makefile("rb") as stream:
            return stream.read().decode().splitlines()


@contextmanager
def daemon_with(manager, tmp_path, asked, journal, **streams):
    """The same daemon, with streams of the test's own."""
    env = {"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        manager.command(sys.executable, "-P", "-m", "supervisor.daemon"),
        stdin=subprocess.PIPE,
        env=env | journal.env | manager.env,
        **streams,
    )
    process.stdin.write(json.dumps({"foreground": True, "plan": to_json(asked)}).encode())
    process.stdin.close()
    process.stdin = None
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=BOUND_SECONDS)


def test_the_journal_gets_priorities_and_no_second_time_stamp(manager, tmp_path):
    said = "0.00.000.001 W slow: a warning of the server\n0.00.000.002 E bad: an error of it"
    journal, streams = Journal(), {"stderr": subprocess.DEVNULL}
    with daemon_with(
        manager, tmp_path, plan(tmp_path, stderr=said), journal, stdout=journal.writing, **streams
    ):
        manager.until("READY")
    lines = journal.lines()
    assert "<6>p: preparing" in lines
    assert "<4>0.00.000.001 W slow: a warning of the server" in lines
    assert "<3>0.00.000.002 E bad: an error of it" in lines
    assert all(line[:3] in {"<3>", "<4>", "<6>", "<7>"} for line in lines)


def test_the_log_is_on_stdout_and_why_it_ended_on_stderr(manager, tmp_path):
    asked = plan(tmp_path, exit=1, stderr="error: invalid argument: --broken")
    with daemon(manager, tmp_path, asked) as process:
        log, end = (said.decode() for said in process.communicate(timeout=BOUND_SECONDS))
        assert process.returncode == 10
    assert "p: preparing" in log
    assert "error: invalid argument: --broken" in log
    assert "did not become ready" not in log
    assert "CRITICAL p did not become ready" in end
    assert "preparing" not in end


def test_each_of_stdout_and_stderr_has_priorities_only_where_it_leads_to_the_journal(manager, tmp_path):
    asked = plan(tmp_path, exit=1, stderr="error: invalid argument: --broken")
    journal, streams = Journal(), {"stdout": subprocess.PIPE}
    with daemon_with(manager, tmp_path, asked, journal, stderr=journal.writing, **streams) as process:
        log, _ = process.communicate(timeout=BOUND_SECONDS)
    assert b"p: preparing" in log
    assert b"<6>" not in log
    first, *more = journal.lines()
    assert first.startswith("<3>p did not become ready")
    assert {line[:3] for line in more} == {"<3>"}


@pytest.mark.parametrize("closed", [1, 2])
def test_a_descriptor_that_was_closed_is_not_a_files_in_which_the_log_ends(manager, tmp_path, closed):
    asked = json.dumps({"foreground": True, "plan": to_json(plan(tmp_path))})
    process = subprocess.Popen(
        manager.command("/bin/sh", "-c", f"exec {sys.executable} -P -m supervisor.daemon {closed}>&-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(tmp_path / "home"), **manager.env},
        text=True,
    )
    process.stdin.write(asked)
    process.stdin.close()
    try:
        manager.until("READY")
    finally:
        process.terminate()
        assert process.wait(BOUND_SECONDS) == 0
    home = tmp_path / "home"
    holding = [file for file in home.rglob("*") if file.is_file() and b"p: preparing" in file.read_bytes()]
    assert sorted(holding) == [home / "logs" / "daemon.log", home / "state" / "events.jsonl"]


# --- the program, as a unit runs it


def start(played, home, *words, stderr=subprocess.PIPE, env=(), **more):
    return subprocess.Popen(
        played.command(sys.executable, "-P", "-m", "supervisor", "start", *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GOSS_SUPERVISOR_HOME": str(home),
            **played.env,
            **dict(env),
        },
        **more,
    )


def test_a_wrong_profile_ends_with_78_and_was_never_ready(manager, tmp_path):
    profile = tmp_path / "home" / "config" / "profiles" / "wrong.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("extends: demo\nserver:\n  ctx-sizes: 4096\n")
    with start(manager, tmp_path / "home", "--profile", "wrong") as process:
        said = process.stderr.read()
        assert process.wait(BOUND_SECONDS) == 78
    assert b"wrong.yaml:3:3" in said
    assert "READY" not in keys(manager.rest())


def test_what_is_wrong_before_there_is_a_daemon_is_an_error_in_the_journal_too(manager, tmp_path):
    journal, home = Journal(), tmp_path / "home"
    with start(manager, home, "--profile", "no", stderr=journal.writing, env=journal.env) as process:
        assert process.wait(BOUND_SECONDS) == 5
    lines = journal.lines()
    assert lines[0].startswith("<3>error: ")
    assert {line[:3] for line in lines} == {"<3>"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "Bad file descriptor"),
        (("--detach",), "in the foreground"),
        (("--service",), "in the foreground"),
    ],
)
def test_a_ready_descriptor_that_cannot_be_used_is_refused(manager, tmp_path, words, why):
    with start(manager, tmp_path / "home", "--ready-fd", "99", "--profile", "demo", *words) as process:
        assert why in process.stderr.read().decode()
        assert process.wait(BOUND_SECONDS) == 2


def test_the_same_with_a_real_llama_server(tmp_path):
    """The pid stays from `start` on, so what the daemon says is heard; and the descriptor comes through."""
    engine = os.environ.get("GOSS_TEST_LLAMA_SERVER")
    if not engine:
        pytest.skip("GOSS_TEST_LLAMA_SERVER is not set: run bin/test")
    settings = ("engine.source=path", f"engine.path={engine}", f"listen.port={free_port()}")
    words = ["--profile", "demo", *(word for each in settings for word in ("--set", each))]
    reading, writing = os.pipe()
    with FakeManager(tmp_path, watchdog_seconds=1.0) as manager:
        process = start(manager, tmp_path / "home", "--ready-fd", str(writing), *words, pass_fds=[writing])
        os.close(writing)
        try:
            assert keys(manager.until("READY"))[-2:] == ["STATUS", "READY"]
            assert heard_on(reading) == b"\n"
            manager.until("WATCHDOG")
            process.send_signal(signal.SIGHUP)
            assert keys(manager.until("READY")) == ["RELOADING", "MONOTONIC_USEC", "READY"]
        finally:
            process.terminate()
            process.communicate(timeout=BOUND_SECONDS)
        assert process.returncode == 0
        assert "STOPPING" in keys(manager.rest())
        assert manager.speakers == {process.pid}


# --- its parts


def test_who_is_watched_is_read_as_the_manager_means_it():
    watched = {"WATCHDOG_USEC": "30000000"}
    assert watchdog_seconds_in(watched, 7) == 30.0
    assert watchdog_seconds_in({**watched, "WATCHDOG_PID": "7"}, 7) == 30.0
    assert watchdog_seconds_in({**watched, "WATCHDOG_PID": "8"}, 7) is None, "another process is"
    assert watchdog_seconds_in({"WATCHDOG_USEC": "0"}, 7) is None
    assert watchdog_seconds_in({"WATCHDOG_USEC": "often"}, 7) is None
    assert watchdog_seconds_in({}, 7) is None


@pytest.mark.parametrize("address", ["", "/", "@", "vsock:2:1234", "relative"])
def test_an_address_that_is_none_is_no_manager(address):
    assert notify_in({"NOTIFY_SOCKET": address}) is None


def test_what_the_environment_says_of_the_manager_is_said_to_nobody_else():
    of_the_manager = (
        "NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID FDSTORE LISTEN_FDS LISTEN_FDNAMES LISTEN_PID LISTEN_PIDFDID"
    )
    environ = dict.fromkeys(of_the_manager.split(), "1") | {"PATH": "/bin"}
    notifier_in(environ, ready_fd=None)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("address", ["/nowhere/notify", "@goss-nobody-listens", "/" + "x" * 200])
def test_nobody_at_the_address_is_no_error(address):
    assert not Notify(address).say({"READY": "1"})


def test_a_message_is_whole_lines_whatever_is_in_it(manager):
    assert Notify(manager.address).say({"STATUS": "two\nlines \udc80" + "x" * 5000, "READY": "1"})
    heard = manager.next()
    assert heard["STATUS"].startswith("two lines ?xxx")
    assert len(heard["STATUS"]) == 1000
    assert heard["READY"] == "1"


def test_what_a_full_queue_did_not_take_is_said_later_and_only_the_last_of_it(manager):
    it, filler = ServiceNotifier(Notify(manager.address)), Notify(manager.address)
    while filler.say({"STATUS": "of somebody else"}):
        pass
    it.status("first")
    it.ready()
    it.status("second")
    manager.rest()
    it.status("third")
    assert manager.rest() == [{"READY": "1", "STATUS": "third"}]


def test_a_socket_that_a_full_queue_did_not_take_is_stored_later(manager):
    it, filler = ServiceNotifier(Notify(manager.address)), Notify(manager.address)
    while filler.say({"STATUS": "of somebody else"}):
        pass
    with socket.socket() as one:
        it.store("given up", one.fileno())
        it.unstore("given up")
        it.store("kept", one.fileno())
        assert it.stored == set()
        manager.rest()
        it.status("up")
        heard = manager.rest()
    assert heard == [
        {"FDSTOREREMOVE": "1", "FDNAME": "given up"},
        {"FDSTORE": "1", "FDNAME": "kept", "FDPOLL": "0"},
        {"STATUS": "up"},
    ]
    assert it.stored == manager.stored.keys() == {"kept"}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, [("a", 3), ("b", 4)]),
        ({"LISTEN_PID": "8"}, []),
        ({"LISTEN_PID": ""}, []),
        ({"LISTEN_FDS": "-1"}, []),
        ({"LISTEN_FDS": "two"}, []),
        ({"LISTEN_FDS": ""}, []),
        ({"LISTEN_FDS": "1"}, [("unknown", 3)]),
        ({"LISTEN_FDNAMES": ""}, [("unknown", 3), ("unknown", 4)]),
    ],
)
def test_what_the_manager_passed_is_read_as_it_means_it(changed, found):
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"} | changed
    assert list(passed_in(environ, 7)) == found


def test_a_count_beyond_what_was_passed_ends_at_the_last_descriptor():
    here = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(2**40), "LISTEN_FDNAMES": "a"}
    with ExitStack() as gap:
        _, passed = notifier_in(here, ready_fd=None)
        gap.enter_context(socket.socket())
    assert len(passed) < 1000
    assert here == {}


def test_the_phases_are_told_once_each_and_only_where_they_belong(manager):
    it = ServiceNotifier(Notify(manager.address))
    it.reloading()
    it.reloaded()
    assert manager.rest() == [], "before it is ready, that is part of the start"
    it.ready()
    it.ready()
    it.reloaded()
    assert manager.rest() == [{"READY": "1"}]
    it.reloading()
    it.stopping()
    it.stopping()
    it.reloaded()
    it.ready()
    assert keys(manager.rest()) == ["RELOADING", "MONOTONIC_USEC", "STOPPING"]


def test_an_owner_that_is_dead_or_stuck_is_not_vouched_for(manager):
    """The loop runs on, and everything else with it; only the owner of the state does not take its messages."""

    async def story():
        inbox, it = Inbox(), ServiceNotifier(Notify(manager.address), watchdog_seconds=0.03)
        it.ready()

        async def owner():
            while True:
                await inbox.take()

        working = asyncio.create_task(owner())
        keeping = asyncio.create_task(it.keep_in_touch(inbox.passed))
        pets = 0
        async with asyncio.timeout(BOUND_SECONDS):
            while pets < 2:
                pets += sum("WATCHDOG" in message for message in manager.rest())
                await asyncio.sleep(0.002)
        working.cancel()
        await until(lambda: inbox._queue.qsize() == 1)  # the next question has been put, and nobody takes it
        manager.rest()
        await asyncio.sleep(0.1)  # three times as long as the manager waits
        assert manager.rest() == []
        keeping.cancel()

    run_story(story())


def test_a_sign_of_life_comes_back_after_what_was_put_in_before_it():
    async def story():
        inbox = Inbox()
        decided, passed, gone = inbox.ask(WakeAsked(1)), inbox.passed(), inbox.passed()
        gone.cancel()
        inbox.ask(WakeAsked(2))
        assert await inbox.take() == WakeAsked(1)
        assert not passed.done()
        assert await inbox.take() == WakeAsked(2)
        assert passed.done()
        assert not decided.done()

    run_story(story())


def test_while_start_prepares_each_progress_asks_for_time(manager):
    now = [100.0]
    it = NotifyProgress(Silent(), Notify(manager.address), clock=lambda: now[0])
    it.step("downloading a model")
    it.update(0.1)
    assert manager.rest() == [{"STATUS": "downloading a model", "EXTEND_TIMEOUT_USEC": "120000000"}]
    now[0] += 5.0
    it.update(0.2)
    it.update(0.2)
    assert manager.rest() == [{"EXTEND_TIMEOUT_USEC": "120000000"}]


def test_a_reload_asks_for_time_and_leaves_the_status_to_the_daemon(manager):
    it = with_notify_progress(Silent(), {**manager.env, "MAINPID": "1"})
    it.step("downloading a model")
    assert manager.rest() == [{"EXTEND_TIMEOUT_USEC": "120000000"}]


def test_without_a_manager_nothing_is_put_in_between():
    heard = Silent()
    assert with_notify_progress(heard, {}) is heard


def test_a_plan_behind_the_gateway_tells_the_gateways_address(manager, tmp_path):
    at = Listen("p", "127.0.0.1", free_port())
    with daemon(manager, tmp_path, behind(plan(tmp_path)), listen=listen_to_json(at)):
        ready = last_status(manager.until("READY"))
    assert ready == f"p: ready at http://127.0.0.1:{at.port}"
