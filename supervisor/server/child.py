"""
The running llama-server as the rest of this room sees it: one contract for all systems.

Its output comes in through one pipe and its death through the kernel, both as callbacks on the running loop.

``spawn`` starts a program with exactly this environment, an empty stdin, and stdout and stderr merged.  It
dies with this process where the system offers that (Linux, Windows), never dumps core, and keeps the
descriptors in ``inherit`` (not on Windows).  One that ``outlives`` (Linux) does not die with it, and goes on
when nobody reads its output, which is then lost.  ``no_sigpipe`` is for a program that would end when a peer
hangs up.  ``on_output`` gets at most 64 KiB at once, and must not raise.
Raises NotFound, PermissionDenied or StartFailed, each with what to do.

``take_over`` watches a process that runs already, as if it had been spawned.  How one ends that is not our
child cannot be known: then ``exited`` has an empty `ExitStatus`.  Raises StartFailed where it cannot be done.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from ..home.identity import Identity
from ..profile.definition import StopSignal
from .process import ExitStatus

if sys.platform == "win32":
    from .mechanism.windows_process import start as spawn
    from .mechanism.windows_process import take_over
else:
    from .mechanism.posix_process import start as spawn
    from .mechanism.posix_process import take_over

if TYPE_CHECKING:
    import asyncio

__all__ = ["Child", "spawn", "take_over"]


class Child(Protocol):
    """
    A child of ours, or a survivor.  Neither signal ever reaches another process.  On POSIX it also has
    ``output_fd``, where its output is read.
    """

    @property
    def identity(self) -> Identity: ...

    @property
    def exited(self) -> asyncio.Future[ExitStatus]:
        """Done when it is dead and reaped and its last byte of output has been handed on."""

    def terminate(self, stop: StopSignal = "TERM") -> None:
        """Ask it to leave: by this signal, or Ctrl+C on Windows.  Does nothing after its death."""

    def kill(self) -> None:
        """End it and whatever it has started in its group (Windows: its job).  Nothing after its death."""

    def catch_up(self) -> None:
        """Hand on its output so far, which is otherwise read in gulps."""

    def let_go(self) -> None:
        """Watch it no more, and leave it to another process; POSIX only."""
