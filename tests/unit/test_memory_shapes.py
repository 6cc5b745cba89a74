"""The ledger against what the real engine said of models of many architectures: memory_recorded_shapes.txt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.memory.accounts import Account, Pool
from supervisor.memory.calibrated import calibrated
from supervisor.memory.context import (
    KNOWN,
    caching_layers,
    checkpoint_bytes,
    checkpoints_bytes,
    recurrent_layers,
    sliding_layers,
)
from supervisor.memory.engine_figures import EngineFigures, Taken
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import Settings, settings_of
from supervisor.memory.verdict import judge
from supervisor.options.parse import parse_arguments

from ..fakes.architectures import SHIPPED, launches_of, profile_launch, true_shapes

MIB = 1024**2
ROUNDED = 1.0  # MiB: the engine prints whole ones
FEATURES = ("avx", "avx2")
Figures = tuple[float, ...]


def read() -> Mapping[str, Mapping[str, Figures]]:
    """By model, by options: weights, context, compute in MiB."""
    found: dict[str, dict[str, Figures]] = {}
    text = Path(__file__).with_name("memory_recorded_shapes.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line.startswith("#"):
            name, options, figures = (part.strip() for part in line.split("|"))
            found.setdefault(name, {})[options] = tuple(map(float, figures.split("+")))
    return found


RECORDED = read()


def settings(name: str, options: str) -> Settings:
    return settings_of(parse_arguments(options.split()).options, 11434, true_shapes()[name].model)


def ours(name: str, options: str) -> Account:
    launch, ram = settings(name, options), Pool("RAM", None, None)
    ledger = account(true_shapes()[name].model, launch, [ram], cpu_features=FEATURES, flavour="cpu")
    assert ledger.is_known
    return ledger.accounts[0]


@pytest.mark.parametrize("name", RECORDED)
def test_the_ledger_says_what_the_engine_says(name: str) -> None:
    for options, (weights, context, compute) in RECORDED[name].items():
        found = ours(name, options)
        assert found.weights.bytes / MIB == pytest.approx(weights, rel=0.01, abs=1.5 * ROUNDED), options
        assert found.context.bytes / MIB == pytest.approx(context, rel=0.01, abs=ROUNDED), options
        assert found.compute.bytes / MIB == pytest.approx(compute, rel=0.15, abs=ROUNDED), options
        planned = found.weights.bytes + found.context.bytes + found.compute.bytes
        assert planned / MIB >= (weights + context + compute) * 0.98, options


def test_every_shape_is_recorded_with_its_launches() -> None:
    assert set(RECORDED) == {name for name, each in true_shapes().items() if each.architecture in KNOWN}
    for name, launches in RECORDED.items():
        assert set(launches) <= set(launches_of(name))
        assert len(launches) >= 4


@pytest.mark.parametrize(("profile", "shape"), SHIPPED.items())
def test_each_shipped_profile_is_recorded_as_it_is_now(profile: str, shape: str) -> None:
    """Else: bench/memory_shapes.py LLAMA-SERVER --record FILE."""
    assert profile_launch(profile) in RECORDED[shape]


def test_the_families_that_people_run_are_known() -> None:
    recorded = {true_shapes()[name].architecture for name in RECORDED}
    assert {"qwen35moe", "qwen3next", "gemma4", "gemma3n", "glm4moe", "deepseek2", "nemotron_h"} <= recorded


def test_a_hybrid_has_a_state_or_a_cache_in_each_layer_and_falcon_has_both() -> None:
    model = true_shapes()["qwen3.6-35b-a3b"].model
    assert caching_layers(model) == frozenset(range(3, 40, 4))  # the 41st layer is the head
    assert recurrent_layers(model) | caching_layers(model) == frozenset(range(40))
    model = true_shapes()["falcon-h1-7b"].model
    assert recurrent_layers(model) == caching_layers(model) == frozenset(range(44))


def test_nemotron_has_layers_with_neither() -> None:
    model = true_shapes()["nemotron-nano-9b-v2"].model
    assert caching_layers(model) == {14, 21, 30, 39}
    assert not caching_layers(model) & recurrent_layers(model)
    assert len(recurrent_layers(model)) == 27


def test_the_last_layers_of_gemma_4_use_the_cache_of_earlier_ones() -> None:
    model = true_shapes()["gemma-4-e4b"].model
    assert caching_layers(model) == frozenset(range(24))
    assert 5 not in sliding_layers(model)


def test_a_state_is_kept_for_each_token_that_a_draft_may_be_wrong_about() -> None:
    name = "qwen3.6-35b-a3b"
    alone, drafting = (ours(name, f"-c 4096 -np 1 {more}") for more in ("", "--spec-type draft-mtp"))
    states = 30 * (4 * 128 * 4096 + 4 * 3 * 8192)
    assert drafting.context.bytes - alone.context.bytes == 3 * states
    assert drafting.weights.bytes > alone.weights.bytes  # with the head
    four = ours(name, "-c 4096 -np 1 --spec-type draft-mtp --spec-draft-n-max 4")
    assert four.context.bytes - drafting.context.bytes == states


def test_a_checkpoint_holds_the_windows_and_the_states_of_one_slot() -> None:
    """33,504 bytes of the demo's own window, in the log of a real server: 0.033 MiB."""
    hybrid, name = true_shapes()["qwen3.6-35b-a3b"].model, "qwen3.6-35b-a3b"
    assert checkpoint_bytes(hybrid, settings(name, "-np 4")) == 30 * (4 * 128 * 4096 + 4 * 3 * 8192)
    gpt_oss, name = true_shapes()["gpt-oss-20b"].model, "gpt-oss-20b"
    assert checkpoint_bytes(gpt_oss, settings(name, "-np 1")) == 128 * (12 * 2048 + 12)
    assert checkpoint_bytes(gpt_oss, settings(name, "-np 1 --swa-full")) == 0
    assert checkpoint_bytes(true_shapes()["qwen3-8b"].model, settings("qwen3-8b", "-np 1")) == 0


