"""What a start would download, and whether it would fit, without doing it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..download.transfer import PartFile
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..engine.install_context import InstallContext
from ..engine.survey import survey
from ..hardware.hardware import Hardware
from ..memory.fitting import fit
from ..model.locate import locate_whole
from ..model.metadata import Model
from ..paths import Paths
from ..profile.definition import Profile
from ..profile.resolve import resolve, with_models_dir
from ..profile.store import ProfileStore
from ..progress import Silent
from .model_at_hand import ensure_model_reachable, look_at, model_at_hand, path_of
from .prepare import found_engine, install_context, look_at_draft, weights_bytes

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
    paths = with_models_dir(paths)
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    context = replace(install_context(paths, Silent(), variables=profile.env), hardware=lambda: hardware)
    ensure_model_reachable(profile, paths)
    if profile.model.demo or not renderer_for(profile.engine.source).reads_models:
        engine = _engine(profile, found_engine(profile, None, context), context)
        if profile.model.demo:
            return Estimate(profile, engine, PlannedDownload("the demo, a few MB that are made here", 0))
        return Estimate(profile, engine, _unread_model(profile, paths))
    model, draft = look_at(profile, paths, write=False), look_at_draft(profile, paths)
    build = found_engine(profile, model, context)
    engine = _engine(profile, build, context, weights_bytes(model))
    expected = Estimate(profile, engine, _model(profile, model, paths))
    if build.flavour == _UNKNOWN and hardware.gpus:  # on a GPU or not: nobody can tell yet
        return replace(expected, memory=("not known before it is known which engine it will be",))
    fitted = fit(profile, model, build, hardware, draft=draft)
    memory = tuple(each.text for each in fitted.verdict.judgements if each.needed_bytes)
    return replace(expected, memory=memory, refusal=fitted.refusal if expected.download_bytes != 0 else "")


def _engine(
    profile: Profile, build: Build, context: InstallContext, model_bytes: int | None = None
) -> PlannedDownload:
    """Its size is in the asset list of its release."""
    if build.source != _NONE_AT_HAND:
        known = build.repository not in {_UNKNOWN, ""}
        return PlannedDownload(
            f"{build.repository} {build.tag} {build.flavour}" if known else build.command[0], 0
        )
    wanted = profile.engine
    if wanted.source in {"path", "system", "command"}:  # the start will say that it is not there
        return PlannedDownload(f"source {wanted.source}", 0)
    release = None if build.flavour == _UNKNOWN else context.catalogue(wanted).known(build.tag)
    if release is None:  # only the start itself finds out which one it will be
        return PlannedDownload(f"source {wanted.source}, channel {wanted.channel or 'default'}", None)
    ranked = survey(
        context.hardware(),
        release,
        flavour=wanted.flavour,
        gpu=profile.wants_gpu,
        model_bytes=model_bytes,
    ).ranked
    size = next((each.download_bytes for each in ranked if each.flavour == build.flavour), None)
    return PlannedDownload(f"{build.repository} {build.tag} {build.flavour}", size)


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
