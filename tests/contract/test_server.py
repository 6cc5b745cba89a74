"""One server with its shell, against a scripted child that has the fault in question."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import signal
import stat
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest

from supervisor.home.orphan import GenerationLock
from supervisor.locks import Lock, held_by
from supervisor.plan.launch import LaunchPlan
from supervisor.profile.definition import GatewaySettings, Health, Restart, Stop
from supervisor.server.lifecycle_table import State
from supervisor.server.output_log import OutputLog
from supervisor.server.probe import ProbeResult, probe
from supervisor.server.server import Server

from ..fakes.launching import BOUND_SECONDS, fake_argv, free_port, wait_until_gone
from ..fakes.loops import run_story

pytestmark = pytest.mark.usefixtures("each_loop")
posix = pytest.mark.skipif(
    sys.platform == "win32", reason="signals, named pipes and sockets of POSIX, locks that travel"
)
PATIENT = Health(interval_seconds=0.05)
"""Asked often, and as patient as by default: who waits for a processor, as all do on a busy machine, is not killed."""
QUICK = replace(PATIENT, timeout_seconds=0.6, hang_timeout_seconds=1.0, busy_timeout_seconds=2.5)
"""
Only for a server that is to be killed: one that merely waits for a processor is too.  Each probe may cost the
scripted server a tick of the kernel's clock, 10 ms; a shorter timeout would make that look like work.
"""

NO_GPU_MEMORY = "update_slots: decode() failed: Requested buffer size exceeds device buffer size limit: ErrorOutOfDeviceMemory"


def plan(tmp_path: Path, *options: str, name: str = "p", **faults) -> LaunchPlan:
    port = free_port()
    record = tmp_path / "starts"
    argv = tuple(fake_argv(port, "--metrics", *options, record=record, **faults))
    return LaunchPlan(
        profile=name,
        argv=argv,
        env={},
        host="127.0.0.1",
        port=port,
        build="b11434",
        flavour="cpu",
        engine="scripted",
        model="X",
        digest=name,
        restart=Restart(max_restarts=3, backoff_seconds=0.01, stable_seconds=60),
        health=PATIENT,
        stop=Stop(grace_seconds=0.5, insist_seconds=0.5),
    )


def behind(asked: LaunchPlan, *, host: str = "127.0.0.1", **settings) -> LaunchPlan:
    """The same behind a gateway: on a port that is found at the launch, or on a socket."""
    argv = list(asked.argv)
    argv[argv.index("--host") + 1] = host
    argv[argv.index("--port") + 1] = "0"
    drain_seconds = GatewaySettings(**settings).drain_timeout_seconds
    return replace(
        asked, argv=tuple(argv), host=host, port=0, behind_gateway=True, drain_seconds=drain_seconds
    )


def hurried(asked: LaunchPlan, **health) -> LaunchPlan:
    """The same with `QUICK`, for a fault that is to be found."""
    return replace(asked, health=replace(QUICK, **health))


class Watched:
    """A server, and a way to wait for a state without asking again and again."""

    def __init__(self, tmp_path):
        self.changed = asyncio.Event()
        self.under_way = 0
        self.placement = ""
        self.tmp_path = tmp_path
        self.seen: list[State] = []
        self.lock_file = tmp_path / "generation.lock"
        self.server = Server(
            "default",
            output=OutputLog(tmp_path / "logs", "llama-server"),
            lock=GenerationLock(
                self.lock_file, tmp_path / "default.json", held=Lock.acquire(self.lock_file, {})
            ),
            private_config=tmp_path / "no-config",
            jitter=lambda: 0.0,
            on_change=self.note,
            under_way=lambda: self.under_way,
            environ={"PATH": os.environ["PATH"], "LLAMA_ARG_PORT": "1"},
        )
        self.asked = 0
        self.server.output.listen(self.read)

    def note(self):
        if not self.seen or self.seen[-1] is not self.server.state:
            self.seen.append(self.server.state)
        self.changed.set()

    def read(self, line):
        self.asked += "metrics asked for" in line
        self.changed.set()

    async def until(self, wanted):
        async with asyncio.timeout(BOUND_SECONDS):
            while not wanted():
                self.changed.clear()
                await self.changed.wait()

    async def probes(self, count):
        """Until the server has been asked so many times more."""
        enough = self.asked + count
        await self.until(lambda: self.asked >= enough)

    @property
    def starts(self) -> int:
        return len((self.tmp_path / "starts").read_text().splitlines())


@asynccontextmanager
async def watched(tmp_path):
    test = Watched(tmp_path)
    working = asyncio.create_task(test.server.run())
    try:
        yield test
    finally:
        async with asyncio.timeout(BOUND_SECONDS):
            await test.server.stop(now=True)
        test.server.close()
        working.cancel()


def promise(story):
    """Run one async story with its own loop."""

    def story_of(tmp_path):
        async def bounded():
            async with asyncio.timeout(BOUND_SECONDS * 2), watched(tmp_path) as test:
                await story(test, tmp_path)

        run_story(bounded())

    story_of.__name__ = story_of.__qualname__ = story.__name__
    story_of.__doc__ = story.__doc__
    return story_of


@promise
async def test_ready_is_said_only_when_the_model_is_loaded(test, tmp_path):
    gate = tmp_path / "loaded"
    starting = test.server.start(plan(tmp_path, load_gate=gate))
    await test.until(lambda: test.server.state is State.STARTING and test.server.output.bytes_seen)
    assert not starting.done()
    gate.touch()
    assert (await starting).result == "ready"
    assert test.seen == [State.PREPARING, State.STARTING, State.READY]


@posix
@promise
async def test_a_crash_after_ready_is_recovered_from(test, tmp_path):
    await test.server.start(plan(tmp_path))
    first = test.server.child.identity.pid
    psutil.Process(first).kill()
    await test.until(lambda: test.server.child is not None and test.server.child.identity.pid != first)
    await test.until(lambda: test.server.state is State.READY)
    assert test.server.lifecycle.restarts == 1
    assert "SIGKILL" in test.server.lifecycle.failure.message


@promise
async def test_a_server_that_always_crashes_ends_in_failed_with_the_last_lines(test, tmp_path):
    await test.server.start(plan(tmp_path, die="abort", die_when="ready", stderr="GGML_ASSERT(x) failed"))
    await test.until(lambda: test.server.state is State.FAILED)
    assert test.starts == 1 + 3
    assert any("GGML_ASSERT" in line for line in test.server.failure_tail)


@promise
async def test_what_cannot_work_is_tried_once(test, tmp_path):
    outcome = await test.server.start(plan(tmp_path, exit=1, stderr="error: invalid argument: --foo"))
    assert outcome.result == "failed"
    assert "--foo" in outcome.why
    assert test.starts == 1


@promise
async def test_a_taken_port_is_said_before_anything_is_spawned(test, tmp_path):
    asked = plan(tmp_path)
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", asked.port)
    async with taken:
        outcome = await test.server.start(asked)
    assert outcome.result == "failed"
    assert str(os.getpid()) in outcome.why
    assert not (tmp_path / "starts").exists()


@promise
async def test_a_load_without_progress_is_given_up(test, tmp_path):
    stuck = hurried(plan(tmp_path, answer="never"), start_timeout_seconds=0.8)
    stuck = replace(stuck, restart=Restart(policy="never"))
    outcome = await test.server.start(stuck)
    assert outcome.result == "failed"
    assert "no progress" in outcome.why
    assert test.server.child is None


@promise
async def test_a_hang_behind_a_healthy_face_is_found_and_restarted(test, tmp_path):
    gate = tmp_path / "hang"
    await test.server.start(hurried(plan(tmp_path, metrics=f"hang:{gate}")))
    first = test.server.child.identity.pid
    gate.touch()
    await test.until(lambda: test.server.lifecycle.restarts)
    assert test.server.lifecycle.failure.kind == "hung"
    assert wait_until_gone(first)


@promise
async def test_a_busy_server_is_left_alone_as_long_as_it_works(test, tmp_path):
    gate = tmp_path / "hang"
    burning = plan(tmp_path, metrics=f"hang:{gate}", burn=True)
    await test.server.start(hurried(burning, hang_timeout_seconds=1.5, busy_timeout_seconds=900))
    gate.touch()
    await test.until(lambda: test.server.busy)
    await test.probes(3 + math.ceil(1.5 / QUICK.timeout_seconds))  # an idle one would be dead by now
    assert test.server.busy
    assert test.server.state is State.READY
    assert test.server.lifecycle.restarts == 0


@promise
async def test_a_spinning_hang_is_ended_in_the_end(test, tmp_path):
    await test.server.start(hurried(plan(tmp_path, metrics=f"hang:{(gate := tmp_path / 'hang')}", burn=True)))
    gate.touch()
    await test.until(lambda: test.server.lifecycle.restarts)
    assert test.server.lifecycle.failure.kind == "hung"


@posix
@promise
async def test_a_stopped_process_counts_as_hung(test, tmp_path):
    await test.server.start(hurried(plan(tmp_path)))
    os.kill(test.server.child.identity.pid, signal.SIGSTOP)
    await test.until(lambda: test.server.lifecycle.restarts)
    assert test.server.lifecycle.failure.kind == "hung"


@promise
async def test_one_that_answers_probes_but_no_request_any_more_is_started_anew(test, tmp_path):
    """As llama-server is on Vulkan once a request found too little memory; while it loads, the line is history."""
    await test.server.start(plan(tmp_path, breaks=NO_GPU_MEMORY, stderr=NO_GPU_MEMORY))
    first = test.server.child.identity.pid
    assert test.server.state is State.READY
    assert b" 500 " in await chat_with(test.server)
    await test.until(lambda: test.server.lifecycle.restarts and test.server.state is State.READY)
    assert test.server.lifecycle.failure.kind == "gpu-memory"
    assert test.server.lifecycle.restarts == 1
    assert wait_until_gone(first)


async def chat_with(server) -> bytes:
    """The first line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.target.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    said = await reader.readline()
    writer.close()
    return said


