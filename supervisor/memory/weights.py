"""
Which memory each weight goes to, and whether it is mapped, copied or rearranged there.  Pure.

Sources, at b11434: load_tensors in src/llama-model.cpp (layers to devices, the output being one more layer),
create_tensor in src/llama-model-loader.cpp (overrides), common/common.h (what --n-cpu-moe stands for).
Without a tensor of its own the output layer uses a copy of the embeddings, unless both are in the same
buffer; Gemma 3n and 4 make that copy before the embeddings, so that there are always two (load_arch_tensors
in src/models/gemma4.cpp).  The heads for multi-token prediction are loaded only for --spec-type draft-mtp
(load_mtp in common/common.cpp).  What the CPU rearranges: ggml_repack_get_optimal_repack_type in
ggml/src/ggml-cpu/repack.cpp, supports_op in ggml/src/ggml-cpu/amx/amx.cpp, get_row_size in amx/mmq.cpp.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..model.header import TensorInfo
from ..model.metadata import Model
from .accounts import RAM, Pool
from .context import trunk
from .memory_settings import Override, Settings

_OUTPUT = "output.weight"
_PER_LAYER = "per_layer_token_embd"
_LAZY = frozenset({"gemma4", "qwen4exp"})  # TENSOR_READ_LAZY in src/models; Gemma 3n reads all of it
_OUTPUT_FIRST = frozenset({"gemma3n", "gemma4"})
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

    ``is_copy`` says that it is not mapped from the file, ``is_repacked`` that it is rearranged for the CPU,
    and ``is_lazy`` that it stays in the file, of which a token reads a few rows.
    """

    tensor: TensorInfo
    pool: str
    size_bytes: int
    is_copy: bool
    is_repacked: bool = False
    is_lazy: bool = False


@dataclass(frozen=True, slots=True)
class Loading:
    """
    ``features`` are those that weights are rearranged for: none where they are not.  ``heads`` are those for
    multi-token prediction.  ``lazy_over_bytes`` as in `Settings`.
    """

    features: Collection[str]
    maps_files: bool
    heads: bool = False
    lazy_over_bytes: int | None = None


def weights(model: Model, layout: Layout, loading: Loading) -> tuple[Weight, ...]:
    """Tensors of a format that is not known here count nothing: the ledger says so."""
    layers = (model.layers or 0) if loading.heads else trunk(model)
    loaded: Iterable[TensorInfo] = model.tensors
    if layers < (model.layers or 0):
        loaded = [tensor for tensor in model.tensors if layer_of(tensor.name, -1) < layers]
    lazy = loading.lazy_over_bytes if model.architecture in _LAZY else None
    placed = [_weight(tensor, layout.of(tensor.name), loading, lazy) for tensor in loaded]
    return (*placed, *_tied(model, layout, loading))


def _weight(tensor: TensorInfo, pool: str, loading: Loading, lazy_over: int | None = None) -> Weight:
    size = tensor.size_bytes or 0
    if lazy_over is not None and size > lazy_over and tensor.name.startswith(_PER_LAYER):
        return Weight(tensor, RAM, size, is_copy=False, is_lazy=True)
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
    shared = weight.pool == RAM and not weight.is_repacked and model.architecture not in _OUTPUT_FIRST
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
    is_used = name.endswith(".weight") and not name.startswith(_INPUTS)
    return is_used and len(tensor.shape) == dimensions


def _is_experts(tensor: TensorInfo) -> bool:
    return tensor.name.endswith("exps.weight")


def _fits_amx(tensor: TensorInfo, features: Collection[str]) -> bool:
    if _is_experts(tensor) or tensor.kind is None or not set(features) >= _AMX:
        return False
    alignment = _AMX_ALIGNMENT.get(tensor.kind.name)
    return alignment is not None and tensor.shape[1] % _AMX_ROWS == 0 and tensor.shape[0] % alignment == 0


@dataclass(frozen=True, slots=True)
class TokenReads:
    """
    Bytes of weights, by name of the pool: ``active`` are those that a token is multiplied by, of the experts
    only those that it uses; ``whole`` is with all experts, as for a long prompt.
    """

    active: Mapping[str, int]
    whole: Mapping[str, int]


