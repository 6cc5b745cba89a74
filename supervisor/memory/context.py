"""
The cache of keys and values of each layer.  Pure.

Sources, in src of llama.cpp b11434: llama_kv_cache (for every layer a tensor of K and one of V, on its
device), llama_kv_cache_iswa (the cells of layers with a window).
"""

from __future__ import annotations

from dataclasses import replace

from ..model.kinds import KINDS, TensorKind
from ..model.model import Model
from .settings import Settings
from .windows import sliding_layers

_F16 = KINDS[1]
_PADDING = 256  # of the cells of a window: llama_kv_cache_iswa


def cells(model: Model, settings: Settings, *, slides: bool) -> int:
    """The cells of one stream of a layer."""
    whole = settings.slot_tokens
    if not slides or settings.swa_full:
        return whole
    window = (model.sliding_window or 0) * (settings.slots if settings.unified else 1)
    return -(-min(whole, window + settings.ubatch) // _PADDING) * _PADDING


def layer_bytes(model: Model, settings: Settings, layer: int, *, slides: bool) -> int:
    """Of all streams; 0 for a layer without attention."""
    streams = cells(model, settings, slides=slides) * settings.streams
    return streams * _cell_bytes(model, settings, layer)


def layers_bytes(model: Model, settings: Settings) -> tuple[int, ...]:
    """Of each layer."""
    sliding = sliding_layers(model)
    return tuple(
        layer_bytes(model, settings, layer, slides=layer in sliding) for layer in range(model.layers or 0)
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
