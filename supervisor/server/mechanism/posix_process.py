"""
A child on POSIX: fork and exec, one pipe that the loop reads, and a death that the kernel announces.

Deaths come through a pidfd, or by SIGCHLD where there is none (macOS, Linux before 5.3, strict sandboxes).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ...errors import StartFailed
from ...home.identity import Identity, identify
from ...profile.definition import StopSignal
from ..process import ExitStatus, start_error
from ..survivor import Survivor

assert sys.platform != "win32"

if sys.platform == "linux":
    from .linux_process import bind_to_parent, let_go_on, offer_to_oom_killer, open_pidfd, output_of

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
    no_sigpipe: bool = False,
    outlives: bool = False,
    notice: NoticeMaker | None = None,
) -> PosixChild:
    """See `child.spawn`.  `notice` is chosen by what the kernel has; tests choose it themselves."""
    try:
        reader, writer = os.pipe()
    except OSError as error:
        raise start_error(argv[0], error) from error
    try:
        if outlives and sys.platform == "linux":
            inherit = (*inherit, reader)  # so that the pipe has a reader for as long as it writes
            let_go_on(writer)
        prepare = _preparation(no_sigpipe=no_sigpipe, outlives=outlives)
        process = _popen(argv, env, writer, inherit, prepare)
    except (OSError, subprocess.SubprocessError, ValueError, MemoryError) as error:
        os.close(reader)
        raise start_error(argv[0], _as_os_error(error)) from error
    finally:
        os.close(writer)
    process.returncode = 0  # it is reaped here: without one, subprocess would do so at a time of its own
    if sys.platform == "linux":
        offer_to_oom_killer(process.pid)
    identity = identify(process.pid) or Identity(process.pid, 0.0, "")
    return PosixChild(identity, Pipe(reader, on_output), notice or _best_notice, OwnEnd(process.pid))


def take_over(survivor: Survivor, *, on_output: Callable[[bytes], None]) -> PosixChild:
    """See `child.take_over`."""
    identity = survivor.identity
    end: End = OwnEnd(identity.pid) if survivor.is_child else FarEnd(identity)
    pipe: Pipe | None = None
    output = survivor.output_fd
    try:
        if output is None and sys.platform == "linux":
            output = output_of(identity)
        if output is None:
            raise OSError(errno.ENOTSUP, "this system cannot do that")  # noqa: TRY301 - one answer to all
        pipe = Pipe(output, on_output)
        return PosixChild(identity, pipe, _best_notice if survivor.is_child else _far_notice, end)
    except OSError as error:
        if pipe is not None:
            pipe.close()
            output = None
        for fd in filter(None, (output, survivor.socket_fd)):
            os.close(fd)
        if survivor.is_child:  # else the lock that it holds keeps others from running next to it
            os.kill(identity.pid, signal.SIGKILL)
        why = error.strerror or error
        raise StartFailed(f"The running server (pid {identity.pid}) cannot be taken over: {why}.") from error


def _as_os_error(error: Exception) -> OSError:
    """ValueError is a NUL in an argument or variable."""
    if isinstance(error, OSError):
        return error
    return OSError(errno.ENOMEM if isinstance(error, MemoryError) else errno.EINVAL, str(error))


def _popen(
    argv: Sequence[str],
    env: Mapping[str, str],
    writer: int,
    inherit: tuple[int, ...],
    prepare: Callable[[], None],
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(argv),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        pass_fds=inherit,  # and no others
        start_new_session=OWN_GROUP,
        preexec_fn=prepare,  # noqa: PLW1509 - safe: the daemon has one thread only
    )


def _preparation(*, no_sigpipe: bool, outlives: bool) -> Callable[[], None]:
    """What runs between fork and exec; all it needs is looked up before the fork."""
    bind: Callable[[], None] | None = None  # then a later daemon finds it by the lock that it inherits
    if sys.platform == "linux" and not outlives:
        bind = bind_to_parent(os.getpid())

    def prepare() -> None:
        if no_sigpipe:  # else Python has set it back by now
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core of a 60 GB process helps nobody
        if bind is not None:
            bind()

    return prepare


def _far_notice(pid: int, on_exit: Callable[[], None]) -> Notice:
    """For a process that is not our child, so no SIGCHLD reports its death.  Raises OSError."""
    notice = _best_notice(pid, on_exit)
    if isinstance(notice, Sigchld):
        notice.close()
        raise OSError(errno.ENOTSUP, "this system does not report when it ends")
    return notice


def _best_notice(pid: int, on_exit: Callable[[], None]) -> Notice:
    if sys.platform == "linux":
        pidfd = open_pidfd(pid, on_exit)
        if pidfd is not None:
            return pidfd
    return Sigchld(pid, on_exit)


class End(Protocol):
    """How we learn of the death of one process."""

    def is_dead(self) -> bool:
        """On Linux without reaping it; elsewhere there is no group to sweep, so it may be reaped at once."""

    def reap(self) -> ExitStatus:
        """How it ended.  For one that is dead, once."""

    @property
    def holds_pid(self) -> bool:
        """Whether its pid and its group's number are certainly its own until it is reaped."""


