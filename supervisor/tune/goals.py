"""
What a model is tuned for: the work of a goal, and the seconds that it takes by what was measured.  Pure.

One run measures a part of the work, as large as the machine does in some seconds, and the rates are taken to
hold for the rest: the work takes ``reads`` tokens at the rate of the prompt, and ``writes`` at that of the
answer.  The answer begins behind the prompt, so its rate is that of the depth at which such work is done.  Of
several clients, who disturb each other, the whole time counts in proportion to the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..errors import ConfigError
from ..measure.measurement import Sample, Workload

LOOK = Workload(prompt_tokens=64, answer_tokens=16)
"""The first look, by which the work is scaled to the machine."""
_LEAST_PROMPT, _LEAST_ANSWER = 128, 16  # of a part: below, the rates are those of the overhead
_LEAST_CONTEXT = 64
_SPARE_TOKENS = 16  # of a context: a server adds some of its own
_SLACK, _SLACK_SECONDS = 2.0, 5.0  # for what a rate leaves out: the way there and back, a queue


@dataclass(frozen=True, slots=True)
class TuningGoal:
    """``reads`` and ``writes`` are the tokens of the whole work, of all clients; ``about`` is for people."""

    name: str
    about: str
    workload: Workload
    reads: int
    writes: int


def _goal(name: str, about: str, workload: Workload, reads: int = 0, writes: int = 0) -> TuningGoal:
    clients = workload.clients
    whole = reads or clients * workload.prompt_tokens, writes or clients * workload.answer_tokens
    return TuningGoal(name, about, workload, *whole)


GOALS: Mapping[str, TuningGoal] = MappingProxyType(
    {
        goal.name: goal
        for goal in (
            _goal("balanced", "a prompt of 2,048 tokens, and an answer of 256", Workload(2048, 256)),
            _goal("chat", "a prompt of 512 tokens, and an answer of 256", Workload(512, 256)),
            _goal(
                "agent",
                "a prompt of 8,192 tokens that all turns begin with, then 8 turns with 1,024 new ones and an "
                "answer of 256",
                Workload(8192, 256),
                reads=8192 + 8 * 1024,
                writes=8 * 256,
            ),
            _goal(
                "batch",
                "8 clients at the same time, each with a prompt of 512 tokens and an answer of 128",
                Workload(512, 128, clients=8),
            ),
        )
    }
)


def cost_seconds(goal: TuningGoal, sample: Sample) -> float:
    """The seconds of the whole work; see above."""
    prompt, answer = sample.prompt_per_second, sample.generated_per_second
    if goal.workload.clients == 1 and prompt and answer:
        return goal.reads / prompt + goal.writes / answer
    measured = goal.workload.clients * (goal.workload.prompt_tokens + goal.workload.answer_tokens)
    return sample.seconds * (goal.reads + goal.writes) / measured


def run_seconds(goal: TuningGoal, cost: float) -> float:
    """At most so long may one run of the part take that is measured, where the whole work takes ``cost``."""
    asked, clients = goal.workload, goal.workload.clients
    part = max(clients * asked.prompt_tokens / goal.reads, clients * asked.answer_tokens / goal.writes)
    return _SLACK_SECONDS + _SLACK * part * cost


def within(
    goal: TuningGoal, context_tokens: int, slots: int = 1, *, shared: bool = False
) -> tuple[TuningGoal, str]:
    """
    With prompts that fit into the context, and a sentence where they were cut.

    ``context_tokens`` are of all slots together; 0 is not known, and nothing is cut.  Raises ConfigError for
    a context that is too small to measure anything.
    """
    asked = goal.workload
    parts = (min(asked.clients, slots) if shared else slots) or 1
    room = context_tokens // parts - _SPARE_TOKENS
    if not context_tokens or asked.prompt_tokens + asked.answer_tokens <= room:
        return goal, ""
    if room < _LEAST_CONTEXT:
        raise ConfigError(
            f"A context of {context_tokens:,} tokens in {slots} slots is too small to measure anything.",
            hint="Set a larger ctx-size, or fewer slots (parallel).",
        )
    answer = min(asked.answer_tokens, room // 4)
    cut = replace(asked, prompt_tokens=min(asked.prompt_tokens, room - answer), answer_tokens=answer)
    each = f" for each of {parts}" if parts > 1 else ""
    return replace(goal, workload=cut), (
        f"the context has {context_tokens // parts:,} tokens{each}: measured with prompts of "
        f"{cut.prompt_tokens:,} and answers of {cut.answer_tokens:,} tokens"
    )


def scaled(goal: TuningGoal, look: Sample, aim_seconds: float) -> TuningGoal:
    """With a part of the work that takes some ``aim_seconds`` at the rates of a first look, or the whole."""
    asked, prompt, answer = goal.workload, look.prompt_per_second, look.generated_per_second
    if not (prompt and answer):
        return goal
    takes = asked.clients * (asked.prompt_tokens / prompt + asked.answer_tokens / answer)
    share = aim_seconds / takes
    if share >= 1:
        return goal
    part = replace(
        asked,
        prompt_tokens=max(min(asked.prompt_tokens, _LEAST_PROMPT), round(asked.prompt_tokens * share)),
        answer_tokens=max(min(asked.answer_tokens, _LEAST_ANSWER), round(asked.answer_tokens * share)),
    )
    return replace(goal, workload=part)
