"""
The daemon's process, one per home.  ``goss-supervisor start`` gives it its orders on stdin.

Imports only what it runs: no YAML, no click, no downloads.  Plans come finished.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from ..errors import AlreadyRunning, SupervisorError
from ..locks import Lock, held_by
from ..paths import Paths
from ..plan.types import LaunchPlan
from ..plan.wire import from_json
from ..server.identity import ourselves
from ..server.orphan import take_generation_lock
from ..server.output import OutputLog
from .daemon import Daemon
from .endpoint import endpoint
from .manager import Manager, manager_in
from .places import SERVER_LOG, daemon_lock, daemon_log, generation_lock, make_folders, record_file
from .terminal import Terminal, handlers, terminal_on

log = logging.getLogger(__name__)

LOG_BYTES = 1_000_000


def main() -> int:
    """Run until stopped; the exit code of the whole `start`."""
    loop_factory = _loop_factory()  # imports what it needs while `start` still prepares
    text = sys.stdin.read()
    if not text:  # whoever started us found out that there is nothing to run
        return 0
    orders = json.loads(text)
    os.umask(0o077)  # logs and records are their owner's; what the server saves (slots) is too
    with suppress(RuntimeError):  # Windows' pythonw has no stderr
        faulthandler.enable()  # a watchdog ends us with SIGABRT: then it is said where we stood
    paths = Paths.from_environment()
    foreground = orders["foreground"]
    named = manager_in(os.environ, ready_fd=orders.get("ready_fd"))
    manager = named if foreground else Manager()  # in the background it is another program's
    shown = terminal_on(sys.stdout) if foreground else None
    try:
        make_folders(paths)
        _lock = hold_daemon_lock(paths)  # ends with this process and not earlier: `stop` waits for that
        _set_up_logging(daemon_log(paths), shown)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            tell = partial(_greet, shown, orders.get("farewell", ())) if shown else _tell
            _supervise(runner, paths, from_json(orders["plan"]), manager, shown=shown, tell=tell)
    except SupervisorError as error:
        log.critical("%s%s", error, f"\nhint: {error.hint}" if error.hint else "")
        if not foreground:
            _tell({"error": str(error), "hint": error.hint, "exit_code": error.exit_code})
        return error.exit_code
    return 0


def _supervise(
    runner: asyncio.Runner,
    paths: Paths,
    plan: LaunchPlan,
    manager: Manager,
    *,
    shown: Terminal | None,
    tell: Callable[[dict[str, Any]], None],
) -> None:
    generation = take_generation_lock(generation_lock(paths), record_file(paths), log.warning)
    output = OutputLog(paths.logs, SERVER_LOG)
    if shown:
        output.listen(shown.show_server)
    daemon = Daemon(paths, endpoint(paths.runtime), output, generation, tell, manager=manager)
    runner.run(daemon.run(plan))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where there is one: what it relays costs a third less."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _tell(message: dict[str, Any]) -> None:
    """One line to whoever started us in the background; behind the last, the pipe is closed."""
    with suppress(OSError, ValueError):  # nobody listens any more, or it was told already
        print(json.dumps(message), flush=True)
        if "step" not in message:
            sys.stdout.close()


def _greet(shown: Terminal, farewell: Sequence[str], told: dict[str, Any]) -> None:
    """In the foreground the log tells how it went; what a person does next follows, where one may look."""
    if "outcome" in told and told["outcome"]["result"] in {"ready", "degraded"} and not shown.is_journal:
        for line in farewell:
            shown.show(line)


def hold_daemon_lock(paths: Paths) -> Lock:
    """
    One daemon per home.

    Raises AlreadyRunning, naming who holds the lock.
    """
    place = daemon_lock(paths)
    lock = Lock.acquire(place, asdict(ourselves()))
    if lock is None:
        holder = (held_by(place) or {}).get("pid", "unknown")
        raise AlreadyRunning(
            f"A daemon is already running here (pid {holder}).",
            hint="goss-supervisor status, or goss-supervisor switch PROFILE",
        )
    return lock


def _set_up_logging(file: Path, shown: Terminal | None) -> None:
    """Everything to daemon.log, rotated; to the terminal too where there is one to watch."""
    heard: list[logging.Handler] = [RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=2)]
    if shown:
        heard += handlers(shown, terminal_on(sys.stderr))
    logging.raiseExceptions = False  # a full disk must not fill the terminal too
    logging.basicConfig(
        level=logging.INFO,
        handlers=heard,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )


if __name__ == "__main__":
    sys.exit(main())
