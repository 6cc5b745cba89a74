"""Whether a launch fits each memory that an engine can put a model into, in figures and words.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..options.option_types import OptionValue
from .accounts import RAM, Account, Ledger, Pool

Guardrails = Literal["off", "relaxed", "balanced", "strict"]
"""
off: nothing is refused.  relaxed: all that is free may be taken.  balanced: a reserve is left to the system
and the desktop.  strict: the same, and no part of the model may have to be read from the disk again.
"""

_MIB, _GIB = 1024**2, 1024**3
_WORST_FIRST: tuple[FitStatus, ...] = ("does not fit", "unknown", "tight", "fits")


def reserve_bytes(pool: Pool) -> int:
    """
    What should stay free of a memory, beyond what the system and the desktop use already.

    Free is what can be had without swapping (MemAvailable and its like), so this is for what people open
    while the model runs.  A GPU that shares the RAM leaves nothing of its own: the RAM does.  What is left to
    others anyway is a part of it.
    """
    if pool.shares_ram:
        return 0
    reserve = _of_ram(pool) if pool.name == RAM or is_ram_of_worker(pool) else _of_a_card(whole(pool))
    return max(0, reserve - pool.left_bytes)


def is_ram_of_worker(pool: Pool) -> bool:
    """A worker without a GPU says of all its RAM that it is free (ggml-cpu); a driver never does."""
    return bool(pool.worker) and pool.free_bytes is not None and pool.free_bytes == pool.total_bytes


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
    1 GiB, the default of llama.cpp's own ``--fit-target``; half of it on a card that no other program uses.

    The driver itself keeps 300 to 450 MiB of an idle card, so such a card is one with less than 512 MiB
    taken: no desktop runs on it, and none will grow.  The half that is left is for what the ledger may miss.
    """
    taken = None if pool.total_bytes is None else pool.total_bytes - (pool.free_bytes or 0)
    return 512 * _MIB if taken is not None and taken < 512 * _MIB else 1024 * _MIB


FitStatus = Literal["fits", "tight", "does not fit", "unknown"]

Changes = Mapping[str, OptionValue]
"""Options by canonical name, to be set over those of a profile."""

Weigh = Callable[[Changes], Ledger]
"""What a launch takes when these options are changed."""


@dataclass(frozen=True, slots=True)
class PoolJudgement:
    """
    About one memory.  Where GPUs share the RAM, ``needed_bytes`` of the RAM holds theirs too.

    ``reserve_bytes`` is what should stay free; ``paged_bytes`` is how much of the model's file then finds no
    room and is read from the disk whenever it is used.  Tight is what is allowed and leaves less than the
    reserve, or has to be read again.
    """

    pool: Pool
    status: FitStatus
    needed_bytes: int
    reserve_bytes: int
    paged_bytes: int
    text: str


@dataclass(frozen=True, slots=True)
class MemoryVerdict:
    """``judgements`` are in the order of the ledger's accounts; ``status`` is the worst of them."""

    guardrails: Guardrails
    judgements: tuple[PoolJudgement, ...]
    is_sure: bool = True  # False: what does not fit is a warning only

    @property
    def status(self) -> FitStatus:
        found = {judgement.status for judgement in self.judgements}
        return next((status for status in _WORST_FIRST if status in found), "fits")

    @property
    def refused(self) -> bool:
        return self.status == "does not fit" and self.guardrails != "off" and self.is_sure

    @property
    def allowed(self) -> bool:
        """Whether everything is known to go in, by these guardrails or, where they are off, at all."""
        return self.status in {"fits", "tight"}

    @property
    def paged_bytes(self) -> int:
        return sum(judgement.paged_bytes for judgement in self.judgements)

    @property
    def short(self) -> tuple[PoolJudgement, ...]:
        """Those that do not fit."""
        return tuple(each for each in self.judgements if each.status == "does not fit")


def judge(ledger: Ledger, guardrails: Guardrails) -> MemoryVerdict:
    """Every memory by itself, and the RAM together with all GPUs that share it."""
    judgements = tuple(_judge(each, ledger, guardrails) for each in ledger.accounts)
    return MemoryVerdict(guardrails, judgements, is_sure=ledger.is_known)


def _judge(account: Account, ledger: Ledger, guardrails: Guardrails) -> PoolJudgement:
    """
    A driver drops nothing of what a GPU holds (Metal wires what it maps, too), so all of that is pinned, in
    the RAM as well where the GPU shares it.
    """
    pool, needed, pinned = account.pool, account.needed_bytes, account.needed_bytes
    if pool.name == RAM:
        shared = sum(_from_ram(each) for each in ledger.accounts if each.pool.shares_ram)
        needed, pinned = needed + shared, account.anonymous_bytes + shared
    status, paged = _status(pool, needed, pinned, guardrails)
    text = _text(pool, status, needed, pinned, guardrails)
    return PoolJudgement(pool, status, needed, reserve_bytes(pool), paged, text)


