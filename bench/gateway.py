"""
What the gateway costs, beside a plain pass-through, with the real llama-server and the demo model.

    bench/gateway.py [--engine /path/to/llama-server] [--full] [--json] [--only streams]
                     [--llama-swap /path/to/llama-swap] [--before /path/to/another/.venv/bin/python]

Each figure is the median of several turns in one run.  The front doors take turns, forwards and then
backwards (ABBA), with short requests one by one, since machines are noisy.  ``ours`` has a llama-server of
its own, started by the daemon, which is ``inside`` without the gateway; all others stand before the one of
``direct``, with the same command line.  What a door adds is counted against the server behind it.
``before`` is another version of ours, for the same run.

Streams whose pieces are ``paced`` come from bench/paced.py, which writes into each when it was written: so
what a door holds back is seen for each piece, and for the end of a stream.
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

from doors import Door, Others, Result, open_doors, open_paced

HERE = Path(__file__).parent
SLOTS, TOKENS, IDLE, ROUNDS = 32, 256, 1000, 200
OPTIONS = {"server.parallel": SLOTS, "server.ctx-size": 16384, "server.threads": 1}
"""A thread of its own for the model leaves the other core to the front doors, and noise where it belongs."""

CHAT = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "model": "demo"})
SMALL = json.dumps({"content": "hi"})
ONE = json.dumps({**json.loads(CHAT), "stream": True})
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
FRESH = {"stream of one": ("/v1/chat/completions", ONE)}  # on a new connection each, as `load.streams` says
TOGETHER = 8
BRIEF = json.dumps({"prompt": "hi", "n_predict": 8, "ignore_eos": True, "stream": True})
PACED: dict[str, tuple[int, int, Result]] = {  # clients, streams of each, and what is asked for
    "80/s": (1, 2, {"pieces": 160, "per_second": 80}),
    "1000/s": (1, 4, {"pieces": 300, "per_second": 1000}),
    "8 of 400/s": (8, 2, {"pieces": 400, "per_second": 400}),
    "32 of 150/s": (32, 1, {"pieces": 300, "per_second": 150}),
    "1000/s, kept open": (1, 4, {"pieces": 300, "per_second": 1000, "keeps": True}),
}
STREAMS = {"1 stream": (1, 4), "8 streams": (8, 2), "32 streams": (32, 2)}  # clients, streams of each


def measure_short(
    doors: list[Door], path: str, body: str, count: int, kind: str = "one_by_one", **more: object
) -> list[Result]:
    """Latency through all doors by turns; CPU seconds can be told apart, as each door is its own process."""
    before = [door.cpu_seconds() for door in doors]
    names = [door.name for door in doors]
    places = [
        {"place": door.place, "path": door.prefix + path, "behind": names.index(door.behind)}
        for door in doors
    ]
    done = load(kind, doors=places, body=body, count=count, **more)
    pairs = zip(doors, before, strict=True)
    spent = [door.cpu_seconds() - cpu for door, cpu in pairs]
    return [result | {"cpu_seconds": cpu} for result, cpu in zip(done, spent, strict=True)]


def measure_streams(door: Door, clients: int, repeats: int) -> Result:
    before, job = door.cpu_seconds(), {"place": door.place, "path": door.prefix + "/completion"}
    done = load("streams", **job, body=STREAM, clients=clients, repeats=repeats, tokens=TOKENS)
    done["cpu_us_per_token"] = (door.cpu_seconds() - before) / done["tokens"] * 1e6
    done["tokens_per_second"] = done["tokens"] / done["seconds"]
    return done


def measure_paced(door: Door, clients: int, repeats: int, asked: Result) -> Result:
    before, job = door.cpu_seconds(), {"place": door.place, "path": door.prefix + "/completion"}
    done = load("paced", **job, body=json.dumps(asked), clients=clients, repeats=repeats)
    done["cpu_us_per_piece"] = (door.cpu_seconds() - before) / done["pieces"] * 1e6
    return done


def take_turns(doors: list[Door], turns: int, *, short: bool) -> None:
    for turn in range(turns):
        say(f"turn {turn + 1} of {turns}")
        for name, (path, body) in {**(SHORT if short else {}), **FRESH}.items():
            results = measure_short(doors, path, body, ROUNDS, fresh=name in FRESH)
            for door, result in zip(doors, results, strict=True):
                door.turns[name].append(result)
        results = measure_short(doors, "/completion", BRIEF, 20, "together", clients=TOGETHER)
        for door, result in zip(doors, results, strict=True):
            door.turns["together"].append(result)
        for name, (clients, repeats) in STREAMS.items():
            for door in doors if turn % 2 == 0 else reversed(doors):
                door.turns[name].append(measure_streams(door, clients, repeats))


def take_paced_turns(doors: list[Door], turns: int) -> None:
    brief = json.dumps({"pieces": 8, "per_second": 1000})
    for turn in range(turns):
        say(f"paced: turn {turn + 1} of {turns}")
        results = measure_short(doors, "/completion", brief, 20, "together", clients=TOGETHER)
        for door, result in zip(doors, results, strict=True):
            door.turns["together"].append(result)
        for name, (clients, repeats, paced) in PACED.items():
            asked = {**paced, "max_tokens": paced["pieces"]}  # else ours expects longer ones
            for door in doors if turn % 2 == 0 else reversed(doors):
                door.turns[name].append(measure_paced(door, clients, repeats, asked))


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


def figures_of(door: Door, idle: Result | None, mixed: Result | None) -> dict[str, float]:
    figures: dict[str, float] = {}
    for measure in [name for name in (*SHORT, *FRESH) if name in door.turns]:
        for part in ("p50", "p95", "p99", "added"):
            figures[f"{measure}: {part} ms"] = door.median(measure, f"{part}_seconds") * 1000
        cpu = [turn["cpu_seconds"] / turn["requests"] * 1e6 for turn in door.turns[measure]]
        figures[f"{measure}: CPU us a request"] = statistics.median(cpu)
    for part in ("first", "first_p95"):
        name = f"{TOGETHER} together: {part.replace('_', ' ')} ms"
        figures[name] = door.median("together", f"{part}_seconds") * 1000
    for measure in STREAMS:
        figures[f"{measure}: tokens/s"] = door.median(measure, "tokens_per_second")
        figures[f"{measure}: first token ms"] = door.median(measure, "first_seconds") * 1000
        figures[f"{measure}: CPU us a token"] = door.median(measure, "cpu_us_per_token")
    if idle is not None:
        figures["memory before, MiB"] = idle["before_bytes"] / 2**20
        figures[f"{IDLE} idle: KiB a connection"] = idle["kib_per_connection"]
        figures[f"{IDLE} idle: still open"] = idle["open"]
    figures["errors while measured"] = errors_of(door)
    if mixed is not None:
        figures["mixed: requests"], figures["mixed: errors"] = mixed["requests"], mixed["errors"]
    return figures


def paced_figures_of(door: Door) -> dict[str, float]:
    first = door.median("together", "first_seconds") * 1000
    figures = {f"{TOGETHER} together: first ms": first}
    for measure in PACED:
        for part in ("first p50", "gap p95", "late p50", "late p95", "last p50", "last p95"):
            seconds = door.median(measure, f"{part.replace(' ', '_')}_seconds")
            figures[f"{measure}: {part} ms"] = seconds * 1000
        figures[f"{measure}: CPU us a piece"] = door.median(measure, "cpu_us_per_piece")
    return figures | {"errors while measured": errors_of(door)}


def errors_of(door: Door) -> float:
    return sum(turn["errors"] for turns in door.turns.values() for turn in turns)


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
        (f"{kind}: added, ours / aiohttp", ratio(ours[name], plain[name]), f"at most {aim}")
        for kind, aim in [*((kind, 0.35) for kind in SHORT), *((kind, 0.6) for kind in FRESH)]
        for name in [f"{kind}: added ms"]
        if name in ours
    ]
    rows += over_direct(figures, [f"{kind}: p95 ms" for kind in FRESH])
    rows += over_direct(figures, [f"{TOGETHER} together: first ms"])
    for streams in STREAMS:
        cpu = f"{streams}: CPU us a token"
        speed, inside = (speed_ratio(doors["ours"], doors[name], streams) for name in ("direct", "inside"))
        rows += [
            (f"{streams}: CPU a token, ours / aiohttp", ratio(ours[cpu], plain[cpu]), "at most 0.35"),
            (f"{streams}: tokens/s, ours / direct", speed, "at least 0.97"),
            (f"{streams}: tokens/s, ours / inside", inside, "-"),
        ]
    return rows


def paced_ratios_of(figures: dict[str, dict[str, float]]) -> list[Row]:
    ours, plain = figures["ours"], figures["aiohttp"]
    rows = over_direct(figures, ["80/s: gap p95 ms", *(f"{kind}: last p95 ms" for kind in PACED)])
    rows += over_direct(figures, [f"{TOGETHER} together: first ms"])
    for name in [f"{kind}: CPU us a piece" for kind in PACED]:
        rows.append((f"{name}, ours / aiohttp", ratio(ours[name], plain[name]), "-"))
    return rows


def over_direct(figures: dict[str, dict[str, float]], names: list[str]) -> list[Row]:
    ours, direct = figures["ours"], figures["direct"]
    return [(f"{name}, ours - direct", ours[name] - direct[name], "at most 2") for name in names]


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
    parser.add_argument("--before", metavar="PYTHON", help="of another version of ours, to compare with")
    parser.add_argument("--only", choices=["streams", "paced"], help="less, and sooner")
    parser.add_argument("-n", type=int, default=6, help="turns of each figure")
    parser.add_argument("--full", action="store_true", help="20,000 mixed requests instead of 2,000")
    parser.add_argument("--json", action="store_true", help="all figures and turns as one JSON object")
    options = parser.parse_args()
    if not options.engine and options.only != "paced":
        parser.error("name a llama-server with --engine or GOSS_TEST_LLAMA_SERVER")
    tables = [] if options.only == "paced" else [against_engine(options)]
    tables.append(against_paced(options))
    for table in tables:
        if options.json:
            print(json.dumps(table))
        else:
            print_table(table["figures"], table["ratios"])


def others_in(options: argparse.Namespace) -> Others:
    return Others(options.before, options.llama_swap)


def against_engine(options: argparse.Namespace) -> Result:
    whole = options.only is None
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        doors = open_doors(Path(folder), options.engine, OPTIONS, others_in(options), stack)
        idle = {door.name: hold_idle(door) for door in doors if door.pid and whole}
        take_turns(doors, options.n, short=whole)
        count = 20_000 if options.full else 2_000
        mixed = {door.name: mix(door, count) for door in doors if whole}
    figures = {d.name: figures_of(d, idle.get(d.name), mixed.get(d.name)) for d in doors}
    ratios = ratios_of({door.name: door for door in doors}, figures)
    turns = {door.name: door.turns for door in doors}
    return {"figures": figures, "ratios": ratios, "idle": idle, "mixed": mixed, "turns": turns}


def against_paced(options: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        doors = open_paced(Path(folder) / "paced", others_in(options), stack)
        take_paced_turns(doors, options.n)
    figures = {door.name: paced_figures_of(door) for door in doors}
    turns = {door.name: door.turns for door in doors}
    return {"figures": figures, "ratios": paced_ratios_of(figures), "turns": turns}


if __name__ == "__main__":
    main()
