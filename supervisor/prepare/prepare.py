"""
From a profile's name to a launch plan: the only place where the pure rooms meet the disk.

Everything that can take long or fail happens here, in the program that a person started, while the running
server keeps serving.  The daemon only gets a finished plan.  What a start would download is in `estimate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from ..engine import known_bad
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..engine.choose import acquire, find
from ..engine.install_context import InstallContext
from ..errors import DoesNotFit, NoSuitableEngine, SupervisorError
from ..hardware.detection import hardware_of
from ..home import client
from ..home.places import figures_file, memory_history_file
from ..home.records import plans_out_of_memory
from ..memory.engine_figures import FigureHistory, key_of, measured_memory
from ..memory.fit_params import figures_for
from ..memory.fitting import MODEL as DRAFT
from ..memory.fitting import FiguresSource, Fitted, fit, notes_of
from ..memory.known_memory import KnownMemory, fit_known
from ..memory.verdict import gpu_ram_bytes, kept_bytes, whole
from ..model.demo import ensure_demo
from ..model.locate import parts_of
from ..model.metadata import Model
from ..model.open import open_model
from ..paths import Paths
from ..plan.child_environment import system_config
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen
from ..plan.make import MemoryShares, make_plan
from ..profile.definition import Profile
from ..profile.matching import MissingGpu
from ..profile.resolve import resolve, with_models_dir
from ..profile.store import ProfileStore
from ..progress import Progress, Silent
from ..tool import NO_VARIABLES
from .machine_checks import ABSENT, absent_gpu, taken_by_others
from .model_at_hand import ensure_model_reachable, get_model, model_at_hand, path_of, read_model
from .profile_listen import inside_of, listen_of, shared_names


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
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    if refuse:
        refuse(profile)
    if force:
        profile = replace(profile, guardrails="off")
    context = install_context(paths, progress, waits=True, variables=profile.env)
    absent = absent_gpu(profile, context)
    if absent and absent.is_fatal and not force:
        raise NoSuitableEngine(absent.sentence, hint=ABSENT)
    ensure_model_reachable(profile, paths)
    listen = listen_of(profile, paths, named)
    profile, model = read_model(profile, paths, write=True)
    build = acquire(
        profile.engine,
        wants_gpu=profile.wants_gpu,
        context=context,
        tag=tag,
        model_bytes=weights_bytes(model),
    )
    fitted = _fit_here(profile, model, build, context, paths, evicts=evicts)
    if fitted and fitted.refusal:
        raise DoesNotFit(
            f"{profile.name} does not fit: {fitted.refusal}{taken_by_others(fitted, context, paths)}.",
            hint=f"goss-supervisor plan {profile.name} shows the account. The guardrails are "
            f"{profile.guardrails}; start --force ignores them once.",
        )
    get_model(profile, paths, progress)
    found = _preparation(profile, overrides, build, fitted, paths, listen=listen)
    return _warned(found, absent, _known_bad(profile, fitted, model, build, context))


def weights_bytes(model: Model | None) -> int | None:
    return (model.weights_bytes or model.size_bytes or None) if model else None


def _known_bad(
    profile: Profile, fitted: Fitted | None, model: Model | None, build: Build, context: InstallContext
) -> tuple[str, ...]:
    """What is known to go wrong with this build, these options and this hardware, a sentence each."""
    if not renderer_for(profile.engine.source).reads_models:
        return ()
    options = {**profile.server, **(fitted.changes if fitted else {})}
    return known_bad.warnings_of(build, options, context.hardware, model)


def _warned(found: Preparation, absent: MissingGpu | None, known: tuple[str, ...]) -> Preparation:
    """With these warnings in the plan, so that ``status`` shows them too."""
    missing = (absent.sentence.rstrip("."),) if absent else ()
    return replace(found, plan=replace(found.plan, warnings=(*missing, *found.plan.warnings, *known)))


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
    The same plan without installing or writing anything.  For a model that is not on disk, only its header
    is read from the hub.  Without an engine the pinned build's options are used, with a note.  ``hardware``
    is the record of another machine, for which nothing installed here counts.  ``warn`` is told that the GPU
    of the profile is absent before the hub or an engine is asked.
    """
    paths = with_models_dir(paths)
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    context = install_context(paths, Silent(), hardware, variables=profile.env)
    absent = absent_gpu(profile, context)
    if absent and warn:
        warn(absent.sentence)
    if not context.elsewhere:
        ensure_model_reachable(profile, paths)
    listen = listen_of(profile, paths, named, elsewhere=context.elsewhere)
    model, build = None, None
    try:
        profile, model = read_model(profile, paths, write=False)
        build = found_engine(profile, model, context)
        if context.elsewhere and model:
            fitted: Fitted | None = fit(
                profile, model, build, context.hardware(), draft=look_at_draft(profile, paths)
            )
        else:
            fitted = _fit_here(profile, model, build, context, paths)
    except SupervisorError as error:
        note = f"what it takes of the memory is not known: {str(error).rstrip('.')}"
        build = build or found_engine(profile, model, context)
        unknown = _preparation(profile, overrides, build, None, paths, listen=listen)
        unknown = replace(unknown, notes=(*unknown.notes, note))
        return _warned(unknown, absent, _known_bad(profile, None, model, build, context))
    found = _preparation(profile, overrides, build, fitted, paths, listen=listen)
    if fitted and fitted.short and (taken := taken_by_others(fitted, context, paths)):
        found = replace(found, notes=(*found.notes, taken.removeprefix("; ")))
    return _warned(found, absent, _known_bad(profile, fitted, model, build, context))


