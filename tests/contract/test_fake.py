"""The scripted llama-server plays its parts; the tests of everything else rely on it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.engine.adapters.known import adapter_of
from supervisor.server.cause_of_death import cpu_fallback, diagnose
from supervisor.server.child import spawn
from supervisor.server.output_log import OutputLog
from supervisor.server.process import ExitStatus, process_stats

from ..fakes.launching import BOUND_SECONDS, Heard, fake_argv, free_port, until, wait_until_gone

LLAMACPP = adapter_of("llamacpp")


async def start(*options, port=None, **faults):
    heard = Heard()
    port = port or free_port()
    child = await spawn(fake_argv(port, *options, **faults), dict(os.environ), on_output=heard)
    return child, heard, port


async def end_of(child):
    async with asyncio.timeout(BOUND_SECONDS):
        return await child.exited


async def post(port, body):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


def scenario(*options, act=None, after=b"listening on", **faults):
    async def play():
        child, heard, port = await start(*options, **faults)
        try:
            if act is None:
                return await end_of(child), heard.data
            await heard.until(after)
            return await act(child, heard, port)
        finally:
            child.kill()
            await child.exited

    return asyncio.run(play())


posix = pytest.mark.skipif(
    sys.platform == "win32", reason="on Windows nobody dies of a signal or stands still"
)
KILL = getattr(signal, "SIGKILL", None)


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ({"exit": 1, "stderr": "error: invalid argument: --x"}, ExitStatus(code=1)),
        ({"exit": 0}, ExitStatus(code=0)),
        pytest.param({"die": "abort"}, ExitStatus(signal=signal.SIGABRT), marks=posix),
        pytest.param({"die": "segv", "die_when": "loading"}, ExitStatus(signal=signal.SIGSEGV), marks=posix),
        pytest.param({"die": "kill", "die_when": "seconds:0.01"}, ExitStatus(signal=KILL), marks=posix),
        ({"die": "exit:9"}, ExitStatus(code=9)),
    ],
)
def test_it_dies_as_told(faults, status):
    ended, heard = scenario(**faults)
    assert ended == status
    assert str(faults.get("stderr", "")).encode() in heard


def test_it_dies_after_so_many_requests():
    async def act(child, _heard, port):
        assert b"Hello from the fake." in await post(port, {})
        assert await post(port, {"stream": True})
        return await end_of(child)

    assert scenario(act=act, die="exit:5", die_when="requests:2") == ExitStatus(code=5)


def test_it_leaves_when_asked():
    async def act(child, _heard, _port):
        child.terminate()
        return await end_of(child)

    assert scenario(act=act) == ExitStatus(code=0)


@posix
def test_while_loading_it_leaves_by_the_signal_itself(tmp_path):
    async def act(child, _heard, _port):
        child.terminate()
        return await end_of(child)

    ended = scenario(act=act, after=b"loading model", load_gate=tmp_path / "never")
    assert ended == ExitStatus(signal=signal.SIGTERM)


def test_with_a_request_in_flight_only_the_second_request_to_leave_counts(tmp_path):
    async def act(child, heard, port):
        answer = asyncio.ensure_future(post(port, {}))
        await heard.until(b"a chat request")
        child.terminate()
        await heard.until(b"cleaning up")
        child.terminate()
        return await end_of(child), await answer

    assert scenario(act=act, chat_gate=tmp_path / "never") == (ExitStatus(code=1), b"")


@posix
def test_it_can_ignore_every_request_to_leave():
    async def act(child, _heard, port):
        child.terminate()
        child.terminate()
        assert b"Hello" in await post(port, {})  # it answers after both, so it has outlived them
        child.kill()
        return await end_of(child)

    assert scenario(act=act, term="ignore") == ExitStatus(signal=signal.SIGKILL)


def test_it_streams_the_same_answer():
    async def act(_child, _heard, port):
        return await post(port, {"stream": True})

    events = [line[6:] for line in scenario(act=act).splitlines() if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello from the fake."


def test_noise_is_noise(tmp_path):
    log = OutputLog(tmp_path, "server")

    async def play():
        port = free_port()
        argv = fake_argv(port, garbage=True, flood=1_000_000, banner="cpu", exit=1)
        child = await spawn(argv, dict(os.environ), on_output=log.feed)
        return await end_of(child)

    assert asyncio.run(play()) == ExitStatus(code=1)
    log.end_run()
    assert log.bytes_seen > 1_000_000
    lines = log.path.read_text("utf-8", errors="replace").splitlines()
    assert any(cpu_fallback(line, LLAMACPP) for line in lines)
    assert "\ufffd" in lines[2]


def test_a_taken_port_is_said_as_the_real_one_says_it():
    async def act(_child, _heard, port):
        second, heard, _ = await start(port=port)
        status = await end_of(second)
        return diagnose(status, "starting", heard.data.decode().splitlines(), LLAMACPP, "llama-server")

    assert scenario(act=act).kind == "bind-failed"


def test_a_missing_model_is_said_as_the_real_one_says_it():
    async def play():
        heard = Heard()
        argv = [*fake_argv(free_port()), "-m", "/no/such.gguf"]
        child = await spawn(argv, dict(os.environ), on_output=heard)
        return diagnose(
            await end_of(child), "starting", heard.data.decode().splitlines(), LLAMACPP, "llama-server"
        )

    assert asyncio.run(play()).kind == "model-missing"


@posix
def test_its_grandchild_outlives_it_in_a_session_of_its_own(tmp_path):
    pid_file = tmp_path / "pid"
    ended, _ = scenario(grandchild="session", grandchild_pid=pid_file, exit=0)
    pid = int(pid_file.read_text())
    assert ended == ExitStatus(code=0)
    os.kill(pid, signal.SIGKILL)
    assert wait_until_gone(pid)


def test_it_can_work_without_answering():
    async def act(child, _heard, port):
        before = process_stats(child.identity.pid)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await until(lambda: process_stats(child.identity.pid).cpu_seconds > before.cpu_seconds + 0.1)
        answered = bool(reader._buffer)
        writer.close()
        return answered

    assert scenario("--metrics", act=act, metrics="hang", burn=True) is False


@posix
def test_it_can_stand_still():
    async def act(child, _heard, _port):
        status = Path(f"/proc/{child.identity.pid}/status")
        await until(lambda: "T (stopped)" in status.read_text())
        return child.exited.done()

    assert scenario(act=act, die="stop") is False


def test_each_start_is_recorded(tmp_path):
    record = tmp_path / "starts"
    for _ in range(2):
        scenario(record=record, exit=0)
    starts = [json.loads(line) for line in record.read_text().splitlines()]
    assert len({start["pid"] for start in starts}) == 2
    assert "--port" in starts[0]["argv"]


def test_it_has_the_shape_of_the_real_one():
    def says(*options):
        argv = [*fake_argv(1)[:5], *options]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert says("--version").stderr.startswith("version: 0.6.0-dev (build 11434, ")
    assert says("--list-devices").stdout == "Available devices:\n  (none)\n"
    assert "--n-cpu-moe N" in says("--help").stdout
    bad = says("--bogus")
    assert (bad.returncode, bad.stderr) == (1, "error: invalid argument: --bogus\n")
