"""
What a service manager hears while `start` prepares: a download may take longer than any start timeout.

Time is asked for with each sign of progress, and only then.  A `reload` that systemd runs beside the daemon
asks too, but leaves the status to the daemon, which would not know that it has to say its own again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..progress import Progress
from .notify import Notify, notify_in

EXTENSION_SECONDS = 120.0  # longer than any work of ours is silent
EXTEND_EVERY_SECONDS = 5.0


class Patience:
    """A `Progress` that passes on what it hears, and asks for time meanwhile; with ``alone`` it tells why."""

    def __init__(
        self,
        heard: Progress,
        notify: Notify,
        clock: Callable[[], float] = time.monotonic,
        *,
        alone: bool = True,
    ) -> None:
        self._heard = heard
        self._notify = notify
        self._clock = clock
        self._alone = alone
        self._asked = 0.0

    def step(self, text: str) -> None:
        self._heard.step(text)
        self._ask({"STATUS": text} if self._alone else {})

    def update(self, fraction: float | None, detail: str = "") -> None:
        self._heard.update(fraction, detail)
        if self._clock() - self._asked >= EXTEND_EVERY_SECONDS:
            self._ask({})

    def _ask(self, message: Mapping[str, str]) -> None:
        self._asked = self._clock()
        self._notify.say({**message, "EXTEND_TIMEOUT_USEC": str(int(EXTENSION_SECONDS * 1e6))})


def with_patience(heard: Progress, environ: Mapping[str, str]) -> Progress:
    """The same, where no manager waits."""
    notify = notify_in(environ)
    return Patience(heard, notify, alone="MAINPID" not in environ) if notify else heard  # systemd.exec(5)
