"""
The demo model: a gpt-oss of 3.5 MB that the real llama-server loads at once, and that recites one answer.

Attention and experts are zero, so the state after the layers is the last token alone.  Each token has a
dimension of its own, and the output weights send it to its successor.  So each step of the script must be a
token that occurs once; a repeated word is joined with the next one.  Weights other than the experts' are F32,
for which every backend on every processor has plain kernels.

Keys, the 19 tensors of a layer and the vocabulary's required part (256 bytes in GPT-2's spelling, harmony's
markers) are those of src/models/openai-moe.cpp and of ggml-org's gpt-oss GGUF files.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ..errors import SupervisorError
from .gguf import NAMED, GGUFValue, Tensor, TensorKind
from .gguf_writer import gguf_bytes, write_gguf
from .header import read_header
from .metadata import Model, Part, join

NORMAL, CONTROL, UNUSED = 1, 3, 5  # llama.cpp's token types

MARKERS = (
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
    "<|message|>", "<|call|>",
)  # fmt: skip
ARCHITECTURE = "gpt-oss"
CONTEXT_TOKENS = 131072
FILE_TYPE_MXFP4_MOE = 38
F32, MXFP4 = NAMED["f32"], NAMED["mxfp4"]
# Harmony, the format of gpt-oss, in few lines.  The official template has 17 KB, most of it for TypeScript
# renderings of tools.  This one renders the same markers, by which llama.cpp recognises gpt-oss and chooses
# its parser.  Format: https://developers.openai.com/cookbook/articles/openai-harmony
CHAT_TEMPLATE = """\
<|start|>system<|message|>You are the demo model of goss-supervisor.

Reasoning: {{ reasoning_effort if reasoning_effort is defined else "medium" }}

# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>
{%- if tools %}<|start|>developer<|message|># Tools

{{ tools | tojson }}<|end|>{% endif %}
{%- for message in messages %}
{%- if message.role == "assistant" %}
{%- for call in message.tool_calls or [] %}<|start|>assistant to=functions.{{ call.function.name -}}
<|channel|>commentary json<|message|>{{ call.function.arguments | tojson }}<|call|>{% endfor %}
{%- if message.content %}<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|end|>{% endif %}
{%- elif message.role == "tool" %}<|start|>functions to=assistant<|channel|>commentary<|message|>
{{- message.content }}<|end|>
{%- else %}<|start|>{{ "developer" if message.role == "system" else message.role }}<|message|>
{{- message.content }}<|end|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""


def _spellings() -> tuple[str, ...]:
    """
    How a GPT-2 vocabulary writes each byte: printable ones as they are, the others from U+0100 on.

    Source: bytes_to_unicode in https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTES = _spellings()


def spelled(text: str) -> str:
    """``text`` as a GPT-2 vocabulary writes it: `` I`` becomes ``ĠI``."""
    return "".join(BYTES[byte] for byte in text.encode())


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of one model."""

    layers: int
    embedding: int
    heads: int
    heads_kv: int
    head_size: int
    experts: int
    experts_used: int
    feed_forward: int


def model_values(shape: Shape, name: str) -> dict[str, GGUFValue]:
    """The keys that say what the tensors mean."""
    own: Mapping[str, GGUFValue] = {
        "block_count": shape.layers, "context_length": CONTEXT_TOKENS, "embedding_length": shape.embedding,
        "feed_forward_length": shape.feed_forward, "expert_feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads, "attention.head_count_kv": shape.heads_kv,
        "attention.key_length": shape.head_size, "attention.value_length": shape.head_size,
        "attention.sliding_window": 128, "attention.layer_norm_rms_epsilon": 1e-5,
        "expert_count": shape.experts, "expert_used_count": shape.experts_used,
        "rope.freq_base": 150000.0, "rope.scaling.type": "yarn", "rope.scaling.factor": 32.0,
        "rope.scaling.original_context_length": 4096,
    }  # fmt: skip
    return {
        "general.architecture": ARCHITECTURE,
        "general.name": name,
        "general.file_type": FILE_TYPE_MXFP4_MOE,
        "general.quantization_version": 2,
        **{f"{ARCHITECTURE}.{key}": value for key, value in own.items()},
    }