@promise
async def test_one_whose_requests_run_out_of_gpu_memory_twice_is_started_with_the_smaller_plan(
    test, tmp_path
):
    words = "ubatch-size 256"
    less = replace(plan(tmp_path), digest="less", adjustment=words, adjusts="p")
    await test.server.start(replace(plan(tmp_path, breaks=NO_GPU_MEMORY), adjusted=less))
    for digest, restarts in (("p", 1), ("less", 2)):
        assert b" 500 " in await chat_with(test.server)
        await test.until(
            lambda n=restarts: test.server.lifecycle.restarts == n and test.server.state is State.READY
        )
        assert test.server.plan.digest == digest
    assert b" 200 " in await chat_with(test.server)
    assert test.server.why == f"with {words}, for without it requests ran out of GPU memory"
    assert test.server.failure.kind == "gpu-memory"
    assert test.starts == 3


@promise
async def test_a_server_that_ignores_term_is_killed_within_the_bound(test, tmp_path):
    await test.server.start(plan(tmp_path, term="ignore"))
    pid = test.server.child.identity.pid
    assert (await test.server.stop()).result == "stopped"
    assert wait_until_gone(pid)
    assert test.seen[-4:] == [State.DRAINING, State.STOPPING, State.KILLING, State.STOPPED]


