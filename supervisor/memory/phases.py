"""
What the steps of computing one batch take.  Pure.

llama.cpp keeps one buffer on each device for all that is between the weights, as large as the largest step
needs.  The steps are those of the graphs in src/models and src/llama-graph.cpp of llama.cpp b11434, for a
batch of as many tokens as --ubatch-size; what the allocator's gaps cost was measured (docs/memory.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..model.model import Model
from . import context
from .settings import Settings
from .windows import sliding_layers

_F32, _F16, _I64 = 4, 2, 8


@dataclass(frozen=True, slots=True)
class Phases:
    """
    Bytes, all for one batch.

    ``inputs`` are the masks of attention, there all the time; ``stream`` is one copy of the tokens'
    embeddings, of which several are alive at once; ``network`` is the feed-forward step, ``hidden`` its
    widest tensor; ``attention`` and ``logits`` are the other steps.
    """

    inputs: int
    stream: int
    network: int
    hidden: int
    attention: int
    logits: int

    @property
    def largest(self) -> int:
        return max(self.network, self.attention, self.logits)


def phases(model: Model, settings: Settings) -> Phases:
    tokens = settings.ubatch * _F32
    stream = tokens * (model.embedding_length or 0)
    hidden, used = tokens * _hidden(model), model.experts_used or 1
    down = used * stream
    return Phases(
        inputs=_inputs(model, settings),
        stream=stream,
        network=3 * hidden + (down if down > 2 * hidden and model.experts else 0),
        hidden=hidden,
        attention=2 * tokens * _queries(model) + _scores(model, settings),
        logits=settings.outputs * (model.vocabulary_size or 0) * _F32,
    )


def _hidden(model: Model) -> int:
    """Elements for one token, of the widest layer: gate, up and their product have it."""
    used = model.experts_used or 1
    widest = 0
    for tensor in model.tensors:
        if tensor.name.endswith("ffn_up_exps.weight"):
            widest = max(widest, used * tensor.shape[1])
        elif tensor.name.endswith("ffn_gate_up_exps.weight"):
            widest = max(widest, used * tensor.shape[1] // 2)
        elif tensor.name.endswith("ffn_up.weight"):
            widest = max(widest, tensor.shape[1])
    return widest


def _queries(model: Model) -> int:
    heads = max((model.heads(layer) or 0 for layer in range(model.layers or 0)), default=0)
    return heads * max(model.key_length or 0, model.value_length or 0)


def _scores(model: Model, settings: Settings) -> int:
    """Without flash attention every token's score of every cell is written out, head by head."""
    if settings.flash:
        return 0
    heads = max((model.heads(layer) or 0 for layer in range(model.layers or 0)), default=0)
    return settings.slot_tokens * settings.ubatch * heads * _F32


def _inputs(model: Model, settings: Settings) -> int:
    """A mask for each kind of layer, of a cell by token; without flash attention also where values go."""
    kinds = {layer in sliding_layers(model) for layer in range(model.layers or 0)}
    total = 0
    for slides in kinds:
        cells = context.cells(model, settings, slides=slides)
        total += cells * settings.ubatch * (_F16 if settings.flash else _F32)
        if not settings.flash:
            total += settings.ubatch * _values(model) * _I64
    return total


def _values(model: Model) -> int:
    heads = max((model.heads_kv(layer) or 0 for layer in range(model.layers or 0)), default=0)
    return heads * (model.value_length or 0)
