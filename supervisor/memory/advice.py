"""What a person can change to make a launch fit; every advice was tried on the ledger.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..options.option_types import OptionValue
from .accounts import RAM, Ledger
from .memory_settings import Settings
from .verdict import Changes, Guardrails, MemoryVerdict, PoolJudgement, Weigh, judge, place_of, size

_MIB = 1024**2
_LEAST_CONTEXT_TOKENS = 4096  # as llama.cpp's own --fit-ctx: below that nobody is helped


@dataclass(frozen=True, slots=True)
class Advice:
    """
    Changes that were judged, and go in.

    ``needs`` is what is then needed where it did not fit: ``14.2 GiB on CUDA0``; ``text`` says both.
    """

    changes: Mapping[str, OptionValue]
    needs: str
    text: str
    pages: bool  # part of the model is then read from the disk again and again


def advise(weigh: Weigh, guardrails: Guardrails, layers: int) -> tuple[Advice, ...]:
    """
    The smallest change of each kind that is enough alone, the one that costs least speed first; several
    changes together where none is; nothing where the launch goes in as it is, or where nothing helps.

    ``layers`` are the model's.
    """
    ledger = weigh({})
    verdict = judge(ledger, guardrails)
    if not verdict.short:
        return ()
    trial = _Trial(weigh, guardrails, tuple(each.pool.name for each in verdict.short))
    kinds = [tuple(kind) for kind in _kinds(ledger, verdict, layers)]
    found: list[Advice] = []
    for kind in kinds:
        if not _is_worse(kind, found) and (tried := trial.first(kind)):
            found.append(tried)
    if not found:
        found = trial.together([kind for kind in kinds if kind])
    return tuple(sorted(found, key=lambda tried: tried.pages))


def in_words(verdict: MemoryVerdict, advices: Sequence[Advice]) -> str:
    """What does not fit and what helps, in one sentence: ``needs …: `n-cpu-moe: 30` needs …; or …``."""
    lack = "; ".join(each.text for each in verdict.short)
    if not lack:
        return ""
    helps = "; or ".join(advice.text for advice in advices)
    return f"{lack}: {helps}" if helps else f"{lack}; no change of its settings makes it fit"


@dataclass(frozen=True, slots=True)
class _Trial:
    """``short`` names the memories that were too small."""

    weigh: Weigh
    guardrails: Guardrails
    short: tuple[str, ...]

    def first(self, kind: Iterable[Changes]) -> Advice | None:
        return next((tried for changes in kind if (tried := self.of(changes))), None)

    def of(self, changes: Changes) -> Advice | None:
        verdict = judge(self.weigh(changes), self.guardrails)
        if not verdict.allowed:
            return None
        pages = verdict.paged_bytes > 0
        needs = " and ".join(_needs(each) for each in verdict.judgements if each.pool.name in self.short)
        slowly = ", and reads part of the model from the disk again and again" if pages else ""
        said = " with ".join(f"`{name}: {_yaml(value)}`" for name, value in changes.items())
        return Advice(changes, needs, f"{said} needs {needs}{slowly}", pages)

    def together(self, kinds: Sequence[Sequence[Changes]]) -> list[Advice]:
        """
        All that each kind gives, one kind after the other until it is enough; then, from the last to the
        first, as little of each as still is.
        """
        taken: list[Changes] = []
        for kind in kinds:
            taken.append(kind[-1])
            if self.of(_merged(taken)):
                break
        else:
            return []
        for place in reversed(range(len(taken))):
            taken[place] = self._least(taken, place, kinds[place])
        tried = self.of(_merged(taken))
        return [tried] if tried else []

    def _least(self, taken: Sequence[Changes], place: int, kind: Sequence[Changes]) -> Changes:
        steps: Iterator[Changes] = iter(({}, *kind))
        return next(step for step in steps if self.of(_merged([*taken[:place], step, *taken[place + 1 :]])))


def _is_worse(kind: Sequence[Changes], found: Sequence[Advice]) -> bool:
    """Whole layers on the CPU, where their experts are enough."""
    moves_layers = any("gpu-layers" in changes for changes in kind)
    return moves_layers and any("n-cpu-moe" in tried.changes for tried in found)


def _merged(changes: Iterable[Changes]) -> Changes:
    return {name: value for each in changes for name, value in each.items()}


def _needs(judgement: PoolJudgement) -> str:
    return f"{size(judgement.needed_bytes)} {place_of(judgement.pool)}"


def _yaml(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kinds(ledger: Ledger, verdict: MemoryVerdict, layers: int) -> Iterator[Iterable[Changes]]:
    """
    What can be changed, by what it costs in speed, each from the mildest to the most that it can give.

    A layer's experts on the CPU cost generation some 3 % where others are there already, and more than half
    where they are the first (gpt-oss-20b on an RX 9070: 122 tokens a second, 45 with one layer less).
    """
    settings = ledger.settings
    assert settings is not None
    on_gpu = any(account.pool.name != RAM for account in ledger.accounts)
    to_gpu = on_gpu and all(judgement.pool.name == RAM for judgement in verdict.short)
    experts = list(_experts(settings, layers, to_gpu=to_gpu)) if on_gpu else []
    divided = settings.cpu_moe_layers > 0 or settings.layers_on_gpu(layers) <= layers
    yield _prompt_cache(settings)
    yield [{"parallel": 1}] if settings.slots > 1 else []
    yield experts if divided else []
    yield [{"ubatch-size": tokens} for tokens in (2048, 1024, 512, 256) if tokens < settings.ubatch]
    yield [{"cache-type-k": "q8_0", "cache-type-v": "q8_0"}]
    yield [{"load-mode": "mmap"}]
    yield [{"repack": False}]
    yield _context(settings)
    yield [] if divided else experts
    yield _layers(settings, layers, to_gpu=to_gpu) if on_gpu else []


def _prompt_cache(settings: Settings) -> Iterator[Changes]:
    """Halves of what ``--cache-ram`` may take (MiB), down to nothing."""
    now = settings.cache_ram_bytes
    yield from ({"cache-ram": mib} for mib in (4096, 2048, 1024, 0) if now is None or mib * _MIB < now)


def _experts(settings: Settings, layers: int, *, to_gpu: bool) -> Iterator[Changes]:
    """The experts of one layer after the other to the CPU, or back where only the RAM is short."""
    now = min(settings.cpu_moe_layers, layers)
    steps = range(now - 1, -1, -1) if to_gpu else range(now + 1, layers + 1)
    said: Changes = {"cpu-moe": False} if to_gpu and now == layers else {}
    yield from ({**said, "n-cpu-moe": count} for count in steps)


def _layers(settings: Settings, layers: int, *, to_gpu: bool) -> Iterator[Changes]:
    """As many layers as have room; without any at last without the GPU."""
    now = settings.layers_on_gpu(layers)
    steps = range(now + 1, layers + 2) if to_gpu else range(min(now, layers + 1) - 1, -1, -1)
    yield from ({"gpu-layers": count} for count in steps)
    if not to_gpu:
        yield {"device": "none"}  # even without a layer it computes large batches


def _context(settings: Settings) -> Iterator[Changes]:
    tokens = settings.context_tokens // 2
    while tokens >= _LEAST_CONTEXT_TOKENS:
        yield {"ctx-size": tokens}
        tokens //= 2