@promise
async def test_a_second_term_is_enough_for_a_server_that_wants_two(test, tmp_path):
    await test.server.start(plan(tmp_path, term="second"))
    assert (await test.server.stop()).result == "stopped"


@promise
async def test_a_stop_during_the_load_is_a_stop_and_no_failure(test, tmp_path):
    starting = test.server.start(plan(tmp_path, load_gate=tmp_path / "never"))
    await test.until(lambda: test.server.state is State.STARTING and test.server.output.bytes_seen)
    assert (await test.server.stop()).result == "stopped"
    assert (await starting).result == "superseded"
    assert test.server.lifecycle.failure is None


@posix
@promise
async def test_a_model_on_a_disk_that_hangs_stops_nothing_else(test, tmp_path):
    """As a network mount does: a named pipe that nobody writes into cannot be opened either."""
    model = tmp_path / "model.gguf"
    os.mkfifo(model)
    starting = test.server.start(replace(plan(tmp_path), model_files=(str(model),)))
    await test.until(lambda: test.server.busy)
    assert test.server.busy == "waiting for the disk of the engine or the model"
    assert (await test.server.stop()).result == "stopped"
    assert (await starting).result == "superseded"
    assert (await test.server.start(plan(tmp_path))).result == "ready"
    os.close(os.open(model, os.O_WRONLY | os.O_NONBLOCK))  # the look that hung ends, and changes nothing
    assert test.server.state is State.READY


