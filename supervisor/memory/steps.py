"""
How wide the steps of one batch are, by the model's shape: what the compute buffers of llama.cpp hold.  Pure.

Sources, at b11434: build_ffn, build_moe_ffn and build_attn in src/llama-graph.cpp, build_mamba2_layer in
src/models/mamba-base.cpp, build_layer_attn_linear in src/models/qwen35.cpp, build_arch_graph of deepseek2,
gemma3n and gemma4 in src/models.  What is alive at once, and which gaps of ggml/src/ggml-alloc.c stay unused,
was found with the engine itself: docs/memory.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..model.header import TensorInfo
from ..model.metadata import Model
from .context import (
    BY_INTERVAL,
    cache_cells,
    caching_layers,
    head_length,
    recurrent_layers,
    sliding_layers,
    state_bytes,
)
from .memory_settings import Settings, only_reads

_DOWNS = frozenset({".weight", "_exps.weight", "_shexp.weight"})
COPIES = 5
"""Of the embeddings, alive at once where one device does all."""
_F32, _F16_BYTES, _I64 = 4, 2, 8
_SIDE_BY_SIDE = frozenset({"command-r", "cohere2", "phi2"})


@dataclass(frozen=True, slots=True)
class Phases:
    """
    Bytes, all for one batch.

    ``inputs`` are there all the time: the masks of attention, embeddings for each layer.  ``stream`` is one
    copy of the tokens' embeddings, of which several are alive at once (COPIES), and ``more_streams`` of them
    more than usual; ``network`` is the feed-forward step, ``hidden`` its widest tensor; ``attention``,
    ``recurrence`` and ``logits`` are the other steps.
    """

    inputs: int
    stream: int
    network: int
    hidden: int
    attention: int
    recurrence: int
    logits: int
    more_streams: int = 0

    @property
    def largest(self) -> int:
        extra = self.more_streams * self.stream
        return max(self.network + extra, self.attention + extra, self.recurrence, self.logits)


def phases(model: Model, settings: Settings) -> Phases:
    tokens = settings.ubatch * _F32
    stream = tokens * (model.embedding_length or 0)
    networks = _networks(model, settings)
    return Phases(
        inputs=_inputs(model, settings) + tokens * _per_layer(model),
        stream=stream,
        network=max(networks.values(), default=0),
        hidden=max(networks, default=0),
        attention=tokens * _attention(model) + _scores(model, settings),
        recurrence=_recurrence(model, settings) if recurrent_layers(model) else 0,
        logits=logits_bytes(model, settings),
        more_streams=_more_streams(model),
    )


def logits_bytes(model: Model, settings: Settings) -> int:
    if only_reads(model):
        return 0
    return settings.outputs * (model.vocabulary_size or 0) * _F32


def _networks(model: Model, settings: Settings) -> Mapping[int, int]:
    """The bytes of each feed-forward step that differs from others, by those of its widest tensor."""
    tensors = {tensor.name: tensor for tensor in model.tensors}
    seen_kinds: set[tuple[str, tuple[int, ...]]] = set()
    networks: dict[int, int] = {}
    for tensor in model.tensors:
        start, is_down, end = tensor.name.partition("ffn_down")
        if is_down and end in _DOWNS and (end, tensor.shape) not in seen_kinds:
            seen_kinds.add((end, tensor.shape))
            gate, up, both = (tensors.get(f"{start}ffn_{part}{end}") for part in ("gate", "up", "gate_up"))
            has_gate = bool(gate or both or (up and up.shape[1] == 2 * tensor.shape[0]))
            hidden = settings.ubatch * _F32 * tensor.shape[0] * _copies(model, tensor)
            network = _network(model, tensor, settings, hidden, has_gate=has_gate)
            networks[hidden] = max(network, networks.get(hidden, 0))
    return networks


def _copies(model: Model, tensor: TensorInfo) -> int:
    """Of experts, as many as a token uses."""
    return (model.experts_used or 1) if len(tensor.shape) > 2 else 1


def _network(model: Model, down: TensorInfo, settings: Settings, hidden: int, *, has_gate: bool) -> int:
    """
    Gate, up and their product; without a gate one tensor is changed in place.

    What the experts give is kept for each of them until it is summed up, and finds no room in the gaps
    where it is larger than two of those.
    """
    is_expert = len(down.shape) > 2
    given = settings.ubatch * _F32 * down.shape[1] * _copies(model, down) if is_expert else 0
    if not has_gate:
        return hidden + given
    return 3 * hidden + (given if given > 2 * hidden else 0)


def _attention(model: Model) -> int:
    """
    Elements for one token: queries and what they find.

    Queries that come with a gate (as in Qwen3-Next) are longer.  Latent attention has them four times.
    """
    if model.number("attention.key_length_mla"):
        return most(model, model.heads) * (_before_joined(model) + (model.key_length or 0))
    sliding = sliding_layers(model)
    longest = {
        slides: max(head_length(model, what, slides=slides) for what in ("key", "value"))
        for slides in (True, False)
    }
    usual = most(model, lambda layer: (model.heads(layer) or 0) * longest[layer in sliding])
    return 2 * max(usual, most_rows(model, "attn_q.weight"))


def _before_joined(model: Model) -> int:
    """Of a head of latent attention: its query, the turned part, and that absorbed into the latent space."""
    names = ("attention.key_length_mla", "rope.dimension_count", "attention.kv_lora_rank")
    return sum(model.number(name) or 0 for name in names)


def most(model: Model, count: Callable[[int], int | None]) -> int:
    """Of the layer that has most."""
    return max((count(layer) or 0 for layer in range(model.layers or 0)), default=0)


def _scores(model: Model, settings: Settings) -> int:
    """
    Without flash attention every token's score of every cell is written out, head by head; those of latent
    attention where its queries were before they were joined, if there are no more.
    """
    latent = model.number("attention.key_length_mla")
    if settings.flash or (latent and seen(model, settings, slides=False) <= _before_joined(model)):
        return 0
    sliding = sliding_layers(model)

    def of(layer: int) -> int:
        return (model.heads(layer) or 0) * seen(model, settings, slides=layer in sliding)

    return settings.ubatch * most(model, of) * _F32


def seen(model: Model, settings: Settings, *, slides: bool) -> int:
    """What one token can see: cells, or the batch itself where nothing is kept."""
    return cache_cells(model, settings, slides=slides) if caching_layers(model) else settings.ubatch


def _inputs(model: Model, settings: Settings) -> int:
    """A mask for each kind of layer, of a cell by token; without flash attention also where values go."""
    attending = caching_layers(model) or range(0 if recurrent_layers(model) else model.layers or 0)
    kinds = {layer in sliding_layers(model) for layer in attending}
    places = 0 if settings.flash or not caching_layers(model) else _I64
    wide = most(model, model.heads_kv) * (model.value_length or 0)
    return settings.ubatch * sum(
        seen(model, settings, slides=slides) * (_F16_BYTES if settings.flash else _F32) + wide * places
        for slides in kinds
    )


def _per_layer(model: Model) -> int:
    """Elements for one token of the embeddings that Gemma 3n and 4 have for each layer."""
    return (model.number("embedding_length_per_layer_input") or 0) * (model.layers or 0)


def _more_streams(model: Model) -> int:
    """
    Gemma 3n carries several versions of each token, and a prediction of each (altup).  What images put into
    the first layers (deepstack) makes the input longer, which is there as vectors, as tokens and chosen.
    Where attention and the feed-forward step read the same input, it stays until both are done.
    """
    if model.architecture in _SIDE_BY_SIDE:
        return 1
    if model.architecture == "granitehybrid" and not model.experts:
        return 2  # the gaps that its recurrent layers leave are too small for what follows
    if levels := model.number("n_deepstack_layers"):
        return 3 * (1 + levels)
    altup = next(
        (each.shape[0] for each in model.tensors if each.name.endswith("altup_correct_coef.weight")), 0
    )
    return 2 * altup - 2 if altup else 0


def _recurrence(model: Model, settings: Settings) -> int:
    """
    Of one recurrent layer: the convolution's input and output, what was split off before it, what comes out.

    The states of all slots are read, and handed out next to what comes out.  Those of a delta net are
    computed with when its input is gone, or in the room of all but one of the usual copies of the embeddings.
    """
    tokens, states = settings.ubatch * _F32, settings.slots * state_bytes(model)
    inner, groups = model.number("ssm.inner_size") or 0, model.number("ssm.group_count") or 0
    convolved = 2 * (inner + 2 * groups * (model.number("ssm.state_size") or 0))
    if model.architecture in BY_INTERVAL:
        alone, spared = tokens * (convolved + inner) + 2 * states, tokens * (model.embedding_length or 0)
        return max(0, min(alone, alone + tokens * inner + states - (COPIES - 1) * spared))
    projected = most_rows(model, "ssm_in.weight")
    return tokens * (projected + convolved + inner) + 2 * states - state_bytes(model)


def most_rows(model: Model, end: str) -> int:
    return max((tensor.shape[1] for tensor in model.tensors if tensor.name.endswith(end)), default=0)
