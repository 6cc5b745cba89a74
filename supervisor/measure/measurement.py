"""
What is measured of a server, and what came out: the values that bench and tune share.  Pure.

A `Workload` says what is asked; each run of it gives one `Sample`; `Measured` has all samples of a workload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Metric = Literal["prompt_per_second", "generated_per_second", "first_token_seconds"]
METRICS: Final[tuple[Metric, ...]] = ("prompt_per_second", "generated_per_second", "first_token_seconds")
ENOUGH = 3  # samples for an interval that says something


@dataclass(frozen=True, slots=True)
class Workload:
    """
    What each of the clients asks at the same time: ``depth_tokens`` that the server has in its cache already,
    then ``prompt_tokens`` that it has to read, then it generates ``answer_tokens``.

    The prompt is new to the server (cold), except ``warm`` ones, which are repeated word by word.
    """

    prompt_tokens: int
    answer_tokens: int
    depth_tokens: int = 0
    clients: int = 1
    warm: bool = False
    text: str = ""  # a whole prompt in place of random tokens; ``prompt_tokens`` is then about its length


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What one run gave.  With several clients the rates are of all of them together, and the first token is
    the median one; ``seconds`` is from the first request to the last token.  None: the server did not say.
    """

    prompt_per_second: float | None
    generated_per_second: float | None
    first_token_seconds: float | None
    seconds: float
    prompt_tokens: int = 0  # that the server really read, of all clients
    generated_tokens: int = 0
    disturbed: tuple[str, ...] = ()  # by what, in words


@dataclass(frozen=True, slots=True)
class Measured:
    """All samples of one workload, in the order in which they were taken."""

    workload: Workload
    samples: tuple[Sample, ...]

    def values(self, metric: Metric) -> tuple[float, ...]:
        """
        For `statistics`: those of the samples that nothing disturbed, where there are enough of them, else of
        all.  Empty for what the server did not say.
        """
        calm = tuple(each for each in self.samples if not each.disturbed)
        counted = calm if len(calm) >= ENOUGH else self.samples
        found = (getattr(each, metric) for each in counted)
        return tuple(value for value in found if value)  # 0 is no speed, but a server that did not say


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server answers, and the name that its requests carry."""

    url: str
    key: str
    model: str
    hold: int = 0  # of the operation that has the server to itself; 0 for none
