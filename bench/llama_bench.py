"""
What our client measures, beside llama-bench of the same build with the same settings.

    bench/llama_bench.py --llama-bench PATH --engine PATH/llama-server [--model FILE ...] [-n TURNS]
                         [--results FILE] [--only WORDS] [--json]

For each setting they take turns, the first one drawn by chance.  ``--results`` keeps the turns, so that
more can be added later; the table is of all in the file.  llama-bench generates behind as many tokens as the
server has read by then.  A ratio is the median of the turns' ratios, with its 95 % interval.  Without
``--model`` it is a gpt-oss of random weights, see bench/random_gpt_oss.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import random_gpt_oss

from supervisor.engine.proof.smoke_test import free_port
from supervisor.errors import NetworkError
from supervisor.measure.measurement import Target, Workload
from supervisor.measure.measuring_client import run, served_model
from supervisor.measure.statistics import ratio, summary

LIMIT = 600.0
CONTEXT = 4096


@dataclass(frozen=True)
class Setting:
    """``more`` options are spelled alike by both programs."""

    name: str
    more: tuple[str, ...] = ()
    prompt: int = 256
    answer: int = 32
    depth: int = 0
    server: tuple[str, ...] = ()  # for it alone
    threads: int = 1  # two wait for each other where others compute too

    @property
    def options(self) -> tuple[str, ...]:
        return ("-t", str(self.threads), *self.more)

    @property
    def workload(self) -> Workload:
        return Workload(self.prompt, self.answer, depth_tokens=self.depth)


SETTINGS = (
    Setting("one thread"),
    Setting("two threads", threads=2),
    Setting("ubatch of 128", ("-ub", "128")),
    Setting("no flash attention", ("-fa", "off")),
    Setting("short prompt", prompt=64),
    Setting("long prompt", prompt=1024),
    Setting("behind 1,024 tokens", prompt=256, depth=1024),
    Setting("no checkpoints", server=("--ctx-checkpoints", "0")),
)
Rates = dict[str, float]  # prompt and generated, per second


def by_llama_bench(program: str, model: str, setting: Setting) -> Rates:
    spent = setting.depth + setting.prompt
    words = [program, "-m", model, *setting.options, "-r", "1", "-o", "jsonl"]
    prompts = ["-p", str(setting.prompt), "-n", "0", "-d", str(setting.depth)]
    answers = ["-p", "0", "-n", str(setting.answer), "-d", str(spent)]
    found = {}
    for name, more in (("prompt", prompts), ("generated", answers)):
        done = subprocess.run([*words, *more], capture_output=True, text=True, check=True, timeout=LIMIT)
        found[name] = json.loads(done.stdout.splitlines()[-1])["avg_ts"]
    return found


@contextmanager
def served(engine: str, model: str, setting: Setting) -> Iterator[Target]:
    port = free_port()
    words = [engine, "-m", model, "--host", "127.0.0.1", "--port", str(port), "-c", str(CONTEXT), "-np", "1"]
    command = [*words, "--cache-ram", "0", *setting.options, *setting.server]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            target = Target(f"http://127.0.0.1:{port}", "", "")
            wait_for(target, server)
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
        found = run(target, setting.workload, seed=random.randrange(1 << 30), deadline_seconds=LIMIT)
    if found.disturbed:
        sys.exit(f"{setting.name}: {', '.join(found.disturbed)}")
    if found.prompt_per_second is None or found.generated_per_second is None:
        sys.exit(f"{engine} tells no timings")
    seen = (found.generated_tokens - 1) / (found.seconds - (found.first_token_seconds or 0))
    return {"prompt": found.prompt_per_second, "generated": found.generated_per_second, "seen": seen}


def take_turns(options: argparse.Namespace, models: list[str], results: Path) -> None:
    for turn in range(options.n):
        for model in models:
            for setting in SETTINGS:
                if options.only and options.only not in setting.name:
                    continue
                print(f"turn {turn + 1} of {options.n}: {Path(model).name}, {setting.name}", file=sys.stderr)
                takers = {
                    "llama-bench": lambda: by_llama_bench(options.llama_bench, model, setting),  # noqa: B023
                    "server": lambda: by_server(options.engine, model, setting),  # noqa: B023
                }
                order = random.sample(list(takers), len(takers))
                taken: dict[str, Any] = {name: takers[name]() for name in order}
                with results.open("a") as file:
                    file.write(
                        json.dumps({"model": Path(model).name, "setting": setting.name, **taken}) + "\n"
                    )


def table_of(results: Path) -> list[dict[str, Any]]:
    turns = defaultdict(list)
    for line in results.read_text().splitlines():
        turn = json.loads(line)
        turns[turn["model"], turn["setting"]].append(turn)
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
