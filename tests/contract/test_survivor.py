"""A process that an earlier daemon left is taken over as if it had been spawned; a stranger is not touched."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from supervisor.cli.app import main
from supervisor.cli.status import status
from supervisor.daemon.status_document import status_of
from supervisor.doctor.home_findings import home_findings
from supervisor.engine.adapters.adapter import Question
from supervisor.errors import AlreadyRunning, NotRunning, StartFailed
from supervisor.hardware.machine import ThisMachine
from supervisor.home.identity import identify
from supervisor.home.orphan import MARK_VARIABLE, UNPROVED_HINT, mark_of, refuse_beside_survivors
from supervisor.home.places import generation_lock, make_folders, record_file
from supervisor.home.records import Record, write_record
from supervisor.home.unresponsive import end_survivors
from supervisor.locks import Lock, held_by
from supervisor.paths import Paths
from supervisor.prepare.machine_checks import held_by_servers
from supervisor.profile.definition import Health
from supervisor.server.child import take_over
from supervisor.server.lifecycle_table import State
from supervisor.server.preflight import who_listens
from supervisor.server.process import ExitStatus
from supervisor.server.survivor import Survivor
from supervisor.server.survivors import LeftPlan, Survivors, why_ended

from ..fakes.launching import BOUND_SECONDS, Heard, leave_behind, program, wait_until, wait_until_gone
from ..fakes.loops import run_story
from .test_server import plan, promise

SAYS = (
    "import signal, time\nsignal.signal(15, lambda *_: print('asked', flush=True))\nprint('up', flush=True)\n"
)
FOREVER = SAYS + "while True: time.sleep(3600)"

pytestmark = [
    pytest.mark.usefixtures("each_loop"),
    pytest.mark.skipif(sys.platform != "linux", reason="it takes a pidfd and the links of /proc"),
]


@pytest.fixture
def survivor(tmp_path):
    """Makes one that is no child of ours, for as long as the test runs."""
    made = []

    def make(code=FOREVER):
        made.append(leave_behind(program(code)))
        return Survivor(made[-1], plan(tmp_path), is_child=False)

    yield make
    for each in made:
        if identify(each.pid) == each:
            os.kill(each.pid, signal.SIGKILL)


async def end_of(child):
    async with asyncio.timeout(BOUND_SECONDS):
        return await child.exited


def test_what_a_survivor_says_is_heard_its_signals_reach_it_and_its_end_is_noticed(survivor):
    async def scenario():
        heard = Heard()
        child = take_over(survivor(), on_output=heard)
        await heard.until(b"up\n")
        child.terminate()
        await heard.until(b"asked\n")
        child.kill()
        return await end_of(child)

    assert run_story(scenario()) == ExitStatus()


def test_of_a_child_that_an_earlier_program_of_this_process_spawned_all_is_known(tmp_path):
    reader, writer = os.pipe()
    argv = program("print('up', flush=True); raise SystemExit(7)")
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    found = Survivor(identify(pid), plan(tmp_path), is_child=True, output_fd=reader)

    async def scenario():
        heard = Heard()
        child = take_over(found, on_output=heard)
        return await end_of(child), heard.data

    assert run_story(scenario()) == (ExitStatus(code=7), b"up\n")


def test_what_a_survivor_leaves_in_its_group_goes_with_it(survivor):
    code = "import subprocess\np = subprocess.Popen(['sleep', '600'])\nprint(p.pid, flush=True)\n" + FOREVER

    async def scenario():
        heard = Heard()
        child = take_over(survivor(code), on_output=heard)
        grandchild = int((await heard.until(b"up\n")).split()[0])
        os.kill(child.identity.pid, signal.SIGKILL)
        await end_of(child)
        return grandchild

    assert wait_until_gone(run_story(scenario()))


@pytest.mark.parametrize("change", [{"started": 1.0}, {"boot_id": "another boot"}])
def test_a_stranger_with_its_pid_is_neither_read_nor_signalled(survivor, change):
    found = survivor()

    async def scenario():
        take_over(replace(found, identity=replace(found.identity, **change)), on_output=Heard())

    with pytest.raises(StartFailed, match="cannot be taken over"):
        run_story(scenario())
    assert identify(found.identity.pid) == found.identity


def test_one_whose_output_is_no_pipe_is_left_alone(tmp_path):
    async def scenario(found):
        take_over(found, on_output=Heard())

    with subprocess.Popen(program(FOREVER), stdout=subprocess.DEVNULL) as process:
        try:
            with pytest.raises(StartFailed, match="not a pipe of ours"):
                run_story(scenario(Survivor(identify(process.pid), plan(tmp_path), is_child=False)))
            assert process.poll() is None
        finally:
            process.kill()


# --- a server's


def opened():
    """The files that this process has open."""
    links = Path("/proc/self/fd").iterdir()
    return {os.readlink(each) for each in links if each.is_symlink()}


def left(test, tmp_path, **faults):
    """A plan, and a survivor that runs it and holds the lock of the server, which the test's server has not."""
    asked = plan(tmp_path, **faults)
    test.server.launcher.lock.release()
    lock = Lock.acquire(test.lock_file, {})
    identity = leave_behind(list(asked.argv), inherit=(lock.fd,))
    lock.release()
    write_record(tmp_path / "default.json", Record("default", "ready", "", "p", 1, identity, None))
    return asked, Survivor(identity, asked, is_child=False, ready_since=1000.0)


