"""
What llama.cpp keeps of a conversation: keys and values, recurrent state, checkpoints.  Pure.

Sources, at b11434: llama_model::create_memory in src/llama-model.cpp (which layers have what), llama_kv_cache
(for every layer a tensor of K and one of V, on its device), llama_kv_cache_iswa (the cells of layers with a
window), llama_memory_recurrent (a state for each sequence), n_embd_r and n_embd_s in src/llama-hparams.cpp
(its size), load_arch_hparams of the models in src/models (windows, recurrent layers, shared layers),
state_write of each memory with LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY (what a checkpoint holds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..model.gguf import KINDS, TensorKind
from ..model.metadata import Model
from .memory_settings import Settings

_F32_BYTES = 4
_BOTH_OF: tuple[Literal["key"], Literal["value"]] = ("key", "value")
_F16 = KINDS[1]
_PADDING = 256  # of the cells of a window: llama_kv_cache_iswa
_CELL_META_BYTES = 12  # position, number of sequences, sequence: state_write_meta in src/llama-kv-cache.cpp

_PERIODS: Mapping[str, int] = {
    "gpt-oss": 2, "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma-embedding": 6, "cohere2": 4, "exaone4": 4,
    "exaone-moe": 4, "olmo2": 4, "afmoe": 4, "mellum": 4, "muse-glimmer": 4, "plamo3": 8, "llama4": 4,
    "cohere2moe": -4, "laguna": -4, "modern-bert": -3, "smallthinker": -4,
}  # fmt: skip
"""
Of so many layers in turn the last one sees everything, of a negative number the first one, where the file
does not say which do: load_swa_pattern of each model.
"""
_WINDOWS: Mapping[str, int] = {"gemma2": 4096, "exaone4": 4096, "smallthinker": 4096, "llama4": 8192}
"""Tokens, in code; all but Gemma 2 ignore what the file says."""
_WHOLE = frozenset({"phi3", "phimoe"})  # their windows are switched off

_WITHOUT = frozenset({
    "bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert",
    "modern-bert", "gemma-embedding",
})  # fmt: skip
"""They read everything at once and keep nothing."""
BY_INTERVAL = frozenset({"qwen3next", "qwen35", "qwen35moe"})
_BY_HEADS = frozenset({"granitehybrid", "jamba", "lfm2", "lfm2moe"})  # no heads for keys: a recurrent layer
_BY_WIDTH = frozenset({"nemotron_h", "nemotron_h_moe"})  # and no feed-forward step either
_ALL = frozenset({"mamba", "mamba2"})
_BOTH = frozenset({"falcon-h1"})  # attention and a state side by side in each layer
_ROLLED_BACK = frozenset({"qwen35", "qwen35moe", "nemotron_h", "nemotron_h_moe", "lfm2", "lfm2moe"})
"""States that drafted tokens are taken back from: llm_arch_supports_rs_rollback in src/llama-arch.cpp."""
_SHARED_FROM: Mapping[str, int] = {"gemma3n": 20}  # n_layer_kv_from_start


_PLAIN = frozenset({
    "llama", "llama4", "mistral3", "mistral4", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl",
    "qwen3vlmoe", "gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "glm4", "glm4moe", "deepseek",
    "deepseek2", "minimax-m2", "granite", "granitemoe", "phi2", "phi3", "phimoe", "command-r", "cohere2",
    "olmo2", "olmoe", "exaone", "exaone4", "smollm3", "seed_oss", "hunyuan-moe", "hunyuan-dense", "ernie4_5",
    "ernie4_5-moe", "bailingmoe", "bailingmoe2", "dots1", "internlm2", "starcoder2", "mimo2", "step35",
    "afmoe",
})  # fmt: skip
"""Keys and values in every layer, but for what the tables above say of them."""
KNOWN = _PLAIN | _WITHOUT | BY_INTERVAL | _BY_HEADS | _BY_WIDTH | _ALL | _BOTH
"""The architectures that these rules are right for; of any other the engine has to be asked."""


def trunk(model: Model) -> int:
    """The layers without the heads for multi-token prediction, which come last (n_layer_nextn)."""
    return (model.layers or 0) - (model.number("nextn_predict_layers") or 0)


def recurrent_layers(model: Model) -> frozenset[int]:
    """By number: those with a state.  Those of Falcon-H1 have a cache in addition."""
    layers, architecture = range(trunk(model)), model.architecture
    if architecture in _ALL or architecture in _BOTH:
        return frozenset(layers)
    if architecture in _BY_HEADS:
        return frozenset(layer for layer in layers if not model.heads_kv(layer))
    if architecture in _BY_WIDTH:
        without = (layer for layer in layers if not model.heads_kv(layer))
        return frozenset(layer for layer in without if not model.number("feed_forward_length", layer))
    if architecture not in BY_INTERVAL:
        return frozenset()
    told = model.values.get(f"{architecture}.attention.recurrent_layers")
    if isinstance(told, tuple):
        return frozenset(layer for layer, recurs in enumerate(told[: trunk(model)]) if recurs)
    interval = model.number("full_attention_interval") or 4
    return frozenset(layer for layer in layers if (layer + 1) % interval)


def sliding_layers(model: Model) -> frozenset[int]:
    """By number.  Empty also for an architecture that is not known here: its layers are counted whole."""
    if not window_tokens(model):
        return frozenset()
    if model.architecture in _BY_HEADS:
        return frozenset(range(trunk(model))) - recurrent_layers(model)
    pattern = model.values.get(f"{model.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return frozenset(layer for layer, slides in enumerate(pattern[: trunk(model)]) if slides)
    default = _PERIODS.get(model.architecture)
    period = abs(pattern if isinstance(pattern, int) else default or 0)
    if default is None and not isinstance(pattern, int):
        return frozenset()
    whole = 0 if (default or 1) < 0 else period - 1
    return frozenset(layer for layer in range(trunk(model)) if not period or layer % period != whole)


def window_tokens(model: Model) -> int:
    """What layers with a window see; 0 where none has one."""
    told = model.number("attention.sliding_window")
    fixed = _WINDOWS.get(model.architecture)
    if model.architecture in _WHOLE or (model.architecture == "exaone4" and trunk(model) != 64):
        return 0
    if model.architecture == "smallthinker" and not told:
        return 0
    if fixed is None or (model.architecture == "gemma2" and told is not None):
        return told or 0
    return 0 if told == 0 else fixed


def caching_layers(model: Model) -> frozenset[int]:
    """By number: those with keys and values of their own; the others have none, or use an earlier layer's."""
    if model.architecture in _WITHOUT or model.architecture in _ALL:
        return frozenset()
    shared = model.number("attention.shared_kv_layers") or 0
    own = _SHARED_FROM.get(model.architecture, (model.layers or 0) - shared)
    layers = frozenset(range(min(own, trunk(model))))
    if model.architecture in _BOTH:
        return layers
    if model.architecture in _BY_WIDTH:
        layers = frozenset(layer for layer in layers if not model.number("feed_forward_length", layer))
    return layers - recurrent_layers(model)


