"""What would make a launch fail is found before it, and named."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from supervisor.home.identity import Identity, identify
from supervisor.locks import Lock, held_by
from supervisor.plan.launch import LaunchPlan
from supervisor.server.child import spawn
from supervisor.server.preflight import check_launch, listens_on, unix_socket_problem, who_listens
from supervisor.server.process import family, process_stats

from ..fakes.launching import PYTHON, Heard, fake_argv, free_port, program, wait_until_gone
from ..fakes.wine import ON_WINE


def problem(port=None, host="127.0.0.1", engine=sys.executable, models=()):
    port = free_port() if port is None else port
    plan = LaunchPlan(
        "p", (engine,), {}, host, port, "b1", "cpu", "", "X", "d", model_files=tuple(map(str, models))
    )
    return check_launch(plan)


@pytest.fixture
def listener():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def test_a_good_launch_has_no_problem(tmp_path):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    assert problem(models=[model]) is None


def test_a_taken_port_names_who_holds_it(listener):
    port = listener.getsockname()[1]
    for host in ("127.0.0.1", "0.0.0.0"):
        found = problem(port, host)
        assert found is not None
        assert found.kind == "port-taken"
        assert f"(pid {os.getpid()})" in found.message
        assert str(port) in found.message
        assert found.hint
        assert not found.retryable


def test_connections_that_linger_are_no_obstacle():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first goes to TIME_WAIT
            assert client.recv(1) == b""
    assert problem(port) is None


@pytest.mark.parametrize("host", ["192.0.2.77", "nowhere.invalid"])
def test_an_address_that_is_not_ours_is_named(host):
    found = problem(host=host)
    assert found is not None
    assert found.kind == "bad-host"
    assert host in found.message


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (lambda path: None, "model-missing"),
        (lambda path: path.touch(), "not-gguf"),
        (lambda path: path.mkdir(), "not-gguf"),
        pytest.param(
            lambda path: (path.write_bytes(b"GGUF"), path.chmod(0)),
            "model-forbidden",
            marks=pytest.mark.skipif(
                getattr(os, "geteuid", lambda: 0)() == 0, reason="root reads everything"
            ),
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_named(tmp_path, prepare, kind):
    path = tmp_path / "m.gguf"
    prepare(path)
    found = problem(models=[path])
    assert found is not None
    assert found.kind == kind
    assert str(path) in found.message


def test_an_engine_that_is_gone_or_not_a_program_is_named(tmp_path):
    engine = tmp_path / "llama-server"
    missing = problem(engine=str(engine))
    engine.write_bytes(b"")
    forbidden = problem(engine=str(engine))
    assert missing is not None
    assert forbidden is not None
    assert (missing.kind, forbidden.kind) == ("engine-missing", "engine-forbidden")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets for Python")
def test_a_stale_socket_is_removed_and_a_living_one_is_left(tmp_path):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        taken = problem(host=str(path))
        assert taken is not None
        assert taken.kind == "port-taken"
        assert path.exists()
    assert problem(host=str(path)) is None
    assert not path.exists()


def test_a_socket_on_windows_is_refused_with_what_to_choose(tmp_path, monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    (found,) = unix_socket_problem(tmp_path / "s.sock")
    assert (found.kind, "127.0.0.1" in found.hint, found.retryable) == ("bad-host", True, False)


def test_a_file_that_is_no_socket_is_never_removed(tmp_path):
    path = tmp_path / "precious.sock"
    path.write_text("data")
    found = problem(host=str(path))
    assert found is not None
    assert path.read_text() == "data"


# --- who has a port


def test_a_listener_is_told_from_a_stranger(listener):
    port = listener.getsockname()[1]
    assert listens_on(os.getpid(), port) is True
    assert listens_on(os.getpid(), free_port()) is False
    owner = who_listens(port)
    assert owner is not None
    assert owner.pid == os.getpid()
    assert who_listens(free_port()) is None


@pytest.mark.skipif(sys.platform != "linux", reason="a shell and /proc")
def test_a_server_behind_a_script_is_found_through_it():
    async def scenario():
        port, heard = free_port(), Heard()
        line = " ".join(f"'{part}'" for part in fake_argv(port))
        child = await spawn(["/bin/sh", "-c", f"{line}; true"], dict(os.environ), on_output=heard)
        await heard.until(b"listening on")
        found = listens_on(child.identity.pid, port), len(family(child.identity.pid))
        child.kill()
        await child.exited
        return found

    assert asyncio.run(scenario()) == (True, 2)


# --- who a process is, and what it uses


def test_an_identity_is_stable_and_ends_with_its_process():
    with subprocess.Popen(program("input()"), stdin=subprocess.PIPE) as process:
        first = identify(process.pid)
        assert first == identify(process.pid)
        assert first is not None
        assert first != identify(os.getpid())
        process.kill()
        assert wait_until_gone(process.pid)
        assert identify(process.pid) is None  # a zombie is nobody
    assert identify(process.pid) is None


def test_an_identity_survives_a_record_on_disk():
    me = identify(os.getpid())
    assert me is not None
    assert Identity(me.pid, float(repr(me.started)), me.boot_id) == me


@pytest.mark.skipif(sys.platform != "linux", reason="names a program through /proc")
def test_a_program_with_a_wild_name_is_measured(tmp_path):
    wild = tmp_path / "a) R (b"
    wild.symlink_to(Path(sys.executable).resolve())
    code = "import sys; sys.stdout.write('up'); sys.stdout.flush(); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([wild, *PYTHON[1:], "-c", code], **pipes) as process:
        assert process.stdout.read(2) == b"up"
        used = process_stats(process.pid)
        resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        assert identify(process.pid) is not None
        process.stdin.close()
    assert used is not None
    assert used.rss_bytes == pytest.approx(resident * os.sysconf("SC_PAGE_SIZE"), abs=4_000_000)


@pytest.mark.skipif(ON_WINE, reason="its explorer.exe is our child, with the same processor times as ours")
def test_vitals_agree_with_what_the_process_itself_knows():
    while sum(os.times()[:2]) < 0.1:
        pass
    used = process_stats(os.getpid())
    assert used is not None
    assert used.cpu_seconds == pytest.approx(sum(os.times()[:2]), abs=0.2)
    assert 10_000_000 < used.rss_bytes < 2_000_000_000


def test_nobody_has_no_vitals():
    with subprocess.Popen(program("")) as process:
        pass
    assert process_stats(process.pid) is None


# --- locks


def test_a_second_holder_is_told_who_is_first(tmp_path):
    path = tmp_path / "run" / "daemon.lock"
    first = Lock.acquire(path, {"pid": 42})
    assert first is not None
    assert Lock.acquire(path, {"pid": 43}) is None
    assert held_by(path) == {"pid": 42}
    first.release()
    assert held_by(path) is None
    second = Lock.acquire(path, {"pid": 43})
    assert second is not None
    assert held_by(path) == {"pid": 43}
    second.release()
    second.release()


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be removed there")
def test_a_lock_whose_file_is_removed_again_and_again_is_held_and_takes_no_more_descriptors(tmp_path):
    path = tmp_path / "l"
    lock = Lock.acquire(path, {"pid": 42})
    open_files = []
    for _ in range(3):
        path.unlink()
        assert not lock.is_in_place()
        assert lock.put_back()
        assert held_by(path) == {"pid": 42}
        open_files.append(psutil.Process().num_fds())
    assert open_files[0] == open_files[2]
    lock.release()
    assert held_by(path) is None
    assert psutil.Process().num_fds() == open_files[0] - 2


def test_a_lock_without_a_readable_holder_is_held_all_the_same(tmp_path):
    path = tmp_path / "l"
    lock = Lock.acquire(path, {})
    assert lock is not None
    path.write_text("garbage")
    assert held_by(path) == {}
    lock.release()


def test_a_lock_ends_with_its_process_however_it_ends(tmp_path):
    path = tmp_path / "l"
    code = (
        "import pathlib, sys\n"
        "from supervisor.locks import Lock\n"
        f"lock = Lock.acquire(pathlib.Path({str(path)!r}), {{'pid': 0}})\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, **pipes) as process:
        assert process.stdout.readline().rstrip() == b"held"
        assert held_by(path) == {"pid": 0}
        process.kill()
    assert held_by(path) is None
