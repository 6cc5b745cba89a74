"""Where a model goes so that it runs fastest, and why: ``placement: auto``.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..options.option_values import OptionValue
from .search import MAPPED, Found, Search, Wanted
from .verdict import Guardrails, Verdict, Weigh, judge, place_of, size


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    ``changes`` are to be set beside the profile's options; ``reasons`` are sentences.

    ``verdict`` is on the changes.  Where nothing goes in, they are the least that can be had, and it says so.
    """

    changes: Mapping[str, OptionValue]
    reasons: tuple[str, ...]
    verdict: Verdict


def propose(wanted: Wanted, weigh: Weigh, guardrails: Guardrails) -> Proposal:
    """
    As much on the GPU as goes in with the wanted context; less context only where nothing else helps.

    ``weigh`` takes changes to ``wanted.options``.  Where the free memory of a device is not known, nothing is
    changed, and llama.cpp may fit the model itself.
    """
    ledger = weigh({})
    pools = tuple(account.pool for account in ledger.accounts)
    unknown = [place_of(pool) for pool in pools if pool.free_bytes is None]
    if unknown:
        said = tuple(f"how much is free {place} is not known, so nothing is placed" for place in unknown)
        return Proposal({}, said, judge(ledger, guardrails))
    search = Search(wanted, weigh, guardrails, pools)
    return _explained(search, *_best(search))


def _best(search: Search) -> tuple[Found, Found]:
    """
    With the wanted context, and what is taken: the first context with which nothing is read again and again,
    else the first that goes in at all, else the least.
    """
    tried: list[Found] = []
    for context_tokens in _contexts(search.wanted):
        tried.append(search.at(context_tokens))
        if tried[-1].is_read_once:
            return tried[0], tried[-1]
    return tried[0], next((found for found in tried if found.verdict.allowed), tried[-1])


def _contexts(wanted: Wanted) -> Iterator[int]:
    """Halves, and the least at last."""
    tokens = wanted.context_tokens
    while tokens > wanted.least_context_tokens:
        yield tokens
        tokens //= 2
    yield wanted.least_context_tokens


def _explained(search: Search, first: Found, found: Found) -> Proposal:
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


def _where(search: Search, found: Found) -> str:
    rung, gpus = found.rung, " and ".join(search.gpus)
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


def _lack(found: Found) -> str:
    return "; ".join(each.text for each in found.verdict.judgements if each.status != "fits")


def _savings(search: Search, found: Found, changes: Mapping[str, OptionValue]) -> Iterator[str]:
    """What the RAM does without, and what it would need otherwise."""
    if not found.savings:
        return
    full = search.tried(found.context_tokens, found.rung, {}).verdict.judgements[-1]
    if "cache-ram" in changes:
        kept = changes["cache-ram"]
        yield f"{f'{kept} MiB' if kept else 'nothing'} is kept for old prompts: with that it {full.text}"
    if "repack" in changes:
        yield "weights are not rearranged for the CPU (repack), so that they need not stay in memory"


def _left(verdict: Verdict) -> Iterator[str]:
    for each in verdict.judgements:
        left = (each.pool.free_bytes or 0) - each.needed_bytes
        yield f"{size(left)} stay free {place_of(each.pool)}" if left > 0 else each.text
