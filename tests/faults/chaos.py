"""
Faults in a random order, one after the other and sometimes one into the other, while clients ask.

What counts is what clients saw, what was left behind, and how long it took until all models answered again.
"""

from __future__ import annotations

import random
import statistics
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ..fakes.manager import FakeManager
from .fault import Fault
from .ground import NAMES, Ground
from .load import Asked

OVERLAP = 0.25  # how often the next fault does not wait until all is well


@dataclass
class Life:
    """Of one daemon: seconds since it was first seen well, bytes and descriptors, each time that all is well."""

    began: float
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def note(self, process: psutil.Process) -> None:
        self.samples.append((time.monotonic() - self.began, process.memory_info().rss, process.num_fds()))

    @property
    def seconds(self) -> float:
        return self.samples[-1][0] if self.samples else 0.0

    def grown(self, which: int) -> int:
        """Since the first sample of its second quarter: before that, it loads what it uses for the first time."""
        warm = next(each for each in self.samples if each[0] >= self.seconds / 4)
        return self.samples[-1][which] - warm[which]


@dataclass
class Report:
    seed: int
    seconds: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[tuple[float, str]] = field(default_factory=list)  # seconds after this fault
    troubles: list[str] = field(default_factory=list)  # of an injection, or no recovery
    strangers: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    lives: dict[int, Life] = field(default_factory=dict)  # by pid

    @property
    def is_well(self) -> bool:
        """Nothing happened that must not."""
        forbidden = sum(self.verdicts[each] for each in ("wrong", "cut clean", "hung"))
        return not (forbidden or self.troubles or self.strangers or self.leftovers) and bool(
            self.verdicts["whole"]
        )

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(each.verdict for each in self.asked)

    def document(self) -> dict[str, Any]:
        """As JSON: the figures, and each thing that must not be."""
        seen = self.verdicts
        longest = max(self.lives.values(), key=lambda life: life.seconds)
        seconds = sorted(each for each, _ in self.recoveries)
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "faults": sum(self.faults.values()),
            "kinds_of_faults": len(self.faults),
            "requests": len(self.asked),
            "whole": seen["whole"],
            "visibly_broken": seen["broken"],
            "silently_wrong": seen["wrong"],
            "cut_but_clean": seen["cut clean"],
            "hung_over_60_s": seen["hung"],
            "strangers_signalled": self.strangers,
            "leftovers": self.leftovers,
            "troubles": self.troubles,
            "recovery_seconds": distribution(seconds),
            "slowest_recovery_after": max(self.recoveries, default=(0.0, ""))[1],
            "daemons": len(self.lives),
            "longest_life_seconds": round(longest.seconds, 1),
            "samples_of_it": [[round(each[0], 1), *each[1:]] for each in longest.samples],
            "grown_bytes_in_it": longest.grown(1),
            "grown_descriptors_in_it": longest.grown(2),
            "most_bytes": max((each[1] for life in self.lives.values() for each in life.samples), default=0),
            "broken_by": dict(
                Counter(each.detail for each in self.asked if each.verdict == "broken").most_common()
            ),
            "by_fault": dict(self.faults.most_common()),
            "false_answers": [
                f"{each.model}: {each.verdict}: {each.detail}"
                for each in self.asked
                if each.verdict not in {"whole", "broken"}
            ],
        }


def distribution(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    p95 = seconds[min(len(seconds) - 1, round(0.95 * (len(seconds) - 1)))]
    figures = {"median": statistics.median(seconds), "p95": p95, "worst": seconds[-1]}
    return {name: round(value, 2) for name, value in figures.items()}


def run(
    root: Path,
    faults: Sequence[Fault],
    *,
    seconds: float = 0.0,
    least: int = 0,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
    workers: int = 6,
) -> Report:
    """
    For ``seconds`` from the moment at which all models answer, and until ``least`` faults were injected; then a
    stop, and a look at what is left.  What ends the daemon comes in the second half only, so that one daemon
    lives long enough to be seen growing.
    """
    report, chance = Report(seed), random.Random(seed)
    with Ground.fresh(root) as ground, FakeManager(root, abstract=True) as ground.manager:
        ground.small_disk()
        ground.stranger()
        ground.serve(NAMES)
        began = time.monotonic()
        with ground.load(workers, seed) as load:
            _recover(ground, began, "the start", report)
            drawn: list[Fault] = []
            while time.monotonic() - began < seconds or sum(report.faults.values()) < least:
                is_late = time.monotonic() - began > seconds / 2
                some = [each for each in faults if is_late or not each.ends_daemon]
                drawn = drawn or chance.sample(some, len(some))  # each once before any comes twice
                _inject(ground, drawn.pop(), chance, report, say)
            _recover(ground, time.monotonic(), "the end", report)
        report.asked, report.seconds = load.asked, time.monotonic() - began
        ground.run("stop", code=None)
        report.leftovers = ground.leftovers()
        report.strangers = ground.harm()
    return report


def _inject(
    ground: Ground, fault: Fault, chance: random.Random, report: Report, say: Callable[[str], None]
) -> None:
    name = f"{fault.section}: {fault.name}"
    report.faults[name] += 1
    assert fault.inject
    try:
        fault.inject(ground, chance)
    except Exception:  # noqa: BLE001 - the daemon may be gone by an earlier fault: what counts is the recovery
        say(f"  not injected: {name}: {traceback.format_exc(limit=-1).splitlines()[-1]}")
    if chance.random() < OVERLAP:
        with suppress(Exception):  # then the next recovery tells
            ground.revive()  # as its manager, at once
    else:
        _recover(ground, time.monotonic(), name, report)
        say(f"{ground.took or -1:6.2f} s  {name}")


def _recover(ground: Ground, since: float, name: str, report: Report) -> None:
    try:
        report.recoveries.append((ground.recover(since), name))
        daemon = ground.daemon()
        report.lives.setdefault(daemon.pid, Life(time.monotonic())).note(daemon)
    except Exception:  # noqa: BLE001 - whatever it is, it belongs into the report
        report.troubles.append(f"after {name}: {traceback.format_exc(limit=-2)}")
