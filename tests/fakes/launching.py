"""How tests start small real programs and hear what they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from supervisor.errors import NotRunning, SupervisorError
from supervisor.home import client
from supervisor.home.identity import Identity, identify
from supervisor.home.places import daemon_lock
from supervisor.home.unresponsive import end_daemon as end_hung_daemon
from supervisor.home.unresponsive import end_survivors
from supervisor.locks import held_by
from supervisor.paths import Paths

FAKE = Path(__file__).with_name("llama_server.py")
PYTHON = (sys.executable, "-S", "-E", "-u")
BOUND_SECONDS = 20.0  # no wait in a test is longer; a healthy one is over in milliseconds
Seen = TypeVar("Seen")


def program(code: str) -> list[str]:
    return [*PYTHON, "-c", code]


def fake_argv(port: int, *options: str, host: str = "127.0.0.1", **faults: object) -> list[str]:
    """A command line of the scripted llama-server; see its docstring for the faults."""
    script = [part for key, value in faults.items() for part in ("--fake", f"{key}={_written(value)}")]
    return [*PYTHON, str(FAKE), "-m", "X", "--host", host, "--port", str(port), *options, *script]


def _written(value: object) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_gone(pid: int) -> bool:
    """Of any process, ours or not: the kernel tells when it has died."""
    if sys.platform == "win32":
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(BOUND_SECONDS)
        return not psutil.pid_exists(pid)
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], BOUND_SECONDS)[0])
    finally:
        os.close(fd)


def line_from(pipe: Path) -> str:
    """The first line that somebody writes into a named pipe; bounded, as opening it for reading is not."""
    fd, said = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), b""
    try:
        while b"\n" not in said:
            assert select.select([fd], [], [], BOUND_SECONDS)[0], f"nobody wrote into {pipe}"
            chunk = os.read(fd, 65536)
            assert chunk, f"{pipe} was closed after {said!r}"
            said += chunk
    finally:
        os.close(fd)
    return said.partition(b"\n")[0].decode()


def end_daemon(home: Path) -> None:
    """As ``stop --now`` in this GOSS_SUPERVISOR_HOME, without a program that has to start for it."""
    paths = Paths.under(home)
    try:
        client.ask(paths, {"op": "stop", "now": True})
        while held_by(daemon_lock(paths)) is not None:
            time.sleep(0.01)  # the kernel tells nobody when a lock is free
    except NotRunning:
        end_survivors(paths, lambda _: None)  # it has been stopped, or never came, or was killed
    except SupervisorError:
        end_hung_daemon(paths, lambda _: None)


def without_waits(said: str) -> str:
    """What a program said, but for the lines that only a slow machine sees: ``  asking the hub, 2 s``."""
    return re.sub(r"(?m)^  .*, \d+ s\n", "", said)


def wait_until(look: Callable[[], Seen], why: str = "", seconds: float = BOUND_SECONDS) -> Seen:
    """The first thing that ``look`` sees which is not false, where nobody tells when it is there."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, why or f"not within {seconds} s"
        time.sleep(0.01)
    return seen


async def until(holds: Callable[[], bool]) -> None:
    """For what sends no event to wait for."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


class Heard:
    """What a child has said so far, and a way to wait for the words that matter."""

    def __init__(self) -> None:
        self.data = b""
        self._more = asyncio.Event()

    def __call__(self, chunk: bytes) -> None:
        self.data += chunk
        self._more.set()

    async def until(self, words: bytes) -> bytes:
        async with asyncio.timeout(BOUND_SECONDS):
            while words not in self.data:
                self._more.clear()
                await self._more.wait()
        return self.data


_DAEMON = """\
import os, subprocess, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
fds = (reader, *map(int, filter(None, sys.argv[1].split(","))))
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, pass_fds=fds, start_new_session=True)
print(child.pid, flush=True)
os.read(0, 1)
os._exit(0)
"""


def leave_behind(argv: list[str], *, inherit: tuple[int, ...] = (), **more: Any) -> Identity:
    """Of a process that runs this, which is what a daemon left that was killed: it is no child of ours."""
    fds = ",".join(map(str, inherit))
    command = [sys.executable, "-S", "-E", "-c", _DAEMON, fds, *argv]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=inherit, **more
    ) as daemon:
        assert daemon.stdout is not None
        found = identify(int(daemon.stdout.readline()))
    assert found is not None
    return found
