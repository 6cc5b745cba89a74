"""
What our client measures, beside llama-bench of the same build with the same settings.

    bench/llama_bench.py --llama-bench PATH --engine PATH/llama-server [--model FILE ...] [-n TURNS]
                         [--results FILE] [--only WORDS] [--json]

For each setting they take turns, the first one drawn by chance.  ``--results`` keeps the turns, so that
more can be added later; the table is of all in the file.  llama-bench generates behind as many tokens as the
server has read by then.  The fastest of four runs counts, since whatever else a machine does only ever slows
one down.  On a machine that has much other work, ``--core`` runs both at the same time on one core, with one
thread each: the system shares it out evenly between them, so both are half as fast, and slowed down alike.

A ratio is the median of the turns' ratios, with its 95 % interval.  Without ``--model`` it is a gpt-oss of
random weights, see bench/random_gpt_oss.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import random_gpt_oss

from supervisor.engine.proof.smoke_test import free_port
from supervisor.errors import NetworkError
from supervisor.measure.measurement import Sample, Target, Workload
from supervisor.measure.measuring_client import run, served_model
from supervisor.measure.statistics import ratio, summary

LIMIT = 600.0
CONTEXT = 4096
RUNS = 4
NEW = 8


@dataclass(frozen=True)
class Setting:
    """``more`` options are spelled alike by both programs."""

    name: str
    more: tuple[str, ...] = ()
    prompt: int = 128
    answer: int = 24
    depth: int = 0
    server: tuple[str, ...] = ()  # for it alone
    threads: int = 1  # two wait for each other where others compute too

    @property
    def options(self) -> tuple[str, ...]:
        return ("-t", str(self.threads), *self.more)

    @property
    def workload(self) -> Workload:
        return Workload(self.prompt, self.answer, depth_tokens=self.depth)

    def only(self, name: str) -> Workload:
        """For the prompt or for what is generated behind it, with little else."""
        if name == "prompt":
            return replace(self.workload, answer_tokens=1)
        return Workload(NEW, self.answer, depth_tokens=self.depth + self.prompt - NEW)


SETTINGS = (
    Setting("one thread"),
    Setting("two threads", threads=2),
    Setting("ubatch of 32", ("-ub", "32")),
    Setting("no flash attention", ("-fa", "off")),
    Setting("short prompt", prompt=64),
    Setting("long prompt", prompt=384),
    Setting("behind 512 tokens", depth=512),
    Setting("no checkpoints", server=("--ctx-checkpoints", "0")),
)
Rates = dict[str, float]  # prompt and generated, per second


def llama_bench(program: str, model: str, setting: Setting) -> Iterator[tuple[str, list[str]]]:
    """What it measures, and the command."""
    words = [program, "-m", model, *setting.options, "-r", str(RUNS), "-o", "jsonl"]
    yield "prompt", [*words, "-p", str(setting.prompt), "-n", "0", "-d", str(setting.depth)]
    spent = setting.depth + setting.prompt
    yield "generated", [*words, "-p", "0", "-n", str(setting.answer), "-d", str(spent)]


def by_llama_bench(program: str, model: str, setting: Setting) -> Rates:
    found = {}
    for name, command in llama_bench(program, model, setting):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
        found[name] = max(json.loads(done.stdout.splitlines()[-1])["samples_ts"])
    return found


@contextmanager
def served(engine: str, model: str, setting: Setting, core: int | None = None) -> Iterator[Target]:
    port = free_port()
    words = [engine, "-m", model, "--host", "127.0.0.1", "--port", str(port), "-c", str(CONTEXT), "-np", "1"]
    command = [*words, "--cache-ram", "0", *setting.options, *setting.server]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            target = Target(f"http://127.0.0.1:{port}", "", "")
            wait_for(target, server)
            pin(server, core)  # the thread that computes; those that speak HTTP go where there is room
            yield target
        finally:
            server.kill()


def wait_for(target: Target, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(NetworkError):
            served_model(target)
            return
        time.sleep(0.05)
    sys.exit(f"{server.args} did not start")


def by_server(engine: str, model: str, setting: Setting) -> Rates:
    """A fresh load for each turn, as llama-bench has."""
    with served(engine, model, setting) as target:
        run(target, Workload(32, 4), seed=0, deadline_seconds=LIMIT)  # llama-bench warms up too
        found = [
            run(target, setting.workload, seed=random.randrange(1 << 30), deadline_seconds=LIMIT)
            for _ in range(RUNS)
        ]
    if said := {said for each in found for said in each.disturbed}:
        sys.exit(f"{setting.name}: {', '.join(said)}")
    seen = [(each.generated_tokens - 1) / (each.seconds - (each.first_token_seconds or 0)) for each in found]
    return {
        "prompt": max(each.prompt_per_second or 0 for each in found),
        "generated": max(each.generated_per_second or 0 for each in found),
        "seen": max(seen),
    }


def pin(process: subprocess.Popen[Any], core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(process.pid, {core})


def at_once(options: argparse.Namespace, model: str, setting: Setting) -> dict[str, Rates]:
    """Both on one core; only what our client measured while llama-bench measured counts, as a median."""
    both: dict[str, Rates] = {"llama-bench": {}, "server": {}}
    with served(options.engine, model, setting, options.core) as target:
        run(target, Workload(32, 4), seed=0, deadline_seconds=LIMIT)
        for name, command in llama_bench(options.llama_bench, model, setting):
            told, began, ended, runs = beside(command, options.core, target, setting.only(name))
            rates = list(while_it_measured(name, began, ended, runs))
            if not rates:
                sys.exit(f"{setting.name}: none of our {len(runs)} runs was within the time of llama-bench")
            both["llama-bench"][name] = summary(told).median
            both["server"][name] = summary(rates).median
    return both


Timed = tuple[float, Sample]  # when it was asked for


def beside(
    command: list[str], core: int, target: Target, workload: Workload
) -> tuple[list[float], float, float, list[Timed]]:
    """llama-bench's rates, when its measurement began and ended, and the runs of ours at that time."""
    runs, ends = list[Timed](), list[float]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        pin(process, core)
        waiting = threading.Thread(target=lambda: (process.wait(), ends.append(time.monotonic())))
        waiting.start()
        while waiting.is_alive():
            asked = time.monotonic()
            sample = run(target, workload, seed=random.randrange(1 << 30), deadline_seconds=LIMIT)
            runs.append((asked, sample))
        assert process.stdout is not None
        told = json.loads(process.stdout.read().splitlines()[-1])
    return told["samples_ts"], ends[0] - sum(told["samples_ns"]) / 1e9, ends[0], runs


