"""From what was asked for to what a tuning needs: the space, the settings to start from, the goal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ..engine.build import Build, family
from ..engine.install_context import InstallContext
from ..engine.inventory import installed
from ..engine.survey import survey
from ..errors import DoesNotFit, SupervisorError, UsageError
from ..hardware.detection import conditions_of
from ..measure.measurement import Sample, Target
from ..measure.session import MeasuringSession
from ..memory.fitting import Fitted
from ..model.metadata import Model
from ..options.option_values import words_of
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..prepare.fingerprint import fingerprint
from ..profile.definition import Profile, Tuned
from .explain import TuningEvidence
from .goals import GOALS, LOOK, TuningGoal, cost_seconds, scaled, within
from .search_values import Candidate, Fits
from .space import CONTEXT, FLAVOUR, PLACEMENT, Space, space_of
from .space import Goal as GoalName
from .tips import Tip, machine_tips, memory_tips, near_miss, near_miss_tip
from .trials import LOOK_SECONDS, LimitedMeasure, TuningProgress
from .tuned_profile import demand_tunable
from .tuning_journal import TuningJournal, tuning_file

_LEAST_RUN, _MOST_RUN = 2.0, 15.0
_RUNS_IN_A_BUDGET = 150
_WITH_FLAVOURS = {"auto", "release"}  # sources of engines


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """``varied`` has the values of each key, none for those that tune knows."""

    profile: str
    goal: GoalName = "balanced"
    budget_seconds: float = 1200.0
    fixed: tuple[str, ...] = ()
    varied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_context_tokens: int = 0


class ProfileVariants(Protocol):
    """`supervisor.prepare.variants.Variants`: the profile with any overrides.  All raise SupervisorError."""

    @property
    def paths(self) -> Paths: ...

    @property
    def context(self) -> InstallContext: ...

    def profile(self, overrides: Mapping[str, str]) -> Profile: ...

    def model(self, profile: Profile) -> Model | None: ...

    def build(self, profile: Profile) -> Build: ...

    def account(self, overrides: Mapping[str, str]) -> Fitted | None: ...

    def plan(self, overrides: Mapping[str, str]) -> LaunchPlan: ...


@dataclass(frozen=True, slots=True)
class TuningSetup:
    """``starts`` begins with the profile as it is.  ``said`` are sentences for people."""

    request: TuneRequest
    profile: Profile
    model: Model
    variants: ProfileVariants
    space: Space
    starts: tuple[Candidate, ...]
    fits: Fits
    goal: TuningGoal
    tuned: Tuned
    file: Path
    said: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        """What a launch that died depends on, besides its plan."""
        return repr(_lasting(self.tuned))

    def tuned_with(self, best: Candidate) -> Tuned:
        """For the result, without its date: the best may run on another build, of another flavour."""
        build = self.variants.build(self.variants.profile(dict(best)))
        found = fingerprint(self.variants.context.hardware(), build, self.model)
        return replace(found, goal=self.request.goal)


def set_up(request: TuneRequest, variants: ProfileVariants) -> TuningSetup:
    """
    ``variants`` are those of the profile that is asked for.

    Raises UsageError, ConfigError and NotFound for what cannot be asked for, and DoesNotFit for a profile
    that may not be started as it is.
    """
    profile = variants.profile({})
    demand_tunable(profile)
    model, build = variants.model(profile), variants.build(profile)
    account = variants.account({})
    if model is None or account is None:
        raise UsageError(
            f"{request.profile} runs another program than llama-server; tune knows no settings of it."
        )
    if account.refusal:
        raise DoesNotFit(f"{request.profile} does not fit: {account.refusal}.")
    if profile.engine.source not in _WITH_FLAVOURS and {FLAVOUR, "flavour"} & request.varied.keys():
        raise UsageError(
            f"tune: --vary {FLAVOUR}: {request.profile} names its engine (engine.source: "
            f"{profile.engine.source}), so there is no other flavour of it."
        )
    goal, cut = _goal(request.goal, account)
    hardware = variants.context.hardware()
    space = space_of(
        profile,
        hardware,
        model,
        build,
        flavours=_flavours(profile, variants),
        goal=request.goal,
        fixed=request.fixed,
        varied=varied_with_context(request),
        min_context_tokens=request.min_context_tokens,
    )
    _demand_possible(variants, request.varied)
    tuned = replace(fingerprint(hardware, build, model), goal=request.goal)
    starts = tuple(_starts(variants, space, account))
    if not space.axes and len(starts) == 1:
        raise UsageError(
            f"tune: nothing is left to try for {request.profile}.",
            hint="Fix fewer settings, or name values with --vary.",
        )
    depends_on = (
        *(
            _lasting(tuned),
            build.digest,
            profile.server,
            profile.env,
            profile.engine,
            profile.model,
            profile.placement,
        ),
        *(profile.guardrails, goal, space.axes, starts),
    )
    file = tuning_file(variants.paths, request.profile, depends_on)
    said = filter(None, (cut, _context_left_open(profile, account), _not_installed(profile, variants, build)))
    return TuningSetup(
        request, profile, model, variants, space, starts, fits(variants), goal, tuned, file, tuple(said)
    )


def _demand_possible(variants: ProfileVariants, varied: Mapping[str, tuple[str, ...]]) -> None:
    """Raises UsageError for a value that the profile cannot have: left out, it would never be missed."""
    for key, values in varied.items():
        for value in values:
            full = key if "." in key else f"server.{key}"
            try:
                variants.profile({full: value})
            except SupervisorError as error:
                why = str(error).removeprefix("--set: ")
                raise UsageError(f"tune: --vary {key}={value}: {why}", hint=error.hint) from error


def _lasting(tuned: Tuned) -> Tuned:
    """Without what an update of the kernel changes a little, and without the goal."""
    return replace(tuned, goal="", ram_bytes=None)


def fits(variants: ProfileVariants) -> Fits:
    """
    For the search: whether a candidate can be, its engine is installed, and it fits by the profile's
    guardrails, without more of the model being read from the disk again and again than with the profile
    as it is.  The profile's own engine need not be installed yet: `tune` does that before it measures.
    """
    known: dict[Candidate, bool] = {}
    account = variants.account({})
    paged_bytes = account.verdict.paged_bytes if account else 0
    own = variants.build(variants.profile({}))

    def judged(candidate: Candidate) -> bool:
        overrides = dict(candidate)
        try:
            build = variants.build(variants.profile(overrides))
            if build.source == "none" and build != own:
                return False
            found = variants.account(overrides)
        except SupervisorError:
            return False
        return found is None or (not found.verdict.refused and found.verdict.paged_bytes <= paged_bytes)

    def fits_by_the_account(candidate: Candidate) -> bool:
        if candidate not in known:
            known[candidate] = judged(candidate)
        return known[candidate]

    return fits_by_the_account


def varied_with_context(request: TuneRequest) -> Mapping[str, tuple[str, ...]]:
    """``--min-context`` allows what nothing else does: less context than the profile has."""
    named = {"ctx-size", CONTEXT} & request.varied.keys()
    return {**request.varied, CONTEXT: ()} if request.min_context_tokens and not named else request.varied


def _goal(name: GoalName, account: Fitted) -> tuple[TuningGoal, str]:
    settings = account.ledger.settings
    if settings is None:
        return GOALS[name], ""
    return within(GOALS[name], settings.context_tokens, settings.slots, shared=settings.unified)


def _context_left_open(profile: Profile, account: Fitted) -> str:
    settings = account.ledger.settings
    if settings is None or "ctx-size" not in settings.left_open or not settings.fit:
        return ""
    return (
        f"{profile.name} leaves the context to llama.cpp, which may take less of it with one setting than "
        "with another; ctx-size keeps it the same"
    )


def _flavours(profile: Profile, variants: ProfileVariants) -> tuple[str, ...]:
    """Of the engines at hand; none where the profile names the binary."""
    if profile.engine.source not in _WITH_FLAVOURS or profile.engine.flavour:
        return ()
    found = (each.flavour for each in installed(variants.paths.engines) if not each.problem)
    return tuple(dict.fromkeys(found))


def _not_installed(profile: Profile, variants: ProfileVariants, build: Build) -> str:
    """Flavours that suit this machine too: which one is faster, only a measurement tells."""
    if profile.engine.source not in _WITH_FLAVOURS or profile.engine.flavour:
        return ""
    release = variants.context.catalogue(profile.engine).known(build.tag)
    if release is None:
        return ""
    ranked = survey(variants.context.hardware(), release, flavour=None, gpu=profile.wants_gpu).ranked
    known = {"cpu", *(family(each) for each in (build.flavour, *_flavours(profile, variants)))}
    more = next((name for each in ranked if (name := family(each.flavour)) not in known), "")
    install = f"goss-supervisor engine install --flavour {more}"
    return f"{more} suits this machine too; once installed it is compared: {install}" if more else ""


def _starts(variants: ProfileVariants, space: Space, account: Fitted) -> Iterator[Candidate]:
    """The profile, our planner's placement, the engine's own, its other settings: each launch once."""
    known: set[str] = set()
    usual = [space.usual] if space.allows(space.usual) else []
    for candidate in ((), *_planned(variants, space, account), ((PLACEMENT, "engine"),), *usual):
        try:
            digest = variants.plan(dict(candidate)).digest
        except SupervisorError:
            if not candidate:
                raise
            continue  # this one cannot be, as with an engine that has no --fit
        if digest not in known:
            known.add(digest)
            yield candidate


def _planned(variants: ProfileVariants, space: Space, account: Fitted) -> Iterator[Candidate]:
    """
    What ``placement: auto`` makes of it, as options, so that the search can go on from there.  The context
    stays as it is: it is not for a tuning to make it smaller.
    """
    settings = account.ledger.settings
    tokens = {} if settings is None else {CONTEXT: str(settings.context_tokens)}
    try:
        found = variants.account({PLACEMENT: "auto", **tokens})
    except SupervisorError:
        return
    if found is None:
        return
    values = {f"server.{name}": _as_set(value) for name, value in found.changes.items() if name != "ctx-size"}
    layers = values.get("server.gpu-layers", "")
    if layers.isdecimal() and int(layers) > space.layers:
        values["server.gpu-layers"] = "all"
    yield space.candidate(values)


def _as_set(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(words_of(value)) if isinstance(value, tuple) else str(value)


def tips_of(setup: TuningSetup) -> tuple[Tip, ...]:
    """What to change about the machine first, as no setting can."""
    variants, profile = setup.variants, setup.profile
    hardware, flavour = variants.context.hardware(), variants.build(profile).flavour
    miss = near_miss(
        lambda changes: variants.account({f"server.{name}": value for name, value in changes.items()}),
        setup.space.layers,
        has_experts=bool(setup.model.experts),
    )
    return (
        *machine_tips(hardware, conditions_of()),
        *memory_tips(hardware, flavour, variants.account({})),
        *([near_miss_tip(miss)] if miss else []),
    )


def evidence_of(setup: TuningSetup, known: TuningProgress, best: Candidate) -> TuningEvidence:
    """What `explain` needs."""
    account = setup.variants.account(dict(best))
    assert account is not None
    hardware = setup.variants.context.hardware()
    return TuningEvidence(
        setup.space,
        known.results,
        best,
        setup.model,
        account.ledger,
        hardware,
        conditions_of(),
        known.prompt_tokens,
        setup.goal.workload.clients,
    )


def looked(
    setup: TuningSetup, journal: TuningJournal, session: MeasuringSession, measure: LimitedMeasure
) -> tuple[TuningGoal, float]:
    """
    The goal with a part of its work that this machine does in some seconds, and about what the whole costs.

    By a first look at the profile as it is; by that of the journal where there is one.  Raises what the
    session and the measurement raise: a profile that does not run cannot be tuned.
    """
    if journal.workload is None or journal.look_seconds is None:
        look = _look(session.run(setup.variants.plan({})), measure)
        aim = min(_MOST_RUN, max(_LEAST_RUN, setup.request.budget_seconds / _RUNS_IN_A_BUDGET))
        journal.decided(
            scaled(setup.goal, look, aim).workload, cost_seconds(replace(setup.goal, workload=LOOK), look)
        )
    assert journal.workload is not None
    assert journal.look_seconds is not None
    return replace(setup.goal, workload=journal.workload), journal.look_seconds


def _look(target: Target, measure: LimitedMeasure) -> Sample:
    measure(target, LOOK, 0, LOOK_SECONDS)  # reads the model from the disk
    return measure(target, LOOK, 1, LOOK_SECONDS)
