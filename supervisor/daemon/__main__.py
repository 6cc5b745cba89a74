"""
The daemon's process, one per home.  ``goss-supervisor start`` gives it its orders on stdin.  Imports only
what it runs: no YAML, no click, no downloads.  Plans come finished.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from typing import Any

from ..errors import AlreadyRunning, SupervisorError
from ..home.control_socket import endpoint
from ..home.event_log import EVENT_BYTES, EventFormatter, events_file, is_something_else
from ..home.identity import ourselves
from ..home.orphan import end_session, forget_session, refuse_beside_survivors
from ..home.places import daemon_lock, daemon_log, make_folders, session_paths
from ..locks import Lock, held_by
from ..paths import Paths
from ..plan.plan_json import from_json, listen_from_json
from ..server.shortage import check_descriptor_limit, raise_descriptor_limit
from .daemon import Daemon
from .handover import CHECK, RESUME, Handover, check_handover, take_handover
from .orders import take_orders
from .service_notify import ServiceNotifier, notifier_in
from .terminal_log import Terminal, handlers, terminal_on

log = logging.getLogger(__name__)

LOG_BYTES = 1_000_000
LAST_LINES_SECONDS = 2.0  # for a disk that hangs


def main() -> int:
    """Run until stopped; the exit code of the whole `start`."""
    loop_factory = _loop_factory()  # imports what it needs while `start` still prepares
    if CHECK in sys.argv:
        return check_handover()
    text = take_orders()
    if not text:  # whoever started us found out that there is nothing to run
        return 0
    handover = take_handover(text) if RESUME in sys.argv else None
    orders = handover.orders if handover is not None else json.loads(text)
    raise_descriptor_limit()
    os.umask(0o077)  # logs and records are their owner's; what the server saves (slots) is too
    with suppress(RuntimeError):  # Windows' pythonw has no stderr
        faulthandler.enable()  # a watchdog ends us with SIGABRT: then it is said where we stood
    paths = Paths.from_environment()
    foreground = orders["foreground"]
    named, passed = (
        (handover.notifier, ()) if handover else notifier_in(os.environ, ready_fd=orders.get("ready_fd"))
    )
    manager = named if foreground else ServiceNotifier()  # in the background it is another program's
    shown = terminal_on(sys.stdout) if foreground else None
    writing: QueueListener | None = None
    lock: Lock | None = None
    try:
        check_descriptor_limit()
        make_folders(paths)
        lock = _locked(paths, handover)  # ends with this process and not earlier: `stop` waits for that
        writing = _set_up_logging(paths, shown)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            tell = partial(_greet, shown, orders) if shown else _tell
            listen = listen_from_json(orders["listen"]) if orders.get("listen") else None
            plan = from_json(orders["plan"]) if orders.get("plan") else None
            if plan is None and handover is None:
                refuse_beside_survivors(paths)
                make_folders(session_paths(paths))
            daemon = Daemon(
                paths if plan or handover else session_paths(paths),
                endpoint(paths.runtime),
                tell,
                lock=lock,
                manager=manager,
                passed=passed,
                is_service=orders.get("is_service", False),
                handover=handover,
                is_foreground=foreground,
                operation=orders.get("operation", ""),
                write_log=partial(_write_out, writing),
                survives=plan is not None or handover is not None,
            )
            if shown:
                daemon.main.output.listen(shown.show_server)
            runner.run(daemon.run(plan, listen))
    except SupervisorError as error:
        log.critical("%s%s", error, f"\nhint: {error.hint}" if error.hint else "")
        if not foreground:
            _tell({"error": str(error), "hint": error.hint, "exit_code": error.exit_code})
        return error.exit_code
    finally:
        if lock is not None:
            forget_session(paths)
        if writing is not None:
            last = threading.Thread(target=writing.stop, daemon=True)
            last.start()
            last.join(LAST_LINES_SECONDS)
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where there is one: what it relays costs a third less."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _tell(message: dict[str, Any]) -> bool:
    """
    One line to the program that started us in the background; behind the last, the pipe is closed.  False
    where nobody reads it.
    """
    is_read = False
    with suppress(OSError, ValueError):  # the program is gone, or was told already
        print(json.dumps(message), flush=True)
        is_read = True
    if "step" not in message:
        with suppress(OSError, ValueError):  # what nobody took
            sys.stdout.close()
    return is_read


def _greet(shown: Terminal, orders: Mapping[str, Any], told: dict[str, Any]) -> bool:
    """
    In the foreground the log tells how it went.  What a person does next follows, where one may look; then,
    also after a failure, what is known of the key.
    """
    if "outcome" not in told:
        return True
    serves = told["outcome"]["result"] in {"ready", "degraded"} and not shown.is_journal
    for line in (*(orders.get("farewell", ()) if serves else ()), *orders.get("last", ())):
        shown.show(line)
    return True


def hold_daemon_lock(paths: Paths) -> Lock:
    """One daemon per home.  Raises AlreadyRunning, naming who holds the lock."""
    place = daemon_lock(paths)
    lock = Lock.acquire(place, asdict(ourselves()))
    if lock is None:
        holder = (held_by(place) or {}).get("pid", "unknown")
        raise AlreadyRunning(
            f"A daemon is already running here (pid {holder}).",
            hint="goss-supervisor status, or goss-supervisor switch PROFILE",
        )
    return lock


def _locked(paths: Paths, handover: Handover | None) -> Lock:
    """The home's lock.  Raises as `hold_daemon_lock` and `end_session`."""
    if handover is not None:
        return Lock(daemon_lock(paths), handover.lock_fd, asdict(ourselves()))
    lock = hold_daemon_lock(paths)
    end_session(paths, log.warning)
    return lock


def _set_up_logging(paths: Paths, shown: Terminal | None) -> QueueListener:
    """
    Everything to daemon.log and events.jsonl, both rotated; to the terminal too where there is one to watch.
    A thread writes the files, which ends when the listener is stopped: a disk that hangs stops no server.
    """
    written = RotatingFileHandler(daemon_log(paths), maxBytes=LOG_BYTES, backupCount=2)
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    heard: list[logging.Handler] = [QueueHandler(lines)]
    if shown:
        heard += handlers(shown, terminal_on(sys.stderr))
    logging.raiseExceptions = False  # a full disk must not fill the terminal too
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    written.setFormatter(formatter)
    heard[0].setFormatter(logging.Formatter("%(message)s"))
    for handler in heard[1:]:
        if handler.formatter is None:
            handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=heard)
    listener = QueueListener(lines, written, *_event_log(paths))
    listener.start()
    return listener


def _write_out(writing: QueueListener) -> None:
    """Blocks until all that was logged is in the files."""
    writing.stop()
    writing.start()


def _event_log(paths: Paths) -> Iterator[logging.Handler]:
    """None where it cannot be written, which is no reason to serve nobody."""
    file = events_file(paths)
    if is_something_else(file):  # opening a pipe would wait for its reader
        log.warning("events are not kept: %s is no file", file)
        return
    try:
        events = RotatingFileHandler(file, maxBytes=EVENT_BYTES, backupCount=1)
    except OSError as error:
        log.warning("events are not kept: %s cannot be written: %s", file, error.strerror)
    else:
        events.setFormatter(EventFormatter())
        yield events


if __name__ == "__main__":
    sys.exit(main())
