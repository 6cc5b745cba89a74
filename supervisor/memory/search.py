"""The first rung of the ladder that holds, with what the RAM has to do without for it.  Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..options.option_values import OptionValue
from .accounts import RAM, Pool
from .ladder import UBATCHES, Ladder, Rung, ladder, without_gpu
from .verdict import Changes, Guardrails, Verdict, Weigh, judge

_LAYERS_FOR_A_UBATCH = 2

# What the RAM can do without, what costs least first: old prompts kept for later (8 GiB by default), then the
# experts rearranged for the CPU, which are faster there but cannot be dropped and read again.
_SAVINGS: tuple[Changes, ...] = ({}, {"cache-ram": 2048}, {"cache-ram": 0}, {"cache-ram": 0, "repack": False})

MAPPED: Changes = {**_SAVINGS[-1], "load-mode": "mmap"}
"""All may be dropped and read again.  By itself llama.cpp does not map where a GPU shares the RAM."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    ``options`` are the profile's, and never changed; ``layers`` and ``experts`` (0: none) the model's.

    ``least_context_tokens`` is ``context_tokens`` where the profile does not allow less.
    """

    options: Mapping[str, OptionValue]
    layers: int
    experts: int
    context_tokens: int
    least_context_tokens: int


@dataclass(frozen=True, slots=True)
class Found:
    """One way to do it; ``verdict`` is on it."""

    context_tokens: int
    rung: Rung
    savings: Changes
    verdict: Verdict

    @property
    def is_read_once(self) -> bool:
        """Whether it goes in, and stays."""
        return self.verdict.allowed and not self.verdict.paged_bytes


@dataclass(frozen=True, slots=True)
class Search:
    """``pools`` are all memories, with what is free of each."""

    wanted: Wanted
    weigh: Weigh
    guardrails: Guardrails
    pools: tuple[Pool, ...]

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(pool.name for pool in self.pools if pool.name != RAM)

    @property
    def free(self) -> tuple[int, ...]:
        """Bytes, of each GPU."""
        return tuple(pool.free_bytes or 0 for pool in self.pools if pool.name != RAM)

    @property
    def shares_ram(self) -> bool:
        return any(pool.shares_ram for pool in self.pools)

    def at(self, context_tokens: int) -> Found:
        """
        The best that fits without reading parts of the model again and again; else the best with it.

        What a GPU holds of the RAM cannot be dropped and read again, so where that has to be, as little as
        can be is on such a GPU.  Where nothing goes in, the verdict says so.
        """
        rungs = self._ladder(context_tokens)
        if not self.shares_ram:
            return self._least_savings(context_tokens, self._first(context_tokens, rungs.stretches))
        extremes = (rungs.stretches[0][-1], rungs.mapped[-1])  # all on the GPU, and all in RAM
        if any(self._ram_holds(context_tokens, rung) for rung in extremes):
            rung = self._first(context_tokens, rungs.stretches, read_once=True)
            return self._least_savings(context_tokens, rung)
        return self.tried(context_tokens, self._first(context_tokens, [rungs.mapped]), MAPPED)

    def _least_savings(self, context_tokens: int, rung: Rung) -> Found:
        for savings in _SAVINGS:
            found = self.tried(context_tokens, rung, savings)
            if found.is_read_once:
                return found
        return self.tried(context_tokens, rung, MAPPED)

    def tried(self, context_tokens: int, rung: Rung, savings: Changes) -> Found:
        ledger = self.weigh(self.changes(context_tokens, rung, savings))
        return Found(context_tokens, rung, savings, judge(ledger, self.guardrails))

    def changes(self, context_tokens: int, rung: Rung, savings: Changes) -> dict[str, OptionValue]:
        """What is not in the profile already, by canonical name."""
        changes: dict[str, OptionValue] = {"ctx-size": context_tokens, **rung.changes(self.free), **savings}
        return {name: value for name, value in changes.items() if name not in self.wanted.options}

    def _ladder(self, context_tokens: int) -> Ladder:
        wanted = self.wanted
        if not self.gpus:
            return without_gpu(wanted.layers)
        ubatches = self._ubatches(context_tokens)
        worth = self._worth(context_tokens, ubatches)
        return ladder(wanted.layers, wanted.experts, ubatches, worth, shares_ram=self.shares_ram)

    def _first(
        self, context_tokens: int, stretches: Sequence[Sequence[Rung]], *, read_once: bool = False
    ) -> Rung:
        """
        That the GPU holds, and with ``read_once`` the RAM too, if it does without what it can; else the last.

        Without, what is left for the RAM is no matter: it would only be more further down.
        """
        for stretch in stretches:
            start = bisect_left(stretch, True, key=lambda rung: self._held(context_tokens, rung))
            for rung in stretch[start:]:
                if not read_once or self.tried(context_tokens, rung, _SAVINGS[-1]).is_read_once:
                    return rung
        return stretches[-1][-1]

    def _held(self, context_tokens: int, rung: Rung) -> bool:
        verdict = self.tried(context_tokens, rung, {}).verdict
        return all(each.pool.name == RAM for each in verdict.short)

    def _ram_holds(self, context_tokens: int, rung: Rung) -> bool:
        *_, ram = self.tried(context_tokens, rung, _SAVINGS[-1]).verdict.judgements
        return ram.status in {"fits", "tight"} and not ram.paged_bytes

    def _ubatches(self, context_tokens: int) -> Sequence[int | None]:
        """The largest first; None where the profile says it."""
        if "ubatch-size" in self.wanted.options:
            return (None,)
        batch = self.wanted.options.get("batch-size")
        most = min(context_tokens, batch) if isinstance(batch, int) else context_tokens
        return [each for each in UBATCHES if each <= most] or UBATCHES[-1:]

    def _worth(self, context_tokens: int, ubatches: Sequence[int | None]) -> int | None:
        """
        The largest that costs the GPU no more than the experts of two layers would take there.

        That is 4096 for gpt-oss-120b and 2048 for the 20b, as llama.cpp's guide has it (discussion 15396).
        By differences, so that it is the same however much memory there is.
        """
        whole = Rung(self.wanted.layers, self.wanted.layers, 0, ubatches[-1])
        least = self._on_gpus(context_tokens, whole)
        fewer = replace(whole, cpu_experts=min(_LAYERS_FOR_A_UBATCH, self.wanted.layers))
        allowed = least - self._on_gpus(context_tokens, fewer)
        return next(
            ubatch
            for ubatch in ubatches
            if self._on_gpus(context_tokens, replace(whole, ubatch=ubatch)) - least <= allowed
        )

    def _on_gpus(self, context_tokens: int, rung: Rung) -> int:
        accounts = self.weigh(self.changes(context_tokens, rung, {})).accounts
        return sum(each.needed_bytes for each in accounts if each.pool.name != RAM)
