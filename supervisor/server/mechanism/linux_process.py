"""What only Linux offers: a file descriptor for a process, and a child that dies with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from ...home.identity import Identity, identify

assert sys.platform == "linux"

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
PIPE_BYTES = 1 << 20  # the most that a user may ask for by default; minutes of a busy server's lines
_OOM_SCORE_ADJ = 300  # of 1000: the server, which can be started again, goes before the user's desktop


class Pidfd:
    """Readable once the process has died; signals through it cannot hit a successor of the same pid."""

    def __init__(self, fd: int, on_exit: Callable[[], None]) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, on_exit)

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def open_pidfd(pid: int, on_exit: Callable[[], None]) -> Pidfd | None:
    """``None`` before Linux 5.3 and in sandboxes that forbid it."""
    try:
        return Pidfd(os.pidfd_open(pid), on_exit)
    except OSError:
        return None


def let_go_on(writer: int) -> None:
    """
    A full pipe does not block its writer: what has no room is lost.  For C and C++
    only, where a line that cannot be written is no error.
    """
    os.set_blocking(writer, False)
    with contextlib.suppress(OSError):  # a user may have only so many pages in pipes
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def output_of(identity: Identity) -> int:
    """
    A reader of the pipe that this process writes to, which can be opened by Linux's link to it.  Raises
    OSError, also where the process is another by now.
    """
    fd = os.open(f"/proc/{identity.pid}/fd/1", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if identify(identity.pid) == identity and stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.ESRCH, "its output is not a pipe of ours")


def bind_to_parent(parent: int) -> Callable[[], None]:
    """
    A function for the time between fork and exec: the kernel kills the child when `parent` dies.

    Where the parent is dead already the child has another one by now, which need not be pid 1 (subreapers).
    The signal hangs on the *thread* that forks: the daemon spawns from its only one.
    """
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def offer_to_oom_killer(pid: int) -> None:
    """Raise its score, unless it is higher already; lowering it would need a privilege."""
    score = Path(f"/proc/{pid}/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        if int(score.read_text(encoding="ascii")) < _OOM_SCORE_ADJ:
            score.write_text(str(_OOM_SCORE_ADJ), encoding="ascii")
