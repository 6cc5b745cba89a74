"""
From a profile's name to a launch plan: the only place where the pure rooms meet the disk.

Everything that can take long or fail happens here, in the program that a person started, while the running
server keeps serving.  The daemon only gets a finished plan.  `estimate` finds out what a start would
download, without doing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from ..engine.adapters import rpc_program
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..engine.choose import acquire, find
from ..engine.install_context import InstallContext
from ..engine.inventory import installed
from ..engine.survey import survey
from ..errors import DoesNotFit, NetworkError, NoSuitableEngine, SupervisorError
from ..hardware.detection import hardware_of
from ..hardware.hardware import Hardware
from ..home.event_log import record_event
from ..home.places import figures_file
from ..memory.accounts import FigureSource
from ..memory.companions import Companions
from ..memory.engine_figures import FigureHistory, measured_memory
from ..memory.fit_params import figures_for
from ..memory.fitting import NOTHING, FiguresSource, Fitted, FittedLaunch, fit, fit_known, unasked
from ..model.demo import ensure_demo
from ..model.locate import parts_of
from ..model.metadata import Model
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen
from ..plan.make import make_plan
from ..profile.definition import Profile
from ..profile.matching import MissingGpu
from ..profile.resolve import resolve, with_models_dir
from ..profile.store import ProfileStore
from ..progress import Progress, Silent
from ..tool import NO_VARIABLES
from .hub_choice import with_hub_files
from .machine_checks import (
    ABSENT,
    absent_gpu,
    held_by_servers,
    known_bad_of,
    of_a_worker,
    pinned_sentence,
    taken_by_others,
)
from .model_at_hand import (
    Misfit,
    ensure_model_reachable,
    get_model,
    missing_of_hub,
    model_at_hand,
    path_of,
    read_model,
    with_draft_type,
    with_little_cache,
)
from .planned import planned
from .profile_files import MODEL_PATH, absences, demand_files, with_whole_paths
from .profile_listen import inside_of, listen_of, shared_names
from .workers import AskedWorkers, fit_with_workers


@dataclass(frozen=True, slots=True)
class Preparation:
    """
    A plan, and what a person should know about it.

    ``listen`` is how clients reach it once it is started; None without a gateway.  ``fitted`` is what it
    takes of the memory; None where the model could not be looked at, which a note says.
    """

    plan: LaunchPlan
    listen: Listen | None = None
    notes: tuple[str, ...] = ()
    fitted: Fitted | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan, and of an address that anybody can use."""
        of_address = self.listen.warning if self.listen else ""
        return (*self.plan.warnings, *([of_address] if of_address else []))


def prepare(
    name: str,
    overrides: Mapping[str, str],
    paths: Paths,
    progress: Progress,
    *,
    tag: str | None = None,
    force: bool = False,
    refuse: Callable[[Profile], None] | None = None,
    named: Sequence[str] | None = (),
    evicts: bool = True,
) -> Preparation:
    """
    Make everything ready for a launch: install the engine, see whether the model fits, and get it.

    Of ``named`` see `listen_of`.  With ``evicts`` it may have the memory of what is loaded and not pinned.
    ``refuse`` may raise before any of that.  ``tag`` is a release of llama.cpp to take in place of the
    channel's; ``force`` ignores the guardrails.  Raises DoesNotFit before a model is downloaded for nothing,
    and a SupervisorError for any other obstacle; nothing that runs was touched by then.
    """
    paths = with_models_dir(paths)
    profile = resolved(name, overrides, paths)
    if refuse:
        refuse(profile)
    if force:
        profile = replace(profile, guardrails="off")
    context = install_context(paths, progress, waits=True, variables=profile.env)
    profile = of_a_worker(profile, context)
    absent = absent_gpu(profile, context)
    if absent and absent.is_fatal and not force:
        raise NoSuitableEngine(absent.sentence, hint=ABSENT)
    ensure_model_reachable(profile, paths)
    demand_files(profile)
    listen = listen_of(profile, paths, named)
    profile, model, beside = read_model(with_hub_files(profile, paths), paths, write=True)
    weights, wants_gpu = weights_bytes(model), profile.wants_gpu
    with _new_engines_told(paths):
        build = acquire(profile.engine, wants_gpu=wants_gpu, context=context, tag=tag, model_bytes=weights)
    build = rpc_program.build_of(build, profile.env) if profile.lend.is_worker else build
    launch = _fit_here(profile, model, build, context, paths, beside=beside, evicts=evicts)
    fitted = launch.fitted
    taken = taken_by_others(fitted, context, paths) if fitted else ""
    if fitted and fitted.refusal:
        raise DoesNotFit(
            f"{profile.name} does not fit: {'; '.join(filter(None, (fitted.refusal, taken)))}.",
            hint=f"{pinned_sentence(paths)}goss-supervisor plan {profile.name} shows the account. "
            f"The guardrails are {profile.guardrails}; start --force ignores them once.",
        )
    get_model(profile, paths, progress)
    found = _preparation(launch, overrides, paths, listen=listen)
    return _warned(found, absent, known_bad_of(profile, fitted, model, build, context), taken)


