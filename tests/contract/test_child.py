"""A child's death is noticed at once and its last byte is heard, whatever it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="mechanisms of Linux")

import fcntl

from supervisor.errors import NotFound, PermissionDenied, StartFailed
from supervisor.home.identity import identify
from supervisor.locks import Lock, held_by
from supervisor.server.child import spawn
from supervisor.server.mechanism import posix_process
from supervisor.server.mechanism.linux_process import open_pidfd
from supervisor.server.mechanism.posix_process import Pipe, Sigchld
from supervisor.server.process import ExitStatus

from ..fakes.launching import BOUND_SECONDS, Heard, program, wait_until_gone
from ..fakes.loops import run_story

ROOT = Path(__file__).parents[2]
FOREVER = "import time\nprint('up', flush=True)\nwhile True: time.sleep(3600)"

pytestmark = [
    pytest.mark.usefixtures("each_loop"),
    pytest.mark.skipif(sys.platform != "linux", reason="mechanisms of Linux"),
]


@pytest.fixture(params=[open_pidfd, Sigchld], ids=["pidfd", "sigchld"])
def notice(request):
    return request.param


async def run(argv, notice=None, heard=None, env=None, inherit=()):
    heard = heard or Heard()
    env = dict(os.environ) if env is None else env
    child = await posix_process.start(argv, env, on_output=heard, inherit=inherit, notice=notice)
    return child, heard


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def end_of(child):
    async with asyncio.timeout(BOUND_SECONDS):
        return await child.exited


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("pass", ExitStatus(code=0), "exit code 0"),
        ("raise SystemExit(7)", ExitStatus(code=7), "exit code 7"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            ExitStatus(signal=9),
            "killed by SIGKILL",
        ),
        ("import os; os.abort()", ExitStatus(signal=6), "killed by SIGABRT"),
    ],
)
def test_the_way_it_ended_is_told(notice, code, status, words):
    async def scenario():
        child, _ = await run(program(code), notice)
        return await end_of(child)

    ended = run_story(scenario())
    assert ended == status
    assert str(ended) == words


def test_a_kill_from_outside_is_noticed_at_once(notice):
    """One of several: a busy machine may hold up some, but who polls is late with nearly all."""

    async def scenario():
        child, heard = await run(program(FOREVER), notice)
        await heard.until(b"up")
        began = time.monotonic()
        os.kill(child.identity.pid, signal.SIGKILL)
        status = await end_of(child)
        return status, time.monotonic() - began

    for _ in range(10):
        status, seconds = run_story(scenario())
        assert status == ExitStatus(signal=9)
        if seconds < 0.05:
            return
    pytest.fail("all were noticed late")


def test_output_is_complete_to_the_last_byte(notice):
    size = 3_000_000

    async def scenario():
        child, heard = await run(
            program(f"import os, sys; os.write(1, b'x' * {size}); os.write(2, b'the end'); os._exit(3)"),
            notice,
        )
        await end_of(child)
        return heard.data

    assert run_story(scenario()) == b"x" * size + b"the end"


def test_children_that_end_at_once_are_all_noticed(notice):
    async def scenario():
        children = [(await run(["/bin/true"], notice))[0] for _ in range(20)]
        return [await end_of(child) for child in children]

    assert run_story(scenario()) == [ExitStatus(code=0)] * 20


def test_a_death_before_anybody_watched_is_noticed(notice):
    def late(pid, on_exit):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return notice(pid, on_exit)

    async def scenario():
        child, heard = await run(program("print('last words')"), late)
        return await end_of(child), heard.data

    assert run_story(scenario()) == (ExitStatus(code=0), b"last words\n")


def test_all_that_a_dead_writer_left_is_taken_at_once():
    async def scenario():
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(writer, b"x" * 500_000)
        os.close(writer)
        heard = Heard()
        pipe = Pipe(reader, heard)
        pipe.finish(BOUND_SECONDS)
        return len(heard.data), pipe.closed.done()

    assert run_story(scenario()) == (500_000, True)


def test_what_it_has_said_can_be_heard_at_once(tmp_path, notice):
    async def scenario():
        said = tmp_path / "said"
        os.mkfifo(said)
        child, heard = await run(
            program(f"print('the GPU is missing')\nopen({str(said)!r}, 'w')\n" + FOREVER), notice
        )
        said.read_bytes()  # without a turn of the loop
        child.catch_up()
        words = heard.data
        child.kill()
        await end_of(child)
        return words

    assert run_story(scenario()).startswith(b"the GPU is missing\n")


def test_a_flood_leaves_the_loop_its_turn():
    async def scenario():
        child, heard = await run(program("import os\nwhile True: os.write(1, b'.' * 65536)"))
        await heard.until(b".")
        turns = 0
        while len(heard.data) < 5_000_000:
            await asyncio.sleep(0)
            turns += 1
        child.kill()
        await end_of(child)
        return turns

    assert run_story(scenario()) >= 5_000_000 // 65536 // 2


def test_a_grandchild_of_its_own_session_holds_the_end_up_for_a_bounded_time(notice):
    code = (
        "import subprocess, sys, os\n"
        "p = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(p.pid, flush=True); os._exit(4)"
    )

    async def scenario():
        child, heard = await run(program(code), notice)
        await heard.until(b"\n")
        return await end_of(child), int(heard.data)  # within its bound

    status, grandchild = run_story(scenario())
    os.kill(grandchild, signal.SIGKILL)
    assert status == ExitStatus(code=4)


def test_what_it_leaves_in_its_group_goes_with_it(notice):
    code = (
        "import subprocess, os\np = subprocess.Popen(['sleep', '600'])\nprint(p.pid, flush=True); os._exit(0)"
    )

    async def scenario():
        child, heard = await run(program(code), notice)
        await end_of(child)
        return int(heard.data)

    assert wait_until_gone(run_story(scenario()))


def test_it_dies_with_its_parent():
    parent = (
        "import asyncio, os, sys\n"
        "from supervisor.server.child import spawn\n"
        "async def main():\n"
        "    child = await spawn(['sleep', '600'], dict(os.environ), on_output=lambda _: None)\n"
        "    print(child.identity.pid, flush=True)\n"
        "    await child.exited\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert identify(child) is not None
        process.kill()
    assert wait_until_gone(child)


def test_no_signal_is_sent_after_its_death():
    sent = []

    class Recording(Sigchld):
        def signal(self, number):
            sent.append(number)
            super().signal(number)

    async def scenario():
        child, _ = await run(program("pass"), Recording)
        await end_of(child)
        child.terminate()
        child.kill()

    run_story(scenario())
    assert sent == []


def test_terminate_asks_and_kill_insists(notice):
    code = "import signal, time\nsignal.signal(15, lambda *_: print('asked', flush=True))\n" + FOREVER

    async def scenario():
        child, heard = await run(program(code), notice)
        await heard.until(b"up")
        child.terminate()
        await heard.until(b"asked")
        child.kill()
        return await end_of(child)

    assert run_story(scenario()) == ExitStatus(signal=9)


def test_it_gets_exactly_the_environment_no_stdin_no_core_and_no_stray_descriptor():
    code = (
        "import os, resource, sys\n"
        "fds = sorted(os.listdir('/proc/self/fd'), key=int)[:-1]\n"
        "print(dict(os.environ).get('A'), 'HOME' in os.environ, sys.stdin.read(), "
        "resource.getrlimit(resource.RLIMIT_CORE), fds, os.getsid(0) == os.getpid(), "
        "int(open('/proc/self/oom_score_adj').read()) >= 300)"
    )

    async def scenario():
        stray = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(stray, True)
        try:
            child, heard = await run(program(code), env={"A": "b"})
            await end_of(child)
        finally:
            os.close(stray)
        return heard.data.decode()

    assert run_story(scenario()) == "b False  (0, 0) ['0', '1', '2'] True True\n"


def test_an_inherited_lock_is_held_as_long_as_the_child_lives(tmp_path):
    path = tmp_path / "generation.lock"

    async def scenario():
        lock = Lock.acquire(path, {"pid": 1, "launch": 7})
        assert lock is not None
        child, heard = await run(program(FOREVER), inherit=(lock.fd,))
        lock.release()
        await heard.until(b"up")
        while_alive = held_by(path), Lock.acquire(path, {})
        child.kill()
        await end_of(child)
        return while_alive

    assert run_story(scenario()) == ({"pid": 1, "launch": 7}, None)
    assert held_by(path) is None
    assert Lock.acquire(path, {}) is not None


def test_a_lock_that_is_not_inherited_is_free_after_release(tmp_path):
    path = tmp_path / "daemon.lock"

    async def scenario():
        lock = Lock.acquire(path, {})
        assert lock is not None
        child, heard = await run(program(FOREVER))
        await heard.until(b"up")
        lock.release()
        free = held_by(path) is None
        child.kill()
        await end_of(child)
        return free

    assert run_story(scenario())


@pytest.mark.parametrize(
    ("content", "mode", "error", "words"),
    [
        (None, 0, NotFound, "does not exist"),
        (b"#!/bin/sh\n", 0o600, PermissionDenied, "may not be executed"),
        (b"#!/no/such/interpreter\n", 0o700, StartFailed, "loader or interpreter"),
        (b"", 0o700, StartFailed, "not a program for this machine"),
    ],
)
def test_what_cannot_be_started_is_said_in_words(tmp_path, content, mode, error, words):
    path = tmp_path / "llama-server"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(error, match=words) as caught:
        run_story(spawn([str(path)], {}, on_output=print))
    assert caught.value.hint


def test_a_command_line_that_is_too_long_is_named():
    with pytest.raises(StartFailed, match="too long"):
        run_story(spawn(["/bin/true", "x" * 4_000_000], {}, on_output=print))


def test_a_failed_start_leaves_no_descriptor_behind():
    before = descriptors()
    for _ in range(3):
        with pytest.raises(NotFound):
            run_story(spawn(["/no/such/program"], {}, on_output=print))
    assert descriptors() == before


def test_the_end_of_a_child_leaves_no_descriptor_behind(notice):
    async def scenario():
        before = descriptors()
        for _ in range(3):
            child, _ = await run(program("print('x')"), notice)
            await end_of(child)
            await asyncio.sleep(0)
        return before, descriptors()

    before, after = run_story(scenario())
    assert after == before
