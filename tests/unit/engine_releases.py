"""Releases of several eras: the names of all their files, below ``engine_eras/``, with where each list is from."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from supervisor.engine.catalogue.releases import Asset, Release

_HOME = Path(__file__).parent / "engine_eras"
ERAS = tuple(
    sorted((file.name.partition(".")[0] for file in _HOME.glob("*.assets.txt")), key=lambda tag: int(tag[1:]))
)


@cache
def names(tag: str) -> tuple[str, ...]:
    lines = (_HOME / f"{tag}.assets.txt").read_text("utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def asset(name: str, *, digest: bool = True, uploaded: bool = True) -> Asset:
    sha256 = hashlib.sha256(name.encode()).hexdigest() if digest else ""
    return Asset(name, 1000, sha256, f"https://example.invalid/{name}", uploaded)


def release(tag: str, *, without: tuple[str, ...] = ()) -> Release:
    """``without`` takes away what has one of these in its name."""
    return Release(
        tag, tuple(asset(name) for name in names(tag) if not any(part in name for part in without))
    )
