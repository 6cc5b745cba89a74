"""
Which memory each weight goes to, and what it is there: mapped from the file, or a copy.  Pure.

Source: create_tensor and load_tensors of llama.cpp b11434; without a tensor of its own the output layer
uses a copy of the embeddings, unless both are in the same buffer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..model.header import TensorInfo
from ..model.model import Model
from .guardrails import RAM
from .layout import Layout
from .repack import repacked_bytes

_OUTPUT = "output.weight"


@dataclass(frozen=True, slots=True)
class Weight:
    """
    One tensor where it will be.

    ``is_copy`` says that it is not mapped from the file, ``is_repacked`` that it is rearranged for the CPU.
    """

    tensor: TensorInfo
    pool: str
    size_bytes: int
    is_copy: bool
    is_repacked: bool = False


@dataclass(frozen=True, slots=True)
class Loading:
    """``features`` are those that weights are rearranged for: none where they are not."""

    features: Collection[str]
    maps_files: bool


def weights(model: Model, layout: Layout, loading: Loading) -> tuple[Weight, ...]:
    """Tensors of a format that is not known here count nothing: the ledger says so."""
    placed = [_weight(tensor, layout.of(tensor.name), loading) for tensor in model.tensors]
    return (*placed, *_tied(model, layout, loading))


def _weight(tensor: TensorInfo, pool: str, loading: Loading) -> Weight:
    size = tensor.size_bytes or 0
    if pool != RAM:
        return Weight(tensor, pool, size, is_copy=True)
    repacked = repacked_bytes(tensor, loading.features)
    if repacked is None:
        return Weight(tensor, pool, size, is_copy=not loading.maps_files)
    return Weight(tensor, pool, repacked, is_copy=True, is_repacked=True)


def _tied(model: Model, layout: Layout, loading: Loading) -> tuple[Weight, ...]:
    named = {tensor.name: tensor for tensor in model.tensors}
    embeddings = named.get("token_embd.weight")
    if embeddings is None or _OUTPUT in named:
        return ()
    as_output = TensorInfo(_OUTPUT, embeddings.shape, embeddings.kind, 0, embeddings.size_bytes)
    weight = _weight(as_output, layout.output, loading)
    shared = weight.pool == RAM and repacked_bytes(as_output, loading.features) is None
    return () if shared else (weight,)
