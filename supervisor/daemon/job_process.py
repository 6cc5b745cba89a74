"""The process of a job: how it is launched, gets a Ctrl+C, and is killed on each system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

from ..home.places import HELPER_VARIABLE, JOB

_REAP_SECONDS = 1.0


def launch(words: Sequence[str], given: IO[bytes], out: IO[bytes], err: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a group of its own, so that Ctrl+C reaches all of it and nobody else.  Raises OSError."""
    environment = {**os.environ, HELPER_VARIABLE: JOB}
    return subprocess.Popen(words, env=environment, stdin=given, stdout=out, stderr=err, **_apart())


def kill(child: subprocess.Popen[bytes]) -> None:
    """With all that it started.  One that hangs in the kernel is reaped later: no server waits for it."""
    if child.poll() is None:
        _kill_group(child)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_REAP_SECONDS)


if sys.platform == "win32":

    def _apart() -> dict[str, Any]:
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def press_ctrl_c(child: subprocess.Popen[bytes]) -> None:
        """Ctrl+Break: a group of its own cannot be sent the other one."""
        with suppress(OSError):
            child.send_signal(signal.CTRL_BREAK_EVENT)

    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        child.kill()

else:

    def _apart() -> dict[str, Any]:
        return {"start_new_session": True, "preexec_fn": _end_with_us()}

    def press_ctrl_c(child: subprocess.Popen[bytes]) -> None:
        """As a terminal does: for all of the group."""
        with suppress(OSError):
            os.killpg(child.pid, signal.SIGINT)

    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        os.killpg(child.pid, signal.SIGKILL)


if sys.platform == "linux":
    from ..server.mechanism.linux_process import bind_to_parent

    def _end_with_us() -> Callable[[], None] | None:
        """What runs before the exec: prctl and kill, as for a server."""
        return bind_to_parent(os.getpid())

elif sys.platform != "win32":

    def _end_with_us() -> Callable[[], None] | None:
        """The system does not offer it."""
        return None
