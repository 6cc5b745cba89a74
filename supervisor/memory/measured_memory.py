"""Keeps what launches held of the RAM, for engines whose models nobody here can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..files import JsonFile
from ..paths import Paths

_MOST = 100  # the oldest goes first


def _file(paths: Paths) -> JsonFile[dict[str, dict[str, int]]]:
    return JsonFile(paths.state / "measured.json", _plans, lambda plans: {"plans": plans}, {})


def measured_memory(paths: Paths) -> Mapping[str, Mapping[str, int]]:
    """What launches held, by the digest of their plan; empty where nothing can be read."""
    return _file(paths).known()


def keep_measured(paths: Paths, digest: str, name: str, size_bytes: int) -> None:
    """What a launch of this plan held of a memory, if it is the most so far.  Raises SupervisorError."""
    if measured_memory(paths).get(digest, {}).get(name, 0) < size_bytes:
        found = {digest: {name: size_bytes}}
        _file(paths).update(lambda kept: dict(list({**kept, **found}.items())[-_MOST:]))


def _plans(document: dict[str, Any]) -> dict[str, dict[str, int]]:
    plans = document["plans"]
    return {
        str(digest): {str(name): int(size) for name, size in each.items()} for digest, each in plans.items()
    }
