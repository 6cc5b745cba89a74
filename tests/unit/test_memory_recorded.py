"""The ledger against what the real engine said of true-shape models, written down in memory_recorded.txt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from supervisor.memory.accounts import Account, Pool
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import settings_of
from supervisor.options.parse import parse_arguments

from ..fakes.shapes import Size
from .memory_machines import gpt_oss

MIB = 1024**2
ROUNDED = 1.0  # MiB: the engine prints whole ones
FEATURES = ("avx", "avx2", "avx512f", "avx512_vnni")


@dataclass(frozen=True, slots=True)
class Recorded:
    """MiB by pool: weights, context, compute."""

    size: Size
    flavour: str
    gpus: int
    options: str
    figures: Mapping[str, tuple[float, ...]]


def read(line: str) -> Recorded:
    size, machine, options, figures = (part.strip() for part in line.split("|"))
    flavour, gpus = machine.split()
    parts = (re.split(r"[=+]", pool) for pool in figures.split())
    by_pool = {name: tuple(map(float, numbers)) for name, *numbers in parts}
    return Recorded(cast(Size, size), flavour, int(gpus), options, by_pool)


LINES = Path(__file__).with_name("memory_recorded.txt").read_text(encoding="utf-8").splitlines()
RECORDS = [read(line) for line in LINES if not line.startswith("#")]


def accounts(recorded: Recorded) -> Mapping[str, Account]:
    model = gpt_oss(recorded.size)
    free = 15800 * MIB
    pools = [Pool(f"CUDA{number}", free, free) for number in range(recorded.gpus)]
    settings = settings_of(parse_arguments(recorded.options.split()).options, 11434, model)
    ledger = account(
        model,
        settings,
        [*pools, Pool("RAM", None, None)],
        cpu_features=FEATURES,
        flavour=recorded.flavour,
    )
    return {each.pool.name: each for each in ledger.accounts}


@pytest.mark.parametrize("recorded", RECORDS, ids=lambda r: f"{r.size} {r.flavour}{r.gpus} {r.options}")
def test_the_ledger_says_what_the_engine_says(recorded: Recorded) -> None:
    found = accounts(recorded)
    for name, (weights, context, compute) in recorded.figures.items():
        ours = found[name]
        assert ours.weights.bytes / MIB == pytest.approx(weights, rel=0.01, abs=ROUNDED)
        assert ours.context.bytes / MIB == pytest.approx(context, rel=0.01, abs=ROUNDED)
        assert ours.compute.bytes / MIB == pytest.approx(compute, rel=0.17, abs=ROUNDED)
        assert ours.compute.bytes / MIB >= compute * 0.98


def test_what_is_recorded_covers_both_models_and_every_kind_of_placement() -> None:
    assert {(each.size, each.gpus > 0) for each in RECORDS} == {
        (size, on_gpu) for size in ("20b", "120b") for on_gpu in (True, False)
    }
    assert {each.gpus for each in RECORDS} == {0, 1, 2}


def test_the_engine_itself_can_need_more_of_a_gpu_that_has_a_layer_less() -> None:
    """So the ledger may say it too: test_memory_ledger.py bounds by how much."""
    whole, less = (
        sum(recorded.figures["CUDA0"])
        for layers in (37, 36)
        for recorded in RECORDS
        if recorded.options == f"-c 4096 -ub 4096 -b 4096 -fa on -ngl {layers} -ncmoe 2"
    )
    assert whole < less