@promise
async def test_a_server_takes_a_survivor_over_without_a_launch(test, tmp_path):
    log = test.server.output.path
    log.parent.mkdir()
    log.write_text("what it said to the daemon before\n")
    asked, found = left(test, tmp_path)
    outcome = await test.server.take_over(asked, found)
    assert outcome.result == "ready"
    assert test.seen == [State.STARTING, State.READY]
    assert test.server.child.identity == found.identity
    assert test.server.ready_since == 1000.0
    assert test.starts == 1
    before, ours, *_ = log.read_text().splitlines()
    assert before == "what it said to the daemon before"
    assert "taken over by goss-supervisor" in ours
    await test.server.stop()
    assert wait_until_gone(found.identity.pid)
    assert held_by(test.lock_file) is None


@promise
async def test_a_survivor_that_is_killed_is_followed_by_a_child_with_the_lock(test, tmp_path):
    asked, found = left(test, tmp_path)
    await test.server.take_over(asked, found)
    os.kill(found.identity.pid, signal.SIGKILL)
    await test.until(lambda: test.server.restarts == 1 and test.server.is_serving)
    assert test.server.failure.kind == "vanished"
    assert "how it ended is unknown" in test.server.failure.message
    assert test.server.ready_since > 1000.0
    assert test.server.launcher.lock.held is not None
    assert test.starts == 2


@promise
async def test_a_survivor_that_hangs_is_given_no_time_to_load(test, tmp_path):
    asked, found = left(test, tmp_path)
    hangs = replace(
        asked, health=Health(start_timeout_seconds=3600, timeout_seconds=0.2, hang_timeout_seconds=1)
    )
    os.kill(found.identity.pid, signal.SIGSTOP)
    outcome = await test.server.take_over(hangs, replace(found, plan=hangs))
    assert outcome.result == "ready"
    assert test.server.child.identity != found.identity
    assert wait_until_gone(found.identity.pid)
    failure = test.server.failure
    assert failure.kind == "hung"
    assert "did not become ready again after it was taken over, and made no progress" in failure.message


@promise
async def test_the_status_says_of_a_process_whether_it_ends_with_the_daemon(test, tmp_path):
    asked = replace(plan(tmp_path), orphan="adopt")  # a script, as the embedded engine is one
    await test.server.start(asked)
    orphan = status_of(test, None)["orphan"]
    assert orphan == {"asked": "adopt", "ends_because": why_ended(asked)}
    assert orphan["ends_because"].startswith("only llama-server itself")
    await test.server.stop()
    assert status_of(test, None)["orphan"] is None


