"""The ways to llama-server that bench/gateway.py compares: each opened until the end of a run."""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from lifecycle import Home, answers, free_port

HERE = Path(__file__).parent
PATIENCE_SECONDS = 60.0

Result = dict[str, Any]


@dataclass
class Door:
    """A way to llama-server; ``pid`` is of the process in front, which is what a door costs."""

    name: str
    place: int | str  # a port on loopback, or the path of a Unix socket
    pid: int | None = None
    prefix: str = ""
    behind: str = "direct"
    turns: defaultdict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid) if self.pid else 0.0

    def rss_bytes(self) -> int:
        return psutil.Process(self.pid).memory_info().rss

    def median(self, measure: str, figure: str) -> float:
        return statistics.median(turn[figure] for turn in self.turns[measure])


def cpu_seconds(pid: int) -> float:
    """Of all threads; the kernel's own count is finer than clock ticks where there is one."""
    try:
        threads = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system


@contextmanager
def running(command: list[str], log: Path) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def await_answer(port: int, log: Path) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not answers(port):
        if time.monotonic() > ends:
            sys.exit(f"nobody answers on port {port}:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Others:
    """To compare with: the Python of another version of ours, and the binary of llama-swap."""

    before: str | None
    swap: str | None


def open_doors(
    root: Path, engine: str, options: Mapping[str, int], others: Others, stack: ExitStack
) -> list[Door]:
    ours, inside, command = open_ours(root / "ours", engine, options, stack)
    doors = [inside, ours]
    if others.before:
        door, *_ = open_ours(root / "before", engine, options, stack, others.before)
        doors.append(replace(door, name="before"))
    direct, *proxies = open_others(root, command, others.swap, stack)
    return [direct, *doors, *proxies]


def open_ours(
    root: Path, engine: str, options: Mapping[str, int], stack: ExitStack, python: str = sys.executable
) -> tuple[Door, Door, list[str]]:
    """The daemon, its llama-server without it, and that one's command line."""
    home = Home(root, engine, python)
    for name, value in options.items():
        home.settings += ["--set", f"{name}={value}"]
    home.start()
    stack.callback(home.run, "stop", "--now")
    status = home.status()
    command = psutil.Process(status["server"]["pid"]).cmdline()
    ours = Door("ours", home.port, status["daemon"]["pid"], behind="inside")
    return ours, Door("inside", place_of(command), behind="inside"), command


def place_of(command: list[str]) -> int | str:
    host = command[command.index("--host") + 1]
    return host if host.endswith(".sock") else int(command[command.index("--port") + 1])


def same_on(port: int, command: list[str]) -> list[str]:
    """The same llama-server on a TCP port: what the other doors stand before."""
    command = command.copy()
    for option, value in (("--host", "127.0.0.1"), ("--port", str(port))):
        if option in command:
            command[command.index(option) + 1] = value
        else:
            command += [option, value]
    return command


ROOMY = {"server.parallel": 32, "server.ctx-size": 32768}
"""So that no stream of the scripted server has to wait for a part of the context."""


def open_paced(root: Path, others: Others, stack: ExitStack) -> list[Door]:
    """The same before a scripted llama-server."""
    root.mkdir()
    engine = root / "llama-server"
    engine.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -E {HERE / "paced.py"} "$@"\n')
    engine.chmod(0o755)
    return open_doors(root, str(engine), ROOMY, others, stack)


def open_others(root: Path, command: list[str], swap: str | None, stack: ExitStack) -> list[Door]:
    port, log = free_port(), root / "direct.log"
    stack.enter_context(running(same_on(port, command), log))
    await_answer(port, log)
    doors = [Door("direct", port), open_plain(root, port, stack)]
    return [*doors, open_swap(root, swap, port, stack)] if swap else doors


def open_plain(root: Path, upstream: int, stack: ExitStack) -> Door:
    port, log = free_port(), root / "aiohttp.log"
    command = [sys.executable, str(HERE / "plain_proxy.py"), str(port), f"http://127.0.0.1:{upstream}"]
    pid = stack.enter_context(running(command, log))
    await_answer(port, log)
    return Door("aiohttp", port, pid)


def open_swap(root: Path, binary: str, upstream: int, stack: ExitStack) -> Door:
    """llama-swap in front of the same server: the process that it starts itself does nothing."""
    port, log, config = free_port(), root / "llama-swap.log", root / "llama-swap.json"
    model = {"cmd": "sleep 100000", "proxy": f"http://127.0.0.1:{upstream}", "checkEndpoint": "/health"}
    config.write_text(json.dumps({"models": {"demo": model}}))  # JSON is YAML
    pid = stack.enter_context(
        running([binary, "--config", str(config), "--listen", f"127.0.0.1:{port}"], log)
    )
    await_answer(port, log)
    return Door("llama-swap", port, pid, prefix="/upstream/demo")