def found_engine(profile: Profile, model: Model | None, context: InstallContext) -> Build:
    return find(
        profile.engine,
        wants_gpu=profile.wants_gpu,
        context=context,
        model_bytes=weights_bytes(model),
    )


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


def _figures_source(profile: Profile, build: Build, paths: Paths) -> FiguresSource:
    files, figures = parts_of(path_of(profile, paths)), FigureHistory(figures_file(paths))
    return lambda settings, ask: figures_for(
        files, build, settings, figures, may_ask=ask, variables=profile.env
    )


def _fit_here(
    profile: Profile,
    model: Model | None,
    build: Build,
    context: InstallContext,
    paths: Paths,
    *,
    evicts: bool = True,
) -> Fitted | None:
    """
    Beside what this machine's daemon holds, and with what the engine itself says.  Without a header to
    count from (``model`` None), it is what the profile declares, else what was measured, else None.
    """
    held, stays = _held(paths, evicts=evicts)
    if model is None:
        known = _known_memory(profile, build, paths, elsewhere=context.elsewhere)
        return fit_known(known, profile, context.hardware(), held=held, stays=stays) if known else None
    return fit(
        profile,
        model,
        build,
        context.hardware(),
        draft=look_at_draft(profile, paths),
        held=held,
        stays=stays,
        figures_source=_figures_source(profile, build, paths),
    )


_UNKNOWN_MEMORY = (
    "what it takes of the memory is not known: say it in engine.memory, or start it once, which measures it"
)


def _known_memory(profile: Profile, build: Build, paths: Paths, *, elsewhere: bool) -> KnownMemory | None:
    if profile.engine.memory:
        return KnownMemory(profile.engine.memory, "declared")
    plan = make_plan(profile, build, model_at_hand(profile, paths), inside=inside_of(profile, build, paths))
    found = None if elsewhere else measured_memory(paths).get(plan.digest)
    return KnownMemory(found, "measured") if found else None


def _held(paths: Paths, *, evicts: bool) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """What the running servers give back where they are unloaded for it, and what those use that are not."""
    try:
        running = client.ask(paths, {"op": "running"})
    except SupervisorError:
        return {}, {}
    stays: Mapping[str, int] = running.get("stays", {})  # a daemon of an older version does not say
    if evicts:
        return running.get("held", {}), stays
    return {}, dict(Counter(stays) + Counter(running.get("needed", {})))


def _preparation(
    profile: Profile,
    settings: Mapping[str, str],
    build: Build,
    fitted: Fitted | None,
    paths: Paths,
    *,
    listen: Listen | None,
) -> Preparation:
    model = model_at_hand(profile, paths)
    files = tuple(map(Path, model.files))
    missing = [file for file in files if not file.exists()]
    notes = [*(f"{file} is not on disk" for file in missing), *shared_names(listen.offers if listen else ())]
    renderer = renderer_for(profile.engine.source)
    config = system_config()
    if config is not None and renderer.reads_models:
        notes.append(f"llama-server also reads {config}; what it sets holds where the profile is silent")
    if fitted is not None:
        notes += notes_of(fitted)
        profile = replace(profile, server={**profile.server, **fitted.changes})
    make = partial(
        make_plan,
        build=build,
        model=model,
        settings=settings,
        memory=fitted.held if fitted else None,
        shares=_shares(fitted) if fitted else None,
        inside=inside_of(profile, build, paths),
    )
    plan = make(profile)
    if not renderer.reads_models and not profile.engine.memory:
        plan = replace(plan, measures=True)
        if fitted is None:
            plan = replace(plan, warnings=(*plan.warnings, _UNKNOWN_MEMORY))
    if fitted is not None and fitted.is_final and (counted := fitted.ledger.settings):
        plan = replace(plan, figures=key_of(files, build, counted) or "")
    if fitted is not None and fitted.step_back:
        options = {**profile.server, **fitted.step_back}
        less = make(replace(profile, server=options))
        changed = ", ".join(f"{name} {value}" for name, value in fitted.step_back.items())
        words = f"{changed}, for without it the load failed for memory"
        less = replace(less, adjustment=words, adjusts=plan.digest)
        plan = replace(plan, adjusted=less)
        if plan.digest in plans_out_of_memory(memory_history_file(paths)):
            plan = less
            notes.append(f"{less.adjustment}: it was so the last time")
    return Preparation(plan, listen, tuple(notes), fitted)


def _shares(fitted: Fitted) -> MemoryShares:
    judged, settings = fitted.verdict.judgements, fitted.ledger.settings
    shared_tokens = 0
    if settings is not None:  # else nobody here can read the model
        is_open = settings.fit and "ctx-size" in settings.left_open  # then llama.cpp may choose another
        is_shared = settings.unified and settings.slots > 1 and not is_open
        shared_tokens = settings.context_tokens if is_shared else 0
    return MemoryShares(
        {each.pool.name: each.needed_bytes for each in judged if each.needed_bytes},
        {each.pool.name: kept_bytes(whole(each.pool), fitted.verdict.guardrails) for each in judged},
        shared_tokens,
        {} if fitted.verdict.guardrails == "off" else dict(fitted.ours),
        gpu_ram_bytes(judged),
    )


def look_at_draft(profile: Profile, paths: Paths) -> Model | None:
    """The draft model that the profile's options name by its file; raises as ``open_model`` does."""
    named = profile.server.get(DRAFT)
    return open_model(Path(str(named)).expanduser(), paths.cache / "headers") if named else None
