"""
The one running llama-server, as the rest of this room sees it: one contract over all systems.

Its output comes in through one pipe and its death through the kernel, both as callbacks on the running loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from .exits import ExitStatus
from .identity import Identity, identify

if sys.platform == "win32":
    from .mechanism.windows import start
else:
    from .mechanism.posix import start

if TYPE_CHECKING:
    import asyncio

__all__ = ["Child", "ExitStatus", "Identity", "identify", "spawn"]


class Child(Protocol):
    """A child of ours.  Neither signal ever reaches a process that is not this child."""

    @property
    def identity(self) -> Identity: ...

    @property
    def exited(self) -> asyncio.Future[ExitStatus]:
        """Done when it is dead and reaped and its last byte of output has been handed on."""

    def terminate(self) -> None:
        """Ask it to leave: SIGTERM, or Ctrl+C on Windows.  Does nothing after its death."""

    def kill(self) -> None:
        """End it and whatever it has started in its group (Windows: its job).  Nothing after its death."""

    def catch_up(self) -> None:
        """Hand on what it has said so far: its output is read in gulps."""


async def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    on_output: Callable[[bytes], None],
    inherit: tuple[int, ...] = (),
) -> Child:
    """
    Start `argv` with exactly `env`, nothing on its stdin, stdout and stderr merged into `on_output`.

    It dies with this process where the system offers that (Linux, Windows), never dumps core, and keeps the
    descriptors in `inherit` (not on Windows).  `on_output` gets at most 64 KiB at once, and must not raise.
    Raises NotFound, PermissionDenied or StartFailed, each saying what to do.
    """
    return await start(argv, env, on_output=on_output, inherit=inherit)