def test_only_one_that_was_ready_is_judged_so_and_it_is_asked_no_question(tmp_path):
    asked = replace(plan(tmp_path), question=Question("/v1/completions", "{}"))
    found = Survivor(identify(os.getpid()), asked, is_child=True)
    assert found.watched == asked
    assert replace(found, ready_since=1000.0).watched.question is None


@promise
async def test_a_survivor_that_cannot_be_taken_over_is_ended_before_another_runs(test, tmp_path):
    asked, found = left(test, tmp_path)
    output, pinned = (tmp_path / name for name in ("output", "pinned"))
    fds = [os.open(file, os.O_RDONLY | os.O_CREAT) for file in (output, pinned)]  # which no loop can watch
    stranger = replace(found, output_fd=fds[0], socket_fd=fds[1])
    outcome = await test.server.take_over(asked, stranger)
    assert outcome.result == "ready"
    assert test.server.child.identity != found.identity
    assert wait_until_gone(found.identity.pid)
    assert not {str(output), str(pinned)} & opened(), "both are closed"


@promise
async def test_a_survivor_on_the_cpu_is_degraded_as_it_was(test, tmp_path):
    asked, found = left(test, tmp_path)
    gpu = replace(asked, wants_gpu=True, devices=("CUDA0: a card",))
    outcome = await test.server.take_over(gpu, replace(found, degraded="running on the CPU: no driver"))
    assert (outcome.result, outcome.why) == ("degraded", "running on the CPU: no driver")


# --- the proof


@pytest.fixture
def home(tmp_path, request):
    """A home whose killed daemon left a server, the main one or the one of another name, and its record."""
    name = getattr(request, "param", "default")
    paths = Paths.under(tmp_path / "home")
    make_folders(paths)
    asked = replace(plan(tmp_path), orphan="adopt", wish="w")
    lock = Lock.acquire(generation_lock(paths, name), {})
    environ = {**os.environ, MARK_VARIABLE: mark_of(record_file(paths, name))}
    identity = leave_behind(list(asked.argv), inherit=(lock.fd,), env=environ)
    lock.release()
    record = Record(
        name, "degraded", "no driver", "p", asked.port, identity, None,
        launched=asdict(LeftPlan.of(asked)), ready_since=7.0,
    )  # fmt: skip
    wait_until(lambda: who_listens(asked.port) is not None)  # the kernel tells nobody
    yield paths, asked, record
    if identify(identity.pid) == identity:
        os.kill(identity.pid, signal.SIGKILL)


def found_in(paths, record):
    write_record(record_file(paths, record.server), record)
    found = Survivors(paths)
    run_story(found.look())
    return found


def test_what_a_killed_daemon_left_is_found_proved_and_taken_once(home):
    paths, asked, record = home
    found = found_in(paths, record)
    assert found.profiles == {"default": "p"}
    for other in (replace(asked, digest="other", wish="other"), replace(asked, orphan="end")):
        assert found.running("default", other) is None
    assert found.running("p", asked) is None, "the main server may need its lock"
    assert found.running("default", asked) == "default"
    survivor = found.take("default", asked)
    assert survivor == Survivor(record.identity, asked, False, None, 7.0, "no driver")
    assert found.take("default", asked) is None


@pytest.mark.parametrize("home", ["p"], indirect=True)
def test_the_main_server_takes_over_what_ran_next_to_it_also_after_another_kill(home):
    paths, asked, record = home
    survivor = found_in(paths, record).take("default", asked)
    assert survivor == Survivor(record.identity, asked, False, None, 7.0, "no driver", has_log=False)
    later = replace(record, server="default", state="ready", why="")
    write_record(record_file(paths), later)
    found = found_in(paths, record)
    assert found.profiles == {"p": "p"}
    assert found.take("default", asked).degraded == "", "what the main server saw last"
    write_record(record_file(paths), replace(later, state="draining"))
    assert found_in(paths, record).profiles == {}
    write_record(record_file(paths), replace(later, identity=identify(os.getpid())))
    assert found_in(paths, record).profiles == {"p": "p"}