def weights_bytes(model: Model | None) -> int | None:
    return (model.weights_bytes or model.size_bytes or None) if model else None


def _warned(
    found: Preparation, absent: MissingGpu | None, known: tuple[str, ...], taken: str = ""
) -> Preparation:
    """With these warnings in the plan, so that ``status`` shows them too, and ``taken`` as a note."""
    missing = (absent.sentence.rstrip("."),) if absent else ()
    plan = replace(found.plan, warnings=(*missing, *found.plan.warnings, *known))
    return replace(found, plan=plan, notes=(*found.notes, *([taken] if taken else ())))


def preview(
    name: str,
    overrides: Mapping[str, str],
    paths: Paths,
    hardware: Path | None = None,
    named: Sequence[str] = (),
    *,
    warn: Callable[[str], None] | None = None,
) -> Preparation:
    """
    The same plan without installing or writing anything: of a model at the hub, only the header is read.
    Without an engine the pinned build's options are used, with a note.  ``hardware`` is the record of another
    machine, for which nothing installed here counts.  ``warn`` is told that a GPU is absent before the hub or
    an engine is asked.  Raises as `fit_with_workers` does.
    """
    paths = with_models_dir(paths)
    profile = resolved(name, overrides, paths)
    context = install_context(paths, Silent(), hardware, variables=profile.env)
    profile = of_a_worker(profile, context)
    if (absent := absent_gpu(profile, context)) and warn:
        warn(absent.sentence)
    if not context.elsewhere:
        ensure_model_reachable(profile, paths)
    missing = [f"{key}: {why}" for key, why in absences(profile) if key != MODEL_PATH]
    listen = listen_of(profile, paths, named, elsewhere=context.elsewhere)
    model, build = None, None
    try:
        profile = with_hub_files(profile, paths)
        profile, model, beside = read_model(profile, paths, write=False)
        build = found_engine(profile, model, context)
        launch = _fit_here(profile, model, build, context, paths, beside=beside)
    except Misfit:
        raise
    except SupervisorError as error:
        if build is not None and isinstance(error, (NetworkError, NoSuitableEngine)):
            raise  # a worker that a start could not use either
        if model is None:  # no header was read
            profile = with_draft_type(profile, profile.model.draft_type)
        note = f"what it takes of the memory is not known: {str(error).rstrip('.')}"
        build = build or found_engine(profile, model, context)
        unknown = _preparation(FittedLaunch(profile, build, None), overrides, paths, listen=listen)
        workers = ("its workers are not asked or counted yet",) if profile.workers else ()
        files = (each for each in missing if each not in note)
        unknown = replace(unknown, notes=(*files, *unknown.notes, note, *workers))
        return _warned(unknown, absent, known_bad_of(profile, None, model, build, context))
    fitted = launch.fitted
    taken = taken_by_others(fitted, context, paths) if fitted else ""
    found = _preparation(launch, overrides, paths, listen=listen)
    found = replace(found, notes=(*missing, *found.notes))
    return _warned(found, absent, known_bad_of(profile, fitted, model, build, context), taken)


