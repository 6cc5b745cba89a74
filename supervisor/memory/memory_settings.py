"""
The options that decide how much memory a launch takes, with llama-server's own defaults filled in.

Sources, at b11434: common/common.h and common/arg.cpp (defaults), tools/server/server.cpp (slots), the
constructor of llama_context in src/llama-context.cpp (rounding).  Where a default changed, the first build
with the new one is next to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..model.gguf import NAMED, TensorKind
from ..model.metadata import Model
from ..options.option_types import OptionValue
from ..options.option_values import words_of

_MIB = 1024**2
_CELLS = 256  # n_ctx and n_ctx_seq are rounded up to it: llama_context
_AUTO_SLOTS = 6925  # #16736: four slots that share their cells, where the number is left open
_PROMPT_CACHE = 6723  # #16391
_CHECKPOINTS = 6160
_LAZY = 10588
_FEW_OUTPUTS = 9460  # #23861: logits of one token for each slot; before that of every token of a batch
_LOAD_MODES = ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")
_SPLIT_MODES = ("layer", "none", "row", "tensor")
_NOT_COUNTED = ("lora", "control-vector")


@dataclass(frozen=True, slots=True)
class Override:
    """``--override-tensor``: what ``pattern`` is found in goes to the buffer ``target``."""

    pattern: str
    target: str  # a device, or CPU


@dataclass(frozen=True, slots=True)
class Settings:
    """
    ``context_tokens`` are of all slots together; 0 where neither options nor model say it.

    ``outputs`` is of how many tokens of a batch logits are computed.  ``gpu_layers`` counts the output as one
    more layer.  ``devices`` is None where every GPU is used.  ``fit`` says that llama.cpp may change the
    context and the placement where the options leave them open, as they do in ``left_open``.
    """

    context_tokens: int
    slots: int
    unified: bool
    batch: int
    ubatch: int
    outputs: int
    cache_k: TensorKind
    cache_v: TensorKind
    flash: bool
    swa_full: bool
    kv_offload: bool
    op_offload: bool
    gpu_layers: int | Literal["all"]
    cpu_moe_layers: int
    cpu_ffn_layers: int
    overrides: tuple[Override, ...]
    devices: tuple[str, ...] | None
    split_mode: str  # one of _SPLIT_MODES
    main_gpu: int
    tensor_split: tuple[float, ...]
    repack: bool
    host_buffers: bool
    load_mode: str  # one of _LOAD_MODES
    lazy_over_bytes: int | None  # larger embeddings per layer stay in the file; None: none does
    cache_ram_bytes: int | None  # None is without a limit
    fit: bool
    left_open: tuple[str, ...]
    loads_heads: bool  # the heads inside a model that predict several tokens
    drafted: int  # most tokens that a draft proposes at once and a recurrent state can be set back by
    checkpoints: int  # most of each slot
    checkpoint_tokens: int  # from one to the next; 0 where any distance will do
    rpc: str  # the addresses of workers, as the option has them
    not_counted: tuple[str, ...]  # options that take memory of which nothing is known here

    @property
    def slot_tokens(self) -> int:
        """The cells of one stream: of all slots together where they share them."""
        return self.context_tokens if self.unified else self.context_tokens // self.slots

    @property
    def streams(self) -> int:
        return 1 if self.unified else self.slots

    def layers_on_gpu(self, layers: int) -> int:
        """Of ``layers`` and one more, as which the output counts."""
        return layers + 1 if self.gpu_layers == "all" else min(self.gpu_layers, layers + 1)


@dataclass(frozen=True, slots=True)
class Reader:
    """
    The values of options.  One that makes no sense is as if it had not been given: what is wrong with it was
    said when the profile was read.
    """

    options: Mapping[str, OptionValue]

    def text(self, name: str, default: str) -> str:
        value = self.options.get(name)
        if isinstance(value, bool):
            return "on" if value else "off"
        return default if value is None else ",".join(words_of(value))

    def choice(self, name: str, known: Sequence[str]) -> str:
        """One of ``known``, of which the first is the default."""
        value = self.text(name, known[0])
        return value if value in known else known[0]

    def integer(self, name: str, default: int) -> int:
        try:
            return int(self.text(name, str(default)))
        except ValueError:
            return default

    def flag(self, name: str, *, default: bool) -> bool:
        return self.text(name, "on" if default else "off") not in {"off", "false", "0"}


def settings_of(options: Mapping[str, OptionValue], build: int | None, model: Model) -> Settings:
    """``options`` by canonical name; a build of None is taken for today's."""
    read = Reader(options)
    slots, unified = _slots(read, build)
    asked = _asked_context(read, model, slots, unified=unified)
    context = _rounded(asked) if unified else slots * _rounded(_rounded(asked) // slots)
    most = context if only_reads(model) else asked  # before the context is rounded up
    batch = min(read.integer("batch-size", 2048), most or 2048)
    ubatch = min(batch, read.integer("ubatch-size", 512) or batch)
    return Settings(
        context_tokens=context,
        slots=slots,
        unified=unified,
        batch=batch,
        ubatch=ubatch,
        outputs=_outputs(read, build, batch=batch, ubatch=ubatch, slots=slots),
        cache_k=NAMED.get(read.text("cache-type-k", "f16"), NAMED["f16"]),
        cache_v=NAMED.get(read.text("cache-type-v", "f16"), NAMED["f16"]),
        flash=read.text("flash-attn", "auto") != "off",
        swa_full=read.flag("swa-full", default=False),
        kv_offload=read.flag("kv-offload", default=True),
        op_offload=read.flag("op-offload", default=True),
        gpu_layers=_gpu_layers(read),
        cpu_moe_layers=_cpu_moe(read, model),
        cpu_ffn_layers=read.integer("n-cpu-ffn", 0),
        overrides=_overrides(read),
        devices=_devices(read),
        split_mode=read.choice("split-mode", _SPLIT_MODES),
        main_gpu=read.integer("main-gpu", 0),
        tensor_split=_tensor_split(read),
        repack=read.flag("repack", default=True),
        host_buffers=not read.flag("no-host", default=False),
        load_mode=read.choice("load-mode", _LOAD_MODES),
        lazy_over_bytes=_lazy_over(read, build),
        cache_ram_bytes=_cache_ram(read, build),
        fit=read.text("fit", "on") != "off" and (build is None or build >= 7407),  # #16653
        left_open=tuple(name for name in ("ctx-size", "gpu-layers") if options.get(name, "auto") == "auto"),
        loads_heads="draft-mtp" in _speculation(read),
        drafted=_drafted(read),
        checkpoints=_checkpoints(read, build),
        checkpoint_tokens=max(0, read.integer("checkpoint-min-step", 8192)),
        rpc=read.text("rpc", ""),
        not_counted=tuple(name for name in _NOT_COUNTED if options.get(name)),
    )


def only_reads(model: Model) -> bool:
    """Whether it has no output, but hands out its last state, and sees a whole text at once."""
    return any(part in model.architecture for part in ("bert", "embedding"))


def _slots(read: Reader, build: int | None) -> tuple[int, bool]:
    asked = read.integer("parallel", -1)
    if asked < 1:
        is_old = build is not None and build < _AUTO_SLOTS
        return (1, read.flag("kv-unified", default=False)) if is_old else (4, True)
    return asked, read.flag("kv-unified", default=False)


def _asked_context(read: Reader, model: Model, slots: int, *, unified: bool) -> int:
    asked = read.integer("ctx-size", 0)
    per_slot = read.integer("kv-unified-per-slot", 0)
    if asked <= 0 and per_slot > 0 and "ctx-size" not in read.options:
        asked = slots * per_slot
    if asked <= 0:  # of each slot where they share nothing: common/fit.cpp
        asked = (model.context_length or 0) * (1 if unified else slots)
    return asked


def _rounded(tokens: int) -> int:
    return -(-tokens // _CELLS) * _CELLS


def _outputs(read: Reader, build: int | None, *, batch: int, ubatch: int, slots: int) -> int:
    if _reads(read):
        return min(ubatch, batch)
    return (
        ubatch if build is not None and build < _FEW_OUTPUTS else min(ubatch, slots * (1 + _proposed(read)))
    )


def _reads(read: Reader) -> bool:
    """Whether it only reads texts: it makes no tokens of its own."""
    asked = any(read.flag(name, default=False) for name in ("embedding", "rerank"))
    return asked or read.text("pooling", "none") != "none"


def _checkpoints(read: Reader, build: int | None) -> int:
    """Made for completions only: update_slots in tools/server/server-context.cpp."""
    if _reads(read) or (build is not None and build < _CHECKPOINTS):
        return 0
    return max(0, read.integer("ctx-checkpoints", 32))


def _gpu_layers(read: Reader) -> int | Literal["all"]:
    asked = read.integer("gpu-layers", -1)  # auto and all are no numbers
    return asked if asked >= 0 else "all"


def _cpu_moe(read: Reader, model: Model) -> int:
    layers = model.layers or 0
    return layers if read.flag("cpu-moe", default=False) else min(read.integer("n-cpu-moe", 0), layers)


def _overrides(read: Reader) -> tuple[Override, ...]:
    pairs = (pair.partition("=") for pair in read.text("override-tensor", "").split(","))
    return tuple(Override(pattern, target) for pattern, _, target in pairs if pattern)


def _devices(read: Reader) -> tuple[str, ...] | None:
    named = read.text("device", "")
    if not named:
        return None
    return () if named == "none" else tuple(name.strip() for name in named.split(","))


def _tensor_split(read: Reader) -> tuple[float, ...]:
    """Both commas and slashes part the numbers: common/arg.cpp."""
    try:
        parts = read.text("tensor-split", "").replace("/", ",").split(",")
        return tuple(float(part) for part in parts if part)
    except ValueError:
        return ()


def _speculation(read: Reader) -> list[str]:
    return read.text("spec-type", "").split(",")


def _drafted(read: Reader) -> int:
    """need_n_rs_seq in common/common.h."""
    with_states = {"draft-mtp", "draft-eagle3", "draft-dflash", "draft-dspark"}
    return read.integer("spec-draft-n-max", 3) if with_states & set(_speculation(read)) else 0


_PROPOSED: Mapping[str, tuple[str, int]] = {
    "draft-": ("spec-draft-n-max", 3), "ngram-mod": ("spec-ngram-mod-n-max", 64), "ngram-cache": ("", 8),
    "ngram-simple": ("spec-ngram-simple-size-m", 48), "ngram-map-k": ("spec-ngram-map-k-size-m", 48),
    "ngram-map-k4v": ("spec-ngram-map-k4v-size-m", 48),
}  # fmt: skip


def _proposed(read: Reader) -> int:
    """Most tokens that are checked at once besides the next one: common_speculative_n_max."""
    kinds = ("draft-" if kind.startswith("draft-") else kind for kind in _speculation(read))
    return max((read.integer(*_PROPOSED[kind]) for kind in kinds if kind in _PROPOSED), default=0)


def _lazy_over(read: Reader, build: int | None) -> int | None:
    """lazy_read::add in src/llama-model-loader.cpp."""
    mode = read.choice("lazy-mode", ("auto", "on", "off"))
    is_off = mode == "off" or (build is not None and build < _LAZY)
    return None if is_off else (0 if mode == "on" else 4 * 1024 * _MIB)


def _cache_ram(read: Reader, build: int | None) -> int | None:
    """8 GiB where nobody says otherwise: a limit that long use fills, not what a start takes."""
    if build is not None and build < _PROMPT_CACHE:
        return 0
    asked = read.integer("cache-ram", 8192)
    return None if asked < 0 else asked * _MIB
