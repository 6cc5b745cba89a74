"""
Ways to divide a model between GPU and RAM, the fastest first.  Pure.

The ladder does not depend on how much memory there is, and no rung puts more on a GPU with memory of its own
than the one above it.  So who takes the first rung that holds never places less there for having more memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from ..options.option_values import OptionValue

UBATCHES = (4096, 2048, 1024, 512)
"""Tokens of a prompt that are read at once; 512 is llama.cpp's default."""

_DEFAULT_BATCH = 2048  # no ubatch is larger than a batch
_ALL_LAYERS = 99  # what people write


@dataclass(frozen=True, slots=True)
class Rung:
    """
    ``gpu_layers`` of ``layers`` on the GPU, or None where there is none; of the layers, the experts of the
    first ``cpu_experts`` in RAM.  ``ubatch`` is None where it is not for us to say.  Even without a layer a
    GPU computes large batches, and takes memory for it, unless it ``is_left_out``.
    """

    layers: int
    gpu_layers: int | None = None
    cpu_experts: int = 0
    ubatch: int | None = None
    is_left_out: bool = False

    def changes(self, free: Sequence[int]) -> dict[str, OptionValue]:
        """By canonical name; ``free`` are bytes of each GPU."""
        changes: dict[str, OptionValue] = {"device": "none"} if self.is_left_out else {}
        if self.gpu_layers is not None:
            whole = self.gpu_layers >= self.layers
            changes["gpu-layers"] = max(_ALL_LAYERS, self.layers + 1) if whole else self.gpu_layers
        if self.cpu_experts:
            some = self.cpu_experts < self.layers
            changes |= {"n-cpu-moe": self.cpu_experts} if some else {"cpu-moe": True}
            changes |= {"tensor-split": self._split(free)} if some and len(free) > 1 else {}
        if self.ubatch:
            changes["ubatch-size"] = self.ubatch
            changes |= {"batch-size": self.ubatch} if self.ubatch > _DEFAULT_BATCH else {}
        return changes

    def _split(self, free: Sequence[int]) -> str:
        """
        Layers of each GPU, so that those with their experts are divided by what is free.

        llama.cpp itself divides all layers so, and then the first GPU, which has those without their experts,
        stays empty.  The output counts as one more layer, the last.
        """
        heavy = self.layers - self.cpu_experts
        ends = [self.cpu_experts + round(heavy * part / sum(free)) for part in accumulate(free)]
        ends[-1] += 1
        return ",".join(str(end - start) for start, end in pairwise([0, *ends]))


@dataclass(frozen=True, slots=True)
class Ladder:
    """
    ``stretches`` of rungs; within one, each rung needs no more of the GPU than the one above it.

    ``mapped`` are those with all that is large in RAM: all experts, or all of a model that has none.
    """

    stretches: tuple[tuple[Rung, ...], ...]
    mapped: tuple[Rung, ...]


def without_gpu(layers: int) -> Ladder:
    only = (Rung(layers),)
    return Ladder((only,), only)


def ladder(
    layers: int, experts: int, ubatches: Sequence[int | None], worth: int | None, *, shares_ram: bool
) -> Ladder:
    """
    First everything on the GPU, with a ubatch as large as may be: nothing costs as much speed as the first
    layer that is not there (gpt-oss-20b on an RX 9070: 122 tokens a second, 45 with one layer less).

    Then the experts of one layer after the other in RAM, with the ubatch that is ``worth`` it: the CPU's
    part of a prompt is paid once for each (gpt-oss-120b on an RTX 3090, 25 to 28 layers in RAM: 380 tokens
    a second with 512, 1,113 with 2048, 1,682 with 4096, and the same 32 to 33 when generating).  Where the
    GPU shares the RAM, experts that move make no room, so the same with the smallest ubatch follows.  Then
    all experts in RAM and smaller ubatches; and at last whole layers there, with their part of the context,
    and a GPU that is left out.

    ``ubatches`` are the largest first; ``experts`` is 0 for a model without.
    """
    least, most = ubatches[-1], layers if experts else 0

    def moved(ubatch: int | None) -> tuple[Rung, ...]:
        return tuple(Rung(layers, layers, count, ubatch) for count in range(1, most + 1))

    whole = tuple(Rung(layers, layers, 0, ubatch) for ubatch in ubatches)
    smaller = tuple(Rung(layers, layers, most, ubatch) for ubatch in ubatches[ubatches.index(worth) + 1 :])
    left_out = Rung(layers, 0, is_left_out=True)
    divided = (*(Rung(layers, count, most, least) for count in range(layers, -1, -1)), left_out)
    stretches = (whole, moved(worth), moved(least) if shares_ram else (), smaller if most else (), divided)
    return Ladder(
        tuple(stretch for stretch in stretches if stretch), mapped=divided if most else divided[-2:]
    )
