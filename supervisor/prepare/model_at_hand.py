"""Where a profile's model is, or will be, and what of it is on disk."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from ..engine.adapters.renderers import renderer_for
from ..errors import ConfigError
from ..model.demo import demo_path
from ..model.locate import locate, parts_of
from ..paths import Paths
from ..plan.make import ModelAtHand
from ..profile.definition import Profile


def model_at_hand(profile: Profile, paths: Paths) -> ModelAtHand:
    """
    As it is on disk.  An engine that reads no GGUF files may get a folder, the name of a repository that it
    downloads itself, or nothing.
    """
    meant = profile.model
    if not renderer_for(profile.engine.source).reads_models and not (meant.demo or meant.path or meant.file):
        return ModelAtHand(meant.repo or "")
    first = path_of(profile, paths)
    files = () if first.is_dir() else parts_of(first)
    stats = [file.stat() for file in files] if all(file.exists() for file in files) else []
    stamp = "|".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)
    return ModelAtHand(str(first), tuple(map(str, files)), stamp, sum(stat.st_size for stat in stats))


def path_of(profile: Profile, paths: Paths) -> Path:
    """
    The model's first file, or where it will be.  Raises ConfigError for a profile that names none:
    llama-server would silently become a router.
    """
    model = profile.model
    if model.demo:
        return demo_path(paths.models)
    if model.path is not None:
        path = model.path.expanduser()
        is_absolute = path.is_absolute() or PureWindowsPath(path).is_absolute()
        return path if is_absolute else paths.models / path
    if model.repo is None or model.file is None:
        raise ConfigError(
            f"Profile {profile.name} names no model.",
            hint="Set model.path, model.repo with model.file, or model: demo.",
        )
    return locate(model.repo, model.file, paths.models, os.environ)
