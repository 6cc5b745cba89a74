"""
Which memory each weight goes to, and what it is there: mapped from the file, or a copy.  Pure.

Source: create_tensor and load_tensors of llama.cpp b11434; without a tensor of its own the output layer
uses a copy of the embeddings, unless both are in the same buffer.  What the CPU keeps rearranged in memory of
its own: ggml_repack_get_optimal_repack_type in ggml/src/ggml-cpu/repack.cpp, supports_op in
ggml/src/ggml-cpu/amx/amx.cpp, get_row_size in amx/mmq.cpp.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..model.header import TensorInfo
from ..model.metadata import Model
from .accounts import RAM
from .layout import Layout

_OUTPUT = "output.weight"
_DOTPROD = frozenset({"neon", "dotprod"})
_I8MM = frozenset({"neon", "i8mm"})
_REPACKED: Mapping[str, tuple[tuple[frozenset[str], int], ...]] = {
    "q4_0": ((frozenset({"avx2"}), 8), (_I8MM, 4), (_DOTPROD, 4)),
    "q4_K": ((frozenset({"avx2"}), 8), (_I8MM, 8), (_DOTPROD, 8)),
    "q2_K": ((frozenset({"avx512f"}), 8),),
    "q5_K": ((_I8MM, 8), (_DOTPROD, 8)),
    "q6_K": ((_I8MM, 8), (_DOTPROD, 8)),
    "iq4_nl": ((frozenset({"avx2"}), 8), (_DOTPROD, 4)),
    "mxfp4": ((frozenset({"avx2"}), 8), (_DOTPROD, 4)),
    "q8_0": ((_I8MM, 4), (_DOTPROD, 4)),
    "q1_0": ((_I8MM, 4), (_DOTPROD, 4)),
}
"""By format: what the CPU must know for it, and of what the number of rows must be a multiple."""
_AMX = frozenset({"amx_int8", "avx512_vnni"})
_AMX_ROWS = 32  # TILE_N * 2
_AMX_ALIGNMENT: Mapping[str, int] = {
    "q4_0": 32, "q4_1": 32, "q8_0": 32, "q4_K": 256, "q5_K": 256, "q6_K": 256, "iq4_xs": 256, "f16": 16,
}  # fmt: skip
_AMX_EXTRA_BYTES: Mapping[str, int] = {"q8_0": 4, "q4_K": 4, "q5_K": 4, "iq4_xs": 2}  # of each block


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


def repacked_bytes(tensor: TensorInfo, features: Collection[str]) -> int | None:
    """What ``tensor`` takes, rearranged for a CPU with ``features``; None where it stays as it is."""
    if tensor.kind is None or tensor.size_bytes is None or not _is_matrix(tensor):
        return None
    if _fits_amx(tensor, features):
        blocks = tensor.size_bytes // tensor.kind.block_bytes
        return tensor.size_bytes + blocks * _AMX_EXTRA_BYTES.get(tensor.kind.name, 0)
    ways = _REPACKED.get(tensor.kind.name, ())
    fits = any(needed <= set(features) and tensor.shape[1] % rows == 0 for needed, rows in ways)
    return tensor.size_bytes if fits else None


def _is_matrix(tensor: TensorInfo) -> bool:
    """Of a layer or the output: the embeddings are looked up, not multiplied by."""
    name, dimensions = tensor.name, 3 if _is_experts(tensor) else 2
    is_used = name.endswith(".weight") and not name.startswith("token_embd")
    return is_used and len(tensor.shape) == dimensions


def _is_experts(tensor: TensorInfo) -> bool:
    return tensor.name.endswith("exps.weight")


def _fits_amx(tensor: TensorInfo, features: Collection[str]) -> bool:
    if _is_experts(tensor) or tensor.kind is None or not set(features) >= _AMX:
        return False
    alignment = _AMX_ALIGNMENT.get(tensor.kind.name)
    return alignment is not None and tensor.shape[1] % _AMX_ROWS == 0 and tensor.shape[0] % alignment == 0
