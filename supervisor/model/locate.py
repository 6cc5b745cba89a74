"""Where a model's files lie, or would lie: nothing is read but directory entries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$")


def parts_of(first: Path) -> tuple[Path, ...]:
    """Every file of a model, by llama.cpp's naming of split files; one file is its own only part."""
    named = _SPLIT.match(first.name)
    if named is None:
        return (first,)
    stem, count = named["stem"], int(named["count"])
    return tuple(first.with_name(f"{stem}-{part:05d}-of-{count:05d}.gguf") for part in range(1, count + 1))


def locate(repo: str, file: str, models: Path, environ: Mapping[str, str]) -> Path:
    """
    The model's first file: ours, or the one that another program has downloaded already.

    Where there is none, the place in our own folder where it belongs.
    """
    ours = models / repo / file
    if ours.exists():
        return ours
    return next((path for path in _in_other_caches(repo, file, environ) if path.exists()), ours)


def _in_other_caches(repo: str, file: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """The Hugging Face hub's layout (llama.cpp's too since b8498), then llama.cpp's older one."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = ("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    hubs = [Path(environ[name]) for name in named if environ.get(name)]
    home = Path(environ.get("HF_HOME") or cache / "huggingface")
    folder = f"models--{repo.replace('/', '--')}"
    for hub in [*hubs, home / "hub"]:
        yield from sorted(hub.glob(f"{folder}/snapshots/*/{file}"), key=_newest_first)
    yield Path(environ.get("LLAMA_CACHE") or cache / "llama.cpp") / f"{repo}/{file}".replace("/", "_")


def _newest_first(path: Path) -> float:
    return -path.parent.stat().st_mtime
