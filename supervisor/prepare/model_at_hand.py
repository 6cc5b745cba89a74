"""Where a profile's model is, or will be, what it says of itself, and how it gets onto the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ..disk import ensure_reachable
from ..download.transfer import PartFile
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..errors import (
    ConfigError,
    NetworkError,
    NotFound,
    PermissionDenied,
    SupervisorError,
    VerificationFailed,
)
from ..home.event_log import record_event
from ..memory.companions import ALONE, DRAFT_FILE, PROJECTOR_FILE, Companions
from ..model.demo import demo_model, demo_path, ensure_demo
from ..model.locate import locate, locate_whole, names_of_parts, parts_of
from ..model.metadata import Model, draft_misfit, draft_type_of, nextn_heads, projector_misfit
from ..model.open import open_model
from ..model.quantisation import DEFAULTS
from ..paths import Paths
from ..plan.make import ModelAtHand
from ..plan.role import with_role
from ..profile.definition import Profile
from ..profile.model_source import DRAFT, PROJECTOR, ModelSource, RepoFile
from ..profile.worker_address import NO_MODEL, WORKER
from ..progress import Progress
from .hub_choice import known_choice
from .profile_files import MODEL_PATH, demand_files, whole_path


class Misfit(ConfigError):
    """A draft or a projector that is for another model."""


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
    beside = tuple(part for path in companion_paths(profile) for part in parts_of(path))
    states = [*stats, *(file.stat() for file in beside if file.exists())]
    stamp = "|".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in states) if stats else ""
    size_bytes = sum(stat.st_size for stat in stats)
    return ModelAtHand(str(first), tuple(map(str, files)), stamp, size_bytes, tuple(map(str, beside)))


def companion_paths(profile: Profile) -> tuple[Path, ...]:
    """The files that go with the model, or where they will be, once it is known which ones they are."""
    named = (profile.server.get(option) for option in (DRAFT_FILE, PROJECTOR_FILE))
    return tuple(Path(str(path)) for path in named if path)


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
    file = model.file or (known and known.file) or f"{model.quant or DEFAULTS[0]}.gguf"
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


def read_model(profile: Profile, paths: Paths, *, write: bool) -> tuple[Profile, Model | None, Companions]:
    """
    With the role that its model's header tells, and the type of its draft; None for an engine that has the
    model to itself.  Raises as `look_at` does, and Misfit.
    """
    if not renderer_for(profile).reads_models:
        return profile, None, ALONE
    model = look_at(profile, paths, write=write)
    beside = look_at_companions(profile, paths)
    return with_headers(profile, model, beside), model, beside


def look_at_companions(profile: Profile, paths: Paths) -> Companions:
    """By their headers, on disk or at the hub; raises as `look_at` does."""

    def look(key: str, option: str, at_hub: RepoFile | None) -> Model | None:
        path = profile.server.get(option)
        if not path:
            return None
        demand_files(profile, f"{key}.path")
        try:
            return _opened(Path(str(path)), at_hub, paths)
        except (NotFound, PermissionDenied, VerificationFailed) as error:
            raise type(error)(f"{_place(profile, key)}: {key}: {error}", hint=error.hint) from error

    meant = profile.model
    return Companions(look(DRAFT, DRAFT_FILE, meant.draft), look(PROJECTOR, PROJECTOR_FILE, meant.projector))


def with_headers(profile: Profile, model: Model, beside: Companions) -> Profile:
    """
    The profile with the role of its model, and with --spec-type, without which llama-server loads a draft and
    never uses it.  Raises Misfit.
    """
    profile = with_role(profile, model)
    meant = profile.model
    if beside.projector and (why := projector_misfit(model, beside.projector)):
        raise _misfit(profile, PROJECTOR, str(profile.server[PROJECTOR_FILE]), f" {why}")
    if not meant.has_draft:
        return profile
    kind = meant.draft_type or (draft_type_of(beside.draft) if beside.draft else "simple")
    if beside.draft is None and (kind != "mtp" or not nextn_heads(model)):
        what = "the model has no head for several tokens (nextn)" if kind == "mtp" else f"{kind} needs a file"
        raise _misfit(profile, DRAFT, what, "; name model.draft.path, or repo and file")
    if beside.draft and (why := draft_misfit(model, beside.draft, kind)):
        raise _misfit(profile, DRAFT, str(profile.server[DRAFT_FILE]), f" {why}")
    return with_draft_type(profile, kind)


def with_draft_type(profile: Profile, kind: str | None) -> Profile:
    """With --spec-type; without ``kind``, which only an unread header tells, the profile as it is."""
    if kind is None:
        return profile
    kinds = [f"draft-{kind}", *filter(None, [str(profile.server.get("spec-type", ""))])]
    return replace(profile, server={**profile.server, "spec-type": ",".join(kinds)})


def _place(profile: Profile, key: str) -> str:
    """Where the profile says what ``key`` is."""
    origins = (origin for name, origin in profile.origins.items() if name.startswith(key))
    return next(map(str, origins), f"profile {profile.name}")


def _misfit(profile: Profile, key: str, what: str, why: str) -> Misfit:
    return Misfit(
        f"{_place(profile, key)}: {key}: {what}{why}.", hint=f"Take another one, or none: --set {key}=off"
    )


def look_at(profile: Profile, paths: Paths, *, write: bool) -> Model:
    """By its header, on disk or at the hub; with ``write`` the demo is made.  Raises as ``open_model``."""
    path, model = path_of(profile, paths), profile.model
    if model.demo and not write:
        return demo_model(paths.models)
    if model.demo:
        path = ensure_demo(paths.models)
    demand_files(profile, MODEL_PATH)
    return _opened(path, RepoFile(model.repo, model.file) if model.repo else None, paths)


def _opened(path: Path, at_hub: RepoFile | None, paths: Paths) -> Model:
    headers = paths.cache / "headers"
    if at_hub and at_hub.file and not locate_whole(at_hub.repo, at_hub.file, paths.models, os.environ):
        from ..model.hub import Hub  # noqa: PLC0415 - only for what is not on disk
        from ..model.remote import hub_model  # noqa: PLC0415 - the same

        try:
            return hub_model(at_hub.repo, at_hub.file, Hub.of(os.environ), headers)
        except NetworkError as error:
            missing = f"The model {at_hub.repo}/{at_hub.file} is not on this machine"
            hint = f"{error.hint} Or put its files at {path.parent}.".lstrip()
            raise NetworkError(f"{missing}, and cannot be had: {error}", hint=hint) from error
    return open_model(path, headers)


_HELPER_BYTES = 2 * 1024**3  # of weights
_MIB = 1024**2


def with_little_cache(profile: Profile, weights: int | None, build: Build) -> Profile:
    """
    A small model that is served next to others keeps no more old prompts than its own size, unless the
    profile says it: llama-server's default is 8 GiB for each server, and a small model has read a prompt
    again before that pays.  ``weights`` are bytes.
    """
    has_word = "cache-ram" in profile.server or "LLAMA_ARG_CACHE_RAM" in profile.env
    if not (profile.is_helper and weights) or has_word or weights >= _HELPER_BYTES:
        return profile
    if build.capabilities.find("--cache-ram") is None:
        return profile
    mib = max(256, weights // _MIB)
    note = f"cache-ram {mib}: a small model next to others keeps no more old prompts than its own size"
    return replace(profile, server={**profile.server, "cache-ram": mib}, notes=(*profile.notes, note))


def get_model(profile: Profile, paths: Paths, progress: Progress) -> None:
    """All its files on disk: downloaded if they are not.  Raises as ``pull`` does."""
    model = profile.model
    if model.demo:
        ensure_demo(paths.models)
    for repo, file in _hub_files(model):
        if not locate_whole(repo, file, paths.models, os.environ):
            from ..model.pull import ensure_model  # noqa: PLC0415 - only for what is not on disk

            ensure_model(repo, file, paths, progress)
            record_event(paths, "download", f"downloaded {file} of {repo}", repo=repo, file=file)


def _hub_files(model: ModelSource) -> Iterator[tuple[str, str]]:
    """The repository and the name of each file that comes from the hub, the model's first one first."""
    own = RepoFile(model.repo, model.file) if model.repo else None
    for each in (own, model.draft, model.projector):
        if each and each.file:
            yield each.repo, each.file


def missing_of_hub(profile: Profile, models: Iterable[Model | None], paths: Paths) -> tuple[str, int]:
    """
    The files that come from the hub, in words, and the bytes that are still to be downloaded.  ``models`` are
    the model and what goes with it, by their headers.
    """
    files = list(_hub_files(profile.model))
    what = " and ".join(f"{repo}, {file}" for repo, file in files) or str(path_of(profile, paths))
    sizes = {part.name: part.size_bytes for model in models if model for part in model.parts}
    missing = (file for file in files if not locate_whole(*file, paths.models, os.environ))
    parts = [(repo, part) for repo, file in missing for part in names_of_parts(file)]
    return what, sum(_left_bytes(paths.models / repo / part, sizes[f"{repo}:{part}"]) for repo, part in parts)


def _left_bytes(target: Path, size_bytes: int) -> int:
    """Without what an earlier download has brought already."""
    return max(0, size_bytes - (target.stat().st_size if target.exists() else PartFile.of(target).size_bytes))
