"""The one step back of a launch whose load failed for memory, though its account said it fits.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..options.option_values import OptionValue
from .settings import Settings

_LEAST_UBATCH = 128


def step_back(settings: Settings, layers: int, experts: int, *, on_gpu: bool) -> Mapping[str, OptionValue]:
    """
    Options to be changed: the experts of a twelfth of the layers more to the CPU, at least of two; where that
    cannot be, a batch half as large; empty where neither can.

    A twelfth is 5 GiB of gpt-oss-120b's experts and 0.8 GiB of the 20b's: more than any ledger here was
    ever wrong by, and a loss of a few per cent of the speed.
    """
    if on_gpu and experts and settings.cpu_moe_layers < layers:
        return {"n-cpu-moe": min(layers, settings.cpu_moe_layers + max(2, layers // 12))}
    if settings.ubatch // 2 >= _LEAST_UBATCH:
        return {"ubatch-size": settings.ubatch // 2}
    return {}
