"""
How much memory a profile takes with all that it loads, whether it fits, and what would help.  Pure, but for a
look at the engine's files on a CPU with AMX.

Where no header tells it, a launch takes what the profile declares, or what was measured: `fit_known`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

from ..engine.build import Build, family
from ..engine.inspection import features_used
from ..engine.suitability import flavour_of
from ..hardware.hardware import Hardware
from ..model.metadata import Model
from ..options.option_types import OptionValue
from ..profile.definition import Profile
from .accounts import RAM, Account, Figure, FigureSource, Ledger, Pool
from .advice import Advice, advise, in_words
from .calibrated import calibrated
from .companions import ALONE, Companions, with_companions
from .context import layers_bytes
from .engine_figures import EngineFigures
from .ledger import account
from .machine_memory import memories_of
from .memory_settings import Settings, settings_of
from .placement import WantedPlacement, propose
from .verdict import (
    Changes,
    MemoryVerdict,
    given_back,
    is_ram_of_worker,
    judge,
    leaving,
    ours_of,
    place_of,
    size,
)
from .worker_memory import Division, Remote, with_remotes

NOTHING: Mapping[str, int] = MappingProxyType({})
_BESIDE_THE_ENGINE = ("repack", "cache-ram")  # do not switch its --fit off, which counts neither
LEAST_CONTEXT_TOKENS = 4096  # of --fit-ctx, which says how far a context that is left open may shrink
_LEAST_UBATCH = 128
_MIB = 1024**2
_FIT_TARGET_MIB = 1024  # llama.cpp's default


@dataclass(frozen=True, slots=True)
class Fitted:
    """
    ``changes`` are the options that our placement adds to the profile's, with its ``reasons``; the ledger and
    the verdict are on both together.  ``advices`` help where the verdict is that it does not fit;
    ``step_back`` is what our placement changes once should the load fail all the same.  ``ours`` are the
    bytes of each memory of which not all is ours.
    """

    ledger: Ledger
    verdict: MemoryVerdict
    advices: tuple[Advice, ...] = ()
    changes: Mapping[str, OptionValue] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    step_back: Mapping[str, OptionValue] = field(default_factory=dict)
    ours: Mapping[str, int] = field(default_factory=dict)

    @property
    def held(self) -> Mapping[str, int]:
        """Bytes that the server will hold and give back when it ends, by memory as plans call it."""
        return by_memory(
            (each.pool, each.anonymous_bytes if each.pool.name == RAM else each.needed_bytes)
            for each in self.ledger.accounts
        )

    @property
    def workers(self) -> tuple[str, ...]:
        """The addresses of those whose memory it uses."""
        used = (each.pool.worker for each in self.ledger.accounts if each.needed_bytes)
        return tuple(dict.fromkeys(filter(None, used)))

    @property
    def is_final(self) -> bool:
        """Whether the launch will be what the ledger is about: llama.cpp's ``--fit`` may make it another."""
        settings, has_gpu = self.ledger.settings, len(self.ledger.accounts) > 1
        if settings is None:
            return False
        left_open = [name for name in settings.left_open if has_gpu or name != "gpu-layers"]
        return not (settings.fit and left_open)

    @property
    def short(self) -> str:
        """What does not fit and what would help, without its full stop; empty where all fits."""
        return in_words(self.verdict, self.advices)

    @property
    def refusal(self) -> str:
        """The same, empty where the guardrails let it go."""
        return self.short if self.verdict.refused else ""


@dataclass(frozen=True, slots=True)
class FittedLaunch:
    """
    A launch with the workers that it uses.  ``smaller`` is the one that runs without them while one is gone;
    None where it waits for it.
    """

    profile: Profile
    build: Build
    fitted: Fitted | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    smaller: FittedLaunch | None = None


def by_memory(sizes: Iterable[tuple[Pool, int]]) -> dict[str, int]:
    """
    By the name of the memory; of a worker it is its address, with all its devices together: their numbers
    are different in each launch, and it serves one at a time.
    """
    found: dict[str, int] = {}
    for pool, number in sizes:
        name = pool.worker or pool.name
        found[name] = found.get(name, 0) + number
    return found


FiguresSource = Callable[[Settings, bool], Iterable[EngineFigures]]
"""The engine's figures for a launch with these settings; the second says whether to run it for them."""


def unasked(_settings: Settings, _ask: bool) -> Iterable[EngineFigures]:
    return ()