@pytest.mark.parametrize(
    ("options", "checkpoints"),
    [
        ("-c 4096 -np 1", 2),
        ("-c 131072 -np 1", 18),
        ("-c 131072 -np 4", 24),
        ("-c 131072 -np 4 -kvu", 24),
        ("-c 131072 -np 1 -cms 0", 32),
        ("-c 131072 -np 1 -ctxcp 3", 3),
        ("-c 131072 -np 1 --embedding", 0),
    ],
)
def test_conversations_that_fill_the_context_make_so_many(options: str, checkpoints: int) -> None:
    model, launch = true_shapes()["gpt-oss-20b"].model, settings("gpt-oss-20b", options)
    assert checkpoints_bytes(model, launch) == checkpoints * checkpoint_bytes(model, launch)


UNKNOWN = "rwkv7-2.9b"


def test_what_the_formula_does_not_know_is_said_and_refuses_nothing() -> None:
    model, launch = true_shapes()[UNKNOWN].model, settings(UNKNOWN, "-c 4096 -np 1")
    small = Pool("RAM", 512 * MIB, 256 * MIB)
    ledger = account(model, launch, [small], cpu_features=FEATURES, flavour="cpu")
    assert "does not know the architecture rwkv7" in " ".join(ledger.notes)
    assert "it may need up to 128 MiB less for compute." in ledger.notes[-1]  # it needs 53 less
    verdict = judge(ledger, "strict")
    assert (verdict.status, verdict.refused) == ("does not fit", False)


def test_the_engines_figures_count_for_it_and_a_measurement_refuses_again() -> None:
    model, launch = true_shapes()[UNKNOWN].model, settings(UNKNOWN, "-c 4096 -np 1")
    ledger = account(model, launch, [Pool("RAM", 512 * MIB, 256 * MIB)], cpu_features=FEATURES, flavour="cpu")
    taken = Taken(1689 * MIB, 20 * MIB, 153 * MIB)
    asked = calibrated(ledger, [EngineFigures("engine", {"Host": taken})])
    (found,) = asked.accounts
    assert {figure.source for figure in (found.weights, found.context, found.compute)} == {"engine"}
    assert found.context.bytes // MIB == 20
    assert found.compute.bytes // MIB == 153  # with the logits of all tokens: more than a server takes
    assert not judge(asked, "balanced").refused
    measured = calibrated(asked, [EngineFigures("measured", {"CPU": taken})])
    assert judge(measured, "balanced").refused
