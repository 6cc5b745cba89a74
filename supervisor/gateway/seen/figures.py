"""What is counted of all requests since the daemon began: plain numbers, until somebody asks for them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..telemetry.activity import RESULTS, Request, Result

FIRST_TOKEN_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""From a cached prompt on a GPU to 32,000 tokens read by a CPU at a hundred each second."""

SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Of a whole request, from an embedding to an agent's long answer; 600 is how long one is held by default."""

TOKENS_PER_SECOND = tuple(map(float, (1, 2, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500)))
"""Closest where it matters most: people read 5 to 10, gpt-oss-120b with its experts in RAM gives 10 to 40."""

TOKENS = (1.0, 16.0, 64.0, 256.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0)
"""Powers of two, as context sizes are; the last is the whole context of gpt-oss."""


class Histogram:
    """How many values were at most as large as each bound, and beyond the last; and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # each on its own, not summed up
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class ProfileFigures:
    """What one profile answered."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    held: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    prompts: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    outputs: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    speed: Histogram = field(default_factory=lambda: Histogram(TOKENS_PER_SECOND))

    def count(self, request: Request) -> None:
        if request.held_seconds > 0.0:
            self.held.add(request.held_seconds)
        if request.stream and request.status == 200 and request.first_byte_seconds is not None:
            self.first_token.add(request.first_byte_seconds)
        if request.prompt_tokens is not None:
            self.prompt_tokens += request.prompt_tokens
            self.cached_tokens += request.cached_tokens or 0
            self.prompts.add(request.prompt_tokens)
        if request.output_tokens is not None:
            self.output_tokens += request.output_tokens
            self.outputs.add(request.output_tokens)
        if request.tokens_per_second is not None:
            self.speed.add(request.tokens_per_second)


class Figures:
    """By endpoint (our routes' labels), status and profile (those offered), so there is a bound on all."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int | None, str]] = Counter()
        self.seconds: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.results: dict[Result, int] = dict.fromkeys(RESULTS, 0)
        self.held = 0
        self.replayed = 0
        self.profiles: dict[str, ProfileFigures] = defaultdict(ProfileFigures)

    def count(self, request: Request) -> None:
        """Add one request that is over."""
        self.requests[request.endpoint, request.status, request.profile] += 1
        self.results[request.result] += 1
        self.held += request.held_seconds > 0.0
        self.replayed += request.replayed
        self.seconds[request.endpoint, request.profile].add(request.seconds)
        self.profiles[request.profile].count(request)
