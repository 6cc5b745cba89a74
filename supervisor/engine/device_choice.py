"""
Which GPUs of a computer an engine should use for a model, and about how fast that would be.  Pure.

A token costs one reading of the model, so what decides is how much of it lies in which memory, and how fast
that memory is.  The figures are rough: they only have to tell a card from a much slower one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..hardware.hardware import Gpu
from .build import family, numbers

_GIB = 1024**3
TYPICAL_BYTES = 12 * _GIB
"""Where the model is not known: gpt-oss-20b, which the profile for any machine serves."""

_RAM = 70.0  # GB/s: two channels of DDR5; graphics in the processor read the same memory
_CARD_PER_GIB = 30.0  # cards have grown evenly: GT 1030 2 GB 48, RTX 4060 Ti 16 GB 288, RX 7900 XTX 24 GB 960
_OLD = 0.5  # NVIDIA before Turing: slow, or no, arithmetic with 16 bits
_TURING = (7, 0)
_FAST_SHARED = (  # GB/s of processors with a wide memory
    (re.compile(r"gfx1151|80[56]0S", re.IGNORECASE), 256.0),
    (re.compile(r"\b(GB10|Thor)\b"), 273.0),
    (re.compile(r"\bOrin\b"), 200.0),
    (re.compile(r"\bXavier\b"), 130.0),
    (re.compile(r"\bApple M\d"), 200.0),
)
_COST = {"metal": 1.0, "cuda": 1.0, "opencl": 1.0, "rocm": 1.1, "sycl": 1.2}
_OTHER_COST = 1.25  # Vulkan: on the same card it reaches some 80 % of CUDA
_UNKNOWN_CARD_BYTES = 8 * _GIB
_KEPT_BYTES = _GIB  # of a card, for the driver, the screen and llama.cpp's buffers
_MUCH_SLOWER = 0.6


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """
    ``used`` are places in the sequence of GPUs that was given.  ``is_default`` says that llama.cpp uses just
    these by itself.  ``seconds`` are of a token, for comparison with other choices only.
    """

    used: tuple[int, ...]
    is_default: bool
    seconds: float


def choose_devices(gpus: Sequence[Gpu], flavour: str, model_bytes: int | None = None) -> DeviceChoice:
    """
    The fastest of: what llama.cpp takes by itself (all cards, or the integrated ones where there is no card),
    the same without cards that are much slower than the best one, and the integrated ones alone.
    """
    wanted = model_bytes or TYPICAL_BYTES
    default, *others = dict.fromkeys(_candidates(gpus))
    best = min((default, *others), key=lambda used: _seconds([gpus[index] for index in used], wanted))
    seconds = _seconds([gpus[index] for index in best], wanted) * _COST.get(family(flavour), _OTHER_COST)
    return DeviceChoice(best, best == default, round(seconds, 6))


def by_default(gpus: Sequence[Gpu]) -> tuple[int, ...]:
    """Places of those that llama.cpp takes: it leaves integrated GPUs alone where there is another."""
    cards = tuple(index for index, gpu in enumerate(gpus) if not gpu.integrated)
    return cards or tuple(range(len(gpus)))


def _candidates(gpus: Sequence[Gpu]) -> Iterator[tuple[int, ...]]:
    default = by_default(gpus)
    yield default
    fastest = max((_bandwidth(gpus[index]) for index in default), default=0.0)
    yield tuple(index for index in default if _bandwidth(gpus[index]) >= _MUCH_SLOWER * fastest)
    if integrated := tuple(index for index, gpu in enumerate(gpus) if gpu.integrated):
        yield integrated


def _seconds(gpus: Sequence[Gpu], model_bytes: int) -> float:
    """Layers are divided by the sizes of the memories, and read one after the other; the rest is in RAM."""
    sizes = [usable_bytes(gpu) for gpu in gpus]
    together = sum(sizes)
    held = min(model_bytes, together)
    on_gpus = sum(
        held * size / together / _bandwidth(gpu) for gpu, size in zip(gpus, sizes, strict=True) if size
    )
    return (on_gpus + (model_bytes - held) / _RAM) / 1e9


def usable_bytes(gpu: Gpu) -> int:
    """What a model may have of it."""
    if gpu.integrated or gpu.unified:
        return gpu.memory_bytes * 9 // 10 if gpu.memory_bytes else _UNKNOWN_CARD_BYTES
    size = _UNKNOWN_CARD_BYTES if gpu.memory_bytes is None else gpu.memory_bytes
    return max(0, size - _KEPT_BYTES)


def _bandwidth(gpu: Gpu) -> float:
    """GB/s."""
    if gpu.integrated or gpu.unified:
        called = f"{gpu.name} {gpu.architecture}"
        return next((speed for pattern, speed in _FAST_SHARED if pattern.search(called)), _RAM)
    size = _UNKNOWN_CARD_BYTES if gpu.memory_bytes is None else gpu.memory_bytes
    capability = numbers(gpu.architecture) if gpu.vendor == "nvidia" else ()
    old = _OLD if capability and capability < _TURING else 1.0
    return max(1.0, size / _GIB * _CARD_PER_GIB * old)