def resolved(name: str, overrides: Mapping[str, str], paths: Paths) -> Profile:
    return with_whole_paths(resolve(name, ProfileStore(paths.profiles), overrides), paths)


def found_engine(profile: Profile, model: Model | None, context: InstallContext) -> Build:
    weights = weights_bytes(model)
    build = find(profile.engine, wants_gpu=profile.wants_gpu, context=context, model_bytes=weights)
    return rpc_program.build_of(build, profile.env) if profile.lend.is_worker else build


def install_context(
    paths: Paths,
    progress: Progress,
    hardware: Path | None = None,
    *,
    waits: bool = False,
    variables: Mapping[str, str] = NO_VARIABLES,
) -> InstallContext:
    """
    What engines are chosen and installed with; the hardware is looked at once, and only if it decides.  With
    ``waits`` a look soon after a boot waits for the drivers of GPUs.  ``variables`` are the profile's.
    """
    return InstallContext(
        paths,
        progress,
        hardware=cache(lambda: hardware_of(paths, hardware, progress if waits else None)),
        demo=lambda: ensure_demo(paths.models),
        elsewhere=hardware is not None,
        variables=variables,
    )


def figures_source(profile: Profile, build: Build, paths: Paths, *, may_ask: bool = True) -> FiguresSource:
    """Without ``may_ask`` what is known already: the engine waits for workers that others use."""
    files, kept, env = parts_of(path_of(profile, paths)), FigureHistory(figures_file(paths)), profile.env
    return lambda settings, ask: figures_for(
        files, build, settings, kept, may_ask=ask and may_ask, variables=env
    )


@contextmanager
def _new_engines_told(paths: Paths) -> Iterator[None]:
    """An event for each engine that is installed meanwhile."""
    before = {each.key for each in installed(paths.engines)}
    yield
    for each in installed(paths.engines):
        if each.key not in before:
            record_event(paths, "download", f"installed the engine {each.name}", build=each.tag)


def _fit_here(
    profile: Profile,
    model: Model | None,
    build: Build,
    context: InstallContext,
    paths: Paths,
    *,
    beside: Companions,
    evicts: bool = True,
) -> FittedLaunch:
    """
    Beside what this machine's daemon holds, and with what the engine itself says.  Without a header to
    count from (``model`` None), it is what the profile declares, else what was measured, else None.
    """
    profile = with_little_cache(profile, weights_bytes(model), build)
    here = not context.elsewhere
    is_ours = here or model is None
    held, stays = held_by_servers(paths, profile.name, evicts=evicts) if is_ours else (NOTHING, NOTHING)

    def fit_here(profile: Profile, build: Build, workers: AskedWorkers) -> Fitted | None:
        if model is None:
            known = _known_memory(profile, build, paths, elsewhere=context.elsewhere)
            return fit_known(*known, profile, context.hardware(), held=held, stays=stays) if known else None
        source = figures_source(profile, build, paths, may_ask=workers.all_free) if here else unasked
        weigh = partial(fit, beside=beside, held=held, stays=stays, figures_source=source)
        return weigh(profile, model, build, context.hardware(), remotes=workers.remotes)

    return fit_with_workers(profile, build, paths, fit_here, in_use={*held, *stays}, may_ask=here)


def _known_memory(
    profile: Profile, build: Build, paths: Paths, *, elsewhere: bool
) -> tuple[Mapping[str, int], FigureSource] | None:
    if profile.engine.memory:
        return profile.engine.memory, "declared"
    plan = make_plan(profile, build, model_at_hand(profile, paths), inside=inside_of(profile, build, paths))
    found = None if elsewhere else measured_memory(paths).get(plan.digest)
    return (found, "measured") if found else None


def _preparation(
    launch: FittedLaunch, settings: Mapping[str, str], paths: Paths, *, listen: Listen | None
) -> Preparation:
    plan, notes = planned(launch, settings, paths)
    return Preparation(plan, listen, (*shared_names(listen.offers if listen else ()), *notes), launch.fitted)


_NONE_AT_HAND, _UNKNOWN = "none", "unknown"  # of a `Build`: no engine yet, and what nobody knows