def _from_ram(of: Account) -> int:
    """What a GPU that shares the RAM takes of it: its own is used first."""
    return max(0, of.needed_bytes - of.pool.own_bytes)


def _status(pool: Pool, needed: int, pinned: int, guardrails: Guardrails) -> tuple[FitStatus, int]:
    """The status, and the bytes that are paged."""
    if needed == 0:
        return "fits", 0
    if pool.free_bytes is None:
        return "unknown", 0
    room = pool.free_bytes - kept_bytes(pool, guardrails)
    if needed <= room:
        roomy = needed <= pool.free_bytes - reserve_bytes(pool)
        return ("fits" if roomy else "tight"), 0
    if pinned <= room and guardrails != "strict":
        return "tight", needed - room
    return "does not fit", 0


def _text(pool: Pool, status: FitStatus, needed: int, pinned: int, guardrails: Guardrails) -> str:
    """One sentence, without its full stop, so that advice can follow."""
    if needed == 0:
        return f"nothing is put {place_of(pool)}"
    if pool.free_bytes is None:
        return f"needs {size(needed)} {place_of(pool)}; how much of it is free is not known"
    free = pool.free_bytes
    needs, has = sizes(needed, free)
    text = f"needs {needs} of the {has} that are free {place_of(pool)}{_left(pool)}"
    if status == "fits":
        return text
    if status == "tight" and needed <= free - kept_bytes(pool, guardrails):
        return f"{text}, which leaves only {size(free - needed)} for everything else"
    return text + _lack(pool, status, needed, pinned, guardrails)


def _lack(pool: Pool, status: FitStatus, needed: int, pinned: int, guardrails: Guardrails) -> str:
    free, kept = pool.free_bytes or 0, kept_bytes(pool, guardrails)
    reserved = f", {size(kept)} of which are left to the system and the desktop"
    left = reserved if kept and needed > free - kept else ""
    if status == "tight":
        again = size(needed - free + kept)
        return f"{left}: up to {again} of the model's file are read from the disk again and again, slowly"
    if pinned < needed and guardrails != "strict":
        return f"{left}, and {size(pinned)} of it cannot be read from the disk again"
    return left if needed <= free else ""


def _left(pool: Pool) -> str:
    """A clause, with its comma where others follow."""
    return (
        f" without the {size(pool.left_bytes)} that memory.leave keeps for others" if pool.left_bytes else ""
    )


def place_of(pool: Pool) -> str:
    """``in RAM``, ``on CUDA0``."""
    return "in RAM" if pool.name == RAM else f"on {pool.label}"


def size(number_bytes: int) -> str:
    """``15.9 GiB``, ``480 MiB``."""
    return sizes(number_bytes)[0]


def sizes(*numbers_bytes: int) -> tuple[str, ...]:
    """In GiB; in MiB where that says 0.0, where different figures would look the same, or all are small."""
    in_gib = tuple(
        f"{each / _GIB:.1f} GiB" if each >= _GIB // 20 else f"{each / _MIB:.0f} MiB" for each in numbers_bytes
    )
    if max(numbers_bytes) >= _GIB and len(set(in_gib)) == len(set(numbers_bytes)):
        return in_gib
    return tuple(f"{each / _MIB:.0f} MiB" for each in numbers_bytes)


def given_back(pools: Iterable[Pool], held: Mapping[str, int]) -> tuple[Pool, ...]:
    """With what a server that will have ended holds of them, by name, counted as free."""
    return tuple(_with(pool, held.get(pool.name, 0)) for pool in pools)


def ours_of(pools: Iterable[Pool], leave: Mapping[str, int]) -> dict[str, int]:
    """The most that all our servers may have of each memory of which ``leave`` bytes are not ours."""
    sizes_bytes = {pool.name: pool.total_bytes or pool.free_bytes for pool in pools if pool.name in leave}
    return {name: max(0, number - leave[name]) for name, number in sizes_bytes.items() if number is not None}


def leaving(pools: Iterable[Pool], ours: Mapping[str, int], stays: Mapping[str, int]) -> tuple[Pool, ...]:
    """With no more of them free than is ours and not held already by servers that stay."""
    return tuple(
        _at_most(pool, max(0, ours[pool.name] - stays.get(pool.name, 0))) if pool.name in ours else pool
        for pool in pools
    )


def _at_most(pool: Pool, most: int) -> Pool:
    left = max(0, (pool.free_bytes or 0) - most)
    return replace(pool, free_bytes=(pool.free_bytes or 0) - left, left_bytes=left) if left else pool


def whole(pool: Pool) -> Pool:
    """With what is left to others counted as free."""
    free = None if pool.free_bytes is None else pool.free_bytes + pool.left_bytes
    return replace(pool, free_bytes=free, left_bytes=0)


def _with(pool: Pool, held: int) -> Pool:
    if pool.free_bytes is None:
        return pool
    free = pool.free_bytes + held
    return replace(pool, free_bytes=min(free, pool.total_bytes or free))
