"""
What makes a computer slower than it could be, of what its system tells: power, memory modules, PCIe slots.

It is asked for by `tune` and ``detect -v`` only: it changes with a plug or a setting, and no plan needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .hardware import PcieLink

PowerMode = Literal["", "efficiency", "balanced", "performance"]


@dataclass(frozen=True, slots=True)
class MemoryModule:
    """``channel`` is a name that the modules of one channel share; "" where the board does not say."""

    slot: str = ""
    size_bytes: int | None = None
    mega_transfers: int | None = None  # a second, as configured: 5600
    width_bits: int | None = None
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Conditions:
    """
    ``power_mode`` is what the user chose: of Windows, of the firmware on Linux, of macOS.  ``governor`` and
    ``preference`` are Linux's, of the first processor.  ``slots`` counts those for modules, the empty ones
    included.  ``ports`` has what the slot of a card can do at most, by the card's PCI address.
    """

    on_battery: bool | None = None
    power_mode: PowerMode = ""
    governor: str = ""
    scaling_driver: str = ""
    preference: str = ""
    modules: tuple[MemoryModule, ...] = ()
    slots: int | None = None
    ports: Mapping[str, PcieLink] = field(default_factory=dict)

    @property
    def channels(self) -> int | None:
        """That are in use; None where a module does not say which one it is on."""
        named = {module.channel for module in self.modules}
        return None if not named or "" in named else len(named)

    @property
    def ram_bytes_per_second(self) -> float | None:
        """What the modules can move at most; None where a figure is missing."""
        widest: dict[str, float] = {}
        for module in self.modules:
            if not (module.channel and module.mega_transfers and module.width_bits):
                return None
            # two modules of a channel take turns
            widest[module.channel] = module.mega_transfers * 1e6 * module.width_bits / 8
        return sum(widest.values()) or None


_CHANNEL = re.compile(r"(?i)(.*channel[ _-]?[0-9a-z]+|.*\bch[ _-]?[a-h]\b|dimm[ _-]?[a-h](?=\d\b))")


def channel_of(slot: str, bank: str) -> str:
    """``P0 CHANNEL A`` of the bank, ``Controller0-ChannelA`` or ``DIMM_A`` of the slot; "" for neither."""
    found = _CHANNEL.match(bank) or _CHANNEL.match(slot)
    return found[1].upper() if found else ""
