"""A daemon of this home in the background, in a session of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import StartFailed, SupervisorError
from ..paths import Paths
from ..tool import own_program
from .places import make_folders

DAEMON = list(own_program("supervisor.daemon"))


@contextmanager
def background_daemon(paths: Paths) -> Iterator[subprocess.Popen[bytes]]:
    """It waits for its orders (see `ordered`), and ends if none have come by the end of the block."""
    make_folders(paths)
    with open(paths.logs / "daemon.out", "wb", opener=_private) as errors:
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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


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
    error = SupervisorError(message.get("error") or _last_words(paths), hint=message.get("hint", ""))
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


def _last_words(paths: Paths) -> str:
    output = (paths.logs / "daemon.out").read_text(encoding="utf-8", errors="replace").strip()
    return f"The daemon ended before it had started anything: {(output or 'no output').splitlines()[-1]}"
