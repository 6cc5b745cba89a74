"""
Which layers of a model see a window of the context only.  Pure.

Source: load_swa_pattern and load_arch_hparams of the models in src/models of llama.cpp b11434.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model.model import Model

_PERIODS: Mapping[str, int] = {
    "gpt-oss": 2,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gemma-embedding": 6,
    "cohere2": 4,
    "exaone4": 4,
    "exaone-moe": 4,
    "olmo2": 4,
    "afmoe": 4,
    "mellum": 4,
    "plamo3": 8,
}
"""Of so many layers in turn the last one sees everything, where the file does not say which do."""

_PATTERN = "attention.sliding_window_pattern"


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
