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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from doors import Door, Result, open_others, open_ours

HERE = Path(__file__).parent
SLOTS, TOKENS, IDLE, ROUNDS = 32, 256, 1000, 200
OPTIONS = {"server.parallel": SLOTS, "server.ctx-size": 16384, "server.threads": 1}
"""A thread of its own for the model leaves the other core to the front doors, and noise where it belongs."""

CHAT = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "model": "demo"})
SMALL = json.dumps({"content": "hi"})
STREAM = json.dumps({"prompt": "hi", "n_predict": TOKENS, "ignore_eos": True, "stream": True})
LARGE = json.dumps({"content": "hi", "metadata": {"padding": "x" * 200_000}})
"""/tokenize does nothing with ``metadata`` but read its JSON: a large body without a long prompt."""

Row = tuple[str, float | None, str]


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
        speed, inside = (speed_ratio(doors["ours"], doors[name], streams) for name in ("direct", "inside"))
        rows += [
            (f"{streams}: CPU a token, ours / aiohttp", ratio(ours[cpu], plain[cpu]), "at most 0.35"),
            (f"{streams}: tokens/s, ours / direct", speed, "at least 0.97"),
            (f"{streams}: tokens/s, ours / inside", inside, "-"),
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
        ours, inside, command = open_ours(Path(folder), options.engine, OPTIONS, stack)
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
