"""Requests without a valid key, in the daemon's log: one line a minute, however many there are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from ...home.event_log import about
from ..api.routes import Trouble

log = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0
_STATUSES = (401, 403)


class RefusedKeys:
    """
    Of one gateway; ``clock`` is in seconds.  The first is told at once; those of the next minute with the
    first one after it, so a program that tries keys writes no more than this.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told = -PAUSE_SECONDS
        self._untold: Counter[str] = Counter()

    def note(self, trouble: Trouble) -> None:
        """Count this refusal, if it is about a key, an origin or a host."""
        if trouble.status not in _STATUSES:
            return
        self._untold[trouble.code] += 1
        if self._clock() - self._told >= PAUSE_SECONDS:
            count = self._untold.total()
            log.warning(
                "refused%s: %s",
                "" if count == 1 else f", {count} requests",
                trouble.message,
                extra=about("key", requests=dict(self._untold)),
            )
            self._untold.clear()
            self._told = self._clock()
