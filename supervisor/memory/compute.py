"""
The compute buffers of llama.cpp.  Pure.

Sources, at b11434: llama_context::sched_reserve in src/llama-context.cpp, the splits and copies of
ggml/src/ggml-backend.cpp, the allocator of ggml/src/ggml-alloc.c.  Each device has one buffer for all
that is between the weights, as large as the largest step of one batch of --ubatch-size tokens needs; the
steps are those of steps.py.  The cost of the allocator's gaps, and how many copies
of the embeddings live at once, were measured with the engine itself (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..model.metadata import Model
from . import accounts
from .accounts import RAM
from .context import checkpoints_bytes, in_f16, layers_bytes
from .memory_settings import Settings
from .steps import COPIES, Phases, logits_bytes, phases
from .weights import Layout, Weight

_FIRST, _NEXT = 4, 2  # copies of the embeddings: on the first GPU, on those behind it
_HOST = 4  # with a GPU
_READ_ONCE = 2  # beside attention, in a model of one layer
_MIXED = 4.75  # more of them where the CPU has whole layers
_MIXED_SMALL, _MIXED_LEAST = 6.4, 8.4  # where the copies of its weights are small; with those
_ATTENTION = 7.5  # where a cache of the CPU is copied
_OFFLOADED_TOKENS = 32  # a batch of fewer stays with the CPU: op_offload_min_batch_size
_COPIES = 4  # of the inputs where GPUs work one behind the other: GGML_SCHED_MAX_COPIES
_PIPED_HOST, _PIPED_FIRST, _PIPED_NEXT = 10, 16.5, 11.5
_MIB = 1024**2
_PROCESS_BYTES = 15 * _MIB  # code and heap of a server without a model
_TOKEN_BYTES = 400  # of tables for each token of the vocabulary, with its merges
_Q8_BYTES, _Q8_ELEMENTS = 34, 32


@dataclass(frozen=True, slots=True)
class Work:
    """What is computed where."""

    model: Model
    settings: Settings
    layout: Layout
    weights: tuple[Weight, ...]
    flavour: str

    @property
    def offloads(self) -> bool:
        """Whether the GPU computes with what the CPU has in the file's own format."""
        return self.settings.op_offload and accounts.offloads(self.flavour)

    @property
    def splits_layers(self) -> bool:
        """Whether the CPU has whole layers besides the GPU's; the first alone costs two copies."""
        return self.layout.layers.count(RAM) > 1

    def on_cpu(self, *, repacked: bool) -> Iterable[Weight]:
        for weight in self.weights:
            is_matrix = len(weight.tensor.shape) > 1 and not weight.tensor.name.startswith("token_embd")
            if weight.pool == RAM and is_matrix and weight.is_repacked == repacked:
                yield weight


def compute_bytes(work: Work) -> Mapping[str, int]:
    """By name of the pool; the devices that are used, and RAM."""
    steps = phases(work.model, work.settings)
    devices = work.layout.devices
    if not devices:
        return {RAM: round(_peak(work, steps, COPIES))}
    if _is_pipelined(work):
        return _pipelined(work, steps)
    streams = {devices[0]: _FIRST, **dict.fromkeys(devices[1:], _NEXT)}
    sizes = {device: _whole(work, steps, device, copies) for device, copies in streams.items()}
    here = next((device for device in devices if not device.startswith("RPC")), None)
    if here is not None:  # no worker copies weights of this computer's CPU
        sizes[here] = max(sizes[here], _with_copies(work, steps))
    return {**sizes, RAM: _host(work, steps)}


def _whole(work: Work, steps: Phases, device: str, streams: float) -> int:
    """Of a GPU whose layers are its own; it takes what it reads of a cache that the CPU keeps."""
    if work.splits_layers and not work.offloads:
        streams = COPIES
    beside = _read_from_cpu(work, steps) + _widened(work, device)
    return round(_peak(work, steps, streams) + beside)


def _peak(work: Work, steps: Phases, streams: float) -> float:
    """Of a model of one layer, as a head is, the masks are free again when its network begins."""
    if work.model.layers != 1:
        return steps.inputs + streams * steps.stream + steps.largest
    attention = steps.inputs + steps.attention + _READ_ONCE * steps.stream
    return max(attention, steps.network + (streams - 2) * steps.stream, steps.logits)


def _read_from_cpu(work: Work, steps: Phases) -> int:
    """Of a cache that the CPU keeps for layers of the GPU: one layer's."""
    return 0 if work.settings.kv_offload else _largest_cache(work) + steps.stream // 4


