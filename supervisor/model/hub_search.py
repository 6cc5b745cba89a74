"""Searches the Hugging Face hub for models in GGUF, and chooses of each repository the file for a machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

from ..errors import NetworkError, NotFound, SupervisorError
from .hub import REPOSITORY, Hub, Models, is_companion, models_of
from .locate import names_of_parts, stem_of

_MOST_BYTES = 4 << 20
_AT_ONCE = 4  # lists of files that are asked for at the same time
# llama.cpp's own choice, then the format that gpt-oss was trained in.
_USUAL = ("Q4_K_M", "MXFP4")
_QUANTIZATION = re.compile(r"(?:^|[-.])((?:UD-)?(?:I?Q\d\w*|MXFP4\w*|TQ\d_0|BF16|F16|F32))$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundModel:
    """
    A file of a repository, and what ``pull`` calls it; ``fits``: it was the largest that does, or the usual.

    ``gated``: its owner wants to know who downloads it.
    """

    name: str
    size_bytes: int
    fits: bool
    downloads: int
    gated: bool


def search_hub(
    hub: Hub, words: Sequence[str], limit: int, fits: Callable[[int], bool]
) -> tuple[FoundModel, ...]:
    """
    Of each of the ``limit`` repositories that are downloaded most, one model; ``fits`` judges its bytes.

    Source: https://huggingface.co/docs/hub/api.  Raises NetworkError, also for a mirror without a search.
    """
    query = {
        "search": " ".join(words),
        "filter": "gguf",
        "sort": "downloads",
        "direction": -1,
        "limit": limit,
    }
    what = f"models like {query['search']}"
    try:
        page = hub.get(what, f"{hub.endpoint}/api/models?{urlencode(query)}", {}, _MOST_BYTES)
        entries = json.loads(page.body)
    except (NotFound, ValueError) as error:
        raise NetworkError(
            f"{hub.endpoint} has no search.", hint="Unset HF_ENDPOINT to ask the hub itself."
        ) from error
    known = [each for each in entries if isinstance(each, dict) and REPOSITORY.fullmatch(str(each.get("id")))]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda entry: _found(hub, entry, fits), known)
        return tuple(each for each in found if each)


def _found(hub: Hub, entry: Mapping[str, Any], fits: Callable[[int], bool]) -> FoundModel | None:
    """None for a repository whose files nobody may see, or that has no whole model."""
    repo = str(entry["id"])
    try:
        models = models_of(hub.files(repo))
    except SupervisorError:
        return None
    sizes = _sizes(models)
    if not sizes:
        return None
    first = choose_for(sizes, fits)
    downloads = entry.get("downloads")
    return FoundModel(
        _name(repo, first, sizes),
        sizes[first],
        fits(sizes[first]),
        downloads if isinstance(downloads, int) else 0,
        bool(entry.get("gated")),
    )


def _sizes(models: Models) -> dict[str, int]:
    """Of each whole model by its first file; what only goes with one is left out."""
    return {
        first: sum(part.size_bytes for part in parts)
        for first, parts in models.items()
        if len(parts) == len(names_of_parts(first)) and not is_companion(first)
    }


def choose_for(sizes: Mapping[str, int], fits: Callable[[int], bool]) -> str:
    """The usual quantization if it fits, else the largest that does, else the smallest of all.  Pure."""
    for usual in _USUAL:
        for first, size in sizes.items():
            if quantization(first).upper() == usual and fits(size):
                return first
    fitting = {first: size for first, size in sizes.items() if fits(size)}
    return max(fitting, key=fitting.__getitem__) if fitting else min(sizes, key=sizes.__getitem__)


def quantization(first: str) -> str:
    """``Q4_K_M`` of ``tiny-Q4_K_M-00001-of-00002.gguf``; empty where the name has none."""
    found = _QUANTIZATION.search(stem_of(PurePosixPath(first).name))
    return found[1] if found else ""


def _name(repo: str, first: str, sizes: Mapping[str, int]) -> str:
    """As short as can be and still mean this one only."""
    word = quantization(first)
    if len(sizes) == 1:
        return repo
    if word and [each for each in sizes if quantization(each).upper() == word.upper()] == [first]:
        return f"{repo}:{word}"
    return f"{repo}:{stem_of(first)}"
