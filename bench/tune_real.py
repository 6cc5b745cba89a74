"""
Whether `tune` finds the best of an exhaustive grid, in a fifth of its time: real engine, real models, CPU.

    bench/tune_real.py /path/to/llama-server [MODEL.gguf ...] [--synthetic] [--set KEY=VALUE ...]
                       [--limit SECONDS] [--json]

For each model every setting of the grid is measured with a load of its own.  Then the search has a fifth of
the time that this took, and the same settings.  At last the best of the grid and what the search found are
measured in turns, each time with a fresh load: their ratio is what counts, since the best of many
noisy figures is always too good.  --synthetic adds a gpt-oss of some 300 MB whose weights are zero.

The model, the session and the measurement are those of the command; only the space is cut to the grid.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice, product
from pathlib import Path
from random import Random
from typing import Any

import yaml

from supervisor.measure.measurement import Sample, Target, Workload
from supervisor.measure.measuring_client import run
from supervisor.measure.session import opened
from supervisor.measure.statistics import Ratio, ratio
from supervisor.model.demo import (
    BYTES,
    CONTROL,
    MARKERS,
    NORMAL,
    Shape,
    model_values,
    tensors,
    tokenizer_values,
)
from supervisor.model.gguf import NAMED
from supervisor.model.gguf_writer import write_gguf
from supervisor.paths import HOME_VARIABLE, Paths
from supervisor.prepare.variants import variants_of
from supervisor.progress import Silent
from supervisor.tune.search_values import Axis, Candidate, Found, Trial
from supervisor.tune.settings_search import SettingsSearch
from supervisor.tune.space import Space
from supervisor.tune.trials import TrialRunner, carried_out, failure_of_profile, in_words
from supervisor.tune.tuning_journal import Deaths, opened_journal
from supervisor.tune.tuning_setup import TuneRequest, TuningSetup, looked, set_up

GRID = {
    "server.ubatch-size": ("128", "512", "2048"),
    "server.threads": None,  # as `tune` has them for this processor
    "server.threads-batch": None,
    "server.flash-attn": None,
    "server.repack": None,
}
RUNS, TURNS = 2, 6
ENOUGH, SHARE = 0.97, 1 / 5
BUDGET_SECONDS = 300.0  # of the request, by which the work of a run is scaled
SYNTHETIC = Shape(
    layers=8,
    embedding=1024,
    heads=16,
    heads_kv=4,
    head_size=64,
    experts=16,
    experts_used=4,
    feed_forward=1024,
)
TOKENS = 32_000
PROFILE = """\
model: {model}
engine: {{source: path, path: {engine}}}
server: {server}
"""


@dataclass
class Compared:
    """What came out for one model; ``share`` is the search's time by the grid's."""

    model: str
    candidates: int = 0
    measured: int = 0  # of them: fewer where the limit came first
    grid_seconds: float = 0.0
    tune_seconds: float = 0.0
    trials: int = 0
    best: Candidate = ()
    tuned: Candidate = ()
    turns: dict[Candidate, list[float]] = field(default_factory=dict)

    @property
    def whole_seconds(self) -> float:
        """Of the grid; estimated by what was measured of it."""
        return self.grid_seconds * self.candidates / self.measured if self.measured else 0.0

    @property
    def share(self) -> float:
        return self.tune_seconds / self.whole_seconds if self.whole_seconds else 0.0

    def against(self, other: Candidate) -> Ratio:
        """The speed of what was found by that of another setting; the same setting is as good as itself."""
        same = [1.0, 1.0]
        return ratio(same, same) if other == self.tuned else ratio(self.turns[other], self.turns[self.tuned])


def write_synthetic(path: Path) -> None:
    """Made of holes, which the engine reads like any other weights."""
    words = (f"w{number}" for number in count())
    tokens = [*BYTES, *islice(words, TOKENS - len(BYTES) - len(MARKERS)), *MARKERS]
    types = [CONTROL if token in MARKERS else NORMAL for token in tokens]
    values = {**model_values(SYNTHETIC, "synthetic gpt-oss"), **tokenizer_values(tokens, types, ["a b"])}
    write_gguf(path, values, list(tensors(SYNTHETIC, TOKENS, dense=NAMED["q8_0"])))


def measure(target: Target, workload: Workload, seed: int, limit_seconds: float) -> Sample:
    return run(target, workload, seed=seed, deadline_seconds=limit_seconds)


def cut(setup: TuningSetup) -> TuningSetup:
    """To the settings of the grid."""
    axes = [axis for axis in setup.space.axes if axis.key in GRID]
    axes = [replace(axis, values=values_of(axis)) for axis in axes]
    return replace(setup, space=replace(setup.space, axes=tuple(axes)))


def values_of(axis: Axis) -> tuple[str, ...]:
    wanted = GRID[axis.key]
    return (
        axis.values if wanted is None else tuple(each for each in axis.values if each in {*wanted, axis.now})
    )


def grid_of(space: Space) -> list[Candidate]:
    """Every combination once; the profile as it is is one of them."""
    found: dict[Candidate, None] = {}
    for values in product(*(axis.values for axis in space.axes)):
        candidate = space.candidate({axis.key: each for axis, each in zip(space.axes, values, strict=True)})
        if space.allows(candidate):
            found[candidate] = None
    return list(found)


@contextmanager
def silent(_: str) -> Iterator[Silent]:
    yield Silent()


def compared(name: str, paths: Paths, until: float) -> Compared:
    """Raises a SupervisorError where the model does not run."""
    setup = cut(set_up(TuneRequest(name, "chat", BUDGET_SECONDS), variants_of(name, paths)))
    found = Compared(name)
    with opened(
        paths, setup.variants.plan({}), owner="bench", why="compares", progress=Silent(), waiting=silent
    ) as session:
        with opened_journal(setup.file, restart=True) as journal:
            goal, usual = looked(setup, journal, session, measure)
        runner = TrialRunner(
            plan=setup.variants.plan,
            session=session,
            measure=measure,
            goal=goal,
            usual_seconds=usual,
            deaths=Deaths(paths, setup.machine),
            failure=lambda profile: failure_of_profile(paths, profile),
            stop=session.stop,
        )
        print(f"{name}: {goal.workload}", file=sys.stderr)
        exhaust(found, setup, runner, until)
        search(found, setup, runner)
        take_turns(found, runner, until)
    return found


def exhaust(found: Compared, setup: TuningSetup, runner: TrialRunner, until: float) -> None:
    costs: dict[Candidate, float] = {}
    candidates = Random(1).sample(
        grid := grid_of(setup.space), len(grid)
    )  # what is left out is left to chance
    found.candidates = len(candidates)
    for number, candidate in enumerate(candidates):
        if time.monotonic() > until:
            break
        result = runner.run(Trial(number, candidate, RUNS, "grid", reloads=True))
        found.grid_seconds += result.took_seconds
        found.measured += 1
        if result.costs:
            costs[candidate] = sum(result.costs) / len(result.costs)
        print(
            f"  grid {number + 1}/{len(candidates)} {in_words(candidate)}: {costs.get(candidate)}",
            file=sys.stderr,
        )
    found.best = min(costs, key=costs.__getitem__)


def search(found: Compared, setup: TuningSetup, runner: TrialRunner) -> None:
    budget = SHARE * found.whole_seconds
    searching = SettingsSearch(setup.space, setup.starts, setup.fits, budget)
    with opened_journal(setup.file, restart=True) as journal:
        for step in carried_out(searching, journal, runner.run):
            if isinstance(step, Found):
                found.tuned = step.best
            elif step.result:
                found.trials += 1
                found.tune_seconds += step.result.took_seconds
                print(
                    f"  trial {found.trials} {in_words(step.trial.candidate)}: {step.result.costs}",
                    file=sys.stderr,
                )


def take_turns(found: Compared, runner: TrialRunner, until: float) -> None:
    """The best of the grid, what was found and the profile: forwards, backwards, and so on."""
    found.turns = {candidate: [] for candidate in (found.best, found.tuned, ())}
    if len(found.turns) == 1:
        return
    for turn in range(TURNS):
        for candidate in [*found.turns][:: 1 if turn % 2 == 0 else -1]:
            result = runner.run(Trial(turn, candidate, 1, "in turns", reloads=True))
            found.turns[candidate].extend(result.costs)
        if time.monotonic() > until and turn:
            return


def shown(each: Compared) -> dict[str, object]:
    reached, gained = each.against(each.best), each.against(())
    return {
        "model": each.model,
        "candidates": each.candidates,
        "measured": each.measured,
        "grid_seconds": round(each.whole_seconds, 1),
        "tune_seconds": round(each.tune_seconds, 1),
        "share": round(each.share, 3),
        "trials": each.trials,
        "best_of_grid": in_words(each.best),
        "tuned": in_words(each.tuned),
        "reached": round(reached.value, 3),
        "low": reached.low and round(reached.low, 3),
        "high": reached.high and round(reached.high, 3),
        "enough": reached.value >= ENOUGH,
        "times_the_profile": round(gained.value, 3),
    }


def profiles(
    root: Path, engine: Path, models: list[Path], settings: dict[str, Any], *, synthetic: bool
) -> list[str]:
    folder = root / "config" / "profiles"
    folder.mkdir(parents=True)
    if synthetic:
        models = [*models, root / "synthetic-gpt-oss.gguf"]
        write_synthetic(models[-1])
    for model in models:
        server = json.dumps({"ctx-size": 4096, "parallel": 1} | settings)
        text = PROFILE.format(model=model, engine=engine, server=server)
        (folder / f"{name_of(model)}.yaml").write_text(text)
    return [name_of(model) for model in models]


def name_of(model: Path) -> str:
    return model.stem.lower().replace("_", "-")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the profile")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds for each model, about")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        os.environ[HOME_VARIABLE] = root  # of the daemon that a session starts
        models = [model.resolve() for model in given.models]
        results = []
        settings = {key: yaml.safe_load(value) for key, value in (each.split("=", 1) for each in given.set)}
        engine = given.engine.resolve()
        for name in profiles(Path(root), engine, models, settings, synthetic=given.synthetic):
            until = time.monotonic() + given.limit
            results.append(shown(compared(name, Paths.under(Path(root)), until)))
            if not given.json:
                print(", ".join(f"{key} {value}" for key, value in results[-1].items()), flush=True)
    if given.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