class OwnEnd:
    """Of a child of this process, whoever spawned it: an exec keeps its children."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status = 0  # where it was reaped by the look
        self.holds_pid = True

    def is_dead(self) -> bool:
        if sys.platform == "linux":
            died = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        else:
            found, self._status = os.waitpid(self._pid, os.WNOHANG)
            died = bool(found)
        return died

    def reap(self) -> ExitStatus:
        status = os.waitpid(self._pid, 0)[1] if sys.platform == "linux" else self._status
        return ExitStatus.from_returncode(os.waitstatus_to_exitcode(status))


class FarEnd:
    """Of a process that an earlier daemon started: another process reaps it, and learns how it ended."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def is_dead(self) -> bool:
        return identify(self._identity.pid) != self._identity

    def reap(self) -> ExitStatus:
        return ExitStatus()

    @property
    def holds_pid(self) -> bool:
        return identify(self._identity.pid) in {None, self._identity}  # None: nobody got it meanwhile


class PosixChild:
    """Fulfils `child.Child`."""

    def __init__(self, identity: Identity, pipe: Pipe, notice: NoticeMaker, end: End) -> None:
        self._pipe = pipe
        self._end = end
        self._is_gone = False
        self.identity = identity
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self._notice = notice(identity.pid, self._look)
        self._look()  # it may have died before anybody watched

    @property
    def output_fd(self) -> int:
        """Where its output is read."""
        return self._pipe.fd

    def terminate(self, stop: StopSignal = "TERM") -> None:
        self._signal(signal.Signals[f"SIG{stop}"])

    def kill(self) -> None:
        self._sweep()
        self._signal(signal.SIGKILL)

    def catch_up(self) -> None:
        self._pipe.catch_up()

    @property
    def is_our_child(self) -> bool:
        return isinstance(self._end, OwnEnd)

    def let_go(self) -> None:
        self._is_gone = True
        self._notice.close()
        self._pipe.close()

    def _signal(self, number: int) -> None:
        if not self._is_gone:
            with contextlib.suppress(ProcessLookupError):
                self._notice.signal(number)

    def _sweep(self) -> None:
        """Kill its group, whose number is its pid, before it is reaped and the pid can be reused."""
        if OWN_GROUP and not self._is_gone and self._end.holds_pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.identity.pid, signal.SIGKILL)

    def _look(self) -> None:
        """Called when it may have died; reaps it if so."""
        if self._is_gone or not self._end.is_dead():
            return
        self._sweep()
        self._is_gone = True
        status = self._end.reap()
        self._notice.close()
        self._pipe.closed.add_done_callback(lambda _: self._report(status))
        self._pipe.finish(DRAIN_SECONDS)

    def _report(self, status: ExitStatus) -> None:
        if not self.exited.done():
            self.exited.set_result(status)


