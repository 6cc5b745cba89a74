"""
Combinations of build, options and hardware that are known to go wrong, each with its source.  Pure.

Open upstream on 10 October 2026 unless a row has ``before``, the first build that is well again.  Numbers
with # are issues and pull requests of ggml-org/llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..hardware.hardware import Hardware
from ..model.metadata import Model
from ..options.option_types import OptionValue
from ..options.option_values import words_of
from .build import Build, family

_SEVERAL = r"[2-9]|\d{2,}"
_MTP = r".*draft-mtp.*"
_DSPARK = r".*draft-dspark.*"
_STATES = r".*draft-(mtp|eagle3|dflash|dspark).*"
_SLOW_CACHE = r"q4_1|q5_0|q5_1|iq4_nl"
_UNEQUAL_CACHES = tuple(
    {"cache-type-k": keys, "cache-type-v": values}
    for keys, values in (
        ("|f16", "q8_0|q4_0|bf16"),
        ("q8_0", "|f16|q4_0|bf16"),
        ("q4_0", "|f16|q8_0|bf16"),
        ("bf16", "|f16|q8_0|q4_0"),
    )
)
"""Both have kernels, but not together."""
_FAST_CACHE = "set cache-type-k and cache-type-v to f16, q8_0 or q4_0"
_ONE_CACHE = "set cache-type-k and cache-type-v to the same type: f16, q8_0 or q4_0"


_NO_IQ4 = "the GPU has no flash attention for iq4_nl, and the CPU computes it"
_CONVERTS = 11434
"""
Of CUDA and ROCm, since #28079: what has no kernel is converted to f16.  That is the first build whose source
was read; it came in September 2026.
"""


def _either_is(pattern: str) -> tuple[Mapping[str, str], ...]:
    """Options with which keys or values are of such a type."""
    return {"cache-type-k": pattern}, {"cache-type-k": f"(?!{pattern}).*", "cache-type-v": pattern}


@dataclass(frozen=True, slots=True)
class KnownBad:
    """
    One combination.  What is empty or None holds for all.

    ``since`` and ``before`` are builds; ``options`` are patterns of values by canonical name, where an option
    that is not set counts as ""; ``gpu`` is a pattern of a GPU's name and architecture; ``model`` one of a
    model's architecture and name; ``tensors`` is a format that the model has.
    """

    what: str
    advice: str
    source: str
    since: int = 0
    before: int | None = None
    flavours: tuple[str, ...] = ()
    os: str = ""
    gpu: str = ""
    integrated: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    tensors: str = ""

    @property
    def text(self) -> str:
        """For people, without a full stop."""
        return f"{self.what}: {self.advice} ({self.source})"


def _with_each(options: Sequence[Mapping[str, str]], *rows: KnownBad) -> Iterator[KnownBad]:
    return (replace(row, options=each) for row in rows for each in options)


TABLE = (
    KnownBad(
        "sleep-idle-seconds: one request to a llama-server that sleeps can crash it, or worse",
        "use gateway.idle-unload, which ends the process",
        "CVE-2026-43631, CVE-2026-43632, #29188, #24537",
        since=7492,
        options={"sleep-idle-seconds": r"[1-9]\d*"},
    ),
    *_with_each(
        (
            {"parallel": r"|-1|auto", "kv-unified": r"|true|on"},
            {"parallel": _SEVERAL, "kv-unified": r"true|on"},
        ),
        KnownBad(
            "answers leak between slots on graphics in an AMD processor",
            "set parallel: 1 or kv-unified: false, or take engine.flavour vulkan",
            "#25992",
            flavours=("rocm",),
            integrated=True,
        ),
    ),
    KnownBad(
        "ROCm computes wrong text on Strix Halo for prompts longer than ubatch-size",
        "take engine.flavour vulkan",
        "#28211, #27579",
        flavours=("rocm",),
        gpu=r"gfx1151|80[56]0S",
    ),
    KnownBad(
        "quantised IQ3_S weights give wrong text on an RTX 5060 Ti",
        "take another quantisation",
        "#28581",
        flavours=("cuda",),
        gpu=r"RTX 5060 Ti",
        tensors="iq3_s",
    ),
    KnownBad(
        "draft models of this kind change what a quantised model answers",
        "compare its answers, or draft by n-gram (spec-type: ngram-simple)",
        "#25618",
        options={"spec-type": rf"{_MTP}|{_DSPARK}"},
    ),
    KnownBad(
        "with several slots no token that MTP drafts is accepted",
        "set parallel: 1",
        "#27572",
        options={"spec-type": _MTP, "parallel": rf"|-1|auto|{_SEVERAL}"},
    ),
    KnownBad(
        "a request with an image crashes the server or gets a 500, since the draft reads the states of its "
        "model",
        "set model.projector: off, or leave model.draft out",
        "#25144, #24669, #22105",
        options={"spec-type": _STATES, "mmproj": ".+"},
    ),
    KnownBad(
        "Qwen3.8-Flash with MTP ends at the start with an assertion",
        "leave spec-type out",
        "#29811",
        options={"spec-type": _MTP},
        model=r"qwen4exp|qwen3\.8-flash",
    ),
    KnownBad(
        "Gemma 4 31B with MTP crashes",
        "leave spec-type out",
        "#24440",
        options={"spec-type": _MTP},
        model=r"gemma-?4-31b",
    ),
    KnownBad(
        "DSpark loses 10 MB of the GPU's memory with each request",
        "restart it from time to time, or draft otherwise",
        "#27155",
        options={"spec-type": _DSPARK},
    ),
    KnownBad(
        "CUDA's flash attention reads where it may not if some experts are in RAM",
        "take a newer build, or set flash-attn: off",
        "#26609",
        since=10107,
        before=10244,
        flavours=("cuda",),
        options={"n-cpu-moe": r"[1-9]\d*", "flash-attn": r"|auto|on|true"},
        model=r"qwen3\.6-35b",
    ),
    KnownBad(
        "CUDA reads prompts of Qwen3.6-35B at half the speed",
        "take b11425 or newer",
        "#29980",
        before=11425,
        flavours=("cuda",),
        model=r"qwen3\.6-35b",
    ),
    KnownBad(
        "Vulkan reads prompts some 12 % slower on RDNA4 than before b11259",
        "measure it: goss-supervisor bench",
        "#29892",
        since=11275,
        flavours=("vulkan",),
        gpu=r"gfx12\d\d|RX 90[67]0",
    ),
    KnownBad(
        "a context of 131072 or more takes most of the speed on an RX 7900 XTX under Windows",
        "set GGML_VK_SUBALLOCATION_BLOCK_SIZE: 4294967296 under env",
        "#27734",
        flavours=("vulkan",),
        os="windows",
        gpu=r"7900 XTX",
        options={"ctx-size": r"1[3-9]\d{4}|[2-9]\d{5}|\d{7,}"},
    ),
    KnownBad(
        "lazy-mode: auto halves the speed of prompts on graphics in an AMD processor",
        "set lazy-mode: off",
        "#28160",
        since=10588,
        gpu=r"gfx|radeon|amd",
        integrated=True,
        options={"lazy-mode": r"auto|on"},
    ),
    KnownBad(
        "an Arc A770 gives empty answers after some 8 hours",
        "restart it each day",
        "#29526",
        gpu=r"\bA770\b",
    ),
    *_with_each(
        _either_is(_SLOW_CACHE),
        KnownBad(
            "the GPU has no flash attention for this cache type: the CPU computes it, a hundred times slower",
            _FAST_CACHE,
            "#28455, #27109; measured by kelnei/qwen38-4090",
            before=_CONVERTS,
            flavours=("cuda", "rocm"),
        ),
    ),
    *_with_each(
        _UNEQUAL_CACHES,
        KnownBad(
            "the GPU has no flash attention for unequal cache types: the CPU computes it, 30 times slower",
            _ONE_CACHE,
            "#27150; measured on an RTX 4090",
            before=_CONVERTS,
            flavours=("cuda", "rocm"),
        ),
    ),
    *_with_each(
        _either_is("q4_1|q5_0|q5_1"),
        KnownBad(
            "the GPU has no flash attention for this cache type, and converts all of it for each token",
            _FAST_CACHE,
            "#28079; fattn.cu of b11434",
            since=_CONVERTS,
            flavours=("cuda", "rocm"),
        ),
    ),
    *_with_each(
        _UNEQUAL_CACHES,
        KnownBad(
            "the GPU has no flash attention for unequal cache types, and converts all of it for each token",
            _ONE_CACHE,
            "#28079; fattn.cu of b11434",
            since=_CONVERTS,
            flavours=("cuda", "rocm"),
        ),
        KnownBad(
            "Metal has no flash attention for unequal cache types, and the CPU computes it",
            _ONE_CACHE,
            "ggml-metal-device.m of b11434",
            flavours=("metal",),
        ),
    ),
    *_with_each(
        _either_is("iq4_nl"),
        KnownBad(_NO_IQ4, _FAST_CACHE, "fattn.cu of b11434", since=_CONVERTS, flavours=("cuda", "rocm")),
        KnownBad(_NO_IQ4, _FAST_CACHE, "ggml-metal-device.m of b11434", flavours=("metal",)),
    ),
    KnownBad(
        "moe-cache-mib made a Radeon under Vulkan three times slower",
        "measure it: goss-supervisor bench, with 0 and without",
        "#29887; measured with b11505",
        since=11480,
        flavours=("vulkan",),
        options={"moe-cache-mib": r"[1-9]\d*|auto|-1"},
    ),
    KnownBad(
        "what gpt-oss saves of a slot beyond 128 tokens does not come back as it was",
        "leave slot-save-path out",
        "#25295",
        options={"slot-save-path": r".+"},
        model=r"gpt-?oss",
    ),
    KnownBad(
        "RPC changed with b11450: builds before and after it do not understand each other",
        "give all workers a build from the same side",
        "#26610",
        since=11450,
        options={"rpc": r".+"},
    ),
)


def warnings_of(
    build: Build,
    options: Mapping[str, OptionValue],
    hardware: Callable[[], Hardware],
    model: Model | None = None,
) -> tuple[str, ...]:
    """
    A sentence for each row of the table that applies.

    ``options`` are by canonical name.  ``hardware`` is asked only where a row needs it.  A build whose number
    is not known is taken for one that has the fault.
    """
    said = (
        row.text for row in TABLE if _applies(row, build, options, model) and _is_here(row, build, hardware)
    )
    return tuple(dict.fromkeys(said))


def _applies(row: KnownBad, build: Build, options: Mapping[str, OptionValue], model: Model | None) -> bool:
    number = build.number
    if number is not None and not row.since <= number < (row.before or number + 1):
        return False
    if row.flavours and family(build.flavour) not in row.flavours:
        return False
    if not all(re.fullmatch(pattern, _text(options.get(name))) for name, pattern in row.options.items()):
        return False
    if row.tensors and row.tensors not in _formats(model):
        return False
    return not row.model or bool(model and re.search(row.model, " ".join(_names(model)), re.IGNORECASE))


def _text(value: OptionValue | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else ",".join(words_of(value)).lower()


def _formats(model: Model | None) -> set[str]:
    return {tensor.kind.name for tensor in model.tensors if tensor.kind} if model else set()


def _names(model: Model) -> Iterator[str]:
    yield model.architecture
    if model.name:
        yield from (model.name, model.name.replace(" ", "-"))


def _is_here(row: KnownBad, build: Build, hardware: Callable[[], Hardware]) -> bool:
    if not (row.os or row.gpu or row.integrated):
        return True
    here = hardware()
    vendor = {"cuda": "nvidia", "rocm": "amd"}.get(family(build.flavour))
    return (not row.os or here.os == row.os) and any(
        re.search(row.gpu, f"{gpu.name} {gpu.architecture}", re.IGNORECASE)
        for gpu in here.gpus
        if vendor in {None, gpu.vendor}
        and (gpu.integrated or not row.integrated)
        and family(build.flavour) != "cpu"
    )
