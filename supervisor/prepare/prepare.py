"""
From a profile's name to a launch plan: the only place where the pure rooms meet the disk.

Everything that can take long or fail happens here, in the program that a person started, while the running
server keeps serving.  The daemon only gets a finished plan.  `estimate` finds out what a start would
download, without doing it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from ..download.transfer import PartFile
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..engine.choose import acquire, find
from ..engine.install_context import InstallContext
from ..engine.survey import survey
from ..errors import DoesNotFit, SupervisorError
from ..hardware.detection import hardware_of
from ..hardware.hardware import Hardware
from ..home import client
from ..home.places import figures_file, memory_history_file
from ..home.records import plans_out_of_memory
from ..memory.engine_figures import FigureHistory, key_of, measured_memory
from ..memory.fit_params import figures_for
from ..memory.fitting import MODEL as DRAFT
from ..memory.fitting import FiguresSource, Fitted, fit, notes_of
from ..memory.known_memory import KnownMemory, fit_known
from ..memory.verdict import gpu_ram_bytes, kept_bytes, size, whole
from ..model.demo import ensure_demo
from ..model.locate import locate_whole, parts_of
from ..model.metadata import Model
from ..model.open import open_model
from ..paths import Paths
from ..plan.child_environment import system_config
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen
from ..plan.make import MemoryShares, make_plan
from ..profile.definition import Profile
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from ..progress import Progress, Silent
from .model_at_hand import get_model, look_at, model_at_hand, path_of, read_model
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
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    if refuse:
        refuse(profile)
    if force:
        profile = replace(profile, guardrails="off")
    listen = listen_of(profile, paths, named)
    context = install_context(paths, progress, waits=True)
    profile, model = read_model(profile, paths, write=True)
    build = acquire(profile.engine, wants_gpu=profile.wants_gpu, context=context, tag=tag)
    fitted = _fit_here(profile, model, build, context, paths, evicts=evicts)
    if fitted and fitted.refusal:
        raise DoesNotFit(
            f"{profile.name} does not fit: {fitted.refusal}.",
            hint=f"{_pinned(paths)}goss-supervisor plan {profile.name} shows the account. The guardrails are "
            f"{profile.guardrails}; start --force ignores them once.",
        )
    get_model(profile, paths, progress)
    return _preparation(profile, overrides, build, fitted, paths, listen=listen)


def preview(
    name: str,
    overrides: Mapping[str, str],
    paths: Paths,
    hardware: Path | None = None,
    named: Sequence[str] = (),
) -> Preparation:
    """
    The same plan without installing or writing anything.  For a model that is not on disk, only its header
    is read from the hub.  Without an engine the pinned build's options are used, with a note.  ``hardware``
    is the record of another machine, for which nothing installed here counts.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    context = install_context(paths, Silent(), hardware)
    listen = listen_of(profile, paths, named, elsewhere=context.elsewhere)
    build = find(profile.engine, wants_gpu=profile.wants_gpu, context=context)
    try:
        profile, model = read_model(profile, paths, write=False)
        if context.elsewhere and model:
            fitted: Fitted | None = fit(
                profile, model, build, context.hardware(), draft=look_at_draft(profile, paths)
            )
        else:
            fitted = _fit_here(profile, model, build, context, paths)
    except SupervisorError as error:
        note = f"what it takes of the memory is not known: {str(error).rstrip('.')}"
        unknown = _preparation(profile, overrides, build, None, paths, listen=listen)
        return replace(unknown, notes=(*unknown.notes, note))
    return _preparation(profile, overrides, build, fitted, paths, listen=listen)


def install_context(
    paths: Paths, progress: Progress, hardware: Path | None = None, *, waits: bool = False
) -> InstallContext:
    """
    What engines are chosen and installed with; the hardware is looked at once, and only if it decides.  With
    ``waits`` a look soon after a boot waits for the drivers of GPUs.
    """
    return InstallContext(
        paths,
        progress,
        hardware=cache(lambda: hardware_of(paths, hardware, progress if waits else None)),
        demo=lambda: ensure_demo(paths.models),
        elsewhere=hardware is not None,
    )