@promise
async def test_a_switch_that_fails_brings_the_old_one_back(test, tmp_path):
    await test.server.start(plan(tmp_path, name="good"))
    outcome = await test.server.start(
        plan(tmp_path, name="bad", exit=1, stderr="error: invalid argument: --x")
    )
    assert (outcome.result, outcome.profile) == ("rolled back", "good")
    assert test.server.state is State.READY


@promise
async def test_a_start_during_a_slow_stop_never_makes_two(test, tmp_path):
    await test.server.start(plan(tmp_path, name="old", term="ignore"))
    old = test.server.child.identity.pid
    stopping = test.server.stop()
    outcome = await test.server.start(plan(tmp_path, name="new"))
    stopped = await stopping
    assert (stopped.result, stopped.by) == ("superseded", outcome.id)
    assert outcome.result == "ready"
    assert wait_until_gone(old)
    assert test.starts == 2


@promise
async def test_a_gpu_profile_that_came_up_on_the_cpu_is_degraded(test, tmp_path):
    asked = replace(plan(tmp_path, banner="cpu"), wants_gpu=True, devices=("CUDA0: a card",))
    outcome = await test.server.start(asked)
    assert outcome.result == "degraded"
    assert "CPU" in outcome.why


@promise
async def test_a_flood_without_a_newline_neither_blocks_nor_kills(test, tmp_path):
    outcome = await test.server.start(plan(tmp_path, flood=20_000_000))
    assert outcome.result == "ready"
    assert test.server.output.bytes_seen >= 20_000_000


@posix
@promise
async def test_the_child_holds_the_generation_lock(test, tmp_path):
    await test.server.start(plan(tmp_path))
    test.server.launcher.lock.release()
    assert held_by(test.lock_file) is not None
    pid = test.server.child.identity.pid
    await test.server.stop()
    assert wait_until_gone(pid)
    assert held_by(test.lock_file) is None


@promise
async def test_nothing_inherited_reaches_the_child(test, tmp_path):
    await test.server.start(plan(tmp_path))
    assert "LLAMA_ARG_PORT" not in (tmp_path / "starts").read_text()


@promise
async def test_a_binary_that_vanished_is_named(test, tmp_path):
    asked = replace(plan(tmp_path), argv=(str(tmp_path / "gone" / "llama-server"),))
    outcome = await test.server.start(asked)
    assert outcome.result == "failed"
    assert str(Path("gone", "llama-server")) in outcome.why
    assert pytest.approx(0) == test.server.lifecycle.restarts


@promise
async def test_a_probe_that_is_refused_kills_nobody_and_says_so(test, tmp_path):
    locked = plan(tmp_path, "--api-key", "that nobody told us")
    await test.server.start(replace(locked, health=replace(PATIENT, hang_timeout_seconds=0.0)))
    await test.until(
        lambda: "HTTP 401" in test.server.busy
    )  # with a limit of 0 s, silence would have ended it
    assert test.server.state is State.READY


@promise
async def test_a_stop_is_no_failure_and_leaves_the_last_one_as_it_was(test, tmp_path):
    await test.server.start(plan(tmp_path))
    await test.server.stop()
    assert test.server.failed_at is None
    assert test.server.failure_tail == ()


