"""
From a profile's name to a launch plan: the only place where the pure rooms meet the disk.

Everything that can take long or fail happens here, in the program that a person started, while
whatever runs now goes on running.  The daemon only ever gets a finished plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from .daemon import client
from .engine.build import Build
from .engine.choose import acquire, find
from .engine.means import Means
from .errors import DoesNotFit, SupervisorError
from .hardware.known import hardware_of
from .memory.fitting import Fitted, fit, notes_of
from .model.demo import ensure_demo
from .model.locate import parts_of
from .paths import Paths
from .plan.make import ModelAtHand, make_plan
from .plan.types import LaunchPlan
from .profile.resolve import resolve
from .profile.store import ProfileStore
from .profile.types import Profile
from .profile_model import get_model, look_at, path_of
from .progress import Progress, Silent
from .server.environment import system_config


@dataclass(frozen=True, slots=True)
class Preparation:
    """
    A plan, and what a person should know about it.

    ``fitted`` is what it takes of the memory; None where the model could not be looked at, which a note says.
    """

    plan: LaunchPlan
    notes: tuple[str, ...] = ()
    fitted: Fitted | None = None


def prepare(
    name: str,
    overrides: Mapping[str, str],
    paths: Paths,
    progress: Progress,
    *,
    tag: str | None = None,
    force: bool = False,
) -> Preparation:
    """
    Make everything ready for a launch: install the engine, see whether the model fits, and get it.

    ``tag`` is a release of llama.cpp to take in place of the channel's; ``force`` ignores the guardrails.
    Raises DoesNotFit before a model is downloaded for nothing, and a SupervisorError for whatever else stands
    in the way; nothing that runs was touched by then.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    if force:
        profile = replace(profile, guardrails="off")
    means = means_of(paths, progress)
    model = look_at(profile, paths, write=True)
    build = acquire(profile.engine, wants_gpu=profile.wants_gpu, means=means, tag=tag)
    fitted = fit(profile, model, build, means.hardware(), _held(paths))
    if fitted.refusal:
        raise DoesNotFit(
            f"{profile.name} does not fit: {fitted.refusal}.",
            hint=f"goss-supervisor plan {profile.name} shows the account. The guardrails are "
            f"{profile.guardrails}; start --force ignores them once.",
        )
    return _preparation(profile, overrides, build, get_model(profile, paths, progress), fitted)


def preview(
    name: str, overrides: Mapping[str, str], paths: Paths, hardware: Path | None = None
) -> Preparation:
    """
    The same plan from what is at hand: nothing is installed or written, and of a model that is not here no
    more than its header is asked of the hub.

    Without an engine the pinned build's known options are used, and a note says so.  ``hardware`` is the
    record of another machine, for which nothing is at hand here.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    means = means_of(paths, Silent(), hardware)
    build = find(profile.engine, wants_gpu=profile.wants_gpu, means=means)
    first = path_of(profile, paths)
    try:
        held = {} if means.elsewhere else _held(paths)
        fitted = fit(profile, look_at(profile, paths, write=False), build, means.hardware(), held)
    except SupervisorError as error:
        note = f"what it takes of the memory is not known: {str(error).rstrip('.')}"
        unknown = _preparation(profile, overrides, build, first, None)
        return replace(unknown, notes=(*unknown.notes, note))
    return _preparation(profile, overrides, build, first, fitted)


def means_of(paths: Paths, progress: Progress, hardware: Path | None = None) -> Means:
    """What engines are chosen and installed with; the hardware is looked at once, and only if it decides."""
    return Means(
        paths,
        progress,
        hardware=cache(lambda: hardware_of(paths, hardware)),
        demo=lambda: ensure_demo(paths.models),
        elsewhere=hardware is not None,
    )


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
    first: Path,
    fitted: Fitted | None,
) -> Preparation:
    files = parts_of(first)
    missing = [file for file in files if not file.exists()]
    stamp = "" if missing else "|".join(f"{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files)
    model = ModelAtHand(str(first), tuple(map(str, files)), stamp)
    notes = [f"{file} is not on disk" for file in missing]
    config = system_config()
    if config is not None:
        notes.append(f"llama-server also reads {config}; what it sets holds where the profile is silent")
    if fitted is not None:
        notes += notes_of(fitted)
        profile = replace(profile, server={**profile.server, **(fitted.changes or {})})
    plan = make_plan(profile, build, model, settings, fitted.held if fitted else None)
    return Preparation(plan, tuple(notes), fitted)