def tokenizer_values(tokens: list[str], types: list[int], merges: list[str]) -> dict[str, GGUFValue]:
    """The keys of a vocabulary, whose special tokens are those of harmony."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-4o",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": tokens.index("<|startoftext|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|return|>"),
        "tokenizer.ggml.padding_token_id": tokens.index("<|endoftext|>"),
    }


def tensors(shape: Shape, vocabulary_size: int, *, dense: TensorKind) -> Iterator[Tensor]:
    """
    Every tensor, without data: experts in MXFP4, embeddings, attention and output in ``dense``.

    The published files have Q8_0 as ``dense``; norms, biases and the router are always F32.
    """
    yield Tensor("token_embd.weight", (shape.embedding, vocabulary_size), dense)
    yield Tensor("output_norm.weight", (shape.embedding,), F32)
    yield Tensor("output.weight", (shape.embedding, vocabulary_size), dense)
    for layer in range(shape.layers):
        for part in (*_attention(shape, dense), *_experts(shape)):
            yield Tensor(f"blk.{layer}.{part.name}", part.shape, part.kind)


def _attention(shape: Shape, dense: TensorKind) -> Iterator[Tensor]:
    embedding, queries = shape.embedding, shape.heads * shape.head_size
    keys = shape.heads_kv * shape.head_size
    yield Tensor("attn_norm.weight", (embedding,), F32)
    yield Tensor("attn_sinks.weight", (shape.heads,), F32)
    for name, rows, row in (
        ("attn_q", queries, embedding),
        ("attn_k", keys, embedding),
        ("attn_v", keys, embedding),
        ("attn_output", embedding, queries),
    ):
        yield Tensor(f"{name}.weight", (row, rows), dense)
        yield Tensor(f"{name}.bias", (rows,), F32)


def _experts(shape: Shape) -> Iterator[Tensor]:
    embedding, hidden, experts = shape.embedding, shape.feed_forward, shape.experts
    yield Tensor("post_attention_norm.weight", (embedding,), F32)
    yield Tensor("ffn_gate_inp.weight", (embedding, experts), F32)
    yield Tensor("ffn_gate_inp.bias", (experts,), F32)
    for name, rows, row in (
        ("ffn_gate_exps", hidden, embedding),
        ("ffn_up_exps", hidden, embedding),
        ("ffn_down_exps", embedding, hidden),
    ):
        yield Tensor(f"{name}.weight", (row, rows, experts), MXFP4)
        yield Tensor(f"{name}.bias", (rows, experts), F32)


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
    write_gguf(path, *_content())


def demo_model(models_dir: Path) -> Model:
    """What its file will say of itself, for those who only look: nothing is written."""
    path, data = demo_path(models_dir), gguf_bytes(*_content())
    return join([(Part(str(path), len(data)), read_header(_Bytes(data)))])


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A `ByteSource` in memory."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def _content() -> tuple[Mapping[str, GGUFValue], list[Tensor]]:
    """The file's keys and tensors."""
    script = _script()
    tokens = _tokens(script)
    data = _weights(_successors(script, tokens))
    filled = [
        replace(tensor, data=(data[tensor.name],) if tensor.name in data else None)
        for tensor in tensors(_SHAPE, len(tokens), dense=NAMED["f32"])
    ]
    return _values(tokens), filled


def _is_intact(path: Path) -> bool:
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest() == DEMO_SHA256
    return False


def _script() -> list[str]:
    """The tokens from the end of the prompt to the end of the answer, spelled, no one twice."""
    reasoning = _pieces(DEMO_REASONING, used=())
    answer = _pieces(DEMO_ANSWER, used=reasoning)
    header = ["<|channel|>", "analysis", "<|message|>"]
    return [_ROLE, *header, *reasoning, "<|end|>", _FINAL_HEADER, *answer, "<|return|>"]


def _pieces(text: str, used: Sequence[str]) -> list[str]:
    """The words, joined where one alone was said before: with the next, at the end with the last."""
    pieces: list[str] = []
    piece = ""
    for word in re.findall(r"\s*\S+", text):
        piece += spelled(word)
        if piece not in (*used, *pieces):
            pieces.append(piece)
            piece = ""
    while piece:
        piece = pieces.pop() + piece
        if piece not in (*used, *pieces):
            return [*pieces, piece]
    return pieces


def _tokens(script: Sequence[str]) -> list[str]:
    """The vocabulary, as long as the embedding: every token has a dimension of its own."""
    grown = [_ROLE[:length] for length in range(2, len(_ROLE))]
    tokens = [*BYTES, *MARKERS, *grown, *(token for token in script if token not in MARKERS)]
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


def _values(tokens: list[str]) -> dict[str, GGUFValue]:
    merges = [f"{_ROLE[:length]} {_ROLE[length]}" for length in range(1, len(_ROLE))]
    return {
        **model_values(_SHAPE, "goss-supervisor demo"),
        **tokenizer_values(tokens, [_token_type(token) for token in tokens], merges),
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _token_type(token: str) -> int:
    if token in MARKERS:
        return CONTROL
    return UNUSED if token.startswith("<|reserved_") else NORMAL
