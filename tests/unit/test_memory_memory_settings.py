"""What options come to, with the defaults of llama-server."""

from __future__ import annotations

import pytest

from supervisor.memory.memory_settings import Override, Settings, settings_of
from supervisor.model.metadata import Model
from supervisor.options.parse import parse_arguments

from .memory_machines import gpt_oss


def settings(words: str = "", build: int | None = None, model: Model | None = None) -> Settings:
    return settings_of(parse_arguments(words.split()).options, build, model or gpt_oss("20b"))


def test_nothing_said_is_four_slots_that_share_all_the_model_was_trained_for() -> None:
    found = settings()
    assert (found.context_tokens, found.slots, found.unified) == (131072, 4, True)
    assert (found.batch, found.ubatch, found.outputs) == (2048, 512, 4)
    assert (found.cache_k.name, found.cache_v.name, found.flash) == ("f16", "f16", True)
    assert (found.gpu_layers, found.cpu_moe_layers, found.load_mode) == ("all", 0, "auto")
    assert found.cache_ram_bytes == 8 * 1024**3
    assert found.left_open == ("ctx-size", "gpu-layers")


@pytest.mark.parametrize(
    ("words", "context", "of_a_slot"),
    [
        ("-c 1000", 1024, 1024),
        ("-c 1000 -np 4", 1024, 256),
        ("-c 5000 -np 3", 5376, 1792),  # 5120 do not part in three
        ("-c 32768 -np 4 -kvu", 32768, 32768),
        ("-c 0 -np 2", 262144, 131072),
        ("--kv-unified-per-slot 8192 -np 4", 32768, 8192),
    ],
)
def test_cells_are_rounded_up_and_parted_among_slots(words: str, context: int, of_a_slot: int) -> None:
    found = settings(words)
    assert (found.context_tokens, found.slot_tokens) == (context, of_a_slot)


def test_a_batch_is_no_larger_than_the_context_and_a_part_no_larger_than_the_batch() -> None:
    found = settings("-c 256 -b 4096 -ub 2048")
    assert (found.batch, found.ubatch) == (256, 256)
    rounded_up = settings("-c 513 -b 4096 -ub 2048")
    assert (rounded_up.context_tokens, rounded_up.batch, rounded_up.ubatch) == (768, 513, 513)


def test_older_builds_have_one_slot_and_compute_all_logits() -> None:
    found = settings(build=6924)
    assert (found.slots, found.outputs, found.fit) == (1, 512, False)


def test_embeddings_are_computed_of_every_token() -> None:
    assert settings("--embedding -ub 1024").outputs == 1024


def test_placement_by_options() -> None:
    found = settings("-ngl 20 -cmoe -ts 3,1 -sm none -mg 1 -dev CUDA0,CUDA1 -ot exps=CPU,attn=CUDA1 -ncffn 2")
    assert (found.gpu_layers, found.cpu_moe_layers, found.cpu_ffn_layers) == (20, 24, 2)
    assert (found.tensor_split, found.split_mode, found.main_gpu) == ((3.0, 1.0), "none", 1)
    assert found.devices == ("CUDA0", "CUDA1")
    assert found.overrides == (Override("exps", "CPU"), Override("attn", "CUDA1"))


@pytest.mark.parametrize("words", ["-ngl all", "-ngl auto", "-ngl -1"])
def test_all_layers(words: str) -> None:
    assert settings(words).gpu_layers == "all"


def test_switches() -> None:
    found = settings("--no-repack --no-host -nkvo --no-op-offload -fa off --swa-full -lm none -cram -1")
    off = (found.repack, found.host_buffers, found.kv_offload, found.op_offload, found.flash)
    assert not any(off)
    assert (found.swa_full, found.load_mode, found.cache_ram_bytes) == (True, "none", None)


def test_no_device_at_all() -> None:
    assert settings("-dev none").devices == ()


def test_values_that_make_no_sense_are_as_if_they_were_not_there() -> None:
    found = settings_of(
        {"ctx-size": "many", "cache-type-k": "q9", "tensor-split": "a,b"}, None, gpt_oss("20b")
    )
    assert (found.context_tokens, found.cache_k.name, found.tensor_split) == (131072, "f16", ())


def test_a_model_without_a_context_length_has_none() -> None:
    assert settings(model=Model("unheard", {}, (), ())).context_tokens == 0
