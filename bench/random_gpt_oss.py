"""
A gpt-oss of random weights, some 300 MB: its router sends each token to other experts, as a real one does.

    PYTHONPATH=. bench/random_gpt_oss.py FILE
"""

from __future__ import annotations

import random
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

from supervisor.model.demo import (
    BYTES,
    CONTROL,
    MARKERS,
    NORMAL,
    Shape,
    model_values,
    spelled,
    tensors,
    tokenizer_values,
)
from supervisor.model.gguf import NAMED, Tensor
from supervisor.model.gguf_writer import write_gguf

SHAPE = Shape(
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
PIECE = 1 << 16  # blocks at a time
EXPONENT = 127 - 6  # of MXFP4: values up to 6 / 2**7, so that a row of 1024 keeps the size of what goes in
SCALE = struct.pack("<e", 0.0004)  # of Q8_0, for the same


def write(path: Path, seed: int = 1) -> None:
    draw = random.Random(seed)
    words = [spelled(f" w{number}") for number in range(TOKENS - len(BYTES) - len(MARKERS))]
    tokens = [*BYTES, *MARKERS, *words]
    types = [CONTROL if token in MARKERS else NORMAL for token in tokens]
    values = {
        **model_values(SHAPE, "random gpt-oss"),
        **tokenizer_values(tokens, types, [f"{spelled(' ')} w"]),
    }
    filled = [
        replace(tensor, data=data_of(tensor, draw)) for tensor in tensors(SHAPE, TOKENS, dense=NAMED["q8_0"])
    ]
    write_gguf(path, values, filled)


def data_of(tensor: Tensor, draw: random.Random) -> Iterator[bytes] | None:
    if tensor.kind is NAMED["f32"]:
        if "norm" in tensor.name:
            return iter([array("f", [1.0] * prod(tensor.shape)).tobytes()])
        if tensor.name.endswith("ffn_gate_inp.weight"):
            return iter([array("f", [draw.gauss(0, 1) for _ in range(prod(tensor.shape))]).tobytes()])
        return None  # biases and sinks
    head = bytes([EXPONENT]) if tensor.kind is NAMED["mxfp4"] else SCALE
    return blocks(prod(tensor.shape) // tensor.kind.block_elements, head, tensor.kind.block_bytes, draw)


def blocks(count: int, head: bytes, size: int, draw: random.Random) -> Iterator[bytes]:
    for begin in range(0, count, PIECE):
        here = min(PIECE, count - begin)
        piece = bytearray(here * size)
        for place in range(size):
            same = head[place : place + 1]
            piece[place::size] = same * here if same else draw.randbytes(here)
        yield bytes(piece)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