def token_reads(model: Model, settings: Settings, pools: Sequence[Pool]) -> TokenReads:
    """What has to be read to generate one token, at the least: the context comes on top, which grows."""
    active, whole = Counter[str](), Counter[str]()
    placed = weights(model, lay_out(model, settings, pools), Loading((), maps_files=True))
    has_output = any(each.tensor.name == _OUTPUT for each in placed)
    used = (model.experts_used or 0) / model.experts if model.experts else 1.0
    for each in placed:
        name = each.tensor.name
        is_output = name == "token_embd.weight" and not has_output
        if name.startswith(_INPUTS) and not is_output:
            continue
        whole[each.pool] += each.size_bytes
        active[each.pool] += round(each.size_bytes * (used if re.search(r"_(ch|)exps\.", name) else 1))
    return TokenReads(+active, +whole)


_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_DENSE = r"\.ffn_(up|down|gate)\."
_LAYER = re.compile(r"blk\.(\d{1,6})\.")
_INPUTS = ("token_embd", "token_types", "position_embd", _PER_LAYER)


@dataclass(frozen=True, slots=True)
class Layout:
    """
    By name of the pool: each layer, the output (the last of ``layers``), and what is overridden.

    ``devices`` are the GPUs that are used, in llama.cpp's order.
    """

    layers: tuple[str, ...]
    devices: tuple[str, ...]
    overrides: tuple[tuple[re.Pattern[str], str], ...]

    @property
    def output(self) -> str:
        return self.layers[-1]

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.layers[:-1]

    def of(self, tensor: str) -> str:
        """The pool of one tensor; the embeddings of tokens always stay with the CPU."""
        for pattern, pool in self.overrides:
            if pattern.search(tensor):
                return pool
        if tensor.startswith(_INPUTS):
            return RAM
        last = len(self.blocks)
        return self.layers[min(layer_of(tensor, last), last)]


def layer_of(tensor: str, otherwise: int) -> int:
    """The number of its layer; ``otherwise`` for a tensor that belongs to none."""
    layer = _LAYER.match(tensor)
    return int(layer[1]) if layer else otherwise


def lay_out(model: Model, settings: Settings, pools: Sequence[Pool]) -> Layout:
    """``pools`` are in llama.cpp's order of its devices, as ``--list-devices`` prints them."""
    gpus = _used(settings, [pool for pool in pools if pool.name != RAM])
    names = tuple(pool.name for pool in gpus)
    return Layout(_layers(model.layers or 0, settings, gpus), names, _overrides(settings, names))


def _used(settings: Settings, gpus: Sequence[Pool]) -> Sequence[Pool]:
    if settings.devices is not None:
        named = {gpu.name: gpu for gpu in gpus}
        gpus = [named[name] for name in settings.devices if name in named]
    if settings.split_mode == "none" and gpus:
        return gpus[settings.main_gpu :][:1]
    return gpus


def _layers(count: int, settings: Settings, gpus: Sequence[Pool]) -> tuple[str, ...]:
    """The last layers go to the GPUs, each of which takes its part of them in turn."""
    on_gpu = settings.layers_on_gpu(count) if gpus else 0
    ends = _ends(settings, gpus)
    places = (gpus[bisect_right(ends[:-1], index / on_gpu)].name for index in range(on_gpu))
    return (*[RAM] * (count + 1 - on_gpu), *places)


def _ends(settings: Settings, gpus: Sequence[Pool]) -> list[float]:
    """Where the part of each GPU ends, from 0 to 1: by --tensor-split, else by what is free of each."""
    given = (*settings.tensor_split, *[0.0] * len(gpus))[: len(gpus)]
    parts = (
        given
        if any(given)
        else [float((gpu.free_bytes or 0) + gpu.left_bytes or gpu.total_bytes or 1) for gpu in gpus]
    )
    total = sum(parts)
    return [end / total for end in accumulate(parts)]


def _overrides(settings: Settings, gpus: Sequence[str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """In the order of their precedence, which is that of the command line; ours is canonical."""
    given = [*settings.overrides, *_of_first_layers(settings.cpu_moe_layers, _EXPERTS)]
    given += _of_first_layers(settings.cpu_ffn_layers, _DENSE)
    return tuple(
        (pattern, each.target if each.target in gpus else RAM)
        for each in given
        if (pattern := _compiled(each.pattern))
    )


def _of_first_layers(layers: int, pattern: str) -> list[Override]:
    """As one pattern, which is what as many patterns of a layer each come to."""
    each = "|".join(map(str, range(layers)))
    return [Override(rf"blk\.({each}){pattern}", "CPU")] if layers > 0 else []


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """llama.cpp's are ECMAScript's, which differ in corners only; the engine itself refuses a wrong one."""
    try:
        return re.compile(pattern)
    except re.error:
        return None
