"""
A child on Windows: the proactor loop reads its pipe and waits for its handle; a job object ends its tree.

The child gets a hidden console, in which `console.py` presses Ctrl+C.  It never gets its own process group,
which would make it ignore Ctrl+C.  Run under Wine, not yet on a real Windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ...errors import StartFailed
from ...home.identity import Identity, identify
from ...profile.definition import StopSignal
from ..process import ExitStatus, start_error
from ..survivor import Survivor
from . import console

assert sys.platform == "win32"

_DRAIN_SECONDS = 1.0
_KILLED_CODE = 1
_EXTENDED_LIMITS = 9  # JobObjectExtendedLimitInformation
_KILL_ON_CLOSE = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
_LIMITS_BYTES = 144  # sizeof(JOBOBJECT_EXTENDED_LIMIT_INFORMATION) on 64 bits
_LIMIT_FLAGS_OFFSET = 16  # of BasicLimitInformation.LimitFlags in it


async def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    on_output: Callable[[bytes], None],
    inherit: tuple[int, ...] = (),  # noqa: ARG001 - locks of msvcrt belong to a process and do not travel
    no_sigpipe: bool = False,  # noqa: ARG001 - there is none
    outlives: bool = False,  # noqa: ARG001 - the job object ends it
) -> WindowsChild:
    """See `child.spawn`."""
    console.let_children_hear(console.kernel())
    try:
        transport, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: WindowsChild(on_output),
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            creationflags=subprocess.CREATE_NO_WINDOW,  # a hidden console, and not ours
        )
    except OSError as error:
        raise start_error(argv[0], error) from error
    child.adopt(transport)
    return child


def take_over(survivor: Survivor, *, on_output: Callable[[bytes], None]) -> WindowsChild:  # noqa: ARG001 - as `child.take_over`
    """The job object ends every server with the daemon, so there is none to take over."""
    raise StartFailed(f"On Windows no server outlives its daemon (pid {survivor.identity.pid}).")


class WindowsChild(asyncio.SubprocessProtocol):
    """Fulfils `child.Child`."""

    identity: Identity

    def __init__(self, on_output: Callable[[bytes], None]) -> None:
        self._on_output = on_output
        self._job: _JobObject | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()

    def adopt(self, transport: asyncio.SubprocessTransport) -> None:
        self._transport = transport
        pid = transport.get_pid()
        self.identity = identify(pid) or Identity(pid, 0.0, "")
        self._job = _JobObject()
        self._job.take(int(transport.get_extra_info("subprocess")._handle))  # noqa: SLF001 - no public name

    def terminate(self, stop: StopSignal = "TERM") -> None:  # noqa: ARG002 - there is one way only
        if not self.exited.done():
            command = [sys.executable, "-I", "-S", console.__file__, str(self.identity.pid)]
            press = partial(subprocess.call, command, creationflags=subprocess.CREATE_NO_WINDOW)
            asyncio.get_running_loop().run_in_executor(None, press)

    def kill(self) -> None:
        if not self.exited.done() and self._job is not None:
            self._job.end()

    def catch_up(self) -> None:
        """What comes is handed on at once here."""

    def let_go(self) -> None:
        """Not to be had here."""

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:  # noqa: ARG002 - the loop's signature
        assert isinstance(data, bytes)
        self._on_output(data)

    def process_exited(self) -> None:
        """The pipe may still be open: a grandchild outside of the job may hold it."""
        asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self.connection_lost, None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Dead, and the pipe at its end."""
        if self.exited.done() or self._transport is None:
            return
        returncode = self._transport.get_returncode()
        if self._job is not None:
            self._job.close()
        with contextlib.suppress(OSError):
            self._transport.close()
        self.exited.set_result(ExitStatus(code=returncode))


class _JobObject:
    """A job object: its processes die with its last handle, so also when this process dies."""

    def __init__(self) -> None:
        self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        self._kernel.CreateJobObjectW.restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(self._kernel.CreateJobObjectW(None, None))
        limits = bytearray(_LIMITS_BYTES)
        limits[_LIMIT_FLAGS_OFFSET : _LIMIT_FLAGS_OFFSET + 4] = _KILL_ON_CLOSE.to_bytes(4, "little")
        self._kernel.SetInformationJobObject(self._handle, _EXTENDED_LIMITS, bytes(limits), _LIMITS_BYTES)

    def take(self, process: int) -> None:
        self._kernel.AssignProcessToJobObject(self._handle, ctypes.c_void_p(process))

    def end(self) -> None:
        self._kernel.TerminateJobObject(self._handle, _KILLED_CODE)

    def close(self) -> None:
        self._kernel.CloseHandle(self._handle)
