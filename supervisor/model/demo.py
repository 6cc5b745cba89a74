"""
The demo model: a gpt-oss of 3.5 MB that the real llama-server loads in a blink, with one answer.

Attention and experts are zero, so the state after the layers is the last token alone.  Each token has a
dimension of its own, and the output weights send it to its successor: the model recites.  Therefore each
step of the script must be a token that occurs once; a word that was said is joined with the next one.
Weights other than the experts' are F32, for which every backend on every processor has plain kernels.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ..errors import SupervisorError
from . import gptoss
from .gguf import TensorType, Value, write_gguf
from .gptoss import CHAT_TEMPLATE, MARKERS, Shape

DEMO_REASONING = (
    "Someone talks to the demo model. It is a tiny gpt-oss that knows a single answer, "
    "whatever the question was. I will give this answer and say what can be done next."
)
DEMO_ANSWER = (
    "Hello! I am the demo model of goss-supervisor, and these sentences are all I can say. "
    "Still, everything around me is real: a llama-server loaded my weights, read your question and "
    "computed each word of this reply. So your setup works. "
    "Now choose a profile for your machine with `goss-supervisor profile ls`, "
    "then run `goss-supervisor switch NAME` to talk to a model that thinks."
)
# Of the whole file, and part of its name: a newer demo never meets an older one, a damaged file is written
# anew.  A test tells the right one after a change.
DEMO_SHA256 = "39e81b309d3e7e01ddcdcde236c986118edf3d885f878643ba9355aeba32bdfa"

# Few of everything, in sizes that every backend's kernels take; the head size is the real one.
_SHAPE = Shape(
    layers=2, embedding=384, heads=4, heads_kv=1, head_size=64, experts=4, experts_used=2, feed_forward=64
)
# The prompt ends in <|start|>assistant.  Merging its letters makes that word one token, which begins the
# script; a raw prompt, which ends in something else, gets the answer without harmony around it.
_ROLE = "assistant"
_FINAL_HEADER = "<|start|>assistant<|channel|>final<|message|>"  # one token: its parts were said before


def demo_path(models_dir: Path) -> Path:
    return models_dir / f"goss-demo-{DEMO_SHA256[:8]}.gguf"


def ensure_demo(models_dir: Path) -> Path:
    """
    The demo model's file in ``models_dir``, written if it is not there or damaged (some milliseconds).

    Raises PermissionDenied or SupervisorError when it cannot be written.
    """
    path = demo_path(models_dir)
    if _is_intact(path):
        return path
    try:
        write_demo(path)
    except SupervisorError:
        # Another process may have been faster: Windows does not replace a file that a server has open.
        if not _is_intact(path):
            raise
    return path


def write_demo(path: Path) -> None:
    """Write the demo model to ``path``; raises as ``ensure_demo`` does."""
    script = _script()
    tokens = _tokens(script)
    data = _weights(_successors(script, tokens))
    filled = [
        replace(tensor, data=(data[tensor.name],) if tensor.name in data else None)
        for tensor in gptoss.tensors(_SHAPE, len(tokens), dense=TensorType.F32)
    ]
    write_gguf(path, _values(tokens), filled)


def _is_intact(path: Path) -> bool:
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest() == DEMO_SHA256
    return False


def _script() -> list[str]:
    """The tokens from the end of the prompt to the end of the answer, spelled, no one twice."""
    reasoning = _pieces(DEMO_REASONING, said=())
    answer = _pieces(DEMO_ANSWER, said=reasoning)
    header = ["<|channel|>", "analysis", "<|message|>"]
    return [_ROLE, *header, *reasoning, "<|end|>", _FINAL_HEADER, *answer, "<|return|>"]


def _pieces(text: str, said: Sequence[str]) -> list[str]:
    """The words, joined where one alone was said before: with the next, at the end with the last."""
    pieces: list[str] = []
    piece = ""
    for word in re.findall(r"\s*\S+", text):
        piece += gptoss.spelled(word)
        if piece not in (*said, *pieces):
            pieces.append(piece)
            piece = ""
    while piece:
        piece = pieces.pop() + piece
        if piece not in (*said, *pieces):
            return [*pieces, piece]
    return pieces


def _tokens(script: Sequence[str]) -> list[str]:
    """The vocabulary, as long as the embedding: every token has a dimension of its own."""
    grown = [_ROLE[:length] for length in range(2, len(_ROLE))]
    tokens = [*gptoss.BYTES, *MARKERS, *grown, *(token for token in script if token not in MARKERS)]
    return [*tokens, *(f"<|reserved_{n}|>" for n in range(_SHAPE.embedding - len(tokens)))]


def _successors(script: Sequence[str], tokens: Sequence[str]) -> list[int]:
    start_of_answer = script[script.index(_FINAL_HEADER) + 1]
    following = dict.fromkeys(tokens, start_of_answer) | dict(pairwise(script))
    return [tokens.index(following[token]) for token in tokens]


def _weights(successors: Sequence[int]) -> dict[str, bytes]:
    """The three tensors that are not zero; the others are holes."""
    size = _SHAPE.embedding
    return {
        "token_embd.weight": _one_hot(range(size), 1.0),
        "output_norm.weight": struct.pack(f"<{size}f", *[1.0] * size),
        # The norm turns a one among zeros into sqrt(384), so the successor's logit is 1960, the others' 0:
        # no temperature makes the model hesitate.
        "output.weight": _one_hot(successors, 100.0),
    }


def _one_hot(rows: Iterable[int], weight: float) -> bytes:
    """A matrix of zeros, but for ``weight`` in the given row of each column."""
    size = _SHAPE.embedding
    matrix = bytearray(size * size * 4)
    for column, row in enumerate(rows):
        struct.pack_into("<f", matrix, (row * size + column) * 4, weight)
    return bytes(matrix)


def _values(tokens: list[str]) -> dict[str, Value]:
    merges = [f"{_ROLE[:length]} {_ROLE[length]}" for length in range(1, len(_ROLE))]
    return {
        **gptoss.model_values(_SHAPE, "goss-supervisor demo"),
        **gptoss.tokenizer_values(tokens, [_token_type(token) for token in tokens], merges),
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _token_type(token: str) -> int:
    if token in MARKERS:
        return gptoss.CONTROL
    return gptoss.UNUSED if token.startswith("<|reserved_") else gptoss.NORMAL
