"""Where a profile's model is, or will be, what it says of itself, and how it gets onto the disk."""

from __future__ import annotations

import os
from pathlib import Path

from ..disk import ensure_reachable
from ..engine.adapters.renderers import renderer_for
from ..errors import ConfigError, NetworkError, SupervisorError
from ..home.event_log import record_event
from ..model.demo import demo_path, ensure_demo
from ..model.locate import locate, locate_whole, parts_of
from ..model.metadata import Model
from ..model.open import open_model
from ..model.quantisation import DEFAULTS
from ..paths import Paths
from ..plan.make import ModelAtHand
from ..plan.role import with_role
from ..profile.definition import Profile
from ..profile.worker_address import NO_MODEL, WORKER
from ..progress import Progress
from .hub_choice import known_choice
from .profile_files import demand_model_file, whole_path


def model_at_hand(profile: Profile, paths: Paths) -> ModelAtHand:
    """
    As it is on disk.  An engine that reads no GGUF files may get a folder, the name of a repository that it
    downloads itself, or nothing; a worker gets none, which its place tells.
    """
    meant = profile.model
    if profile.lend.address is not None:
        return ModelAtHand(f"{NO_MODEL}memory is lent at {profile.lend.address}")
    if not renderer_for(profile).reads_models and not (meant.demo or meant.path or meant.file):
        return ModelAtHand(meant.repo or "")
    first = path_of(profile, paths)
    files = () if first.is_dir() else parts_of(first)
    stats = [file.stat() for file in files] if all(file.exists() for file in files) else []
    stamp = "|".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)
    return ModelAtHand(str(first), tuple(map(str, files)), stamp, sum(stat.st_size for stat in stats))


def path_of(profile: Profile, paths: Paths) -> Path:
    """
    The model's first file, or where it will be; of a quantisation that the hub was never asked for, a
    name in its place. Raises ConfigError for a profile that names no model: llama-server would silently
    become a router.
    """
    model = profile.model
    if model.demo:
        return demo_path(paths.models)
    if model.path is not None:
        return whole_path(model.path, paths)
    if model.repo is None and profile.name == WORKER:
        hint = "goss-supervisor worker --listen ADDRESS, or lend.listen in the profile."
        raise ConfigError("The profile worker needs an address to listen on.", hint=hint)
    if model.repo is None:
        raise ConfigError(
            f"Profile {profile.name} names no model.", hint="Set model.path, model.repo, or model: demo."
        )
    known = None if model.file else known_choice(model, paths)
    file = model.file or (known.file if known else f"{model.quant or DEFAULTS[0]}.gguf")
    return locate(model.repo, file, paths.models, os.environ)


def ensure_model_reachable(profile: Profile, paths: Paths) -> None:
    """Raises NotFound where its file, or the folder for models, would be on a disk that is not there."""
    model = profile.model
    if model.path is not None and path_of(profile, paths).is_absolute():
        ensure_reachable(path_of(profile, paths), "The model")
    if model.demo or (model.repo and model.file):
        ensure_reachable(paths.models, "The models folder")


def model_on_disk(profile: Profile, paths: Paths) -> Model | None:
    """By its header; None where it is not all there, is no model, or is for an engine that reads others."""
    if not renderer_for(profile).reads_models:
        return None
    try:
        return open_model(path_of(profile, paths), paths.cache / "headers")
    except SupervisorError:
        return None


def read_model(profile: Profile, paths: Paths, *, write: bool) -> tuple[Profile, Model | None]:
    """With the role that its model's header tells; None for an engine that has the model to itself."""
    if not renderer_for(profile).reads_models:
        return profile, None
    model = look_at(profile, paths, write=write)
    return with_role(profile, model), model


def look_at(profile: Profile, paths: Paths, *, write: bool) -> Model:
    """By its header, on disk or at the hub; with ``write`` the demo is made.  Raises as ``open_model``."""
    path, model, headers = path_of(profile, paths), profile.model, paths.cache / "headers"
    if model.demo and write:
        path = ensure_demo(paths.models)
    demand_model_file(profile)
    if model.repo and model.file and not locate_whole(model.repo, model.file, paths.models, os.environ):
        from ..model.hub import Hub  # noqa: PLC0415 - only for what is not on disk
        from ..model.remote import hub_model  # noqa: PLC0415 - the same

        try:
            return hub_model(model.repo, model.file, Hub.of(os.environ), headers)
        except NetworkError as error:
            missing = f"The model {model.repo}/{model.file} is not on this machine"
            hint = f"{error.hint} Or put its files at {path.parent}.".lstrip()
            raise NetworkError(f"{missing}, and cannot be had: {error}", hint=hint) from error
    return open_model(path, headers)


def get_model(profile: Profile, paths: Paths, progress: Progress) -> None:
    """All its files on disk: downloaded if they are not.  Raises as ``pull`` does."""
    model = profile.model
    if model.demo:
        ensure_demo(paths.models)
    for file in filter(None, (model.file, model.projector)):
        if model.repo and not locate_whole(model.repo, file, paths.models, os.environ):
            from ..model.pull import ensure_model  # noqa: PLC0415 - only for what is not on disk

            ensure_model(model.repo, file, paths, progress)
            record_event(paths, "download", f"downloaded {file} of {model.repo}", repo=model.repo, file=file)