def _with_copies(work: Work, steps: Phases) -> int:
    """Of the first GPU, which computes large batches with a copy of what the CPU has."""
    copied = _largest_copy(work)
    if copied == 0:
        return 0
    is_small = copied < steps.hidden  # then copies are next to what is computed, not in its gaps
    if not work.splits_layers:
        copies = is_small * _FIRST + 2 * (RAM in work.layout.blocks)
        beside = copied + copies * steps.stream + _read_from_cpu(work, steps)
        return steps.inputs + steps.network + beside
    mixed = copied + _MIXED * steps.stream
    if is_small:
        mixed = max(copied + _MIXED_SMALL * steps.stream, _MIXED_LEAST * steps.stream)
    return round(steps.inputs + max(steps.network + mixed, _attention_of_cpu(work, steps)))


def _largest_copy(work: Work) -> int:
    """The output is copied only where logits of many tokens are computed."""
    if not work.offloads:
        return 0
    many = work.settings.outputs >= _OFFLOADED_TOKENS
    sizes = (
        weight.size_bytes
        for weight in work.on_cpu(repacked=False)
        if many or not weight.tensor.name.startswith("output")
    )
    return max(sizes, default=0)


def _attention_of_cpu(work: Work, steps: Phases) -> float:
    """Its cache is copied too, next to the largest weight; a cache that is larger takes that one's place."""
    named = ("attn_q.weight", "attn_qkv.weight", "attn_output.weight")
    queries = [w.size_bytes for w in work.on_cpu(repacked=False) if w.tensor.name.endswith(named)]
    cache, copied = _largest_cache(work), _largest_copy(work)
    both = cache + copied if cache <= copied else max(cache + max(queries, default=0), 2 * copied)
    return steps.attention + both + _ATTENTION * steps.stream


def _host(work: Work, steps: Phases) -> int:
    """With a GPU, the CPU holds the inputs; the network only where it computes that itself."""
    streams: float = _HOST * steps.stream
    if any(work.on_cpu(repacked=True)):
        streams = max(streams, 2 * steps.stream + 2 * steps.hidden)
    elif any(work.on_cpu(repacked=False)) and not work.offloads:
        alone = COPIES * steps.stream + steps.largest
        streams = max(streams, alone if work.splits_layers else 2 * steps.stream + steps.network)
    return round(steps.inputs + streams)


def _is_pipelined(work: Work) -> bool:
    settings = work.settings
    return (
        len(work.layout.devices) > 1
        and not work.splits_layers
        and settings.split_mode == "layer"
        and settings.kv_offload
        and not work.layout.overrides
    )


def _pipelined(work: Work, steps: Phases) -> Mapping[str, int]:
    inputs = _COPIES * steps.inputs
    first, *others = work.layout.devices
    streams = {first: _PIPED_FIRST, **dict.fromkeys(others, _PIPED_NEXT)}
    gpus = {
        device: round(inputs + copies * steps.stream + steps.largest + _widened(work, device))
        for device, copies in streams.items()
    }
    return {**gpus, RAM: inputs + _PIPED_HOST * steps.stream}


def _largest_cache(work: Work) -> int:
    return max(layers_bytes(work.model, work.settings), default=0)


def _widened(work: Work, device: str) -> int:
    """Where attention needs F16 and the cache is another format: a copy of one layer's."""
    settings = work.settings
    is_f16 = {settings.cache_k.name, settings.cache_v.name} == {"f16"}
    if is_f16 or not settings.flash or not accounts.widens_cache(work.flavour):
        return 0
    if device not in work.layout.blocks:
        return 0
    return max(layers_bytes(work.model, in_f16(settings)), default=0)


def process_bytes(work: Work) -> int:
    """
    The process, its vocabulary, the logits that it hands out, what the CPU rewrites a batch to, old prompts,
    and where conversations can be set back to.

    The first two were measured: RssAnon of b11434 with true-shape models (docs/memory.md).  A prompt cache
    without a limit counts nothing, which the ledger says in a note.
    """
    vocabulary = work.model.vocabulary_size or 0
    tables = _PROCESS_BYTES + vocabulary * _TOKEN_BYTES
    logits = logits_bytes(work.model, work.settings)
    kept = (work.settings.cache_ram_bytes or 0) + checkpoints_bytes(work.model, work.settings)
    return tables + logits + _rewritten_bytes(work) + kept


def _rewritten_bytes(work: Work) -> int:
    """The CPU multiplies matrices with a batch in Q8: ggml_graph_plan in ggml/src/ggml-cpu/ggml-cpu.c."""
    experts = work.model.experts_used or 1
    rows = max(
        (
            weight.tensor.shape[0] * (experts if len(weight.tensor.shape) > 2 else 1)
            for repacked in (True, False)
            for weight in work.on_cpu(repacked=repacked)
        ),
        default=0,
    )
    return rows * work.settings.ubatch * _Q8_BYTES // _Q8_ELEMENTS
