"""
Files of the true size and shape of gpt-oss-20b and 120b, made of holes: for tests and bench.

The real llama.cpp opens them and computes what they would take.  Every weight is zero, and the vocabulary
is made up, with as many tokens and merges as the real one.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from supervisor.errors import PermissionDenied, SupervisorError
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

Size = Literal["20b", "120b"]


def _shape(layers: int, experts: int) -> Shape:
    return Shape(
        layers=layers,
        embedding=2880,
        heads=64,
        heads_kv=8,
        head_size=64,
        experts=experts,
        experts_used=4,
        feed_forward=2880,
    )


# Source: the config.json of openai/gpt-oss-20b and openai/gpt-oss-120b.
SHAPES: Mapping[Size, Shape] = {"20b": _shape(24, 32), "120b": _shape(36, 128)}
TOKENS = 201_088
MERGES = 446_189
_PROBE_BYTES = 1 << 24


def write_sparse(path: Path, size: Size) -> None:
    """
    Write a GGUF of 12.1 or 63.4 GB that takes 9 MB on disk.

    Raises SupervisorError where the filesystem knows no holes, and as ``write_gguf`` does.
    """
    _demand_holes(path.parent)
    tokens = _tokens()
    types = [CONTROL if token in MARKERS else NORMAL for token in tokens]
    write_gguf(
        path,
        {
            **model_values(SHAPES[size], f"gpt-oss-{size} without weights"),
            **tokenizer_values(tokens, types, _merges()),
        },
        list(tensors(SHAPES[size], TOKENS, dense=NAMED["q8_0"])),
    )


def _demand_holes(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.truncate(_PROBE_BYTES)
            blocks = getattr(os.fstat(probe.fileno()), "st_blocks", None)  # of 512 bytes; none on Windows
    except PermissionError as error:
        raise PermissionDenied(f"{folder} cannot be written: {error.strerror}.") from error
    except OSError as error:
        raise SupervisorError(f"{folder} cannot be written: {error.strerror or error}.") from error
    if blocks is None or blocks * 512 > _PROBE_BYTES // 2:
        raise SupervisorError(
            f"{folder} is on a filesystem without sparse files.",
            hint="Name a folder on ext4, XFS, Btrfs, APFS or tmpfs.",
        )


def _tokens() -> list[str]:
    words = itertools.islice(_words(), TOKENS - len(BYTES) - len(MARKERS))
    return [*BYTES, *words, *MARKERS]


def _words() -> Iterator[str]:
    """Strings of two letters and more, without end: as long as a real vocabulary's on the average."""
    letters = "etaoinshrdlcumwfgypbvkjxqz"
    for length in itertools.count(2):
        for word in itertools.product(letters, repeat=length):
            yield "".join(word)


def _merges() -> list[str]:
    """Different pairs of tokens; llama.cpp only needs to find a blank inside each."""
    pairs = itertools.product(itertools.islice(_words(), 700), repeat=2)
    return [" ".join(pair) for pair in itertools.islice(pairs, MERGES)]
