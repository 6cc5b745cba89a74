"""
The compute buffers of llama.cpp, and its cache of keys and values.  Pure.

Sources, at b11434: llama_context::sched_reserve in src/llama-context.cpp, the splits and copies of
ggml/src/ggml-backend.cpp, the allocator of ggml/src/ggml-alloc.c.  Each device has one buffer for all
that is between the weights, as large as the largest step of one batch of --ubatch-size tokens needs; the
steps are those of src/models and src/llama-graph.cpp.  The cost of the allocator's gaps, and how many copies
of the embeddings live at once, were measured with the engine itself (docs/memory.md).

For the cache: llama_kv_cache (for every layer a tensor of K and one of V, on its device), llama_kv_cache_iswa
(the cells of layers with a window), load_swa_pattern and load_arch_hparams of the models in src/models (which
layers have a window).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ..model.header import KINDS, TensorKind
from ..model.metadata import Model
from . import accounts
from .accounts import RAM
from .memory_settings import Settings
from .weights import Layout, Weight

_ALONE = 5  # copies of the embeddings: where one device does all
_FIRST, _NEXT = 4, 2  # on the first GPU, on those behind it
_HOST = 4  # with a GPU
_MIXED = 4.75  # more of them where the CPU has whole layers
_MIXED_SMALL, _MIXED_LEAST = 6.4, 8.4  # where the copies of its weights are small; with those
_ATTENTION = 7.5  # where a cache of the CPU is copied
_OFFLOADED_TOKENS = 32  # a batch of fewer stays with the CPU: op_offload_min_batch_size
_COPIES = 4  # of the inputs where GPUs work one behind the other: GGML_SCHED_MAX_COPIES
_PIPED_HOST, _PIPED_FIRST, _PIPED_NEXT = 10, 16.5, 11.5
_F32, _F16_BYTES, _I64 = 4, 2, 8
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
        return {RAM: round(steps.inputs + _ALONE * steps.stream + steps.largest)}
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
        streams = _ALONE
    beside = _read_from_cpu(work, steps) + _widened(work, device)
    return round(steps.inputs + streams * steps.stream + steps.largest + beside)


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
        alone = _ALONE * steps.stream + steps.largest
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
    queries = _most(model, model.heads) * max(model.key_length or 0, model.value_length or 0)
    return Phases(
        inputs=_inputs(model, settings),
        stream=stream,
        network=3 * hidden + (down if down > 2 * hidden and model.experts else 0),
        hidden=hidden,
        attention=2 * tokens * queries + _scores(model, settings),
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


def _most(model: Model, heads: Callable[[int], int | None]) -> int:
    """The heads of the layer that has most."""
    return max((heads(layer) or 0 for layer in range(model.layers or 0)), default=0)


def _scores(model: Model, settings: Settings) -> int:
    """Without flash attention every token's score of every cell is written out, head by head."""
    if settings.flash:
        return 0
    return settings.slot_tokens * settings.ubatch * _most(model, model.heads) * _F32


def _inputs(model: Model, settings: Settings) -> int:
    """A mask for each kind of layer, of a cell by token; without flash attention also where values go."""
    kinds = {layer in sliding_layers(model) for layer in range(model.layers or 0)}
    total = 0
    for slides in kinds:
        cells = cache_cells(model, settings, slides=slides)
        total += cells * settings.ubatch * (_F16_BYTES if settings.flash else _F32)
        if not settings.flash:
            total += settings.ubatch * _most(model, model.heads_kv) * (model.value_length or 0) * _I64
    return total


def process_bytes(work: Work) -> int:
    """
    The process, its vocabulary, the logits that it hands out, what the CPU rewrites a batch to, old prompts.

    The first two were measured: RssAnon of b11434 with true-shape models (docs/memory.md).  A prompt cache
    without a limit counts nothing, which the ledger says in a note.
    """
    vocabulary = work.model.vocabulary_size or 0
    tables = _PROCESS_BYTES + vocabulary * _TOKEN_BYTES
    logits = work.settings.outputs * vocabulary * _F32
    return tables + logits + _rewritten_bytes(work) + (work.settings.cache_ram_bytes or 0)


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


def cache_cells(model: Model, settings: Settings, *, slides: bool) -> int:
    """The cells of one stream of a layer."""
    whole = settings.slot_tokens
    if not slides or settings.swa_full:
        return whole
    window = (model.sliding_window or 0) * (settings.slots if settings.unified else 1)
    return -(-min(whole, window + settings.ubatch) // _PADDING) * _PADDING


def layers_bytes(model: Model, settings: Settings) -> tuple[int, ...]:
    """Of each layer all streams; 0 for a layer without attention."""
    sliding = sliding_layers(model)
    of_all = {
        slides: cache_cells(model, settings, slides=slides) * settings.streams for slides in (True, False)
    }
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
