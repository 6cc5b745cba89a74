"""Which model a profile runs, with what goes with it: a draft, and a projector."""
# ruff: noqa: RUF009 - ``_key`` makes a field

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DraftType = Literal["simple", "mtp", "eagle3", "dflash", "dspark"]
DRAFT, PROJECTOR = "model.draft", "model.projector"
_REPOSITORY = {"what": "a Hugging Face repository, owner/name", "pattern": r"[\w.-]+/[\w.-]+"}
_FILE = {"what": "a file name", "pattern": r"[^\s\\]+"}
_QUANT = {"what": "a quantisation such as Q4_K_M", "pattern": r"[\w.-]+"}


def _key(default: object, about: str, name: str = "", **limits: object) -> Any:  # noqa: ANN401 - a field
    """As `declare.key`, which would lengthen every chain of imports to a profile."""
    return field(default=default, metadata={"about": about, "name": name, **limits})


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file at the hub; ``file`` is None until it is known which one ``quant`` means."""

    repo: str
    file: str | None = None
    quant: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSource:
    """
    Exactly one of: a path, a Hugging Face repository, or the demo model; with what goes with it.

    A draft without path, repository and file is a head inside the model, or the file for it in the model's
    repository.
    """

    path: Path | None = _key(None, "A GGUF file; of a split model, the first part.")
    repo: str | None = _key(None, "A Hugging Face repository, owner/name.", **_REPOSITORY)
    file: str | None = _key(None, "The GGUF file in it; of a split one, the first part.", **_FILE)
    quant: str | None = _key(
        None,
        "Which quantisation of the repository, in place of a file: Q4_K_M. With neither, it is Q4_K_M, else "
        "Q8_0, else the first file.",
        **_QUANT,
    )
    demo: bool = False
    draft_path: Path | None = _key(None, "A GGUF file with the draft model.", "draft.path")
    draft_repo: str | None = _key(
        None, "Its repository, owner/name; without it, the model's own.", "draft.repo", **_REPOSITORY
    )
    draft_file: str | None = _key(None, "The draft's file in that repository.", "draft.file", **_FILE)
    draft_quant: str | None = _key(
        None, "Which quantisation of draft.repo, in place of a file.", "draft.quant", **_QUANT
    )
    draft_type: DraftType | None = _key(
        None,
        "How it drafts: 'simple' is a separate small model; 'mtp' is the model's own head for several "
        "tokens, inside it or in a file; 'eagle3', 'dflash' and 'dspark' are made for one model. By default, "
        "the draft's file decides.",
        "draft.type",
    )
    projector_path: Path | None = _key(None, "A GGUF file with the projector.", "projector.path")
    projector_repo: str | None = _key(
        None, "Its repository, owner/name; without it, the model's own.", "projector.repo", **_REPOSITORY
    )
    projector_file: str | None = _key(
        None, "The projector's file in that repository.", "projector.file", **_FILE
    )

    @property
    def is_named(self) -> bool:
        return bool(self.path or self.repo or self.demo)

    @property
    def has_draft(self) -> bool:
        return bool(self.draft_path or self.draft_repo or self.draft_file or self.draft_type)

    @property
    def draft(self) -> RepoFile | None:
        """The draft at the hub; None for a path, and for one that no file was found for."""
        if self.draft_path or not (self.draft_repo or self.draft_file):
            return None
        return RepoFile(self.draft_repo or self.repo or "", self.draft_file, self.draft_quant)

    @property
    def projector(self) -> RepoFile | None:
        """The projector at the hub; None for a path or none."""
        if self.projector_path or not self.projector_file:
            return None
        return RepoFile(self.projector_repo or self.repo or "", self.projector_file)


_PLACES = ("path", "repo", "file", "quant")
_NO_PROJECTOR = "server.mmproj-auto"  # `projector: off`; nobody sets it to true, which is the default


def replaced_models(given: Collection[str], cleared: Collection[str]) -> frozenset[str]:
    """
    What a profile takes back of an inherited model by the keys that it gives: who names a path means not the
    repository, and a draft and a projector are made for one model.
    """
    replaced = {"model"} if {"model.demo", "model.path", "model.repo"} & set(given) else set[str]()
    for section in ("model", DRAFT, PROJECTOR):
        places = {place for place in _PLACES if f"{section}.{place}" in given}
        kept = {"repo"} if places <= {"file", "quant"} else set[str]()
        replaced |= {f"{section}.{place}" for place in _PLACES if places and place not in kept}
    if _names_projector({*given, *cleared}):
        replaced.add(_NO_PROJECTOR)
    if _NO_PROJECTOR in given:
        replaced.add(PROJECTOR)
    if "server.spec-type" in cleared:
        replaced.add(f"{DRAFT}.type")
    return frozenset(replaced)


def _names_projector(keys: Collection[str]) -> bool:
    return any(key == PROJECTOR or key.startswith(f"{PROJECTOR}.") for key in keys)


def contradictions(given: Collection[str]) -> Iterator[tuple[str, str]]:
    """Keys of a resolved profile that cannot be, each with the reason."""
    for section in ("model", DRAFT, PROJECTOR):
        path, repo, file, quant = (f"{section}.{place}" for place in _PLACES)
        if quant in given and repo not in given:
            yield quant, f"{repo} is missing: a quantisation is one of a repository's files"
        if file in given and not {repo, "model.repo"} & set(given):
            yield file, f"{repo} is missing; for a file on this machine, use {path}"
        if file in given and quant in given:
            yield quant, f"{file} already names the file; remove one of the two"
        if section != "model" and path in given and {repo, file} & set(given):
            yield path, f"{repo} or {file} is given too; remove one of the two"
    if f"{PROJECTOR}.repo" in given and f"{PROJECTOR}.file" not in given:
        yield f"{PROJECTOR}.repo", f"{PROJECTOR}.file is missing: name one of its files"
    if _NO_PROJECTOR in given:
        for key in sorted(each for each in given if each.startswith(f"{PROJECTOR}.")):
            yield key, f"{PROJECTOR} is off (no-mmproj); remove one of the two"
