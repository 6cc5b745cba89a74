"""A daemon of this home in the background, in a session of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import StartFailed, SupervisorError
from ..paths import Paths
from ..tool import own_program
from .places import make_folders

DAEMON = list(own_program("supervisor.daemon"))
OUTPUT = "daemon.out"
_END_SECONDS = 2.0


@contextmanager
def background_daemon(paths: Paths) -> Iterator[subprocess.Popen[bytes]]:
    """It waits for its orders (see `ordered`), and ends if none have come by the end of the block."""
    make_folders(paths)
    with open(paths.logs / OUTPUT, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as errors:
        daemon = subprocess.Popen(
            DAEMON,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # the same on Windows: off the console
        )
    assert daemon.stdin is not None
    try:
        yield daemon
    finally:
        with suppress(BrokenPipeError):
            daemon.stdin.close()


def ordered(
    paths: Paths, daemon: subprocess.Popen[bytes], orders: bytes, say: Callable[[str], None]
) -> dict[str, Any]:
    """
    Give it its orders: what it reports in the end, with each step on the way said.  Raises SupervisorError
    where it cannot carry them out.
    """
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    with suppress(BrokenPipeError):
        daemon.stdin.write(orders)
        daemon.stdin.close()
    with daemon.stdout:
        message = _final_message(daemon.stdout, say)
    if message and "error" not in message:
        return message
    error = SupervisorError(message.get("error") or _why_ended(paths, daemon), hint=message.get("hint", ""))
    error.exit_code = message.get("exit_code", StartFailed.exit_code)
    raise error


def _final_message(lines: Iterable[bytes], say: Callable[[str], None]) -> dict[str, Any]:
    """Empty where it ended without one."""
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        if "step" not in message:
            return message
        say(message["step"])
    return {}


def _why_ended(paths: Paths, daemon: subprocess.Popen[bytes]) -> str:
    with suppress(subprocess.TimeoutExpired):
        daemon.wait(_END_SECONDS)
    if daemon.returncode is not None and daemon.returncode < 0:
        return f"The daemon was killed by {signal.Signals(-daemon.returncode).name}."
    return f"The daemon ended before it had started anything: {last_words(paths) or 'no output'}"


def spoken_bytes(paths: Paths) -> int:
    """How much the daemon in the background has written to stderr, where it writes only what broke it."""
    with suppress(OSError):
        return (paths.logs / OUTPUT).stat().st_size
    return 0


def last_words(paths: Paths, after: int = 0) -> str:
    """The last line that it wrote there behind so many bytes; "" for none."""
    with suppress(OSError):
        lines = (paths.logs / OUTPUT).read_bytes()[after:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
    return ""
