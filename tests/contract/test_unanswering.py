"""A daemon that holds its lock and answers nobody: it is named, waited for with a bound, and can be ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from supervisor.cli.app import main
from supervisor.home import client, unresponsive
from supervisor.home.control_socket import endpoint
from supervisor.home.identity import identify
from supervisor.home.places import daemon_lock, generation_lock, make_folders, record_file, server_socket
from supervisor.home.records import Record, write_record
from supervisor.locks import Lock, held_by
from supervisor.paths import Paths
from supervisor.plan.plan_json import to_json

from ..fakes.launching import BOUND_SECONDS, program, wait_until_gone
from .test_server import plan

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are stopped and told apart by /proc"
)

FAKE = """
import json, signal, socket, sys, time
from dataclasses import asdict
from pathlib import Path
from supervisor.locks import Lock
from supervisor.home.identity import ourselves

lock, place, deaf, holder, said = sys.argv[1:]
if deaf == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = Lock.acquire(Path(lock), {**asdict(ourselves()), **json.loads(holder)})
listener = socket.socket(socket.AF_UNIX)
listener.bind(place)
listener.listen(0)
print("up", flush=True)
for line in json.loads(said):
    client, _ = listener.accept()
    client.recv(1 << 20)
    for part in line:
        time.sleep(part) if isinstance(part, float) else client.sendall(json.dumps(part).encode() + b"\\n")
