"""
From a profile's name to a launch plan: the only place where the pure rooms meet the disk.

Everything that can take long or fail happens here, in the program that a person started, while
whatever runs now goes on running.  The daemon only ever gets a finished plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from ..daemon.adjusted import known
from ..engine.build import Build
from ..engine.choose import acquire, find
from ..engine.install_context import Means
from ..errors import DoesNotFit, SupervisorError
from ..hardware.detection import hardware_of
from ..home import client
from ..home.places import adjusted_file, figures_file
from ..memory.fit_params import told_about
from ..memory.fitting import Fitted, Telling, fit, notes_of
from ..memory.kept_figures import Figures, key_of
from ..model.demo import ensure_demo
from ..model.locate import parts_of
from ..paths import Paths
from ..plan.child_environment import system_config
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen
from ..plan.make import ModelAtHand, make_plan
from ..profile.definition import Profile
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from ..profile_model import get_model, look_at, look_at_draft, path_of
from ..progress import Progress, Silent
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
) -> Preparation:
    """
    Make everything ready for a launch: install the engine, see whether the model fits, and get it.

    ``refuse`` may raise before any of that.  ``tag`` is a release of llama.cpp to take in place of the
    channel's; ``force`` ignores the guardrails.  Raises DoesNotFit before a model is downloaded for nothing,
    and a SupervisorError for whatever else stands in the way; nothing that runs was touched by then.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    if refuse:
        refuse(profile)
    if force:
        profile = replace(profile, guardrails="off")
    listen = listen_of(profile, paths)
    means = means_of(paths, progress, waits=True)
    model = look_at(profile, paths, write=True)
    build = acquire(profile.engine, wants_gpu=profile.wants_gpu, means=means, tag=tag)
    told, draft = _telling(profile, build, paths), look_at_draft(profile, paths)
    fitted = fit(profile, model, build, means.hardware(), draft=draft, held=_held(paths), told=told)
    if fitted.refusal:
        raise DoesNotFit(
            f"{profile.name} does not fit: {fitted.refusal}.",
            hint=f"goss-supervisor plan {profile.name} shows the account. The guardrails are "
            f"{profile.guardrails}; start --force ignores them once.",
        )
    get_model(profile, paths, progress)
    return _preparation(profile, overrides, build, fitted, paths, listen=listen)


def preview(
    name: str, overrides: Mapping[str, str], paths: Paths, hardware: Path | None = None
) -> Preparation:
    """
    The same plan from what is at hand: nothing is installed or written, and of a model that is not here only
    the header is asked of the hub.  Without an engine the pinned build's options are used, and a note says
    so.  ``hardware`` is the record of another machine, for which nothing is at hand here.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    means = means_of(paths, Silent(), hardware)
    listen = listen_of(profile, paths, elsewhere=means.elsewhere)
    build = find(profile.engine, wants_gpu=profile.wants_gpu, means=means)
    try:
        model, draft = look_at(profile, paths, write=False), look_at_draft(profile, paths)
        if means.elsewhere:
            fitted = fit(profile, model, build, means.hardware(), draft=draft)
        else:
            told = _telling(profile, build, paths)
            fitted = fit(profile, model, build, means.hardware(), draft=draft, held=_held(paths), told=told)
    except SupervisorError as error:
        note = f"what it takes of the memory is not known: {str(error).rstrip('.')}"
        unknown = _preparation(profile, overrides, build, None, paths, listen=listen)
        return replace(unknown, notes=(*unknown.notes, note))
    return _preparation(profile, overrides, build, fitted, paths, listen=listen)


def means_of(paths: Paths, progress: Progress, hardware: Path | None = None, *, waits: bool = False) -> Means:
    """
    What engines are chosen and installed with; the hardware is looked at once, and only if it decides.  With
    ``waits`` a look soon after a boot waits for the drivers of GPUs.
    """
    return Means(
        paths,
        progress,
        hardware=cache(lambda: hardware_of(paths, hardware, progress if waits else None)),
        demo=lambda: ensure_demo(paths.models),
        elsewhere=hardware is not None,
    )


def _telling(profile: Profile, build: Build, paths: Paths) -> Telling:
    files, figures = parts_of(path_of(profile, paths)), Figures(figures_file(paths))
    return lambda settings, ask: told_about(files, build, settings, figures, may_ask=ask)


def _held(paths: Paths) -> Mapping[str, int]:
    """What the server that runs now holds by its plan: it ends before another one is launched."""
    try:
        plan = client.ask(paths, {"op": "running"}).get("plan")
    except SupervisorError:
        return {}
    return plan["memory"] if plan else {}


def _preparation(
    profile: Profile,
    settings: Mapping[str, str],
    build: Build,
    fitted: Fitted | None,
    paths: Paths,
    *,
    listen: Listen | None,
) -> Preparation:
    first = path_of(profile, paths)
    files = parts_of(first)
    missing = [file for file in files if not file.exists()]
    stamp = "" if missing else "|".join(f"{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files)
    model = ModelAtHand(str(first), tuple(map(str, files)), stamp)
    notes = [*(f"{file} is not on disk" for file in missing), *shared_names(listen.offers if listen else ())]
    config = system_config()
    if config is not None:
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
        inside=inside_of(build, paths),
    )
    plan = make(profile)
    if fitted is not None and fitted.is_settled:
        plan = replace(plan, figures=key_of(files, build, fitted.ledger.settings) or "")
    if fitted is not None and fitted.step_back:
        options = {**profile.server, **fitted.step_back}
        less = make(replace(profile, server=options))
        changed = ", ".join(f"{name} {value}" for name, value in fitted.step_back.items())
        words = f"{changed}, for without it the load failed for memory"
        less = replace(less, adjustment=words, adjusts=plan.digest)
        plan = replace(plan, adjusted=less)
        if plan.digest in known(adjusted_file(paths)):
            plan = less
            notes.append(f"{less.adjustment}: it was so the last time")
    return Preparation(plan, listen, tuple(notes), fitted)