CHUNK_BYTES = 64 * 1024  # the default size of a pipe on Linux: one read empties it
PAUSE_SECONDS = 0.1
_MUCH_BYTES = CHUNK_BYTES // 4  # in one pause: no few lines any more
_LAST_CHUNKS = 32  # 2 MiB: more than any pipe holds, so that only a living writer leaves something behind


class Pipe:
    """
    Hands on what comes until nobody holds the writing end any more.

    llama-server writes ten lines for each request, one by one; they are let gather for a moment, which is
    cheaper.  A grandchild in a session of its own may hold the pipe for ever; so after the child's death
    `finish` reads what is there and gives the rest a bounded time.
    """

    def __init__(self, fd: int, on_output: Callable[[bytes], None]) -> None:
        self.fd = fd
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self._bound: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._gather)

    def finish(self, seconds: float) -> None:
        """The writer is dead: take what it left, and stop listening after `seconds` at the latest."""
        self.catch_up()
        if not self.closed.done():
            self._bound = self._loop.call_later(seconds, self.close)

    def catch_up(self) -> None:
        """What is there is taken now."""
        for _ in range(_LAST_CHUNKS):
            if self.closed.done() or not self._read():
                break

    def close(self) -> None:
        if self.closed.done():
            return
        if self._bound is not None:
            self._bound.cancel()
        self._loop.remove_reader(self.fd)
        os.close(self.fd)
        self.closed.set_result(None)

    def _gather(self) -> None:
        """Something is there: from now on it is looked at by the clock, until there is nothing."""
        self._loop.remove_reader(self.fd)
        self._loop.call_later(PAUSE_SECONDS, self._read_on)

    def _read_on(self) -> None:
        """Reads what is there, so that a writer of much output does not wait."""
        if self.closed.done():
            return
        size = self._read()
        if self.closed.done():
            return
        if not size:
            self._loop.add_reader(self.fd, self._gather)
        elif size < _MUCH_BYTES:
            self._loop.call_later(PAUSE_SECONDS, self._read_on)
        else:
            self._loop.call_soon(self._read_on)

    def _read(self) -> int:
        """One chunk at a time, so that a flood leaves the loop its turn; how many bytes there were."""
        try:
            chunk = os.read(self.fd, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            chunk = b""
        if chunk:
            self._on_output(chunk)
        else:
            self.close()
        return len(chunk)


_WATCHES: dict[asyncio.AbstractEventLoop, dict[int, Callable[[], None]]] = {}
"""Who wants to look, by loop and pid; empty again after the last death.  Global because SIGCHLD is: the
kernel has one for the whole process, and all watches have to share its handler."""


class Sigchld:
    """
    Calls `on_exit` at every SIGCHLD: the signal does not say who died, so each has to look for itself.

    Python's own handler, since uvloop keeps ``add_signal_handler`` for this signal to itself.  It runs in the
    main thread, as the loop does, and wakes the loop, whichever it is.
    """

    def __init__(self, pid: int, on_exit: Callable[[], None]) -> None:
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        if not _WATCHES:
            signal.signal(signal.SIGCHLD, _wake_all)
            signal.siginterrupt(signal.SIGCHLD, False)  # as asyncio does: no system call is to fail for it
        _WATCHES.setdefault(self._loop, {})[pid] = on_exit

    def signal(self, number: int) -> None:
        """Safe as long as the process has not been reaped: until then no other process gets its pid."""
        os.kill(self._pid, number)

    def close(self) -> None:
        watches = _WATCHES[self._loop]
        del watches[self._pid]
        if not watches:
            del _WATCHES[self._loop]
        if not _WATCHES:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _wake_all(*_: object) -> None:
    for loop, watches in list(_WATCHES.items()):
        if not loop.is_closed():
            loop.call_soon_threadsafe(_notify_all, watches)


def _notify_all(watches: dict[int, Callable[[], None]]) -> None:
    for look in list(watches.values()):
        look()
