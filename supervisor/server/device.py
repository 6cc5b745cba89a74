"""Whether a server computes where its profile asks for it: on a GPU, and not on the CPU instead."""

from __future__ import annotations

from ..plan.launch import LaunchPlan
from .diagnosis import cpu_fallback


class Device:
    """What one launch after another says of it in its log."""

    def __init__(self) -> None:
        self._on_cpu = ""

    def begin(self) -> None:
        """A new launch."""
        self._on_cpu = ""

    def read(self, line: str) -> bool:
        """Whether this line of its log is the first to say that it runs on the CPU."""
        found = "" if self._on_cpu else cpu_fallback(line) or ""
        self._on_cpu = self._on_cpu or found
        return bool(found)

    def degraded(self, plan: LaunchPlan) -> str:
        """What is not as the plan wants it; "" where all is."""
        if not plan.wants_gpu:
            return ""
        if self._on_cpu:
            return f"running on the CPU: {self._on_cpu}"
        return "" if plan.devices else "running on the CPU: this build sees no GPU"