def _figures_source(profile: Profile, build: Build, paths: Paths) -> FiguresSource:
    files, figures = parts_of(path_of(profile, paths)), FigureHistory(figures_file(paths))
    return lambda settings, ask: figures_for(files, build, settings, figures, may_ask=ask)


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


def _running(paths: Paths) -> client.Message:
    """What this machine's daemon holds; empty without one."""
    with suppress(SupervisorError):
        return client.ask(paths, {"op": "running"})
    return {}


def _held(paths: Paths, *, evicts: bool) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """What the running servers give back where they are unloaded for it, and what those use that are not."""
    running = _running(paths)
    stays: Mapping[str, int] = running.get("stays", {})  # a daemon of an older version does not say
    stays_then = dict(Counter(stays) + Counter(running.get("needed", {})))
    return (running.get("held", {}), stays) if evicts else ({}, stays_then)


def _pinned(paths: Paths) -> str:
    """A sentence about what is loaded and pinned here, for whom does not fit; empty where nothing is."""
    running = _running(paths)
    kept = " and ".join(f"{size(number)} of {pool}" for pool, number in running.get("stays", {}).items())
    unload = "; ".join(f"goss-supervisor unload {name}" for name in running.get("pinned", ()))
    return f"Pinned models keep {kept} ({unload}). " if unload else ""


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
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    context = replace(install_context(paths, Silent()), hardware=lambda: hardware)
    build = find(profile.engine, wants_gpu=profile.wants_gpu, context=context)
    engine = _engine(profile, build, context)
    if profile.model.demo:
        return Estimate(profile, engine, PlannedDownload("the demo, a few MB that are made here", 0))
    if not renderer_for(profile.engine.source).reads_models:
        return Estimate(profile, engine, _unread_model(profile, paths))
    model, draft = look_at(profile, paths, write=False), look_at_draft(profile, paths)
    expected = Estimate(profile, engine, _model(profile, model, paths))
    if build.flavour == _UNKNOWN and hardware.gpus:  # on a GPU or not: nobody can tell yet
        return replace(expected, memory=("not known before it is known which engine it will be",))
    fitted = fit(profile, model, build, hardware, draft=draft)
    memory = tuple(each.text for each in fitted.verdict.judgements if each.needed_bytes)
    return replace(expected, memory=memory, refusal=fitted.refusal if expected.download_bytes != 0 else "")


def _engine(profile: Profile, build: Build, context: InstallContext) -> PlannedDownload:
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
    ranked = survey(context.hardware(), release, flavour=wanted.flavour, gpu=profile.wants_gpu).ranked
    wanted_bytes = next((each.download_bytes for each in ranked if each.flavour == build.flavour), None)
    return PlannedDownload(f"{build.repository} {build.tag} {build.flavour}", wanted_bytes)


def _model(profile: Profile, model: Model, paths: Paths) -> PlannedDownload:
    meant = profile.model
    if not (meant.repo and meant.file):
        return PlannedDownload(str(path_of(profile, paths)), 0)
    what = f"{meant.repo}, {meant.file}"
    if locate_whole(meant.repo, meant.file, paths.models, os.environ):
        return PlannedDownload(what, 0)
    return PlannedDownload(what, _missing_bytes(model, paths.models / meant.repo))


def _unread_model(profile: Profile, paths: Paths) -> PlannedDownload:
    at_hand = model_at_hand(profile, paths)
    is_there = not profile.model.repo or (at_hand.files and at_hand.size_bytes)
    what = at_hand.path or "what the program itself takes"
    return PlannedDownload(what, 0 if is_there else None)


def _missing_bytes(model: Model, folder: Path) -> int:
    """Without what an earlier download has brought already."""
    files = [(part, folder / part.name.partition(":")[2]) for part in model.parts]  # owner/name:folder/file
    return sum(max(0, part.size_bytes - _present_bytes(file)) for part, file in files)


def _present_bytes(target: Path) -> int:
    return target.stat().st_size if target.exists() else PartFile.of(target).size_bytes
