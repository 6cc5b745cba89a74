"""
From a profile's name to a launch plan: the only place where the pure rooms meet the disk.

Everything that can take long or fail happens here, in the program that a person started, while
whatever runs now goes on running.  The daemon only ever gets a finished plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PureWindowsPath

from .engine.build import Build
from .engine.choose import acquire, find
from .engine.means import Means
from .errors import ConfigError, NotFound
from .hardware.known import hardware_of
from .model.check import check_model
from .model.demo import demo_path, ensure_demo
from .model.locate import locate, parts_of
from .paths import Paths
from .plan.make import ModelAtHand, make_plan
from .plan.types import LaunchPlan
from .profile.resolve import resolve
from .profile.store import ProfileStore
from .profile.types import Profile
from .progress import Progress, Silent
from .server.environment import system_config


@dataclass(frozen=True, slots=True)
class Preparation:
    """A plan, and what a person should know about it."""

    plan: LaunchPlan
    notes: tuple[str, ...] = ()


def prepare(
    name: str,
    overrides: Mapping[str, str],
    paths: Paths,
    progress: Progress,
    tag: str | None = None,
) -> Preparation:
    """
    Make everything ready for a launch: install the engine, write the demo model, check the model.

    ``tag`` is a release of llama.cpp to take in place of the channel's.  Raises a SupervisorError for
    whatever stands in the way; nothing that runs was touched by then.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    first = _model_path(profile, paths, write=True)
    check_model(first)
    build = acquire(profile.engine, wants_gpu=profile.wants_gpu, means=means_of(paths, progress), tag=tag)
    return _preparation(profile, overrides, build, first)


def preview(
    name: str, overrides: Mapping[str, str], paths: Paths, hardware: Path | None = None
) -> Preparation:
    """
    The same plan from what is at hand: nothing is installed, downloaded or written.

    Without an engine the pinned build's known options are used, and a note says so.  ``hardware`` is the
    record of another machine, for which nothing is at hand here.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    means = means_of(paths, Silent(), hardware)
    build = find(profile.engine, wants_gpu=profile.wants_gpu, means=means)
    return _preparation(profile, overrides, build, _model_path(profile, paths, write=False))


def means_of(paths: Paths, progress: Progress, hardware: Path | None = None) -> Means:
    """What engines are chosen and installed with; the hardware is looked at once, and only if it decides."""
    return Means(
        paths,
        progress,
        hardware=cache(lambda: hardware_of(paths, hardware)),
        demo=lambda: ensure_demo(paths.models),
        elsewhere=hardware is not None,
    )


def _preparation(
    profile: Profile,
    settings: Mapping[str, str],
    build: Build,
    first: Path,
) -> Preparation:
    files = parts_of(first)
    missing = [file for file in files if not file.exists()]
    stamp = "" if missing else "|".join(f"{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files)
    model = ModelAtHand(str(first), tuple(map(str, files)), stamp)
    notes = [f"{file} is not on disk" for file in missing]
    config = system_config()
    if config is not None:
        notes.append(f"llama-server also reads {config}; what it sets holds where the profile is silent")
    return Preparation(make_plan(profile, build, model, settings), tuple(notes))


def _model_path(profile: Profile, paths: Paths, *, write: bool) -> Path:
    """
    The model's first file.

    Raises ConfigError for a profile that names none (llama-server would silently become a router), and
    NotFound for a model of the hub that is not on disk.
    """
    model = profile.model
    if model.demo:
        return ensure_demo(paths.models) if write else demo_path(paths.models)
    if model.path is not None:
        path = model.path.expanduser()
        is_absolute = path.is_absolute() or PureWindowsPath(path).is_absolute()
        return path if is_absolute else paths.models / path
    if model.repo is None or model.file is None:
        raise ConfigError(
            f"Profile {profile.name} names no model.",
            hint="Set model.path, model.repo with model.file, or model: demo.",
        )
    path = locate(model.repo, model.file, paths.models, os.environ)
    if write and not path.exists():
        raise NotFound(
            f"The model {model.repo}/{model.file} is not on this machine; it belongs at {path}.",
            hint=_how_to_download(model.repo, model.file, paths),
        )
    return path


def _how_to_download(repo: str, file: str, paths: Paths) -> str:
    parts = " ".join(part.as_posix() for part in parts_of(Path(file)))
    return f"Download it: hf download {repo} {parts} --local-dir {paths.models / repo}"