kept = [listener.accept() for _ in range(int(not said == "[]"))]
signal.pause()
"""
STATUS = {"server": {"profile": "p", "state": "starting", "why": ""}}


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(unresponsive, "GRACE_SECONDS", BOUND_SECONDS)
    found = Paths.from_environment()
    make_folders(found)
    return found


@contextmanager
def silent_daemon(paths, *, deaf=False, holder=None, says=()):
    """
    It takes connections for ``says`` (messages to send and seconds to pause, one list for each), and no more.

    ``holder`` is written into its lock over what it would say of itself.
    """
    at = endpoint(paths.runtime).path
    words = (daemon_lock(paths), at, "deaf" if deaf else "hears", json.dumps(holder or {}), json.dumps(says))
    child = subprocess.Popen([sys.executable, "-I", "-c", FAKE, *map(str, words)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"up\n"
        yield child
    finally:
        child.kill()
        child.communicate()


COMMANDS = (
    ["status"],
    ["status", "--json"],
    ["status", "--watch"],
    ["ps"],
    ["ask", "who?"],
    ["requests"],
    ["requests", "--follow"],
    ["load"],
    ["unload"],
    ["reload"],
    ["restart"],
    ["switch", "demo"],
    ["start", "demo"],
    ["start", "demo", "--detach"],
    ["stop"],
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_who_does_not_answer_is_named_with_what_to_do(paths, capsys, words):
    with silent_daemon(paths) as child:
        assert main(words) == 1
        assert child.poll() is None
    said = capsys.readouterr()
    assert f"error: The daemon (pid {child.pid}, running since 20" in said.err
    assert "does not answer." in said.err
    assert "hint: goss-supervisor stop --now" in said.err
    assert said.out == "" or "--follow" in words  # which shows the heads of its columns


def test_a_queue_that_is_full_is_no_matter_of_permission(paths, capsys):
    with silent_daemon(paths) as child, socket.socket(socket.AF_UNIX) as first:
        first.connect(str(endpoint(paths.runtime).path))  # one may wait where the backlog is 0
        assert main(["status"]) == 1
    assert f"The daemon (pid {child.pid}, running since" in capsys.readouterr().err


def test_silence_after_a_promise_means_that_it_hangs(paths, capsys, monkeypatch):
    monkeypatch.setattr(client, "ANSWER_SECONDS", BOUND_SECONDS)
    with silent_daemon(paths, says=[[{"status": STATUS, "again_seconds": 0.01}]]) as child:
        assert main(["load"]) == 1
    said = capsys.readouterr().err
    assert "p: starting" in said
    assert f"pid {child.pid}" in said


@pytest.mark.parametrize("promise", [{}, {"again_seconds": 5.0}], ids=["of before", "slow"])
def test_a_daemon_that_promised_nothing_or_is_within_its_promise_is_waited_for(
    paths, capsys, monkeypatch, promise
):
    monkeypatch.setattr(client, "ANSWER_SECONDS", 1.2)
    final = {
        "outcome": {"result": "ready", "profile": "p"},
        "status": {"server": {"url": "u"}},
        "final": True,
    }
    with silent_daemon(paths, says=[[{"status": STATUS, **promise}, 1.5, final]]):
        assert main(["load"]) == 0
    assert capsys.readouterr().out == "p is ready at u\n"


def test_where_its_folder_is_a_file_nobody_is_there(paths, capsys):
    shutil.rmtree(paths.runtime)
    paths.runtime.touch()
    assert main(["stop", "--now"]) == 3
    assert "No goss-supervisor daemon is running here" in capsys.readouterr().err


@pytest.mark.parametrize("deaf", [False, True])
def test_stop_now_ends_it(paths, capsys, monkeypatch, deaf):
    if deaf:
        monkeypatch.setattr(unresponsive, "GRACE_SECONDS", 0.3)
    with silent_daemon(paths, deaf=deaf) as child:
        assert main(["stop", "--now"]) == 0
        assert child.wait(BOUND_SECONDS) == (-signal.SIGKILL if deaf else -signal.SIGTERM)
    assert f"The daemon (pid {child.pid}, running since" in capsys.readouterr().err
    assert held_by(daemon_lock(paths)) is None
    assert main(["status"]) == 3


def test_stop_now_ends_a_daemon_that_has_no_socket_any_more(paths, monkeypatch):
    monkeypatch.setattr("supervisor.cli.control_commands.EXIT_SECONDS", 0.3)
    with silent_daemon(paths) as child:
        endpoint(paths.runtime).path.unlink()
        assert main(["stop"]) == 1
        assert child.poll() is None
        assert main(["stop", "--now"]) == 0
        assert child.wait(BOUND_SECONDS) == -signal.SIGTERM


@pytest.mark.parametrize("holder", [{"started": 1.0}, {"boot_id": "another"}, {"pid": os.getpid()}])
def test_who_is_not_proved_to_be_the_daemon_is_left_alone(paths, capsys, holder):
    with silent_daemon(paths, holder=holder) as child:
        assert main(["stop", "--now"]) == 1
        assert child.poll() is None
    said = capsys.readouterr().err
    assert "cannot be proved" in said
    assert "ps -ef" in said


@pytest.mark.parametrize("content", ['{"pid": PID}', "", "[]", '{"pid": "x", "started": []}'])
def test_the_lock_of_a_daemon_of_before_or_of_nobody_is_understood(paths, capsys, content):
    with silent_daemon(paths) as child:
        daemon_lock(paths).write_text(content.replace("PID", str(child.pid)))
        assert main(["status"]) == 1
        assert main(["stop", "--now"]) == 1
        assert child.poll() is None
    said = capsys.readouterr().err
    assert said.count("does not answer.") == 2
    assert said.count("cannot be proved") == 1
    assert said.count(f"pid {child.pid}") == (3 if "PID" in content else 0)


def test_a_server_that_outlives_its_daemon_is_ended_too(paths):
    """As on macOS, where the kernel does not end it with its daemon."""
    lock = Lock.acquire(generation_lock(paths), {})
    orphan = subprocess.Popen(program("import signal; signal.pause()"), pass_fds=(lock.fd,))
    lock.release()
    write_record(record_file(paths), Record("default", "ready", "", "demo", 8080, identify(orphan.pid), None))
    try:
        with silent_daemon(paths):
            assert main(["stop", "--now"]) == 0
        assert orphan.wait(BOUND_SECONDS) == -signal.SIGTERM
    finally:
        orphan.kill()
        orphan.communicate()


def test_a_real_daemon_that_stands_still_is_named_and_ended_with_its_server(
    paths, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(unresponsive, "GRACE_SECONDS", 0.3)
    daemon = subprocess.Popen(
        [sys.executable, "-P", "-m", "supervisor.daemon"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(tmp_path / "home")},
    )
    try:
        asked = replace(plan(tmp_path), profile="stuck")
        daemon.stdin.write(json.dumps({"foreground": False, "plan": to_json(asked)}).encode())
        daemon.stdin.close()
        daemon.stdin = None
        told = json.loads(daemon.stdout.readline())
        assert told["outcome"]["result"] == "ready"
        daemon.send_signal(signal.SIGSTOP)
        capsys.readouterr()
        for words in (["status"], ["load"], ["stop"]):
            assert main(words) == 1
            assert f"error: The daemon (pid {daemon.pid}, running since 20" in capsys.readouterr().err
        left = server_socket(paths, "stuck")
        left.touch()
        assert main(["stop", "--now"]) == 0
        assert "stuck: stopped" in capsys.readouterr().out
        assert daemon.wait(BOUND_SECONDS) == -signal.SIGKILL
        assert wait_until_gone(told["status"]["server"]["pid"])
        assert (held_by(daemon_lock(paths)), held_by(generation_lock(paths))) == (None, None)
        assert not endpoint(paths.runtime).path.exists()
        assert not left.exists()
        assert main(["status"]) == 3
    finally:
        daemon.kill()
        daemon.communicate()