def fit(
    profile: Profile,
    model: Model,
    build: Build,
    hardware: Hardware,
    *,
    beside: Companions = ALONE,
    remotes: Sequence[Remote] = (),
    held: Mapping[str, int] = NOTHING,
    stays: Mapping[str, int] = NOTHING,
    figures_source: FiguresSource = unasked,
) -> Fitted:
    """
    The account of a launch as the profile has it, or as we place it where it leaves that to us.

    ``held`` is what the servers that run now will have given back by then, and ``stays`` what others keep.
    ``remotes`` are the workers of the launch, whose devices llama.cpp has besides this computer's.
    """
    number = build.capabilities.build
    memories = memories_of(
        hardware,
        build.flavour,
        build.devices,
        model_bytes=_size_bytes(model, settings_of(profile.server, number, model)),
        every="device" in profile.server,
    )
    device: Changes = {"device": memories.device} if memories.device else {}
    there = with_remotes(given_back(memories.pools, held), remotes, profile)
    ours = ours_of(there, profile.leave_bytes)
    pools = leaving(there, ours, stays)

    features = features_used(build.command, hardware.cpu.features)
    account_of = partial(account, pools=pools, cpu_features=features, flavour=build.flavour)
    division = Division(model, pools, profile.guardrails, partial(account_of, model))

    def divided(changes: Changes) -> Changes:
        """With what goes to which device, where there are workers."""
        changes = {**device, **changes}
        settings = settings_of({**profile.server, **changes}, number, model)
        return {**changes, **division.options(settings, remotes, profile)}

    def weigh(changes: Changes, *, ask: bool = False) -> Ledger:
        options = {**profile.server, **divided(changes)}
        ledger = alone(model, options)
        ledger = calibrated(ledger, _asked(ledger, figures_source, ask=ask))
        return with_companions(ledger, model, beside, options, alone)

    def alone(which: Model, options: Changes) -> Ledger:
        return account_of(which, settings_of(options, number, which))

    if profile.placement == "pinned":
        changes = divided({})
        reasons = (*division.reasons(changes), *memories.idle)
        return Fitted(*_judged(weigh, {}, profile, model), changes, reasons, ours=ours)
    proposal = propose(_wanted(profile, model), weigh, profile.guardrails)
    changes = divided(proposal.changes)
    reasons = (*proposal.reasons, *division.reasons(changes), *memories.idle)
    if profile.placement == "engine":
        changes = {name: value for name, value in proposal.changes.items() if name in _BESIDE_THE_ENGINE}
        if len(pools) > 1:
            reasons = (*_of_the_engine(proposal.changes, changes), *memories.idle)
        elif not changes:
            reasons = ()  # no need to say what everybody expects
        if target := _fit_target(profile, pools, build):
            changes |= {"fit-target": target}
            reasons = (*reasons, f"fit-target {target}: llama.cpp leaves to others what memory.leave says")
        changes = {**divided({}), **changes}
        return Fitted(*_judged(weigh, proposal.changes, profile, model), changes, reasons, ours=ours)
    ledger, verdict, advices = _judged(weigh, changes, profile, model)
    assert ledger.settings is not None
    on_gpu = len(pools) > 1 and not remotes  # experts here of layers there would cross the network
    back = step_back(ledger.settings, model.layers or 0, model.experts or 0, on_gpu=on_gpu)
    return Fitted(ledger, verdict, advices, changes, reasons, back, ours)


def _asked(ledger: Ledger, source: FiguresSource, *, ask: bool) -> Iterable[EngineFigures]:
    """
    The engine's figures of this launch.

    Its tool has no word for slots that share their cells.  Where there is no formula, it is asked for slots
    with cells of their own, which take as much or more.
    """
    settings = ledger.settings
    assert settings is not None
    if ledger.is_known or not settings.unified:
        return source(settings, ask)
    return (*source(replace(settings, unified=False), ask), *source(settings, False))


def _judged(
    weigh: Callable[..., Ledger], placed: Changes, profile: Profile, model: Model
) -> tuple[Ledger, MemoryVerdict, tuple[Advice, ...]]:
    """The account of a placement with the engine's figures, and what helps where it is refused."""
    ledger = weigh(placed, ask=True)
    verdict = judge(ledger, profile.guardrails)
    advices: tuple[Advice, ...] = ()
    if verdict.refused:
        advices = advise(lambda more: weigh({**placed, **more}), profile.guardrails, model.layers or 0)
    return ledger, verdict, advices


