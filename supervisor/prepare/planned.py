"""The plan of a launch from what was found on this machine, and a smaller one for when memory runs out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..home.places import memory_history_file
from ..home.records import plans_out_of_memory
from ..memory.engine_figures import key_of
from ..memory.fitting import Fitted, FittedLaunch, by_memory, notes_of
from ..memory.verdict import kept_bytes, whole
from ..paths import Paths
from ..plan.child_environment import system_config
from ..plan.launch import SHORT_AT_LOAD, LaunchPlan
from ..plan.listen import context_of
from ..plan.make import MemoryShares, make_plan
from ..profile.definition import Profile
from .model_at_hand import model_at_hand
from .profile_files import missing_files
from .profile_listen import inside_of

_UNKNOWN_MEMORY = (
    "what it takes of the memory is not known: say it in engine.memory, or start it once, which measures it"
)


def planned(
    launch: FittedLaunch, settings: Mapping[str, str], paths: Paths
) -> tuple[LaunchPlan, tuple[str, ...]]:
    """The plan, and what a person should know about it."""
    plan, notes = _planned(launch.profile, settings, launch.build, launch.fitted, paths)
    smaller = launch.smaller
    if smaller is not None and smaller.fitted is not None:
        less, _ = _planned(smaller.profile, settings, smaller.build, smaller.fitted, paths)
        tokens = smaller.fitted.changes.get("ctx-size")
        words = f"only the memory of this computer{f' (ctx-size {tokens})' if tokens else ''}"
        plan = replace(plan, without_workers=replace(less, adjusted=None, adjustment=words))
    return replace(plan, warnings=(*plan.warnings, *launch.warnings)), (*notes, *launch.notes)


def _planned(
    profile: Profile,
    settings: Mapping[str, str],
    build: Build,
    fitted: Fitted | None,
    paths: Paths,
) -> tuple[LaunchPlan, tuple[str, ...]]:
    model = model_at_hand(profile, paths)
    files = tuple(map(Path, model.files))
    told = [path for _, path in missing_files(profile)]
    needed = [file for file in (*files, *map(Path, model.companions)) if file not in told]
    notes = [f"{file} is not on disk" for file in needed if not file.exists()]
    renderer = renderer_for(profile)
    config = system_config()
    if config is not None and renderer.reads_models:
        notes.append(f"llama-server also reads {config}; what it sets holds where the profile is silent")
    asked = profile
    if fitted is not None:
        notes += notes_of(fitted)
        profile = replace(profile, server={**profile.server, **fitted.changes})
    make = partial(
        make_plan,
        build=build,
        model=model,
        settings=settings,
        memory=fitted.held if fitted else None,
        shares=_shares(fitted, profile) if fitted else None,
        inside=inside_of(profile, build, paths),
    )
    wish = make(asked).digest
    plan = replace(make(profile), wish=wish)
    if not (renderer.reads_models or profile.engine.memory or profile.lend.is_worker):
        plan = replace(plan, measures=True)
        if fitted is None:
            plan = replace(plan, warnings=(*plan.warnings, _UNKNOWN_MEMORY))
    if fitted is not None and fitted.is_final and (counted := fitted.ledger.settings):
        plan = replace(plan, figures=key_of(files, build, counted) or "")
    if fitted is not None and fitted.step_back:
        options = {**profile.server, **fitted.step_back}
        less = make(replace(profile, server=options))
        changed = ", ".join(f"{name} {value}" for name, value in fitted.step_back.items())
        less = replace(less, adjustment=changed, adjusts=plan.digest, wish=wish)
        plan = replace(plan, adjusted=less)
        before = plans_out_of_memory(memory_history_file(paths)).get(plan.digest)
        if before is not None:
            words = before if before.startswith(f"{changed},") else f"{changed}, {SHORT_AT_LOAD}"
            plan = replace(less, adjustment=words)
            notes.append(f"{words}: it was so the last time")
    return plan, tuple(notes)


def _shares(fitted: Fitted, profile: Profile) -> MemoryShares:
    judged, settings = fitted.verdict.judgements, fitted.ledger.settings
    shared_tokens = slots = 0
    if settings is not None:  # else nobody here can read the model
        slots = settings.slots
        is_open = settings.fit and "ctx-size" in settings.left_open  # then llama.cpp may choose another
        most = (context_of(profile.server) or settings.context_tokens) * slots
        is_shared = settings.unified and slots > 1 and most > settings.context_tokens and not is_open
        shared_tokens = settings.context_tokens if is_shared else 0
    return MemoryShares(
        by_memory((each.pool, each.needed_bytes) for each in judged if each.needed_bytes),
        by_memory((each.pool, kept_bytes(whole(each.pool), fitted.verdict.guardrails)) for each in judged),
        shared_tokens,
        slots if shared_tokens else 0,
        {} if fitted.verdict.guardrails == "off" else dict(fitted.ours),
        {each.pool.name: each.pool.adapter for each in judged if each.pool.adapter},
        {each.pool.name: each.pool.own_bytes for each in judged if each.pool.shares_ram},
        dict(profile.leave_bytes),
    )
