"""What a launch takes where no header tells it: as the profile declares it, or as it was measured.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.build import family
from ..engine.suitability import flavour_of
from ..hardware.hardware import Hardware
from ..profile.definition import Profile
from .accounts import RAM, Account, Figure, FigureSource, Ledger, Pool
from .fitting import NOTHING, Fitted
from .machine_memory import memories_of
from .verdict import given_back, judge, leaving, ours_of


@dataclass(frozen=True, slots=True)
class KnownMemory:
    """Bytes by name of the memory: RAM, CUDA0 …"""

    bytes_of: Mapping[str, int]
    source: FigureSource


def fit_known(
    known: KnownMemory,
    profile: Profile,
    hardware: Hardware,
    *,
    held: Mapping[str, int] = NOTHING,
    stays: Mapping[str, int] = NOTHING,
) -> Fitted:
    """
    Its account and whether it fits.  A memory that this machine is not known to have is judged unknown.
    ``held`` is what the servers that run now will have given back by then, and ``stays`` what others keep.
    """
    there = given_back(_pools(known, hardware), held)
    ours = ours_of(there, profile.leave_bytes)
    pools = {pool.name: pool for pool in leaving(there, ours, stays)}
    gpus = [name for name in known.bytes_of if name != RAM]
    accounts = [
        _account(pools.get(name, Pool(name, None, None)), known.bytes_of.get(name, 0), known.source)
        for name in (*gpus, RAM)
    ]
    ledger = Ledger(tuple(accounts), (), None)
    return Fitted(ledger, judge(ledger, profile.guardrails), ours=ours)


def _pools(known: KnownMemory, hardware: Hardware) -> list[Pool]:
    """Each GPU as the flavour that calls it so would count it."""
    flavours = {family(flavour_of([name])) for name in known.bytes_of if name != RAM} or {"cpu"}
    return [pool for each in sorted(flavours) for pool in memories_of(hardware, each, every=True).pools]


def _account(pool: Pool, size: int, source: FigureSource) -> Account:
    none = Figure(0, source)
    return Account(pool, none, none, none, Figure(size, source), anonymous_bytes=size)
