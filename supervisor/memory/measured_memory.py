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


def keep_measured(paths: Paths, digest: str, bytes_of: Mapping[str, int]) -> None:
    """What this launch held.  Raises SupervisorError where it cannot be written."""
    if measured_memory(paths).get(digest) != bytes_of:
        _file(paths).update(lambda kept: dict(list({**kept, digest: dict(bytes_of)}.items())[-_MOST:]))


def _plans(document: dict[str, Any]) -> dict[str, dict[str, int]]:
    plans = document["plans"]
    return {
        str(digest): {str(name): int(size) for name, size in each.items()} for digest, each in plans.items()
    }
