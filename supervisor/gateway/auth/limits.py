"""
Refuses what a key may not use: other models, more requests, more tokens a day.  Pure.

A rate is a bucket: ``60/min`` lets 60 requests go at once, and then one each second.  Tokens are counted when
a request is over, so those under way may exceed the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import ceil

from ...plan.listen import Offer
from ..api.routes import HandlerName, Route, Trouble
from ..api.served_models import Names
from ..telemetry.usage_tally import day_of, seconds_until_tomorrow
from .keys import NO_LIMITS, Caller, KeyLimits, Rate

_OF_ONE_MODEL: frozenset[HandlerName] = frozenset(("props", "load", "unload", "load-model", "unload-model"))
_ROUNDING = 1e-6  # seconds


class RateBuckets:
    """By the names of keys.  What counts is when each bucket will be full again."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}

    def take(self, name: str, rate: Rate, now: float) -> float:
        """0 where a request may go, which is counted; else in how many seconds the next one may."""
        each = rate.seconds / rate.count
        full_at = max(self._full_at.get(name, now), now) + each
        wait = full_at - now - rate.seconds
        if wait > _ROUNDING:
            return min(wait, rate.seconds)
        self._full_at[name] = full_at
        return 0.0


class KeyLimiter:
    """
    The gateway's.  ``tokens_on`` tells the tokens of a day and a key; ``clock`` counts seconds for rates, and
    ``wall`` those of the epoch.
    """

    def __init__(
        self,
        tokens_on: Callable[[str, str], int],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._tokens_on = tokens_on
        self._clock, self._wall = clock, wall
        self._buckets = RateBuckets()

    def refusal(self, caller: Caller, route: Route, profile: str, names: Names) -> Trouble | None:
        """
        Why its key may not have this answered by this profile; None where it may, and then it counts for
        the key's rate.  Only work for a model counts; what a key may see is limited to its models too.
        """
        limits = caller.limits
        if limits == NO_LIMITS:
            return None
        is_of_model = route.handler in _OF_ONE_MODEL or (route.handler is None and route.access != "public")
        if limits.models and is_of_model and profile not in names.profiles(limits.models):
            return of_model(caller.name, limits, profile)
        return self.of_use(caller, route)

    def of_use(self, caller: Caller, route: Route) -> Trouble | None:
        """The same of a model that its key may use, wherever it is."""
        key, limits = caller.name, caller.limits
        if limits == NO_LIMITS or not route.generates:
            return None
        return self._of_tokens(key, limits) or self._of_rate(key, limits)

    def _of_tokens(self, key: str, limits: KeyLimits) -> Trouble | None:
        now, most = self._wall(), limits.tokens_per_day
        if most is None or self._tokens_on(day_of(now), key) < most:
            return None
        return Trouble(
            429,
            "key_tokens",
            f"The key {key} has used its {most} tokens for today.",
            "The count begins again at midnight (the server's time).",
            retry_seconds=max(ceil(seconds_until_tomorrow(now)), 1),
        )

    def _of_rate(self, key: str, limits: KeyLimits) -> Trouble | None:
        rate = limits.rate
        wait = self._buckets.take(key, rate, self._clock()) if rate else 0.0
        if rate is None or not wait:
            return None
        return Trouble(
            429,
            "key_rate",
            f"The key {key} may send {rate.count} requests in {rate.seconds:g} s.",
            "Try again a little later.",
            retry_seconds=max(ceil(wait), 1),
        )


def visible(limits: KeyLimits, offers: Sequence[Offer], names: Names) -> Sequence[Offer]:
    """The offers that are listed for a key."""
    if not limits.models:
        return offers
    profiles = names.profiles(limits.models)
    return [offer for offer in offers if offer.profile in profiles]


def of_model(key: str, limits: KeyLimits, profile: str) -> Trouble:
    """For a request to a model that its key is not for."""
    return Trouble(
        403,
        "key_model",
        f"The key {key} may not use {profile or 'the model that answers now'}.",
        f"It is for {', '.join(limits.models)}.",
    )
