"""
What supervising costs, measured against the real llama-server with the demo model.

    bench/lifecycle.py /path/to/llama-server

Prints the median of each figure with its aim, and ratios within this one run, since machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from supervisor.model.demo import ensure_demo

BACKOFF = 0.01
WARM_SECONDS, IDLE_SECONDS = 12.0, 40.0  # the first probe imports what the others only use


class Home:
    """A home of its own with the demo on one port, and the program run in it."""

    def __init__(self, root: Path, engine: str, python: str = sys.executable) -> None:
        self.python = python
        self.env = {**os.environ, "GOSS_SUPERVISOR_HOME": str(root)}
        self.port = free_port()
        settings = ["engine.source=path", f"engine.path={engine}", f"listen.port={self.port}"]
        settings += [f"restart.backoff={BACKOFF}s", f"restart.backoff-limit={BACKOFF}s", "restart.max=1000"]
        self.settings = [word for setting in settings for word in ("--set", setting)]

    def run(self, *words: str) -> str:
        command = [self.python, "-I", "-m", "supervisor", *words]
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True).stdout

    def start(self) -> None:
        self.run("start", "--profile", "demo", "--detach", *self.settings)

    def status(self) -> dict:
        return json.loads(self.run("status", "--json"))

    @contextmanager
    def watching(self) -> Iterator[Iterator[dict]]:
        command = [sys.executable, "-I", "-m", "supervisor", "status", "--watch", "--json"]
        watcher = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True)
        try:
            yield (json.loads(line) for line in watcher.stdout)
        finally:
            watcher.kill()
            watcher.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def server_alone(engine: str, model: Path) -> float:
    """From spawn to the first 200 of /health, asked every millisecond."""
    port = free_port()
    command = [
        engine,
        "-m",
        str(model),
        "-c",
        "4096",
        "--metrics",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        while not answers(port):
            time.sleep(0.001)
        took = time.perf_counter() - began
        server.send_signal(signal.SIGKILL)
    return took


def answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
        return True
    return False


def started(home: Home) -> float:
    took = timed(home.start)
    home.run("stop")
    return took


def respawns(home: Home, count: int) -> list[float]:
    """From the death, as the kernel tells it, to the word of the next pid; less the backoff."""
    delays = []
    with home.watching() as messages:
        pid = next(messages)["server"]["pid"]
        for _ in range(count):
            began = killed(pid)
            pid = next(m["server"]["pid"] for m in messages if m["server"]["pid"] not in {None, pid})
            delays.append(time.perf_counter() - began - BACKOFF)
            next(m for m in messages if m["server"]["state"] == "ready")
    return delays


def killed(pid: int) -> float:
    """The moment at which it is dead: tearing down its memory is not ours."""
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([descriptor], [], [])
    os.close(descriptor)
    return time.perf_counter()


def cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def idle_share(pid: int) -> float:
    time.sleep(WARM_SECONDS)
    before = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(pid) - before) / IDLE_SECONDS


def show(name: str, value: float, unit: str, aim: str, *, digits: int = 1) -> None:
    print(f"{name:<58}{value:>9.{digits}f} {unit:<4} aim: {aim}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", help="a llama-server binary")
    parser.add_argument("-n", type=int, default=7, help="runs of each figure")
    options = parser.parse_args()
    median = statistics.median
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = ensure_demo(root / "data" / "models")
        home = Home(root, options.engine)
        home.start()  # the first one writes the caches
        home.run("stop")
        pairs = [(server_alone(options.engine, model), started(home)) for _ in range(options.n)]
        alone, whole = median(a for a, _ in pairs), median(b for _, b in pairs)
        python = median(
            timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)) for _ in range(15)
        )
        home.start()
        delays = respawns(home, options.n)
        statuses = median(timed(lambda: home.run("status")) for _ in range(15))
        daemon = home.status()["daemon"]
        idle = idle_share(daemon["pid"])
        restart = median(timed(lambda: home.run("restart")) for _ in range(options.n))
        home.run("stop")
    show("server alone: spawn to ready", alone * 1000, "ms", "-")
    show("start --detach, whole command", whole * 1000, "ms", "-")
    show("  added by the supervisor", median(b - a for a, b in pairs) * 1000, "ms", "100 ms")
    show("restart, whole command (one stop and one start)", restart * 1000, "ms", "-")
    show("death of the child to the next spawn, beyond the backoff", median(delays) * 1000, "ms", "20 ms")
    show("daemon memory", daemon["memory_bytes"] / 2**20, "MiB", "35 MiB")
    show("daemon CPU while idle", idle * 100, "%", "0.2 %", digits=3)
    show("python -c pass", python * 1000, "ms", "-")
    show("status, whole command", statuses * 1000, "ms", "-")
    show("  times python -c pass", statuses / python, "x", "5 x")


if __name__ == "__main__":
    main()