@posix
@promise
async def test_a_server_killed_while_loading_is_tried_again_within_the_budget(test, tmp_path):
    outcome = await test.server.start(plan(tmp_path, die="kill", die_when="loading"))
    assert outcome.result == "failed"
    assert "SIGKILL" in outcome.why
    assert test.starts == 1 + 3


@promise
async def test_a_switch_lets_the_requests_under_way_end_first(test, tmp_path):
    await test.server.start(behind(plan(tmp_path, name="old")))
    old, test.under_way = test.server.child, 2
    switching = test.server.start(behind(plan(tmp_path, name="new")))
    await test.until(lambda: test.server.state is State.DRAINING)
    await test.probes(2)  # it is watched meanwhile, as before
    assert not old.exited.done()
    assert not switching.done()
    test.under_way = 0
    test.server.drained()
    assert (await switching).result == "ready"
    assert test.server.plan.profile == "new"


@promise
async def test_with_nothing_under_way_a_switch_does_not_wait(test, tmp_path):
    await test.server.start(behind(plan(tmp_path, name="old"), drain_timeout_seconds=1e6))
    assert (await test.server.start(behind(plan(tmp_path, name="new")))).result == "ready"


@promise
async def test_requests_that_do_not_end_hold_a_switch_up_no_longer_than_they_may(test, tmp_path):
    await test.server.start(behind(plan(tmp_path, name="old"), drain_timeout_seconds=0.05))
    test.under_way = 1
    assert (await test.server.start(plan(tmp_path, name="new"))).result == "ready"


@promise
async def test_a_drain_that_nobody_waits_for_means_nothing(test, tmp_path):
    await test.server.start(behind(plan(tmp_path)))
    test.server.drained()
    assert (await test.server.wake()).result == "ready"
    assert test.seen == [State.PREPARING, State.STARTING, State.READY]


@promise
async def test_a_sleeping_server_has_no_process_and_comes_back_when_it_is_woken(test, tmp_path):
    await test.server.start(behind(plan(tmp_path)))
    pid = test.server.child.identity.pid
    assert (await test.server.sleep()).result == "asleep"
    assert wait_until_gone(pid)
    assert (test.server.state, test.server.child, test.server.target) == (State.SLEEPING, None, None)
    wakes = [test.server.wake() for _ in range(50)]
    assert {outcome.result for outcome in await asyncio.gather(*wakes)} == {"ready"}
    assert test.starts == 2


@promise
async def test_a_plan_at_rest_is_launched_by_the_first_who_wants_it(test, tmp_path):
    assert (await test.server.rest(behind(plan(tmp_path)))).result == "asleep"
    assert not (tmp_path / "starts").exists()
    assert (await test.server.wake()).result == "ready"


@promise
async def test_a_model_that_is_gone_when_it_is_woken_is_a_failure_with_its_reason(test, tmp_path):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    await test.server.start(replace(behind(plan(tmp_path)), model_files=(str(model),)))
    await test.server.sleep()
    model.unlink()
    outcome = await test.server.wake()
    assert (outcome.result, test.server.state) == ("failed", State.FAILED)
    assert "model.gguf" in outcome.why


@promise
async def test_who_asks_for_what_is_there_already_is_answered_at_once(test, tmp_path):
    assert (await test.server.wake()).result == "stopped"  # nothing was ever asked for
    assert (await test.server.sleep()).result == "stopped"
    await test.server.start(plan(tmp_path, exit=1, stderr="error: invalid argument: --foo"))
    assert (await test.server.sleep()).result == "failed"
    assert "--foo" in (await test.server.wake()).why


@promise
async def test_a_request_is_not_answered_with_what_was_decided_before_it(test, tmp_path):
    await test.server.start(plan(tmp_path, name="old"))
    woken, switched = test.server.wake(), test.server.start(plan(tmp_path, name="new"))
    assert (await woken).profile == "old"
    assert (await switched).profile == "new"