def while_it_measured(name: str, began: float, ended: float, runs: list[Timed]) -> Iterator[float]:
    for asked, sample in runs:
        first = asked + (sample.first_token_seconds or 0)
        if name == "prompt" and began <= asked and first <= ended:
            yield sample.prompt_per_second or 0
        if name == "generated" and began <= first and asked + sample.seconds <= ended:
            yield sample.generated_per_second or 0


def in_turns(options: argparse.Namespace, model: str, setting: Setting) -> dict[str, Rates]:
    takers = {
        "llama-bench": lambda: by_llama_bench(options.llama_bench, model, setting),
        "server": lambda: by_server(options.engine, model, setting),
    }
    return {name: takers[name]() for name in random.sample(list(takers), len(takers))}


def take_turns(options: argparse.Namespace, models: list[str], results: Path) -> None:
    for turn in range(options.n):
        for model in models:
            for setting in SETTINGS:
                if options.only not in setting.name or (options.core is not None and setting.threads > 1):
                    continue
                print(f"turn {turn + 1} of {options.n}: {Path(model).name}, {setting.name}", file=sys.stderr)
                taken = (in_turns if options.core is None else at_once)(options, model, setting)
                with results.open("a") as file:
                    file.write(
                        json.dumps({"model": Path(model).name, "setting": setting.name, **taken}) + "\n"
                    )


def table_of(results: Path) -> list[dict[str, Any]]:
    turns = defaultdict(list)
    for line in results.read_text().splitlines():
        turn = json.loads(line)
        turns[turn["model"], turn["setting"]].append(turn)
        turns["all", "all"].append(turn)
    turns["all", "all"] = turns.pop(("all", "all"), [])  # at the end
    rows = []
    for (model, setting), taken in turns.items():
        for what in ("prompt", "generated"):
            theirs = [turn["llama-bench"][what] for turn in taken]
            ours = [turn["server"][what] for turn in taken]
            found = ratio(ours, theirs, paired=True)
            rows.append(
                {
                    "model": model,
                    "setting": setting,
                    "what": what,
                    "turns": len(taken),
                    "llama_bench": summary(theirs).median,
                    "server": summary(ours).median,
                    "ratio": found.value,
                    "low": found.low,
                    "high": found.high,
                }
            )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'MODEL':<30} {'SETTING':<21} {'RATE':<10} {'TURNS':>6} {'LLAMA-BENCH':>12} {'SERVER':>9}   RATIO"
    )
    for row in rows:
        low, high = (f"{row[end]:.3f}" if row[end] else "?" for end in ("low", "high"))
        print(
            f"{row['model'][:30]:<30} {row['setting']:<21} {row['what']:<10} {row['turns']:>6}"
            f" {row['llama_bench']:>12.2f} {row['server']:>9.2f}   {row['ratio']:.3f} ({low} to {high})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama-bench", required=True, metavar="PATH")
    parser.add_argument("--engine", default=os.environ.get("GOSS_TEST_LLAMA_SERVER"), metavar="PATH")
    parser.add_argument("--model", action="append", default=[], metavar="FILE")
    parser.add_argument("-n", type=int, default=6, help="turns of each setting")
    parser.add_argument("--core", type=int, metavar="N", help="both at once on this core, and not in turns")
    parser.add_argument("--results", type=Path, metavar="FILE", help="JSON lines, one for each turn")
    parser.add_argument("--only", default="", metavar="WORDS", help="settings with these words in their name")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.engine:
        parser.error("name a llama-server with --engine or GOSS_TEST_LLAMA_SERVER")
    with tempfile.TemporaryDirectory() as folder:
        results = options.results or Path(folder) / "turns.jsonl"
        if not options.model:
            made = Path(folder) / "random-gpt-oss.gguf"
            random_gpt_oss.write(made)
            options.model = [str(made)]
        take_turns(options, options.model, results)
        rows = table_of(results)
    if options.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
