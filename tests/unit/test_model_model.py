"""What a model says of itself, and what it does not."""

from __future__ import annotations

import pytest

from supervisor.model.demo import model_values, tensors
from supervisor.model.gguf import KINDS, NAMED, ValueType
from supervisor.model.header import Array, TensorInfo
from supervisor.model.metadata import Model, Part

from ..fakes.shapes import SHAPES, TOKENS


def model(values=(), sizes=(), architecture="a"):
    infos = tuple(TensorInfo(str(n), (1,), KINDS.get(0), 0, size) for n, size in enumerate(sizes))
    return Model(architecture, dict(values), infos, (Part("x", 10), Part("y", 5)))


def gptoss(size):
    shape = SHAPES[size]
    values = {
        **model_values(shape, "gpt-oss"),
        "tokenizer.ggml.tokens": Array(ValueType.STRING, TOKENS),
    }
    sizes = [tensor.size_bytes for tensor in tensors(shape, TOKENS, dense=NAMED["q8_0"])]
    return model(values, sizes, "gpt-oss")


@pytest.mark.parametrize(
    ("size", "layers", "experts", "weights"),
    [("20b", 24, 32, 12_096_558_336), ("120b", 36, 128, 63_374_323_968)],
)
def test_gpt_oss_is_described_as_it_was_published(size, layers, experts, weights):
    found = gptoss(size)
    assert (found.name, found.layers, found.experts, found.experts_used) == ("gpt-oss", layers, experts, 4)
    assert (found.context_length, found.embedding_length, found.vocabulary_size) == (131072, 2880, 201088)
    assert (found.heads(0), found.heads_kv(layers - 1), found.key_length, found.value_length) == (
        64,
        8,
        64,
        64,
    )
    assert (found.sliding_window, found.file_type, found.weights_bytes) == (128, 38, weights)


def test_what_the_file_does_not_say_is_unknown():
    empty = model()
    figures = [
        empty.name,
        empty.file_type,
        empty.layers,
        empty.experts,
        empty.experts_used,
        empty.context_length,
    ]
    figures += [empty.embedding_length, empty.vocabulary_size, empty.heads(0), empty.heads_kv(0)]
    assert [*figures, empty.key_length, empty.value_length, empty.sliding_window] == [None] * 13
    assert (empty.size_bytes, empty.weights_bytes) == (15, 0)


def test_a_value_of_another_type_is_unknown():
    odd = model({"a.block_count": "36", "a.context_length": 1.5, "a.expert_count": True, "general.name": 7})
    assert (odd.layers, odd.context_length, odd.experts, odd.name) == (None, None, None, None)


def test_values_for_each_layer_are_honoured():
    found = model({"a.attention.head_count": (8, 4), "a.attention.head_count_kv": (2, 0)})
    assert [found.heads(layer) for layer in (0, 1, 2, -1)] == [8, 4, None, None]
    assert [found.heads_kv(layer) for layer in (0, 1)] == [2, 0]


def test_llama_cpp_s_defaults_stand_for_what_is_not_said():
    found = model({"a.attention.head_count": 32, "a.embedding_length": 4096, "a.vocab_size": 7})
    assert (found.heads_kv(3), found.key_length, found.value_length, found.vocabulary_size) == (
        32,
        128,
        128,
        7,
    )


def test_a_window_of_nothing_and_no_experts_are_none():
    found = model({"a.attention.sliding_window": 0, "a.expert_count": 0, "a.expert_used_count": 0})
    assert (found.sliding_window, found.experts, found.experts_used) == (None, None, None)


def test_weights_in_an_unknown_format_have_no_sum():
    assert model(sizes=(1, None)).weights_bytes is None