def test_a_record_that_does_not_prove_it_or_of_one_that_was_being_stopped_is_no_survivor(home):
    paths, asked, record = home
    identity, launched = record.identity, record.launched
    for change in (
        {"identity": replace(identity, boot_id="another boot")},
        {"identity": replace(identity, started=1.0)},
        {"identity": identify(os.getpid())},  # a stranger with the pid
        {"launched": None},
        {"state": "draining"},  # somebody had asked for its end
        {"state": "stopping"},
        {"state": "killing"},
        {"launched": {"digest": asked.digest}},
        {"launched": {**launched, "port": asked.port - 1}},  # it listens elsewhere
        {"launched": {**launched, "host": str(paths.runtime / "llama-server-p.sock")}},
    ):
        assert found_in(paths, replace(record, **change)).profiles == {}, change
    assert identify(identity.pid) == identity


def test_what_is_not_wanted_is_ended_and_what_cannot_be_proved_is_left_alone_and_named(home, caplog):
    paths, _, record = home
    unproved = found_in(paths, replace(record, identity=replace(record.identity, boot_id="another boot")))
    (paths.state / "default.json").rename(paths.state / "kept")
    with mock_mark():
        run_story(unproved.end(["default"]))
    assert "cannot be proved" in caplog.text
    assert identify(record.identity.pid) == record.identity
    run_story(found_in(paths, record).end(["default"]))
    assert wait_until_gone(record.identity.pid)


def test_stop_finds_one_whose_lock_went_with_the_runtime_folder(home):
    paths, _, record = home
    write_record(record_file(paths), record)
    shutil.rmtree(paths.runtime)
    assert end_survivors(paths, lambda _: None)
    assert wait_until_gone(record.identity.pid)
    assert not end_survivors(paths, lambda _: None)


def test_one_whose_record_is_damaged_is_named_by_status_and_doctor_and_nothing_is_measured_beside_it(
    home, monkeypatch
):
    paths, _, record = home
    monkeypatch.setattr(Paths, "from_environment", lambda: paths)
    file, pid = record_file(paths), record.identity.pid
    file.write_text("{")
    named = f"A server of an earlier daemon still runs (default, pid {pid}); {file} does not name it."
    asked = CliRunner().invoke(status, [])
    assert f"left      {named}" in asked.stdout
    assert isinstance(asked.exception, NotRunning)
    assert asked.exception.hint == UNPROVED_HINT
    told = json.loads(CliRunner().invoke(status, ["--json"], standalone_mode=False).stdout)
    assert told["survivors"] == [{"profile": None, "pid": pid, "since": None, "memory": {}}]
    found = [each for each in home_findings(paths, ThisMachine(), "user") if each.id == "leftovers"]
    assert [(each.text, each.fix) for each in found] == [(named, UNPROVED_HINT)]
    with pytest.raises(AlreadyRunning, match=f"pid {pid}"):
        refuse_beside_survivors(paths)
    assert end_survivors(paths, lambda _: None)
    assert wait_until_gone(pid)
    refuse_beside_survivors(paths)


@pytest.mark.parametrize("words", [("bench", "p"), ("tune", "p", "--yes")])
def test_what_measures_refuses_beside_a_survivor_before_it_makes_anything_ready(
    home, monkeypatch, capsys, words
):
    paths, _, record = home
    monkeypatch.setattr(Paths, "from_environment", lambda: paths)
    write_record(record_file(paths), record)  # of a profile that is not there, as the next thing to be told
    assert main([*words]) == AlreadyRunning.exit_code
    assert (
        f"p still runs, though its daemon was killed (pid {record.identity.pid})" in capsys.readouterr().err
    )


def mock_mark():
    """As of another server in another home, so that the process is not known by its environment."""
    return patch("supervisor.home.orphan.mark_of", lambda record: "another@another")


def test_without_a_daemon_the_memory_of_a_survivor_counts_as_free_for_the_next_plan(home):
    paths, _, record = home
    write_record(record_file(paths), replace(record, launched={**record.launched, "memory": {"RAM": 5}}))
    assert held_by_servers(paths, "any", evicts=True) == ({"RAM": 5}, {})