def cache_cells(model: Model, settings: Settings, *, slides: bool) -> int:
    """The cells of one stream of a layer."""
    whole = settings.slot_tokens
    if not slides or settings.swa_full:
        return whole
    window = window_tokens(model) * (settings.slots if settings.unified else 1)
    return -(-min(whole, window + settings.ubatch) // _PADDING) * _PADDING


def layers_bytes(model: Model, settings: Settings) -> tuple[int, ...]:
    """Of each layer all streams, and the states of all slots; 0 for a layer with neither."""
    states = settings.slots * (1 + rolled_back(model, settings)) * state_bytes(model)
    caching, recurrent, sliding = caching_layers(model), recurrent_layers(model), sliding_layers(model)
    cells = {
        slides: cache_cells(model, settings, slides=slides) * settings.streams for slides in (True, False)
    }
    rows = rows_bytes(model, settings)
    return tuple(
        (layer in caching) * cells[layer in sliding] * row + (layer in recurrent) * states
        for layer, row in enumerate(rows)
    )


def rolled_back(model: Model, settings: Settings) -> int:
    """The further states of each slot, one for each token that may be drafted and refused (n_rs_seq)."""
    return settings.drafted if model.architecture in _ROLLED_BACK else 0


def rows_bytes(model: Model, settings: Settings) -> Sequence[int]:
    """
    Of one token in each layer.  Latent attention keeps its keys only (is_mla in src/llama-hparams.cpp);
    without flash attention the values of all layers are as wide as the widest.
    """
    layers = range(model.layers or 0)
    sliding = sliding_layers(model)
    heads = [(model.heads_kv(layer) or 0) for layer in layers]
    keys, values = (
        [heads[n] * head_length(model, what, slides=n in sliding) for n in layers] for what in _BOTH_OF
    )
    if model.number("attention.key_length_mla"):
        values = [0 for _ in layers]
    elif not settings.flash:
        values = [max(values, default=0) for _ in layers]
    both = zip(keys, values, strict=True)
    return [_row_bytes(settings.cache_k, key) + _row_bytes(settings.cache_v, value) for key, value in both]


def head_length(model: Model, what: Literal["key", "value"], *, slides: bool) -> int:
    """Elements of one head; layers with a window may have others."""
    usual = (model.key_length if what == "key" else model.value_length) or 0
    own = model.number(f"attention.{what}_length_swa") if slides else None
    return usual if own is None else own


def state_bytes(model: Model) -> int:
    """Of one sequence in one recurrent layer: the last inputs of the convolution, and the state itself."""
    number = model.number
    if last := number("shortconv.l_cache"):
        return _F32_BYTES * (model.embedding_length or 0) * (last - 1)
    inner, state = number("ssm.inner_size") or 0, number("ssm.state_size") or 0
    rows = max(0, (number("ssm.conv_kernel") or 0) - 1)
    return _F32_BYTES * (rows * (inner + 2 * (number("ssm.group_count") or 0) * state) + state * inner)


def checkpoint_bytes(model: Model, settings: Settings) -> int:
    """
    What one slot's state takes that cannot be rolled back: its windows and its recurrent state.

    0 for a model that has neither, which needs no checkpoints, and with ``--swa-full``.
    """
    sliding = sliding_layers(model) & caching_layers(model) if not settings.swa_full else frozenset[int]()
    cells = min(window_tokens(model), settings.slot_tokens)
    rows = sum(row for layer, row in enumerate(rows_bytes(model, settings)) if layer in sliding)
    windows = cells * (rows + _CELL_META_BYTES) if sliding else 0
    return windows + len(recurrent_layers(model)) * state_bytes(model)


def checkpoints_bytes(model: Model, settings: Settings) -> int:
    """
    Of conversations that fill the context: one for each ``--checkpoint-min-step`` tokens, and the two at the
    end of each prompt (update_slots in tools/server/server-context.cpp).

    Many short turns make more, up to ``--ctx-checkpoints`` of each slot.
    """
    most = settings.checkpoints * settings.slots
    if settings.checkpoint_tokens:
        most = min(most, settings.context_tokens // settings.checkpoint_tokens + 2 * settings.slots)
    return most * checkpoint_bytes(model, settings)


def in_f16(settings: Settings) -> Settings:
    """The same with a cache that is not quantized."""
    return replace(settings, cache_k=_F16, cache_v=_F16)


def _row_bytes(kind: TensorKind, elements: int) -> int:
    return -(-elements // kind.block_elements) * kind.block_bytes
