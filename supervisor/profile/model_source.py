"""Which model a profile runs, with what goes with it: a draft, and a projector."""
# ruff: noqa: RUF009 - ``key`` makes a field

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .declare import Limits, key

DraftType = Literal["simple", "mtp", "eagle3", "dflash", "dspark"]
_REPOSITORY: Limits = {"what": "a Hugging Face repository, owner/name", "pattern": r"[\w.-]+/[\w.-]+"}
_FILE: Limits = {"what": "a file name", "pattern": r"[^\s\\]+"}
_QUANT: Limits = {"what": "a quantisation such as Q4_K_M", "pattern": r"[\w.-]+"}


@dataclass(frozen=True, slots=True)
class RepoFile:
    """
    A file at the hub that goes with a model.  ``file`` is None until it is known which one ``quant`` means.
    """

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

    path: Path | None = key(None, "A GGUF file; of a split model, the first part.")
    repo: str | None = key(None, "A Hugging Face repository, owner/name.", **_REPOSITORY)
    file: str | None = key(None, "The GGUF file in it; of a split one, the first part.", **_FILE)
    quant: str | None = key(
        None,
        "Which quantisation of the repository, in place of a file: Q4_K_M. With neither, it is Q4_K_M, else "
        "Q8_0, else the first file.",
        **_QUANT,
    )
    demo: bool = False
    draft_path: Path | None = key(None, "A GGUF file with the draft model.", "draft.path")
    draft_repo: str | None = key(
        None, "Its repository, owner/name; without it, the model's own.", "draft.repo", **_REPOSITORY
    )
    draft_file: str | None = key(None, "The draft's file in that repository.", "draft.file", **_FILE)
    draft_quant: str | None = key(
        None, "Which quantisation of draft.repo, in place of a file.", "draft.quant", **_QUANT
    )
    draft_type: DraftType | None = key(
        None,
        "How it drafts: 'simple' is a small model of its own; 'mtp' is the model's own head for several "
        "tokens, inside it or in a file; 'eagle3', 'dflash' and 'dspark' are made for one model. Without it: "
        "what the file of the draft tells.",
        "draft.type",
    )
    projector_path: Path | None = key(None, "A GGUF file with the projector.", "projector.path")
    projector_repo: str | None = key(
        None, "Its repository, owner/name; without it, the model's own.", "projector.repo", **_REPOSITORY
    )
    projector_file: str | None = key(
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
