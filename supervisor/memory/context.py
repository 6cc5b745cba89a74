"""
The cache of keys and values of each layer.  Pure.

Sources, in src of llama.cpp b11434: llama_kv_cache (for every layer a tensor of K and one of V, on its
device), llama_kv_cache_iswa (the cells of layers with a window), load_swa_pattern and load_arch_hparams of
the models in src/models (which layers see a window of the context only).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..model.kinds import KINDS, TensorKind
from ..model.metadata import Model
from .memory_settings import Settings

_PERIODS: Mapping[str, int] = {
    "gpt-oss": 2, "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma-embedding": 6, "cohere2": 4, "exaone4": 4,
    "exaone-moe": 4, "olmo2": 4, "afmoe": 4, "mellum": 4, "plamo3": 8,
}  # fmt: skip
"""Of so many layers in turn the last one sees everything, where the file does not say which do."""

_PATTERN = "attention.sliding_window_pattern"
_F16 = KINDS[1]
_PADDING = 256  # of the cells of a window: llama_kv_cache_iswa


def sliding_layers(model: Model) -> frozenset[int]:
    """By number.  Empty also for an architecture that is not known here: its layers are counted whole."""
    layers = model.layers or 0
    if not model.sliding_window:
        return frozenset()
    pattern = model.values.get(f"{model.architecture}.{_PATTERN}")
    if isinstance(pattern, tuple):
        return frozenset(layer for layer, slides in enumerate(pattern[:layers]) if slides)
    period = pattern if isinstance(pattern, int) else _PERIODS.get(model.architecture)
    if period is None:
        return frozenset()
    return frozenset(layer for layer in range(layers) if period == 0 or layer % period < period - 1)


def cells(model: Model, settings: Settings, *, slides: bool) -> int:
    """The cells of one stream of a layer."""
    whole = settings.slot_tokens
    if not slides or settings.swa_full:
        return whole
    window = (model.sliding_window or 0) * (settings.slots if settings.unified else 1)
    return -(-min(whole, window + settings.ubatch) // _PADDING) * _PADDING


def layers_bytes(model: Model, settings: Settings) -> tuple[int, ...]:
    """Of each layer all streams; 0 for a layer without attention."""
    sliding = sliding_layers(model)
    of_all = {slides: cells(model, settings, slides=slides) * settings.streams for slides in (True, False)}
    return tuple(
        of_all[layer in sliding] * _cell_bytes(model, settings, layer) for layer in range(model.layers or 0)
    )


def _cell_bytes(model: Model, settings: Settings, layer: int) -> int:
    """Latent attention keeps its keys only (is_mla in src/llama-hparams.cpp)."""
    heads = model.heads_kv(layer) or 0
    keys, values = heads * (model.key_length or 0), heads * (model.value_length or 0)
    if model.number("attention.key_length_mla"):
        values = 0
    return _row_bytes(settings.cache_k, keys) + _row_bytes(settings.cache_v, values)


def _row_bytes(kind: TensorKind, elements: int) -> int:
    return -(-elements // kind.block_elements) * kind.block_bytes


def in_f16(settings: Settings) -> Settings:
    """The same with a cache that is not quantized."""
    return replace(settings, cache_k=_F16, cache_v=_F16)
