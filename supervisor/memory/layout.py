"""
Which memory the layers and tensors of a model go to.  Pure.

Sources, at b11434: load_tensors in src/llama-model.cpp (layers to devices, the output being one more layer),
create_tensor in src/llama-model-loader.cpp (overrides), common/common.h (what --n-cpu-moe stands for).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..model.metadata import Model
from .accounts import RAM, Pool
from .memory_settings import Override, Settings

_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_DENSE = r"\.ffn_(up|down|gate)\."
_LAYER = re.compile(r"blk\.(\d{1,6})\.")
_INPUTS = ("token_embd", "token_types", "position_embd", "per_layer_token_embd")


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
        layer = _LAYER.match(tensor)
        number = int(layer[1]) if layer else len(self.blocks)
        return self.layers[min(number, len(self.blocks))]


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
    parts = given if any(given) else [float(gpu.free_bytes or gpu.total_bytes or 1) for gpu in gpus]
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
