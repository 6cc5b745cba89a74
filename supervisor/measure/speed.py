"""
How fast a running server generates: what `engine update` measures of two builds.

Both do the same work, and it is short, since users wait for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..errors import NetworkError
from .measurement import Target, Workload
from .measuring_client import run

SLOWER_BELOW = 0.9
RUNS = 3  # at least; the best one counts, since whatever else the machine does only ever slows it down
LEAST_SECONDS = 1.5  # a tiny model ends three runs within a blink, and a blink may be a bad one
AIM_SECONDS = 15.0
LIMIT_SECONDS = 60.0  # for the load that another build did within the aim

_WARM_UP = Workload(32, 8)
_LOADS = (Workload(256, 128), Workload(256, 64), Workload(128, 32), Workload(64, 16))


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second, as the server itself counts them, and the load that they were measured with."""

    generated_per_second: float
    prompt_per_second: float
    load: Workload


def measure(target: Target, load: Workload | None = None, *, limit_seconds: float = LIMIT_SECONDS) -> Speed:
    """
    The best of several runs, after a warm-up; some 2 s, up to 20 s on a slow machine.

    ``load`` is that of another measurement to compare with; without one the largest is taken whose runs fit
    into the time.  Raises NetworkError as `measuring_client.run` does, and for a server without timings.
    """
    began = time.monotonic()

    def once(load: Workload) -> Speed:
        return _once(target, load, began + limit_seconds - time.monotonic())

    once(_WARM_UP)
    load = load or _load_for(once(_WARM_UP))
    measuring, runs = time.monotonic(), [once(load)]
    while len(runs) < RUNS or time.monotonic() - measuring < LEAST_SECONDS:
        runs.append(once(load))
    return best(*runs)


def glance(target: Target) -> Speed:
    """One short run; raises as `measure` does."""
    return _once(target, _WARM_UP, LIMIT_SECONDS)


def best(*measured: Speed) -> Speed:
    """Of measurements of the same server."""
    return max(measured, key=lambda speed: speed.generated_per_second)


def is_slower(new: Speed, old: Speed) -> bool:
    """Whether a build lost more than a tenth of the tokens per second that another one generates."""
    return new.generated_per_second < SLOWER_BELOW * old.generated_per_second


def comparison(new: Speed, old: Speed, old_tag: str) -> str:
    """``31.2 tokens/s, 68 % of the 45.9 that b11429 gave``."""
    share = 100 * new.generated_per_second / old.generated_per_second
    return (
        f"{new.generated_per_second:.1f} tokens/s, {share:.0f} % of the {old.generated_per_second:.1f}"
        f" that {old_tag} gave"
    )


def _once(target: Target, load: Workload, limit_seconds: float) -> Speed:
    found = run(target, load, seed=0, deadline_seconds=limit_seconds)
    if not found.generated_per_second or not found.prompt_per_second:
        raise NetworkError(f"{target.url} tells no timings.")
    return Speed(found.generated_per_second, found.prompt_per_second, load)


def _load_for(look: Speed) -> Workload:
    def seconds(load: Workload) -> float:
        return load.prompt_tokens / look.prompt_per_second + load.answer_tokens / look.generated_per_second

    return next((load for load in _LOADS if RUNS * seconds(load) <= AIM_SECONDS), _LOADS[-1])
