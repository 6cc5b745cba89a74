"""A server that outlived its daemon is stopped if, and only if, it is proved to be ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from unittest.mock import Mock

import pytest

import supervisor.home.orphan as orphans
from supervisor.errors import StartFailed
from supervisor.home.identity import identify
from supervisor.home.orphan import MARK_VARIABLE, mark_of, take_generation_lock
from supervisor.home.records import Record, read_record, write_record
from supervisor.locks import Lock, held_by

from ..fakes.launching import program, wait_until_gone

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="locks do not travel; a job object leaves no orphan"
)
WAITS = "import sys, time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS


@pytest.fixture
def orphan(tmp_path):
    """Makes a process that holds the generation lock, and a record that names it."""
    made = []

    def make(code=WAITS):
        lock = Lock.acquire(tmp_path / "generation.lock", {})
        child = subprocess.Popen(program(code), stdout=subprocess.PIPE, pass_fds=(lock.fd,))
        made.append(child)
        assert child.stdout.readline() == b"up\n"
        lock.release()
        record = Record("default", "ready", "", "demo", 8080, identify(child.pid), None)
        write_record(tmp_path / "record.json", record)
        return child, record

    yield make
    for child in made:
        child.kill()
        child.communicate()


def take(tmp_path):
    said = []
    lock = take_generation_lock(tmp_path / "generation.lock", tmp_path / "record.json", said.append)
    return lock, said


def test_without_an_orphan_the_lock_is_simply_taken(tmp_path):
    lock, said = take(tmp_path)
    assert said == []
    lock.release()


def test_an_orphan_is_asked_to_leave_and_the_lock_is_ours(tmp_path, orphan):
    child, _ = orphan()
    lock, said = take(tmp_path)
    assert child.wait() == -signal.SIGTERM
    assert str(child.pid) in said[0]
    lock.release()


def test_an_orphan_that_ignores_term_is_killed(tmp_path, orphan, monkeypatch):
    monkeypatch.setattr("supervisor.home.orphan.GRACE_SECONDS", 0.2)
    child, _ = orphan(STUBBORN)
    lock, _ = take(tmp_path)
    assert child.wait() == -signal.SIGKILL
    lock.release()


@pytest.mark.parametrize("change", [{"started": 1.0}, {"boot_id": "another boot"}, {"pid": os.getpid()}])
def test_whoever_is_not_proved_to_be_ours_is_left_alone(tmp_path, orphan, change):
    child, record = orphan()
    write_record(tmp_path / "record.json", replace(record, identity=replace(record.identity, **change)))
    with pytest.raises(StartFailed, match="cannot be proved"):
        take(tmp_path)
    assert child.poll() is None


def test_without_a_record_nobody_is_touched(tmp_path, orphan):
    child, _ = orphan()
    (tmp_path / "record.json").unlink()
    with pytest.raises(StartFailed, match="cannot be proved") as refused:
        take(tmp_path)
    assert child.poll() is None
    assert held_by(tmp_path / "generation.lock") is not None
    assert f"pid {child.pid}" in refused.value.hint or sys.platform != "linux"


@pytest.fixture
def stranger(tmp_path, request):
    """A process with nothing of ours, or with this environment, and a record with all that is true of it."""
    env = {**os.environ, **getattr(request, "param", {})}
    with subprocess.Popen(program(WAITS), stdout=subprocess.PIPE, start_new_session=True, env=env) as process:
        assert process.stdout.readline() == b"up\n"
        forged = Record("default", "ready", "", "demo", 8080, identify(process.pid), None)
        write_record(tmp_path / "record.json", forged)
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells what a process has open")
def test_a_record_that_names_a_stranger_truly_proves_nothing(tmp_path, stranger):
    lock, said = take(tmp_path)
    assert (said, stranger.poll()) == ([], None)
    with pytest.raises(StartFailed, match="cannot be proved"):
        take(tmp_path)  # while somebody holds the lock
    assert stranger.poll() is None
    lock.release()


@pytest.mark.parametrize("stranger", [{orphans.MARK_VARIABLE: "record@1:2"}], indirect=True)
def test_a_server_whose_folders_were_removed_since_is_still_known_and_ends(tmp_path, stranger):
    """Its lock is another file now, and its mark that of a folder that is gone."""
    lock, said = take(tmp_path)
    assert stranger.wait() == -signal.SIGTERM
    assert str(stranger.pid) in said[0]
    lock.release()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells what a process has open")
def test_of_a_program_that_nobody_may_look_into_the_record_suffices(tmp_path, stranger, monkeypatch):
    """As one with capabilities: `setcap cap_ipc_lock+ep llama-server`."""
    monkeypatch.setattr(orphans, "_has_mark", Mock(side_effect=PermissionError))
    lock, _ = take(tmp_path)
    assert stranger.wait() == -signal.SIGTERM
    lock.release()


def test_an_orphan_that_dies_meanwhile_is_no_trouble(tmp_path, orphan):
    child, _ = orphan()
    child.kill()
    assert wait_until_gone(child.pid)
    lock, _ = take(tmp_path)
    lock.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"server": 1}', b"\xff\xfe", b'{"identity": {}}'])
def test_a_record_that_is_none_is_taken_for_none(tmp_path, content):
    (tmp_path / "record.json").write_bytes(content)
    assert read_record(tmp_path / "record.json") is None


def test_a_record_is_private_and_comes_back_as_it_was(tmp_path, orphan):
    _, record = orphan()
    path = tmp_path / "record.json"
    assert read_record(path) == record
    assert path.stat().st_mode & 0o777 == 0o600
    assert not [other for other in tmp_path.iterdir() if other.name.startswith(".record")]


WRAPPERS = {
    "a shell that waits": '"$0" -S -E -u -c "$1"; :',
    "a shell with a job": '"$0" -S -E -u -c "$1" & wait',
    "another session": 'setsid "$0" -S -E -u -c "$1"; :',
    "nohup": 'nohup "$0" -S -E -u -c "$1"; :',
    "no environment": 'env -i "$0" -S -E -u -c "$1"; :',
}
PYTHON_WRAPPER = (
    "import subprocess, sys; subprocess.run([sys.executable, '-S', '-E', '-u', '-c', sys.argv[1]])"
)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the script lives on, and is known")
@pytest.mark.parametrize("kind", [*WRAPPERS, "Python, which closes the lock"])
def test_what_a_script_around_the_server_leaves_is_ended(tmp_path, kind):
    """The daemon is killed, the script dies with it, and the server does not."""
    place, file = tmp_path / "generation.lock", tmp_path / "default.json"
    lock = Lock.acquire(place, {})
    script = (
        ["/bin/sh", "-c", WRAPPERS[kind], sys.executable] if kind in WRAPPERS else program(PYTHON_WRAPPER)
    )
    reader, writer = os.pipe()
    waits = f"import os, time; os.write({writer}, b'%d\\n' % os.getpid()); time.sleep(600)"
    if kind not in WRAPPERS:
        waits = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    wrapper = subprocess.Popen(
        [*script, waits],
        stdout=writer,
        pass_fds=(lock.fd, writer),
        start_new_session=True,
        env={"PATH": os.environ["PATH"], MARK_VARIABLE: mark_of(file)},
    )
    os.close(writer)
    with os.fdopen(reader) as said:
        server = int(said.readline())
    write_record(file, Record("default", "ready", "", "p", 8080, identify(wrapper.pid), None))
    lock.release()
    wrapper.kill()
    wrapper.wait()
    told: list[str] = []
    taken = take_generation_lock(place, file, told.append)
    assert wait_until_gone(server)
    assert str(server) in told[0]
    taken.release()
