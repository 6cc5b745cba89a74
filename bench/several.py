"""
What several servers under one daemon cost, with the real llama-server and the demo model.

    bench/several.py /path/to/llama-server

The daemon's memory with one server and with each one more, its CPU while all are idle, and whether requests
that alternate between two models cost more than requests to one; these take turns (ABBA), one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import psutil
from doors import cpu_seconds
from lifecycle import Home
from load import Client, post

SERVERS, ROUNDS, BLOCK = 5, 40, 20
SETTLE_SECONDS, IDLE_SECONDS = 15.0, 60.0
PROFILE = """\
engine: {{source: path, path: {engine}}}
model: demo
server: {{ctx-size: 512, cache-ram: 0, threads: 1}}
"""


def name_of(number: int) -> str:
    return f"demo{number}" if number > 1 else "demo"


def start(root: Path, engine: str) -> Home:
    home = Home(root, engine)
    home.settings += ["--set", "server.ctx-size=512", "--set", "server.threads=1"]
    profiles = root / "config" / "profiles"
    profiles.mkdir(parents=True)
    for number in range(2, SERVERS + 1):
        (profiles / f"{name_of(number)}.yaml").write_text(PROFILE.format(engine=engine))
    home.start()
    return home


def rss_mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


def idle_percent(pid: int) -> float:
    time.sleep(SETTLE_SECONDS)
    before = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(pid) - before) / IDLE_SECONDS * 100


def request_to(model: str) -> bytes:
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    return post("/v1/chat/completions", json.dumps(asked))


async def alternate(port: int, pid: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and CPU seconds of the daemon for each request, the median of a block for the first."""
    kinds = {"one model": ("demo",), "two by turns": ("demo", "demo2")}
    client = Client(port)
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number in range(ROUNDS):
        order = list(kinds.items())
        for kind, models in reversed(order) if number % 2 else order:
            requests, seconds, before = cycle(map(request_to, models)), [], cpu_seconds(pid)
            for _ in range(BLOCK):
                answer = await client.ask(next(requests))
                if answer.status != 200:
                    sys.exit(answer.data.decode("latin-1"))
                seconds.append(answer.seconds)
            found[kind].append((statistics.median(seconds), (cpu_seconds(pid) - before) / BLOCK))
    client.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", help="a llama-server binary")
    engine = parser.parse_args().engine
    with tempfile.TemporaryDirectory() as folder:
        home = start(Path(folder), engine)
        try:
            measure(home)
        finally:
            home.run("stop", "--now")


def measure(home: Home) -> None:
    pid = home.status()["daemon"]["pid"]
    print(f"1 server: {rss_mib(pid):.1f} MiB", flush=True)
    for number in range(2, SERVERS + 1):
        home.run("load", name_of(number))
        print(f"{number} servers: {rss_mib(pid):.1f} MiB", flush=True)
    print(f"idle: {idle_percent(pid):.2f} % CPU", flush=True)
    found = asyncio.run(alternate(home.port, pid))
    for kind, blocks in found.items():
        latency, cpu = (statistics.median(values) for values in zip(*blocks, strict=True))
        print(f"{kind}: {latency * 1000:.2f} ms, {cpu * 1e6:.0f} us CPU a request")
    pairs = zip(found["two by turns"], found["one model"], strict=True)
    ratio = statistics.median(two[0] / one[0] for two, one in pairs)
    print(f"two by turns / one model: {ratio:.2f}; then {rss_mib(pid):.1f} MiB")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr)
