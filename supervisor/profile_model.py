"""The model that a profile means: where it is, what it is like, and how it gets here."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from .errors import ConfigError, NetworkError
from .memory.draft import MODEL as DRAFT
from .model.demo import demo_path, ensure_demo
from .model.locate import locate, locate_whole
from .model.metadata import Model
from .model.open import open_model
from .paths import Paths
from .profile.definition import Profile
from .progress import Progress


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


def look_at(profile: Profile, paths: Paths, *, write: bool) -> Model:
    """By its header, on disk or at the hub; with ``write`` the demo is made.  Raises as ``open_model``."""
    path, model, headers = path_of(profile, paths), profile.model, paths.cache / "headers"
    if model.demo and write:
        path = ensure_demo(paths.models)
    if model.repo and model.file and not locate_whole(model.repo, model.file, paths.models, os.environ):
        from .model.hub import Hub  # noqa: PLC0415 - only for what is not on disk
        from .model.remote import hub_model  # noqa: PLC0415 - the same

        try:
            return hub_model(model.repo, model.file, Hub.of(os.environ), headers)
        except NetworkError as error:
            missing = f"The model {model.repo}/{model.file} is not on this machine"
            hint = f"{error.hint} Or put its files at {path.parent}.".lstrip()
            raise NetworkError(f"{missing}, and cannot be had: {error}", hint=hint) from error
    return open_model(path, headers)


def look_at_draft(profile: Profile, paths: Paths) -> Model | None:
    """The draft model that the profile's options name by its file; raises as ``open_model`` does."""
    named = profile.server.get(DRAFT)
    return open_model(Path(str(named)).expanduser(), paths.cache / "headers") if named else None


def get_model(profile: Profile, paths: Paths, progress: Progress) -> Path:
    """The first file, on disk with all parts: downloaded if they are not.  Raises as ``pull`` does."""
    model = profile.model
    if model.repo and model.file and not locate_whole(model.repo, model.file, paths.models, os.environ):
        from .model.pull import ensure_model  # noqa: PLC0415 - only for what is not on disk

        return ensure_model(model.repo, model.file, paths, progress)
    return path_of(profile, paths)