@dataclass(frozen=True, slots=True)
class PlannedDownload:
    """The engine or the model, and the bytes to download: 0 if it is on disk, None if unknown."""

    what: str
    download_bytes: int | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    ``memory`` has a clause for each memory, or why it is unknown; empty where it does not matter.

    ``refusal`` is why a start would fail for memory, with what helps; empty if it would not fail, or that is
    unknown.  If everything is on disk already, the start itself judges, which asks the engine too.
    """

    profile: Profile
    engine: PlannedDownload
    model: PlannedDownload
    memory: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def download_bytes(self) -> int | None:
        """All that comes over the network; None where a part of it is unknown."""
        if self.engine.download_bytes is None or self.model.download_bytes is None:
            return None
        return self.engine.download_bytes + self.model.download_bytes


def estimate(name: str, overrides: Mapping[str, str], paths: Paths, hardware: Hardware) -> Estimate:
    """
    Of a start with this profile on this machine.  Of a model that is elsewhere its header is read.  Raises as
    ``resolve``, ``find`` and ``look_at`` do, for what would stop the start as well.
    """
    paths = with_models_dir(paths)
    profile = resolved(name, overrides, paths)
    context = replace(install_context(paths, Silent(), variables=profile.env), hardware=lambda: hardware)
    ensure_model_reachable(profile, paths)
    if profile.model.demo or not renderer_for(profile).reads_models:
        engine = _engine(profile, found_engine(profile, None, context), context)
        if profile.model.demo:
            return Estimate(profile, engine, PlannedDownload("the demo, a few MB that are made here", 0))
        return Estimate(profile, engine, _unread_model(profile, paths))
    profile, model, beside = read_model(with_hub_files(profile, paths), paths, write=False)
    assert model is not None
    build = found_engine(profile, model, context)
    what = PlannedDownload(*missing_of_hub(profile, (model, beside.draft, beside.projector), paths))
    expected = Estimate(profile, _engine(profile, build, context, weights_bytes(model)), what)
    if build.flavour == _UNKNOWN and hardware.gpus:  # on a GPU or not: nobody can tell yet
        return replace(expected, memory=("not known before it is known which engine it will be",))
    fitted = fit(profile, model, build, hardware, beside=beside)
    if profile.workers and fitted.refusal:
        return replace(expected, memory=("not known before its workers are asked, which the start does",))
    memory = tuple(each.text for each in fitted.verdict.judgements if each.needed_bytes)
    return replace(expected, memory=memory, refusal=fitted.refusal if expected.download_bytes != 0 else "")


def _engine(
    profile: Profile, build: Build, context: InstallContext, model_bytes: int | None = None
) -> PlannedDownload:
    """Its size is in the asset list of its release."""
    if build.source != _NONE_AT_HAND:
        known = build.repository not in {_UNKNOWN, ""}
        what = f"{build.repository} {build.tag} {build.flavour}" if known else build.command[0]
        return PlannedDownload(what, 0)
    wanted = profile.engine
    if wanted.source in {"path", "system", "command"}:  # the start will say that it is not there
        return PlannedDownload(f"source {wanted.source}", 0)
    release = None if build.flavour == _UNKNOWN else context.catalogue(wanted).known(build.tag)
    if release is None:  # only the start itself finds out which one it will be
        return PlannedDownload(f"source {wanted.source}, channel {wanted.channel or 'default'}", None)
    ranked = survey(
        context.hardware(),
        release,
        flavour=wanted.flavour,
        gpu=profile.wants_gpu,
        model_bytes=model_bytes,
    ).ranked
    size = next((each.download_bytes for each in ranked if each.flavour == build.flavour), None)
    return PlannedDownload(f"{build.repository} {build.tag} {build.flavour}", size)


def _unread_model(profile: Profile, paths: Paths) -> PlannedDownload:
    at_hand = model_at_hand(profile, paths)
    is_there = not profile.model.repo or (at_hand.files and at_hand.size_bytes)
    return PlannedDownload(at_hand.path or "what the program itself takes", 0 if is_there else None)
