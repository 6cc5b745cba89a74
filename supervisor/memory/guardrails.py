"""What is left alone of each memory, and how much of a model may be read from the disk again.  Pure."""

from __future__ import annotations

from typing import Literal

from .types import Pool

Guardrails = Literal["off", "relaxed", "balanced", "strict"]
"""
off: nothing is refused.  relaxed: all that is free may be taken.  balanced: a reserve is left to the system
and the desktop.  strict: the same, and no part of the model may have to be read from the disk again.
"""

RAM = "RAM"
_MIB, _GIB = 1024**2, 1024**3


def reserve_bytes(pool: Pool) -> int:
    """
    What should stay free of a memory, beyond what the system and the desktop use already.

    Free is what can be had without swapping (MemAvailable and its like), so this is for what people open
    while the model runs.  A GPU that shares the RAM leaves nothing of its own: the RAM does.
    """
    if pool.shares_ram:
        return 0
    return _of_ram(pool) if pool.name == RAM else _of_a_card(pool)


def kept_bytes(pool: Pool, guardrails: Guardrails) -> int:
    """What of the reserve these guardrails refuse to give."""
    return reserve_bytes(pool) if guardrails in {"balanced", "strict"} else 0


def _of_ram(pool: Pool) -> int:
    """
    2 GiB: a browser with some pages takes one, and Unsloth Studio leaves as much.

    An eighth of machines below 16 GiB, where 2 GiB would refuse what runs; and a sixteenth above 32 GiB, as
    people do more on larger machines meanwhile.
    """
    total = pool.total_bytes or pool.free_bytes or 0
    return max(total // 16, min(2 * _GIB, total // 8))


def _of_a_card(pool: Pool) -> int:
    """
    1 GiB, the default of llama.cpp's own ``--fit-target``; half of it on a card that nobody else uses.

    The driver itself keeps 300 to 450 MiB of an idle card, so such a card is one with less than 512 MiB
    taken: no desktop runs on it, and none will grow.  The half that is left is for what the ledger may miss.
    """
    taken = None if pool.total_bytes is None else pool.total_bytes - (pool.free_bytes or 0)
    return 512 * _MIB if taken is not None and taken < 512 * _MIB else 1024 * _MIB
