"""
Which file of a repository llama-server would take for ``-hf owner/name:QUANT``, with its projector and draft.

Source: find_best_model and find_best_sibling in common/download.cpp (b11434).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from .locate import names_of_parts, stem_of

DEFAULTS = ("Q4_K_M", "Q8_0")
DRAFT_TYPES = ("mtp", "dspark", "dflash", "eagle3")
_COMPANIONS = ("mmproj", "imatrix", *(f"{kind}-" for kind in DRAFT_TYPES))
_TAG = re.compile(r"[-.]([A-Za-z0-9_]+)$")


def best_model(names: Iterable[str], quant: str | None) -> str | None:
    """The first file of the model; without ``quant`` the usual ones, else the first that there is."""
    models = [name for name in names if _is_model(name)]
    for tag in (quant,) if quant else DEFAULTS:
        pattern = re.compile(re.escape(tag) + r"[.-]", re.IGNORECASE)
        for name in models:
            if pattern.search(name):
                return name
    return None if quant or not models else models[0]


def quantisations(names: Iterable[str]) -> list[str]:
    """What could be named, for a message."""
    found = (_TAG.search(stem_of(name)) for name in names if _is_model(name))
    return list(dict.fromkeys(tag[1] for tag in found if tag))


def best_projector(names: Iterable[str], model: str) -> str | None:
    return _best_sibling(names, model, "mmproj")


def best_drafts(names: Sequence[str], model: str, quant: str | None) -> Mapping[str, str]:
    """By type; the type that llama-server takes where none is asked for first."""
    found = {kind: _best_sibling(names, model, f"{kind}-", quant) for kind in DRAFT_TYPES}
    return {kind: name for kind, name in found.items() if name}


def _best_sibling(names: Iterable[str], model: str, word: str, quant: str | None = None) -> str | None:
    """
    In the model's folder or above it, the nearest first; then of this quantisation, else of the most similar
    precision.
    """
    folder, bits = PurePosixPath(model).parent, _bits(f"-{quant}" if quant else model)
    exact = f"-{quant}.".upper()
    near = [
        (-len(PurePosixPath(name).parent.parts), exact not in name.upper(), abs(_bits(name) - bits), at, name)
        for at, name in enumerate(names)
        if name.endswith(".gguf") and word in name and folder.is_relative_to(PurePosixPath(name).parent)
    ]
    return min(near)[-1] if near else None


def _is_model(name: str) -> bool:
    file = PurePosixPath(name).name
    is_first = names_of_parts(name)[0] == name
    return name.endswith(".gguf") and is_first and not any(word in file for word in _COMPANIONS)


def _bits(name: str) -> int:
    """4 of Q4_0, 16 of F16; 0 where the name does not say."""
    tag = _TAG.search(stem_of(name))
    digits = re.search(r"\d+", tag[1]) if tag else None
    return int(digits[0]) if digits else 0
