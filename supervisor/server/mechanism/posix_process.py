"""A child on POSIX: fork and exec, one pipe, and a death that the kernel announces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ...home.identity import Identity, identify
from ..exits import ExitStatus
from ..start_error import start_error

assert sys.platform != "win32"

if sys.platform != "win32":  # the type checker leaves a file at an assert, but reads its imports
    from .pipe import Pipe
    from .sigchld import Sigchld
if sys.platform == "linux":
    from .linux_process import bind_to_parent, offer_to_oom_killer, open_pidfd

DRAIN_SECONDS = 1.0
OWN_GROUP = sys.platform == "linux"
"""Not on macOS: launchd clears up by process group, so the child has to stay in ours, or it outlives us."""


class Notice(Protocol):
    """The kernel's word on one process that has not been reaped, and the way to signal it."""

    def signal(self, number: int) -> None: ...

    def close(self) -> None: ...


NoticeMaker = Callable[[int, Callable[[], None]], Notice]


async def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    on_output: Callable[[bytes], None],
    inherit: tuple[int, ...] = (),
    notice: NoticeMaker | None = None,
) -> PosixChild:
    """See `child.spawn`.  `notice` is chosen by what the kernel has; tests choose it themselves."""
    reader, writer = os.pipe()
    try:
        process = _popen(argv, env, writer, inherit)
    except (OSError, subprocess.SubprocessError) as error:
        os.close(reader)
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise start_error(argv[0], cause) from error
    finally:
        os.close(writer)
    if sys.platform == "linux":
        offer_to_oom_killer(process.pid)
    return PosixChild(process, Pipe(reader, on_output), notice or _best_notice)


def _popen(
    argv: Sequence[str], env: Mapping[str, str], writer: int, inherit: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(argv),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        pass_fds=inherit,  # and no others
        start_new_session=OWN_GROUP,
        preexec_fn=_preparation(),  # noqa: PLW1509 - safe: the daemon has one thread only
    )


def _preparation() -> Callable[[], None]:
    """What runs between fork and exec; all it needs is looked up before the fork."""
    bind: Callable[[], None] | None = None  # then a later daemon finds it by the lock that it inherits
    if sys.platform == "linux":
        bind = bind_to_parent(os.getpid())

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core of a 60 GB process helps nobody
        if bind is not None:
            bind()

    return prepare


def _best_notice(pid: int, on_exit: Callable[[], None]) -> Notice:
    if sys.platform == "linux":
        pidfd = open_pidfd(pid, on_exit)
        if pidfd is not None:
            return pidfd
    return Sigchld(pid, on_exit)


class PosixChild:
    """Fulfils `child.Child`."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: Pipe, notice: NoticeMaker) -> None:
        self._process = process
        self._pipe = pipe
        self.identity = identify(process.pid) or Identity(process.pid, 0.0, "")
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self._notice = notice(process.pid, self._look)
        self._look()  # it may have died before anybody watched

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._sweep()

    def catch_up(self) -> None:
        self._pipe.catch_up()

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._notice.signal(number)

    def _sweep(self) -> None:
        """Kill its group, whose number is its pid: before it is reaped, so that nobody else can have that."""
        if OWN_GROUP and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _look(self) -> None:
        """Called when it may have died; reaps it if so."""
        if self._process.returncode is not None or not self._is_dead():
            return
        self._sweep()
        returncode = self._process.wait()
        self._notice.close()
        self._pipe.closed.add_done_callback(lambda _: self._report(returncode))
        self._pipe.finish(DRAIN_SECONDS)

    def _is_dead(self) -> bool:
        """Without reaping it on Linux; elsewhere there is no group to sweep, so it may be reaped at once."""
        if sys.platform == "linux":
            died = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        else:
            died = self._process.poll()
        return died is not None

    def _report(self, returncode: int) -> None:
        if not self.exited.done():
            self.exited.set_result(ExitStatus.from_returncode(returncode))
