"""
From a repository and a quantisation to files: the hub is asked once, and its answer is kept.

As long as the files of that answer are on disk, no start needs the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..decoding import decode
from ..errors import NetworkError, NotFound
from ..files import JsonFile
from ..model.locate import hub_caches, llama_caches, locate, locate_whole, snapshots
from ..model.quantisation import best_drafts, best_model, best_projector, quantisations
from ..paths import Paths
from ..profile.definition import Profile
from ..profile.model_source import ModelSource, RepoFile


@dataclass(frozen=True, slots=True)
class HubChoice:
    """
    ``file`` is the model's first one, or None for a repository of drafts; ``projector`` belongs to it, and so
    do the ``drafts`` by their type.
    """

    file: str | None
    projector: str | None
    drafts: Mapping[str, str]


def with_hub_files(profile: Profile, paths: Paths) -> Profile:
    """
    The profile with the files that repositories and quantisations mean: the model's, its draft's, and the
    projector that llama-server would take with it; the last two are options of the server then.  Raises
    NotFound, and NetworkError where the hub is needed and cannot be asked.
    """
    if profile.engine.command:
        return profile
    model = profile.model
    if model.repo and not model.file:
        chosen = _choice(model.repo, model.quant, paths)
        model = replace(model, file=chosen.file)
        if _wants_projector(profile):
            model = replace(model, projector_file=chosen.projector)
        if model.draft_type and not (model.draft_path or model.draft_repo or model.draft_file):
            model = replace(model, draft_file=chosen.drafts.get(model.draft_type))
    if model.draft_repo and not model.draft_file:
        chosen = _choice(model.draft_repo, model.draft_quant, paths, is_draft=True)
        kind: str = model.draft_type or next(iter(chosen.drafts), "")
        model = replace(model, draft_file=chosen.drafts.get(kind, chosen.file))
    return replace(profile, model=model, server={**profile.server, **_options(model, paths)})


def _options(model: ModelSource, paths: Paths) -> Mapping[str, str]:
    """What the files that go with the model are as options."""
    there = {
        "spec-draft-model": model.draft_path or _located(model.draft, paths),
        "mmproj": model.projector_path or _located(model.projector, paths),
    }
    return {name: str(path) for name, path in there.items() if path}


def _located(found: RepoFile | None, paths: Paths) -> Path | None:
    return locate(found.repo, found.file, paths.models, os.environ) if found and found.file else None


def known_choice(model: ModelSource, paths: Paths) -> HubChoice | None:
    """What the hub said the last time of its repository and quantisation; the network is not used."""
    return _choices(paths).known().get(_key(model.repo or "", model.quant))


def _wants_projector(profile: Profile) -> bool:
    """Whether the profile says nothing about it."""
    meant = profile.model
    is_open = profile.server.get("mmproj-auto") is not False
    return is_open and not (meant.projector_path or meant.projector_file)


def _choice(repo: str, quant: str | None, paths: Paths, *, is_draft: bool = False) -> HubChoice:
    """As it was the last time, if what it means is on disk; else the hub is asked."""
    known = _choices(paths).known().get(_key(repo, quant))
    first = known and (known.file or next(iter(known.drafts.values()), None))
    if known and first and locate_whole(repo, first, paths.models, os.environ):
        return known
    from ..model.hub import Hub  # noqa: PLC0415 - only for what is not known yet

    try:
        names = [file.path for file in Hub.of(os.environ).files(repo)]
    except NetworkError:
        there = _chosen(_names_on_disk(repo, paths), quant)
        if there.file or (is_draft and there.drafts):
            return there
        raise
    chosen = _chosen(names, quant)
    if not (chosen.file or (is_draft and chosen.drafts)):
        raise _nothing(repo, quant, names, "model.draft.quant" if is_draft else "model.quant")
    _choices(paths).update(lambda before: {**before, _key(repo, quant): chosen})
    return chosen


def _chosen(names: Sequence[str], quant: str | None) -> HubChoice:
    file = best_model(names, quant)
    projector = best_projector(names, file) if file else None
    return HubChoice(file, projector, best_drafts(names, file or "", quant))


def _nothing(repo: str, quant: str | None, names: Sequence[str], key: str) -> NotFound:
    there = quantisations(names)
    has = f"It has {', '.join(there)}." if there else "It has no GGUF file, which llama.cpp needs."
    hint = f"Name one of them in {key}." if there else "Such a repository is often named …-GGUF."
    return NotFound(f"{repo} has {f'no {quant}' if quant else 'no model'}. {has}", hint=hint)


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


def _key(repo: str, quant: str | None) -> str:
    return f"{repo}:{quant or ''}".lower()


def _choices(paths: Paths) -> JsonFile[Mapping[str, HubChoice]]:
    return JsonFile(
        paths.cache / "hub-choices.json",
        parse=lambda document: {
            key: decode(HubChoice, value)
            for key, value in document["choices"].items()
            if "drafts" in value  # else an older version wrote it
        },
        render=lambda choices: {"choices": {key: asdict(value) for key, value in choices.items()}},
        empty={},
    )
