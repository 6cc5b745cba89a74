"""
What the gateway costs, beside a plain pass-through, with the real llama-server and the demo model.

    bench/gateway.py [--engine /path/to/llama-server] [--full] [--json] [--llama-swap /path/to/llama-swap]

Each figure is the median of several turns in one run.  The front doors take turns, forwards and then
backwards (ABBA), with short requests one by one, since machines are noisy.  ``ours`` has a llama-server of
its own, started by the daemon, which is ``inside`` without the gateway; all others stand before the one of
``direct``, with the same command line.  What a door adds is counted against the server behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from lifecycle import Home, answers, free_port

HERE = Path(__file__).parent
SLOTS, TOKENS, IDLE, ROUNDS = 32, 256, 1000, 200
PATIENCE_SECONDS = 60.0
OPTIONS = {"server.parallel": SLOTS, "server.ctx-size": 16384, "server.threads": 1}
"""A thread of its own for the model leaves the other core to the front doors, and noise where it belongs."""

CHAT = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "model": "demo"})
SMALL = json.dumps({"content": "hi"})
STREAM = json.dumps({"prompt": "hi", "n_predict": TOKENS, "ignore_eos": True, "stream": True})
LARGE = json.dumps({"content": "hi", "metadata": {"padding": "x" * 200_000}})
"""/tokenize does nothing with ``metadata`` but read its JSON: a large body without a long prompt."""

Result = dict[str, Any]
Row = tuple[str, float | None, str]


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
def loading(job: Result) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "load.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        yield process


def load(kind: str, **job: object) -> Any:  # noqa: ANN401 - the result of the kind, as JSON
    with loading({"kind": kind, **job}) as process:
        said = process.communicate()[0]
    if process.returncode:
        sys.exit(f"bench/load.py gave up on {kind} at {job.get('place')}")
    return json.loads(said)


# The doors


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


def open_ours(root: Path, engine: str, stack: ExitStack) -> tuple[Door, Door, list[str]]:
    """The daemon, its llama-server without it, and that one's command line."""
    home = Home(root, engine)
    for name, value in OPTIONS.items():
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


# The measures


SHORT = {"small": ("/tokenize", SMALL), "chat": ("/v1/chat/completions", CHAT), "large": ("/tokenize", LARGE)}
STREAMS = {"1 stream": (1, 4), "8 streams": (8, 2), "32 streams": (32, 2)}  # clients, streams of each


def measure_short(doors: list[Door], path: str, body: str, count: int) -> list[Result]:
    """Latency through all doors by turns; CPU seconds can be told apart, as each door is its own process."""
    before = [door.cpu_seconds() for door in doors]
    names = [door.name for door in doors]
    places = [
        {"place": door.place, "path": door.prefix + path, "behind": names.index(door.behind)}
        for door in doors
    ]
    done = load("one_by_one", doors=places, body=body, count=count)
    pairs = zip(doors, before, strict=True)
    spent = [door.cpu_seconds() - cpu for door, cpu in pairs]
    return [result | {"cpu_seconds": cpu} for result, cpu in zip(done, spent, strict=True)]


def measure_streams(door: Door, clients: int, repeats: int) -> Result:
    before, job = door.cpu_seconds(), {"place": door.place, "path": door.prefix + "/completion"}
    done = load("streams", **job, body=STREAM, clients=clients, repeats=repeats, tokens=TOKENS)
    done["cpu_us_per_token"] = (door.cpu_seconds() - before) / done["tokens"] * 1e6
    done["tokens_per_second"] = done["tokens"] / done["seconds"]
    return done


def take_turns(doors: list[Door], turns: int) -> None:
    for turn in range(turns):
        say(f"turn {turn + 1} of {turns}")
        for name, (path, body) in SHORT.items():
            results = measure_short(doors, path, body, ROUNDS)
            for door, result in zip(doors, results, strict=True):
                door.turns[name].append(result)
        for name, (clients, repeats) in STREAMS.items():
            for door in doors if turn % 2 == 0 else reversed(doors):
                door.turns[name].append(measure_streams(door, clients, repeats))


def hold_idle(door: Door) -> Result:
    """What a process in front keeps for connections that ask for nothing."""
    job = {"place": door.place, "path": door.prefix + "/tokenize", "body": SMALL}
    load("one_by_one", doors=[job | {"behind": 0}], body=SMALL, count=ROUNDS)  # what is allocated once
    before = door.rss_bytes()
    with loading({"kind": "idle", "clients": IDLE, **job}) as process:
        opened = json.loads(process.stdout.readline())["open"]
        after = door.rss_bytes()
        left = json.loads(process.communicate()[0])["open"]
    grown = (after - before) / 1024 / max(opened, 1)
    return {"before_bytes": before, "after_bytes": after, "open": left, "kib_per_connection": grown}


