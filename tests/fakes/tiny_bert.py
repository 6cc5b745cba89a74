"""
A BERT of one layer for the real llama-server, whose embedding of a text is the mean of its words' vectors.

Attention and feed-forward step are zero, and each token has a dimension of its own: texts without a common word
are at right angles to each other, but for the two tokens around each of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from supervisor.model.demo import CONTROL, NORMAL
from supervisor.model.gguf import NAMED, GGUFValue, Tensor
from supervisor.model.gguf_writer import write_gguf

WIDTH = 64
WORDS = ("cats", "dogs", "sleep", "bark", "money", "rains")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_F32 = NAMED["f32"]


def write_bert(path: Path) -> None:
    """Raises as ``write_gguf`` does."""
    tokens = [*_SPECIAL, *(f"\u2581{word}" for word in WORDS)]
    own: Mapping[str, GGUFValue] = {
        "block_count": 1,
        "context_length": 512,
        "embedding_length": WIDTH,
        "feed_forward_length": WIDTH,
        "attention.head_count": 2,
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
        "pooling_type": 1,  # the mean
    }
    values: Mapping[str, GGUFValue] = {
        "general.architecture": "bert",
        "general.name": "tiny bert",
        **{f"bert.{key}": value for key, value in own.items()},
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * len(_SPECIAL) + [NORMAL] * len(WORDS),
        **{
            f"tokenizer.ggml.{name}_token_id": tokens.index(token)
            for name, token in (
                ("padding", "[PAD]"),
                ("unknown", "[UNK]"),
                ("bos", "[CLS]"),
                ("eos", "[SEP]"),
            )
        },
        "tokenizer.ggml.seperator_token_id": tokens.index("[SEP]"),  # llama.cpp's spelling
    }
    write_gguf(path, values, list(_tensors(len(tokens))))


def _tensors(tokens: int) -> Iterator[Tensor]:
    square = (WIDTH, WIDTH)
    places = [one for token in range(tokens) for one in _one_hot(token)]
    yield Tensor("token_embd.weight", (WIDTH, tokens), _F32, _floats(places))
    yield Tensor("token_types.weight", (WIDTH, 2), _F32)
    yield Tensor("position_embd.weight", (WIDTH, 512), _F32)
    yield from _norm("token_embd_norm")
    for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"):
        yield Tensor(f"blk.0.{part}.weight", square, _F32)
        yield Tensor(f"blk.0.{part}.bias", (WIDTH,), _F32)
    yield from (*_norm("blk.0.attn_output_norm"), *_norm("blk.0.layer_output_norm"))


def _norm(name: str) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (WIDTH,), _F32, _floats([1.0] * WIDTH))
    yield Tensor(f"{name}.bias", (WIDTH,), _F32)


def _one_hot(place: int) -> list[float]:
    return [float(each == place) for each in range(WIDTH)]


def _floats(numbers: Sequence[float]) -> tuple[bytes]:
    return (struct.pack(f"<{len(numbers)}f", *numbers),)
