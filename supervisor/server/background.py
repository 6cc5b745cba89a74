"""Runs blocking work (a disk that hangs, a mount that is gone) in daemon threads, outside the loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ..errors import SupervisorError

log = logging.getLogger(__name__)

WorkResult = TypeVar("WorkResult")
BackgroundWork = Callable[[], object]


async def beside_the_loop(work: Callable[[], WorkResult]) -> WorkResult:
    """
    What ``work`` returns or raises; OSError where there is no room for a thread.  One that hangs for ever
    does not keep the program.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[WorkResult] = loop.create_future()

    def settle(deliver: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(lambda: None if done.done() else deliver())

    def run() -> None:
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001 - raised where the work was asked for
            problem = error
            settle(lambda: done.set_exception(problem))
        else:
            settle(lambda: done.set_result(found))

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:  # "can't start new thread"
        raise OSError(errno.ENOMEM, str(error)) from error
    return await done


class Writer:
    """
    Writes small files in the order of the requests, outside the loop.  Of several writes with the same
    ``key`` that still wait, only the last is done.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, BackgroundWork] = {}
        self._keys: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def write(self, key: str, work: BackgroundWork) -> None:
        """An OSError or SupervisorError of ``work`` is logged: no file is worth a server."""
        self._waiting[key] = work
        self._keys.put(key)
        if self._thread is None:
            thread = threading.Thread(target=self._run, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no memory or no room for it: the next write tries again
                log.warning("%s: %s", key, error)
            else:
                self._thread = thread

    def flush(self, seconds: float) -> None:
        """Wait until all that was asked for is written, at most so long."""
        if self._thread is not None:
            written = threading.Event()
            self._keys.put(written)
            written.wait(seconds)

    def _run(self) -> None:
        while True:
            key = self._keys.get()
            if isinstance(key, threading.Event):
                key.set()
            elif work := self._waiting.pop(key, None):
                try:
                    work()
                except (OSError, SupervisorError) as error:
                    log.warning("%s: %s", key, error)
                except Exception:
                    log.exception("%s: it cannot be written", key)
