"""Which memory layers and tensors go to, and which layers have a window."""

from __future__ import annotations

import pytest

from supervisor.memory.accounts import Pool
from supervisor.memory.context import sliding_layers
from supervisor.memory.memory_settings import settings_of
from supervisor.memory.weights import Layout, lay_out, repacked_bytes
from supervisor.model.gguf import NAMED
from supervisor.model.header import HeaderValue, TensorInfo
from supervisor.model.metadata import Model
from supervisor.options.parse import parse_arguments

from .memory_machines import gpt_oss

GIB = 1024**3
POOLS = (Pool("CUDA0", 16 * GIB, 12 * GIB), Pool("CUDA1", 8 * GIB, 4 * GIB), Pool("RAM", None, None))


def layout(words: str, pools: tuple[Pool, ...] = POOLS) -> Layout:
    model = gpt_oss("20b")
    return lay_out(model, settings_of(parse_arguments(words.split()).options, None, model), pools)


def counts(found: Layout) -> dict[str, int]:
    return {name: found.layers.count(name) for name in dict.fromkeys(found.layers)}


def test_layers_are_parted_by_what_is_free() -> None:
    assert counts(layout("")) == {"CUDA0": 19, "CUDA1": 6}


def test_layers_are_parted_as_is_asked() -> None:
    assert counts(layout("-ts 1,1")) == {"CUDA0": 13, "CUDA1": 12}
    assert counts(layout("-ts 0,1")) == {"CUDA1": 25}


def test_the_first_layers_stay_and_the_output_goes_first() -> None:
    found = layout("-ngl 1 -ts 1,0")
    assert (found.output, set(found.blocks)) == ("CUDA0", {"RAM"})
    assert set(layout("-ngl 0").layers) == {"RAM"}


def test_one_gpu_of_two() -> None:
    assert set(layout("-sm none -mg 1").layers) == {"CUDA1"}
    assert layout("-dev CUDA1").devices == ("CUDA1",)
    assert layout("-dev CUDA7").devices == ()


def test_memory_that_is_not_known_parts_evenly() -> None:
    pools = (Pool("MTL0", None, None), Pool("MTL1", None, None))
    assert counts(layout("", pools)) == {"MTL0": 13, "MTL1": 12}


@pytest.mark.parametrize(
    ("words", "tensor", "pool"),
    [
        ("", "token_embd.weight", "RAM"),
        ("-ts 1,0", "output_norm.weight", "CUDA0"),
        ("-ncmoe 2 -ts 1,0", "blk.1.ffn_up_exps.bias", "RAM"),
        ("-ncmoe 2 -ts 1,0", "blk.1.attn_q.weight", "CUDA0"),
        ("-ncmoe 2 -ts 1,0", "blk.12.ffn_up_exps.weight", "CUDA0"),
        ("-cmoe -ts 1,0", "blk.23.ffn_gate_exps.weight", "RAM"),
        ("-ncffn 1 -ts 1,0", "blk.0.ffn_up.weight", "RAM"),
        ("-ot token_embd=CUDA1", "token_embd.weight", "CUDA1"),
        ("-ot ffn_up=CUDA1 -cmoe -ts 1,0", "blk.0.ffn_up_exps.weight", "CUDA1"),
        ("-ot ffn_up=Nowhere -ts 1,0", "blk.0.ffn_up_exps.weight", "RAM"),
        ("-ot *=CUDA1 -ts 1,0", "blk.0.attn_q.weight", "CUDA0"),  # no pattern: the engine refuses it
    ],
)
def test_where_a_tensor_goes(words: str, tensor: str, pool: str) -> None:
    assert layout(words).of(tensor) == pool


def model_with(architecture: str, **values: HeaderValue) -> Model:
    named = {f"{architecture}.{key.replace('__', '.')}": value for key, value in values.items()}
    return Model(architecture, named, (), ())


def test_every_second_layer_of_gpt_oss_has_a_window() -> None:
    assert sliding_layers(gpt_oss("20b")) == frozenset(range(0, 24, 2))


def test_windows_by_architecture_by_period_and_by_layer() -> None:
    window: dict[str, HeaderValue] = {"block_count": 6, "attention__sliding_window": 512}
    pattern = "attention__sliding_window_pattern"
    assert sliding_layers(model_with("gemma3", **window)) == {0, 1, 2, 3, 4}
    assert sliding_layers(model_with("gemma3", **window, **{pattern: 3})) == {0, 1, 3, 4}
    assert sliding_layers(model_with("new", **window, **{pattern: (True, False, True)})) == {0, 2}
    assert sliding_layers(model_with("new", **window)) == frozenset()
    assert sliding_layers(model_with("gemma3", block_count=6)) == frozenset()


def tensor(name: str, kind: str, *shape: int) -> TensorInfo:
    found = NAMED[kind]
    rows = 1
    for length in shape[1:]:
        rows *= length
    return TensorInfo(name, shape, found, 0, found.row_bytes(shape[0]) * rows)


EXPERTS = tensor("blk.0.ffn_up_exps.weight", "mxfp4", 2880, 2880, 32)
DENSE = tensor("blk.0.attn_q.weight", "q8_0", 2880, 4096)


@pytest.mark.parametrize(
    ("weight", "features", "repacked"),
    [
        (EXPERTS, ("avx2",), True),
        (EXPERTS, ("avx",), False),
        (EXPERTS, ("neon", "dotprod"), True),
        (EXPERTS, ("neon",), False),
        (DENSE, ("avx2", "avx512f"), False),
        (DENSE, ("neon", "dotprod"), True),
        (tensor("token_embd.weight", "q4_0", 64, 64), ("avx2",), False),
        (tensor("blk.0.ffn_up.weight", "q4_0", 64, 60), ("avx2",), False),  # rows of eight together
        (tensor("blk.0.ffn_up.weight", "f16", 64, 64), ("avx2",), False),
        (TensorInfo("blk.0.ffn_up.weight", (64, 64), None, 0, None), ("avx2",), False),
    ],
)
def test_what_is_rearranged_for_which_cpu(
    weight: TensorInfo, features: tuple[str, ...], repacked: bool
) -> None:
    assert (repacked_bytes(weight, features) is not None) == repacked


def test_rows_rearranged_for_amx_are_longer() -> None:
    amx = ("avx2", "avx512_vnni", "amx_int8")
    assert repacked_bytes(DENSE, amx) == (DENSE.size_bytes or 0) * 38 // 34
    assert repacked_bytes(EXPERTS, amx) == EXPERTS.size_bytes  # no experts there: as for AVX2
