"""
From a repository and a quantisation to files: the hub is asked once, and its answer is kept.

As long as the files of that answer are on disk, no start needs the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from ..decoding import decode
from ..errors import NetworkError, NotFound
from ..files import JsonFile
from ..model.locate import hub_caches, llama_caches, locate, locate_whole, snapshots
from ..model.quantisation import best_model, best_projector, quantisations
from ..paths import Paths
from ..profile.definition import ModelSource, Profile


@dataclass(frozen=True, slots=True)
class HubChoice:
    """``file`` is the model's first one, ``projector`` the one that belongs to it, or None."""

    file: str
    projector: str | None = None


def with_hub_files(profile: Profile, paths: Paths) -> Profile:
    """
    The profile with the file that its repository and quantisation mean, and the projector that llama-server
    would take with it. Raises NotFound, and NetworkError where the hub is needed and cannot be asked.
    """
    model = profile.model
    if model.repo is None or model.file or profile.engine.command:
        return profile
    chosen = known_choice(model, paths)
    if chosen is None or not locate_whole(model.repo, chosen.file, paths.models, os.environ):
        chosen = _asked(model, paths)
    projector = chosen.projector if _wants_projector(profile) else None
    server = profile.server
    if projector:
        server = {**server, "mmproj": str(locate(model.repo, projector, paths.models, os.environ))}
    return replace(profile, model=replace(model, file=chosen.file, projector=projector), server=server)


def known_choice(model: ModelSource, paths: Paths) -> HubChoice | None:
    """What the hub said the last time; the network is not used."""
    return _choices(paths).known().get(_key(model))


def _wants_projector(profile: Profile) -> bool:
    given = profile.server
    return given.get("mmproj-auto") is not False and not {"mmproj", "mmproj-url"} & given.keys()


def _asked(model: ModelSource, paths: Paths) -> HubChoice:
    from ..model.hub import Hub  # noqa: PLC0415 - only for what is not known yet

    assert model.repo is not None
    try:
        names = [file.path for file in Hub.of(os.environ).files(model.repo)]
    except NetworkError:
        there = _names_on_disk(model.repo, paths)
        if best_model(there, model.quant) is None:
            raise
        return _chosen(model, there)
    chosen = _chosen(model, names)
    _choices(paths).update(lambda known: {**known, _key(model): chosen})
    return chosen


def _chosen(model: ModelSource, names: list[str]) -> HubChoice:
    file = best_model(names, model.quant)
    if file is None:
        there = quantisations(names)
        has = f"It has {', '.join(there)}." if there else "It has no GGUF file, which llama.cpp needs."
        what = f"no {model.quant}" if model.quant else "no model"
        raise NotFound(
            f"{model.repo} has {what}. {has}",
            hint="Name one of them in its place (model.quant)."
            if there
            else "Such a repository is often named …-GGUF.",
        )
    return HubChoice(file, best_projector(names, file))


def _names_on_disk(repo: str, paths: Paths) -> list[str]:
    """The GGUF files of a repository in our folder and in the caches of other programs, by name."""
    roots = [
        paths.models / repo,
        *(found for hub in hub_caches(os.environ) for found in snapshots(hub, repo)),
    ]
    names = [file.relative_to(root).as_posix() for root in roots for file in sorted(root.rglob("*.gguf"))]
    lead = f"{repo}/".replace("/", "_")
    for folder in llama_caches(os.environ):
        names += [file.name.removeprefix(lead) for file in sorted(folder.glob(f"{lead}*.gguf"))]
    return [name for name in dict.fromkeys(names) if locate_whole(repo, name, paths.models, os.environ)]


def _key(model: ModelSource) -> str:
    return f"{model.repo}:{model.quant or ''}".lower()


def _choices(paths: Paths) -> JsonFile[Mapping[str, HubChoice]]:
    return JsonFile(
        paths.cache / "hub-choices.json",
        parse=lambda document: {key: decode(HubChoice, value) for key, value in document["choices"].items()},
        render=lambda choices: {"choices": {key: asdict(value) for key, value in choices.items()}},
        empty={},
    )