def mix(door: Door, count: int) -> Result:
    kinds = [("/tokenize", SMALL), ("/v1/chat/completions", CHAT), ("/completion", brief_stream())]
    requests = [(door.prefix + path, body) for path, body in kinds]
    return load("mixed", place=door.place, requests=requests, count=count, workers=8, segments=count // 1000)


def brief_stream() -> str:
    return json.dumps({"prompt": "hi", "n_predict": 4, "ignore_eos": True, "stream": True})


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# What is printed


def figures_of(door: Door, idle: Result | None, mixed: Result) -> dict[str, float]:
    figures: dict[str, float] = {}
    for measure in SHORT:
        for part in ("p50", "p99", "added"):
            figures[f"{measure}: {part} ms"] = door.median(measure, f"{part}_seconds") * 1000
        cpu = [turn["cpu_seconds"] / turn["requests"] * 1e6 for turn in door.turns[measure]]
        figures[f"{measure}: CPU us a request"] = statistics.median(cpu)
    for measure in STREAMS:
        figures[f"{measure}: tokens/s"] = door.median(measure, "tokens_per_second")
        figures[f"{measure}: first token ms"] = door.median(measure, "first_seconds") * 1000
        figures[f"{measure}: CPU us a token"] = door.median(measure, "cpu_us_per_token")
    if idle is not None:
        figures["memory before, MiB"] = idle["before_bytes"] / 2**20
        figures[f"{IDLE} idle: KiB a connection"] = idle["kib_per_connection"]
        figures[f"{IDLE} idle: still open"] = idle["open"]
    failed = sum(turn["errors"] for turns in door.turns.values() for turn in turns)
    figures["errors while measured"] = failed
    figures["mixed: requests"], figures["mixed: errors"] = mixed["requests"], mixed["errors"]
    return figures


def ratio(one: float, other: float) -> float | None:
    """None where the lesser is lost in the noise."""
    return one / other if other > 0 else None


def speed_ratio(one: Door, other: Door, measure: str) -> float:
    """The median of the turns, so that what slows the machine for a while slows both."""
    pairs = zip(one.turns[measure], other.turns[measure], strict=True)
    return statistics.median(a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs)


def ratios_of(doors: dict[str, Door], figures: dict[str, dict[str, float]]) -> list[Row]:
    """Each with its aim.  ``ours`` and the plain pass-through count; the other doors are for comparison."""
    ours, plain = figures["ours"], figures["aiohttp"]
    rows: list[Row] = [
        (f"{kind}: added, ours / aiohttp", ratio(ours[name], plain[name]), "at most 0.35")
        for kind in SHORT
        for name in [f"{kind}: added ms"]
    ]
    for streams in STREAMS:
        cpu = f"{streams}: CPU us a token"
        speed = speed_ratio(doors["ours"], doors["direct"], streams)
        rows += [
            (f"{streams}: CPU a token, ours / aiohttp", ratio(ours[cpu], plain[cpu]), "at most 0.35"),
            (f"{streams}: tokens/s, ours / direct", speed, "at least 0.97"),
        ]
    return rows


def print_table(figures: dict[str, dict[str, float]], ratios: list[Row]) -> None:
    names = list(dict.fromkeys(name for of_door in figures.values() for name in of_door))
    print(f"{'':<34}" + "".join(f"{door:>12}" for door in figures))
    for name in names:
        cells = [of_door.get(name) for of_door in figures.values()]
        print(f"{name:<34}" + "".join(f"{'-':>12}" if c is None else f"{c:>12.2f}" for c in cells))
    print()
    for name, value, aim in ratios:
        print(f"{name:<44}{'noise' if value is None else f'{value:.3f}':>9}   aim: {aim}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine", default=os.environ.get("GOSS_TEST_LLAMA_SERVER"), help="a llama-server binary"
    )
    parser.add_argument("--llama-swap", metavar="PATH", help="a llama-swap binary, to compare with")
    parser.add_argument("-n", type=int, default=6, help="turns of each figure")
    parser.add_argument("--full", action="store_true", help="20,000 mixed requests instead of 2,000")
    parser.add_argument("--json", action="store_true", help="all figures and turns as one JSON object")
    options = parser.parse_args()
    if not options.engine:
        parser.error("name a llama-server with --engine or GOSS_TEST_LLAMA_SERVER")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours, inside, command = open_ours(Path(folder), options.engine, stack)
        direct, *proxies = open_others(Path(folder), command, options.llama_swap, stack)
        doors = [direct, inside, ours, *proxies]
        idle = {door.name: hold_idle(door) for door in doors if door.pid}
        take_turns(doors, options.n)
        mixed = {door.name: mix(door, 20_000 if options.full else 2_000) for door in doors}
    figures = {d.name: figures_of(d, idle.get(d.name), mixed[d.name]) for d in doors}
    ratios = ratios_of({door.name: door for door in doors}, figures)
    if options.json:
        turns = {door.name: door.turns for door in doors}
        print(
            json.dumps({"figures": figures, "ratios": ratios, "idle": idle, "mixed": mixed, "turns": turns})
        )
    else:
        print_table(figures, ratios)


if __name__ == "__main__":
    main()
