"""What each server has become: one message for each change, with the facts for `events` and `history`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from ..gateway.telemetry.activity import Activity
from ..home.event_log import about
from ..server.instance import Instance
from ..server.lifecycle_table import SERVING, State

log = logging.getLogger(__name__)

LONG_ANSWER_TOKENS = 16  # the rate of a shorter one says little
_ANSWERING = SERVING | {State.DRAINING}


@dataclass(slots=True)
class _Told:
    """What was last said of one server, and since when its process runs and answers."""

    line: str = ""
    state: State = State.STOPPED
    failed_at: float | None = None
    spawned_at: float | None = None
    ready_at: float | None = None


class Announcements:
    """By this daemon; ``activity`` gives the last requests, None without a gateway."""

    def __init__(self, activity: Callable[[], Activity | None]) -> None:
        self._activity = activity
        self._told: dict[str, _Told] = {}

    def tell(self, instance: Instance, line: str) -> bool:
        """Log this line about the server, unless it was the last one; whether it is new."""
        told, server = self._told.setdefault(instance.name, _Told()), instance.server
        if line == told.line:
            return False
        died = server.failed_at is not None and server.failed_at != told.failed_at
        facts = self._facts(instance, told)
        if died and server.failure is not None:
            facts |= {"cause": server.failure.kind, "message": server.failure.message}
            cause = server.failure.message
            text = line if cause in line else f"{line} ({cause})"
            log.warning("%s", text, extra=about("death", **facts))
        else:
            log.info("%s", line, extra=about("state", **facts))
        told.line, told.state, told.failed_at = line, server.state, server.failed_at
        return True

    def _facts(self, instance: Instance, told: _Told) -> dict[str, Any]:
        server, plan, now = instance.server, instance.server.plan, time.time()
        facts: dict[str, Any] = {
            "server": instance.name,
            "profile": instance.profile,
            "state": server.state.value,
            "before": told.state.value,
            "why": server.why,
        }
        if plan is not None and plan.is_trial:
            facts["trial"] = True
        if server.state is State.STARTING is not told.state:
            told.spawned_at = None if server.survivor else now  # its load was another daemon's
        if server.state in SERVING and told.state not in SERVING and plan is not None:
            told.ready_at = now
            facts |= {
                "pid": server.child.identity.pid if server.child else None,
                "build": plan.build,
                "flavour": plan.flavour,
                "digest": plan.digest,
                "load_seconds": round(now - told.spawned_at, 1) if told.spawned_at else None,
                "memory_bytes": server.resident_bytes(),
            }
        if server.state not in _ANSWERING and told.ready_at is not None:
            facts |= {
                "served_seconds": round(now - told.ready_at, 1),
                "tokens_per_second": usual_rate(self._activity(), instance.profile, told.ready_at),
            }
            told.ready_at = told.spawned_at = None
        return facts


def usual_rate(activity: Activity | None, profile: str, since: float) -> float | None:
    """
    The median of the tokens per second of this profile's answers that began after ``since`` (seconds of the
    epoch), among those that are still kept; None where none was long enough.
    """
    found = [
        each.tokens_per_second
        for each in (activity.since(0) if activity else ())
        if each.profile == profile and each.at >= since and each.tokens_per_second is not None
        if (each.output_tokens or 0) >= LONG_ANSWER_TOKENS
    ]
    return round(median(found), 1) if found else None
