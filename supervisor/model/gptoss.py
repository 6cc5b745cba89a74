"""
The gpt-oss architecture as llama.cpp loads it: its keys and its 19 tensors a layer, for any dimensions; and
the part of a vocabulary that every such model has: 256 bytes in GPT-2's spelling, harmony's markers.

Source: src/models/openai-moe.cpp of llama.cpp, and the headers of ggml-org's gpt-oss GGUF files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .gguf import Tensor, TensorType, Value

NORMAL, CONTROL, UNUSED = 1, 3, 5  # llama.cpp's token types

MARKERS = (
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
    "<|message|>", "<|call|>",
)  # fmt: skip
ARCHITECTURE = "gpt-oss"
CONTEXT_TOKENS = 131072
FILE_TYPE_MXFP4_MOE = 38
F32, MXFP4 = TensorType.F32, TensorType.MXFP4
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


def model_values(shape: Shape, name: str) -> dict[str, Value]:
    """The keys that say what the tensors mean."""
    own: Mapping[str, Value] = {
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


def tokenizer_values(tokens: list[str], types: list[int], merges: list[str]) -> dict[str, Value]:
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


def tensors(shape: Shape, vocabulary_size: int, *, dense: TensorType) -> Iterator[Tensor]:
    """
    Every tensor, without data: experts in MXFP4, embeddings, attention and output in ``dense``.

    The published files have Q8_0 as ``dense``; norms, biases and the router are always F32.
    """
    yield Tensor("token_embd.weight", (shape.embedding, vocabulary_size), dense)
    yield Tensor("output_norm.weight", (shape.embedding,), F32)
    yield Tensor("output.weight", (shape.embedding, vocabulary_size), dense)
    for layer in range(shape.layers):
        for part in (*_attention(shape, dense), *_experts(shape)):
            yield Tensor(f"blk.{layer}.{part.name}", part.shape, part.type)


def _attention(shape: Shape, dense: TensorType) -> Iterator[Tensor]:
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
