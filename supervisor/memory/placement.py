"""
Places a model where it runs fastest, and says why: ``placement: auto``.  Pure.

A ladder has the ways to divide a model between GPU and RAM, the fastest first; the first one that fits is
used.  It does not depend on the amount of memory, and no rung puts more on a GPU with its own memory than the
rung above it.  So more memory never means less of the model on the GPU.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from ..options.option_types import OptionValue
from .accounts import RAM, Pool
from .verdict import Changes, Guardrails, MemoryVerdict, Weigh, judge, place_of, size


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    ``changes`` are set in addition to the profile's options; ``reasons`` are sentences.

    ``verdict`` is on the changes.  Where nothing goes in, they are the least that can be had, and it says so.
    """

    changes: Mapping[str, OptionValue]
    reasons: tuple[str, ...]
    verdict: MemoryVerdict


def propose(wanted: WantedPlacement, weigh: Weigh, guardrails: Guardrails) -> Proposal:
    """
    As much on the GPU as goes in with the wanted context; less context only where nothing else helps.

    ``weigh`` takes changes to ``wanted.options``.  Where the free memory of a device is not known, nothing is
    changed, and llama.cpp may fit the model itself.
    """
    ledger = weigh({})
    pools = tuple(account.pool for account in ledger.accounts)
    unknown = [place_of(pool) for pool in pools if pool.free_bytes is None]
    if unknown:
        reasons = tuple(f"how much is free {place} is not known, so nothing is placed" for place in unknown)
        return Proposal({}, reasons, judge(ledger, guardrails))
    search = Search(wanted, weigh, guardrails, pools)
    return _explained(search, *_best(search))


def _best(search: Search) -> tuple[FoundPlacement, FoundPlacement]:
    """
    With the wanted context, and what is taken: the first context with which nothing is read again and again,
    else the first that goes in at all, else the least.
    """
    tried: list[FoundPlacement] = []
    for context_tokens in _contexts(search.wanted):
        tried.append(search.at(context_tokens))
        if tried[-1].is_read_once:
            return tried[0], tried[-1]
    return tried[0], next((found for found in tried if found.verdict.allowed), tried[-1])


def _contexts(wanted: WantedPlacement) -> Iterator[int]:
    """Halves, and the least at last."""
    tokens = wanted.context_tokens
    while tokens > wanted.least_context_tokens:
        yield tokens
        tokens //= 2
    yield wanted.least_context_tokens


def _explained(search: Search, first: FoundPlacement, found: FoundPlacement) -> Proposal:
    changes = search.changes(found.context_tokens, found.rung, found.savings)
    if not found.verdict.allowed:
        lack = "; ".join(each.text for each in found.verdict.short)
        return Proposal(changes, (f"nothing goes in: even the least {lack}",), found.verdict)
    less = f"instead of {first.context_tokens}, which {_lack(first)}"
    reasons = (
        _where(search, found),
        "" if first is found else f"context {found.context_tokens} {less}",
        f"prompts are read {changes['ubatch-size']} tokens at a time" if "ubatch-size" in changes else "",
        *_savings(search, found, changes),
        *_left(found.verdict),
    )
    return Proposal(changes, tuple(reason for reason in reasons if reason), found.verdict)


def _where(search: Search, found: FoundPlacement) -> str:
    used = [each.pool for each in found.verdict.judgements if each.needed_bytes and each.pool.name != RAM]
    rung, gpus = found.rung, " and ".join([pool.label for pool in used] or search.gpus)
    if rung.gpu_layers is None:
        return "all of it in RAM: there is no GPU to use"
    if rung.is_left_out:
        return f"all of it in RAM: {gpus} has no room for anything of use"
    if rung.gpu_layers < rung.layers:
        what = f"{rung.gpu_layers} of {rung.layers} layers on {gpus}"
        return f"{what}, and all experts in RAM" if rung.cpu_experts else what
    if not rung.cpu_experts:
        return f"all {rung.layers} layers on {gpus}"
    if found.savings == MAPPED and search.shares_ram:
        return f"all experts in RAM, mapped from the file: what {gpus} holds of the RAM cannot be read again"
    fewer = replace(rung, cpu_experts=rung.cpu_experts - 1)
    lack = _lack(search.tried(found.context_tokens, fewer, found.savings))
    moved = f"the experts of {rung.cpu_experts} of {rung.layers} layers in RAM"
    return f"{moved}: with one less it {lack}" if lack else moved


def _lack(found: FoundPlacement) -> str:
    return "; ".join(each.text for each in found.verdict.judgements if each.status != "fits")


def _savings(search: Search, found: FoundPlacement, changes: Mapping[str, OptionValue]) -> Iterator[str]:
    """What the RAM does without, and what it would need otherwise."""
    if not found.savings:
        return
    full = search.tried(found.context_tokens, found.rung, {}).verdict.judgements[-1]
    if "cache-ram" in changes:
        kept = changes["cache-ram"]
        yield f"{f'{kept} MiB' if kept else 'nothing'} is kept for old prompts: with that it {full.text}"
    if "repack" in changes:
        yield "weights are not rearranged for the CPU (repack), so that they need not stay in memory"


def _left(verdict: MemoryVerdict) -> Iterator[str]:
    for each in verdict.judgements:
        if each.pool.worker and not each.needed_bytes:
            continue
        left = (each.pool.free_bytes or 0) - each.needed_bytes
        yield f"{size(left)} stay free {place_of(each.pool)}" if left > 0 else each.text


_LAYERS_FOR_A_UBATCH = 2

# What the RAM can do without, what costs least first: old prompts kept for later (8 GiB by default), then the
# experts rearranged for the CPU, which are faster there but cannot be dropped and read again.
_SAVINGS: tuple[Changes, ...] = ({}, {"cache-ram": 2048}, {"cache-ram": 0}, {"cache-ram": 0, "repack": False})

MAPPED: Changes = {**_SAVINGS[-1], "load-mode": "mmap"}
"""All may be dropped and read again.  By itself llama.cpp does not map where a GPU shares the RAM."""


@dataclass(frozen=True, slots=True)
class WantedPlacement:
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
class FoundPlacement:
    """One way to do it; ``verdict`` is on it."""

    context_tokens: int
    rung: Rung
    savings: Changes
    verdict: MemoryVerdict

    @property
    def is_read_once(self) -> bool:
        """Whether it goes in, and stays."""
        return self.verdict.allowed and not self.verdict.paged_bytes


@dataclass(frozen=True, slots=True)
class Search:
    """``pools`` are all memories, with what is free of each."""

    wanted: WantedPlacement
    weigh: Weigh
    guardrails: Guardrails
    pools: tuple[Pool, ...]

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(pool.label for pool in self.pools if pool.name != RAM)

    @property
    def free(self) -> tuple[int, ...]:
        """Bytes, of each GPU."""
        return tuple(pool.free_bytes or 0 for pool in self.pools if pool.name != RAM)

    @property
    def shares_ram(self) -> bool:
        return any(pool.shares_ram for pool in self.pools)

    def at(self, context_tokens: int) -> FoundPlacement:
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

    def _least_savings(self, context_tokens: int, rung: Rung) -> FoundPlacement:
        for savings in _SAVINGS:
            found = self.tried(context_tokens, rung, savings)
            if found.is_read_once:
                return found
        return self.tried(context_tokens, rung, MAPPED)

    def tried(self, context_tokens: int, rung: Rung, savings: Changes) -> FoundPlacement:
        ledger = self.weigh(self.changes(context_tokens, rung, savings))
        return FoundPlacement(context_tokens, rung, savings, judge(ledger, self.guardrails))

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