def _size_bytes(model: Model, settings: Settings) -> int | None:
    """Weights and context together, by which the GPUs are chosen."""
    weights = model.weights_bytes or model.size_bytes
    return weights + sum(layers_bytes(model, settings)) if weights else None


def notes_of(fitted: Fitted) -> tuple[str, ...]:
    """What a person should know, a sentence each: what is tight or unknown, and why it is placed as it is."""
    said = [each.text for each in fitted.verdict.judgements if each.status in {"tight", "unknown"}]
    over = [fitted.short] if fitted.short else []
    pools = [each.pool for each in fitted.verdict.judgements]
    left = [
        f"memory.leave keeps {size(p.left_bytes)} {place_of(p)} for others" for p in pools if p.left_bytes
    ]
    ram = [
        f"{each.pool.label} is that machine's RAM: how much of it other programs need is not known"
        for each in fitted.verdict.judgements
        if each.needed_bytes and is_ram_of_worker(each.pool)
    ]
    return tuple(dict.fromkeys((*fitted.reasons, *over, *said, *left, *ram, *fitted.ledger.notes)))


def _of_the_engine(ours: Changes, kept: Changes) -> tuple[str, ...]:
    left = ", ".join(f"{name} {value}" for name, value in ours.items() if name not in kept)
    shown = f", and the ledger shows what ours would be ({left})" if left else ""
    said = (f"llama.cpp places the model itself{shown}",)
    return said if not kept else (*said, "what it does not count is reserved in addition: " + ", ".join(kept))


def _fit_target(profile: Profile, pools: tuple[Pool, ...], build: Build) -> str:
    """What llama.cpp's own ``--fit`` is to leave free of each GPU; empty where all of them are ours."""
    gpus = [pool.name for pool in pools if pool.name != RAM]
    if profile.leave_bytes.keys().isdisjoint(gpus) or "fit-target" in profile.server:
        return ""
    if build.capabilities.find("--fit-target") is None:
        return ""
    # not by what is free at this moment: each reload would restart the server for it
    targets = [max(_FIT_TARGET_MIB, profile.leave_bytes.get(name, 0) // _MIB) for name in gpus]
    return ",".join(map(str, targets))


def _wanted(profile: Profile, model: Model) -> WantedPlacement:
    """A given context is kept, unless ``fit-ctx`` allows less; otherwise it is the model's own."""
    said = _tokens(profile.server.get("ctx-size"))
    least = _tokens(profile.server.get("fit-ctx"))
    wanted = said or model.context_length or LEAST_CONTEXT_TOKENS
    floor = (least or wanted) if said else (least or LEAST_CONTEXT_TOKENS)
    options = {name: value for name, value in profile.server.items() if name != "ctx-size" or floor >= wanted}
    return WantedPlacement(options, model.layers or 0, model.experts or 0, wanted, min(floor, wanted))


def _tokens(value: OptionValue | None) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


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


def fit_known(
    bytes_of: Mapping[str, int],
    source: FigureSource,
    profile: Profile,
    hardware: Hardware,
    *,
    held: Mapping[str, int] = NOTHING,
    stays: Mapping[str, int] = NOTHING,
) -> Fitted:
    """
    Its account and whether it fits, by bytes of each memory (RAM, CUDA0 …).  A memory that this machine is
    not known to have is judged unknown.  ``held`` is what the servers that run now will have given back by
    then, and ``stays`` what others keep.
    """
    there = given_back(_pools(bytes_of, hardware), held)
    ours = ours_of(there, profile.leave_bytes)
    pools = {pool.name: pool for pool in leaving(there, ours, stays)}
    gpus = [name for name in bytes_of if name != RAM]
    accounts = [
        _account(pools.get(name, Pool(name, None, None)), bytes_of.get(name, 0), source)
        for name in (*gpus, RAM)
    ]
    ledger = Ledger(tuple(accounts), (), None)
    return Fitted(ledger, judge(ledger, profile.guardrails), ours=ours)


def _pools(bytes_of: Mapping[str, int], hardware: Hardware) -> list[Pool]:
    """Each GPU as the flavour that calls it so would count it."""
    flavours = {family(flavour_of([name])) for name in bytes_of if name != RAM} or {"cpu"}
    return [pool for each in sorted(flavours) for pool in memories_of(hardware, each, every=True).pools]


def _account(pool: Pool, size: int, source: FigureSource) -> Account:
    none = Figure(0, source)
    return Account(pool, none, none, none, Figure(size, source), anonymous_bytes=size)
