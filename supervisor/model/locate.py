"""Where a model's files are, or would be; reads directory entries only."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$")


def names_of_parts(name: str) -> tuple[str, ...]:
    """Every file of a model that has this one, by llama.cpp's naming; one file is its own only part."""
    named = _SPLIT.match(name)
    if named is None:
        return (name,)
    stem, count = named["stem"], int(named["count"])
    return tuple(f"{stem}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1)) or (name,)


def parts_of(first: Path) -> tuple[Path, ...]:
    return tuple(first.with_name(name) for name in names_of_parts(first.name))


def stem_of(name: str) -> str:
    """A model's name without what all have at the end: a part's number, .gguf."""
    named = _SPLIT.match(name)
    return named["stem"] if named else name.removesuffix(".gguf")


def locate(repo: str, file: str, models: Path, environ: Mapping[str, str]) -> Path:
    """
    The model's first file: ours, or the one that another program has downloaded already; a whole model first.

    Where there is none, the place in our own folder where it belongs.
    """
    whole = locate_whole(repo, file, models, environ)
    ours, *others = _places(repo, file, models, environ)
    return whole or next((path for path in (ours, *others) if path.exists()), ours)


def locate_whole(repo: str, file: str, models: Path, environ: Mapping[str, str]) -> Path | None:
    """The same where all parts are there; None where no place has them all."""
    places = _places(repo, file, models, environ)
    return next((path for path in places if all(part.is_file() for part in parts_of(path))), None)


def hugging_face_home(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps its token and, below ``hub``, its cache."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environ.get("HF_HOME") or cache / "huggingface").expanduser()


def hub_caches(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Folders in the Hugging Face hub's layout, which is llama.cpp's too since b8498."""
    named = ("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    hubs = [Path(environ[name]) for name in named if environ.get(name)]
    return (*hubs, hugging_face_home(environ) / "hub")


def llama_caches(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """llama.cpp's older folder, in which all files are side by side.  Source: fs_get_cache_directory."""
    if named := environ.get("LLAMA_CACHE"):
        return (Path(named),)
    caches = [Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")]
    if sys.platform == "darwin":
        caches.append(Path.home() / "Library" / "Caches")
    if sys.platform == "win32" and environ.get("LOCALAPPDATA"):
        caches.append(Path(environ["LOCALAPPDATA"]))
    return tuple(cache / "llama.cpp" for cache in caches)


def snapshots(hub: Path, repo: str) -> list[Path]:
    """A repository's states in a cache of the hub's layout, the newest first."""
    found = hub.glob(f"models--{repo.replace('/', '--')}/snapshots/*")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _places(repo: str, file: str, models: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    yield models / repo / file
    for hub in hub_caches(environ):
        yield from (snapshot / file for snapshot in snapshots(hub, repo))
    for folder in llama_caches(environ):
        yield folder / f"{repo}/{file}".replace("/", "_")