@promise
async def test_behind_a_gateway_each_launch_has_a_port_and_a_key_that_nobody_else_has(test, tmp_path):
    await test.server.start(behind(plan(tmp_path)))
    first = test.server.target
    assert first.port != 0
    assert (await probe(first, "/metrics", timeout_seconds=BOUND_SECONDS)).outcome == "ok"
    stranger = replace(first, headers={})
    assert (await probe(stranger, "/metrics", timeout_seconds=BOUND_SECONDS)).status == 401
    await test.server.sleep()
    await test.server.wake()
    assert test.server.target.headers != first.headers


@promise
async def test_the_key_of_a_launch_is_in_its_environment_only(test, tmp_path):
    await test.server.start(behind(plan(tmp_path)))
    started = json.loads((tmp_path / "starts").read_text())
    key = started["env"]["LLAMA_API_KEY"]
    assert len(key) > 40
    assert key not in " ".join(started["argv"])
    assert key not in repr(test.server.target)
    assert key not in repr(test.server.plan)


@posix
@promise
async def test_a_socket_behind_a_gateway_is_its_owners_alone(test, tmp_path):
    path = tmp_path / "llama-server.sock"
    before = os.umask(0o077)  # as the daemon's
    try:
        outcome = await test.server.start(behind(plan(tmp_path), host=str(path)))
    finally:
        os.umask(before)
    assert outcome.result == "ready"
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert (test.server.target.address, test.server.target.headers) == (str(path), {})
    assert (await probe(test.server.target, "/metrics", timeout_seconds=BOUND_SECONDS)).outcome == "ok"


@promise
async def test_a_port_that_was_taken_in_the_last_moment_is_followed_by_another(test, tmp_path):
    taken = "error: start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 1"
    asked = behind(plan(tmp_path, exit=1, stderr=taken))
    outcome = await test.server.start(asked)
    assert outcome.result == "failed"
    assert test.starts == 1 + asked.restart.max_restarts


@promise
async def test_a_server_that_cannot_be_asked_for_a_while_is_left_alone(test, tmp_path):
    """Every probe fails for a shortage of ours, for much longer than a hang may take."""
    counted, enough = 0, asyncio.Event()

    async def short(*_, **__):
        nonlocal counted
        counted += 1
        if counted > 3 * QUICK.hang_timeout_seconds / QUICK.interval_seconds:
            enough.set()
        return ProbeResult("unknown", why="Too many open files")

    await test.server.start(plan(tmp_path))
    with patch("supervisor.server.health.probe", short):
        await asyncio.wait_for(enough.wait(), BOUND_SECONDS)
        assert "Too many open files" in test.server.busy
    await test.until(lambda: not test.server.busy)
    assert (test.server.state, test.server.lifecycle.restarts) == (State.READY, 0)


@posix
@pytest.mark.parametrize("short", ["supervisor.server.mechanism.posix_process.os.pipe", "subprocess.Popen"])
def test_a_launch_for_which_we_have_no_descriptor_is_tried_again(tmp_path, short):
    @promise
    async def story(test, tmp_path):
        await test.server.start(plan(tmp_path))
        with patch(short, side_effect=OSError(errno.EMFILE, "Too many open files")):
            killed = test.server.child.identity.pid
            psutil.Process(killed).kill()
            await test.until(lambda: "Too many files are open" in test.server.why)
        await test.until(lambda: test.server.state is State.READY)
        assert test.server.child.identity.pid != killed

    story(tmp_path)


@promise
async def test_a_check_for_which_we_have_no_descriptor_is_tried_again(test, tmp_path):
    await test.server.start(plan(tmp_path))
    with patch(
        "supervisor.server.launching.check_launch",
        side_effect=OSError(errno.EMFILE, "Too many open files"),
    ):
        killed = test.server.child.identity.pid
        psutil.Process(killed).kill()
        await test.until(lambda: "Too many open files" in test.server.why)
    await test.until(lambda: test.server.state is State.READY)
    assert test.server.child.identity.pid != killed
