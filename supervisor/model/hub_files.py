"""Which of a repository's files are a model, and which model is meant.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath

from ..errors import NotFound, UsageError, VerificationFailed
from .locate import names_of_parts, stem_of

_MOST_NAMED = 20  # models in a message


@dataclass(frozen=True, slots=True)
class HubFile:
    """``path`` is relative, with slashes; ``sha256`` is "" for what is too small to be stored apart."""

    path: str
    size_bytes: int
    sha256: str


Models = Mapping[str, tuple[HubFile, ...]]


def is_inside(path: str) -> bool:
    """Whether it stays in the folder that it is put into, on every system."""
    parts = re.split(r"[/\\]", path)
    return not any(part in {"", ".", ".."} or ":" in part for part in parts)


def models_of(files: Iterable[HubFile]) -> Models:
    """Every model's files by the name of the first, as far as they are there."""
    models: dict[str, tuple[HubFile, ...]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if file.path.endswith(".gguf"):
            first = names_of_parts(file.path)[0]
            models[first] = (*models.get(first, ()), file)
    return models


def choose(repo: str, files: Iterable[HubFile], wanted: str | None) -> tuple[HubFile, ...]:
    """
    All parts of the model that is meant, in order.

    ``wanted`` is a file, any part of a split one, the name without its end, or a quantization that one model
    has; None is the only model that there is.  Raises NotFound; UsageError where several could be meant;
    VerificationFailed for a split model of which the hub has not all parts.
    """
    models = models_of(files)
    if not models:
        raise NotFound(
            f"{repo} has no GGUF file.", hint="llama.cpp needs one; such a repository is often named …-GGUF."
        )
    first = _meant(repo, models, wanted)
    parts = models[first]
    here = {part.path for part in parts}
    due = names_of_parts(first)
    if missing := [name for name in due if name not in here]:
        names = ", ".join(missing[:_MOST_NAMED])
        raise VerificationFailed(
            f"{repo} has only {len(parts)} of the {len(due)} parts: no {names}.",
            hint="Its upload may not be finished yet.",
        )
    return parts


def _meant(repo: str, models: Models, wanted: str | None) -> str:
    found = _matching(models, wanted) if wanted else [name for name in models if not _is_companion(name)]
    if len(found) == 1:
        return found[0]
    if found:
        which = f"{wanted} in {repo} can be" if wanted else f"{repo} has"
        raise UsageError(
            f"{which} {len(found)} models:{_lines(models, found)}",
            hint=f"Name one: {repo}:{stem_of(found[0])}",
        )
    near = get_close_matches(wanted or "", models, n=5, cutoff=0.3) or list(models)
    raise NotFound(f"{repo} has no {wanted}. It has:{_lines(models, near)}", hint=f"Name one: {repo}:FILE")


def _matching(models: Models, wanted: str) -> list[str]:
    """What the words mean exactly, else what they are a part of."""
    exact = [name for name in models if wanted in {name, stem_of(name)} or names_of_parts(wanted)[0] == name]
    if exact:
        return exact
    files = {name: PurePosixPath(name).name for name in models}
    base = [name for name, file in files.items() if wanted in {file, stem_of(file)}]
    word = re.compile(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])", re.IGNORECASE)
    return base or [name for name in models if word.search(stem_of(name)) and not _is_companion(name)]


def _is_companion(name: str) -> bool:
    """A GGUF that goes with a model: what sees pictures, or what a quantization was weighed with."""
    return any(word in PurePosixPath(name).name.lower() for word in ("mmproj", "imatrix"))


def _lines(models: Models, names: list[str]) -> str:
    lines = [f"{stem_of(name)}: {_size(models[name])}" for name in names[:_MOST_NAMED]]
    more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return "".join(f"\n  {line}" for line in (*lines, *more))


def _size(parts: tuple[HubFile, ...]) -> str:
    total = sum(part.size_bytes for part in parts)
    text = f"{total / 10**9:.1f} GB" if total >= 10**9 else f"{total / 10**6:.1f} MB"
    return f"{text} in {len(parts)} files" if len(parts) > 1 else text
