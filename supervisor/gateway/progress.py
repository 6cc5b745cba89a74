"""How far a server is, for those who wait for it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..plan.launch import LaunchPlan
from ..server.lifecycle_table import State
from .backends import Backend


def progress(server: Backend) -> str:
    """The state, and about how much of the model is in memory: what the process holds of its files' size."""
    share = _share(server) if server.state is State.STARTING else None
    loaded = f", about {share:.0%} of the model loaded" if share is not None else ""
    why = f" ({server.why})" if server.why else ""
    return f"{server.state.value}{why}{loaded}"


def _share(server: Backend) -> float | None:
    held, plan = server.resident_bytes(), server.plan
    size = _size(plan) if plan else 0
    return min(held / size, 0.99) if held and size else None


def _size(plan: LaunchPlan) -> int:
    with suppress(OSError):
        return sum(Path(file).stat().st_size for file in plan.model_files)
    return 0
