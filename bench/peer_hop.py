"""
What a hop over a peer costs: the way client -> our gateway -> the peer's gateway -> its llama-server.

    bench/cluster.py --peers [--rounds 6] [--json]

The peer's llama-server is scripted (bench/paced.py), so no model adds noise.  ``box`` asks the peer's gateway
itself, ``hop`` asks it through ours, ``aiohttp`` through a plain pass-through.  What a door adds is counted
against the one behind it: so ``box`` says what our own gateway costs, which is the aim for ``hop``.  The
model is asked for as ``box/demo``, so that the hop also writes its name anew.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from doors import HERE, ROOMY, Door, open_ours, open_plain
from gateway import measure_paced, measure_short
from lifecycle import Home

REQUESTS = 200
NAME = "box/demo"
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "model": NAME}
ONE = {"pieces": 1, "per_second": 1000, "max_tokens": 1, "model": NAME}
SHORT = {"whole answer": ("/v1/chat/completions", CHAT), "short stream": ("/completion", ONE)}
PACED = {
    "stream of 80/s": (1, 2, 160, 80),
    "stream of 1000/s": (1, 4, 300, 1000),
    "8 of 400/s": (8, 2, 400, 400),
}
PARTS = (("added_seconds", "added ms", 1000), ("p95_seconds", "p95 ms", 1000))


def open_hop(root: Path, stack: ExitStack) -> list[Door]:
    """The llama-server, the peer before it, and the two ways to the peer."""
    engine = root / "llama-server"
    engine.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -E {HERE / "paced.py"} "$@"\n')
    engine.chmod(0o755)
    box, inside, _ = open_ours(root / "box", str(engine), ROOMY, stack)
    front = Home(root / "front", str(engine))
    config = root / "front" / "config" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"peers: [{{url: 'http://127.0.0.1:{box.place}', name: box}}]\n")
    front.start()
    stack.callback(front.run, "stop", "--now")
    hop = Door("hop", front.port, front.status()["daemon"]["pid"], behind="box")
    plain = replace(open_plain(root, int(box.place), stack), behind="box")
    return [inside, replace(box, name="box"), hop, plain]


def take_turn(doors: list[Door], *, forwards: bool) -> None:
    for name, (path, body) in SHORT.items():
        results = measure_short(doors, path, json.dumps(body), REQUESTS)
        for door, result in zip(doors, results, strict=True):
            door.turns[name].append(result)
    for name, (clients, repeats, pieces, per_second) in PACED.items():
        asked = {"pieces": pieces, "per_second": per_second, "max_tokens": pieces, "model": NAME}
        for door in doors if forwards else reversed(doors):
            door.turns[name].append(measure_paced(door, clients, repeats, asked))


def figures_of(door: Door, doors: list[Door]) -> dict[str, float]:
    """In a turn of short requests, a door also has those of the doors before it."""
    through = 1 + sum(each.behind == door.name != each.name for each in doors)
    found = {
        f"{measure}: {words}": door.median(measure, part) * factor
        for measure in SHORT
        for part, words, factor in PARTS
    }
    for measure in SHORT:
        cpu = [turn["cpu_seconds"] / turn["requests"] / through * 1e6 for turn in door.turns[measure]]
        found[f"{measure}: CPU us"] = statistics.median(cpu)
    for measure in PACED:
        found[f"{measure}: held back p50 ms"] = door.median(measure, "late_p50_seconds") * 1000
        found[f"{measure}: held back p95 ms"] = door.median(measure, "late_p95_seconds") * 1000
        found[f"{measure}: CPU us a piece"] = door.median(measure, "cpu_us_per_piece")
    return found | {"errors": sum(turn["errors"] for turns in door.turns.values() for turn in turns)}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Figures by door."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        doors = open_hop(Path(folder), stack)
        for number in range(rounds):
            take_turn(doors, forwards=number % 2 == 0)
        return {door.name: figures_of(door, doors) for door in doors}


def show(figures: dict[str, dict[str, float]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"peers": figures}))
        return
    print(f"| | {' | '.join(figures)} |\n|---|{'---|' * len(figures)}")
    for name in figures["box"]:
        print(f"| {name} | {' | '.join(f'{each[name]:.2f}' for each in figures.values())} |")
