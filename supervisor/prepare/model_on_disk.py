"""Where a profile's model is, or will be, and what it says of itself."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from ..errors import ConfigError, SupervisorError
from ..model.demo import demo_path
from ..model.locate import locate
from ..model.metadata import Model
from ..model.open import open_model
from ..paths import Paths
from ..profile.definition import Profile


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


def model_on_disk(profile: Profile, paths: Paths) -> Model | None:
    """By its header; None where it is not all there, or is no model."""
    try:
        return open_model(path_of(profile, paths), paths.cache / "headers")
    except SupervisorError:
        return None
