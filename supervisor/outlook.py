"""What a start would have to get, and what it would take: found out before anything is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .download.transfer import PartFile
from .engine.build import Build
from .engine.choose import find
from .engine.install_context import Means
from .engine.survey import survey
from .hardware.hardware import Hardware
from .memory.fitting import fit
from .model.locate import locate_whole
from .model.metadata import Model
from .paths import Paths
from .prepare.prepare import means_of
from .profile.definition import Profile
from .profile.resolve import resolve
from .profile.store import ProfileStore
from .profile_model import look_at, look_at_draft, path_of
from .progress import Silent

_NONE_AT_HAND, _UNKNOWN = "none", "unknown"  # of a `Build`: no engine yet, and what nobody knows


@dataclass(frozen=True, slots=True)
class Part:
    """The engine or the model: what it is, and the bytes to download; 0 is here, None is nobody knows."""

    what: str
    download_bytes: int | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """
    ``memory`` is a clause for each memory, or why it is not known; empty where it does not matter.

    ``refusal`` is why a start would come to nothing for memory, with what helps, and empty where it would not
    or nobody knows; whatever is at hand already is judged by the start itself, which asks the engine too.
    """

    profile: Profile
    engine: Part
    model: Part
    memory: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def download_bytes(self) -> int | None:
        """All that comes over the network; None where a part of it is unknown."""
        if self.engine.download_bytes is None or self.model.download_bytes is None:
            return None
        return self.engine.download_bytes + self.model.download_bytes


def outlook(name: str, overrides: Mapping[str, str], paths: Paths, hardware: Hardware) -> Outlook:
    """
    Of a start with this profile on this machine.  Of a model that is elsewhere its header is read.  Raises as
    ``resolve``, ``find`` and ``look_at`` do, for what would stop the start as well.
    """
    profile = resolve(name, ProfileStore(paths.profiles), overrides)
    means = replace(means_of(paths, Silent()), hardware=lambda: hardware)
    build = find(profile.engine, wants_gpu=profile.wants_gpu, means=means)
    engine = _engine(profile, build, means)
    if profile.model.demo:
        return Outlook(profile, engine, Part("the demo, a few MB that are made here", 0))
    model, draft = look_at(profile, paths, write=False), look_at_draft(profile, paths)
    expected = Outlook(profile, engine, _model(profile, model, paths))
    if build.flavour == _UNKNOWN and hardware.gpus:  # on a GPU or not: nobody can tell yet
        return replace(expected, memory=("not known before it is known which engine it will be",))
    fitted = fit(profile, model, build, hardware, draft=draft)
    memory = tuple(each.text for each in fitted.verdict.judgements if each.needed_bytes)
    return replace(expected, memory=memory, refusal=fitted.refusal if expected.download_bytes != 0 else "")


def _engine(profile: Profile, build: Build, means: Means) -> Part:
    """Its size stands in the list of the release that it is of."""
    if build.source != _NONE_AT_HAND:
        known = build.repository != _UNKNOWN
        return Part(f"{build.repository} {build.tag} {build.flavour}" if known else build.command[0], 0)
    wanted = profile.engine
    if wanted.source in {"path", "system"}:  # the start will say that it is not there
        return Part(f"source {wanted.source}", 0)
    release = None if build.flavour == _UNKNOWN else means.catalogue(wanted).known(build.tag)
    if release is None:  # only the start itself finds out which one it will be
        return Part(f"source {wanted.source}, channel {wanted.channel or 'default'}", None)
    ranked = survey(means.hardware(), release, flavour=wanted.flavour, gpu=profile.wants_gpu).ranked
    size = next((each.download_bytes for each in ranked if each.flavour == build.flavour), None)
    return Part(f"{build.repository} {build.tag} {build.flavour}", size)


def _model(profile: Profile, model: Model, paths: Paths) -> Part:
    meant = profile.model
    if not (meant.repo and meant.file):
        return Part(str(path_of(profile, paths)), 0)
    what = f"{meant.repo}, {meant.file}"
    if locate_whole(meant.repo, meant.file, paths.models, os.environ):
        return Part(what, 0)
    return Part(what, _missing_bytes(model, paths.models / meant.repo))


def _missing_bytes(model: Model, folder: Path) -> int:
    """Without what an earlier download has brought already."""
    files = [(part, folder / part.name.partition(":")[2]) for part in model.parts]  # owner/name:folder/file
    return sum(max(0, part.size_bytes - _present_bytes(file)) for part, file in files)


def _present_bytes(target: Path) -> int:
    return target.stat().st_size if target.exists() else PartFile.of(target).size_bytes
