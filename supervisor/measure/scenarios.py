"""
What `bench` measures: workloads under the name of what they stand for.  Pure.

A scenario is cut to the context of the server, and what was left out is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType
from typing import Final

from .measurement import Workload

_NEW_TOKENS = 500  # that an agent adds to its prompt in a turn: a tool's answer
_ARTICLE = """\
In a town of 100,000 people who have never met it, a disease breaks out. Each infected person infects 2.5
others on average at the beginning, and whoever has recovered stays immune. With the final size equation of
the SIR model, estimate how many people will have been infected in the end. Then do the same for the case
that 30 % or 60 % of the people were vaccinated beforehand, with a vaccine that protects four out of five
completely. Which share must be vaccinated so that the outbreak dies out by itself? Show each step with its
numbers, name the two assumptions that matter most, and end with three sentences for a newspaper."""
"""The question of the article that this project grew from, in other words."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``about`` is half a sentence for a list of them."""

    about: str
    workloads: tuple[Workload, ...]


def chosen(
    prompts: Sequence[int], answer: int, depths: Sequence[int] = (0,), clients: Sequence[int] = (1,)
) -> tuple[Workload, ...]:
    """Each length of a prompt at each depth with each number of clients."""
    return tuple(
        Workload(prompt, answer, depth_tokens=depth, clients=count)
        for count, depth, prompt in product(clients, depths, prompts)
    )


def _agent(lengths: Sequence[int], answer: int) -> tuple[Workload, ...]:
    """Each prompt is read once as a whole, then with only its end new."""
    return tuple(
        each
        for length in lengths
        for each in (
            Workload(length, answer),
            Workload(_NEW_TOKENS, answer, depth_tokens=length - _NEW_TOKENS),
        )
    )


SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "chat": Scenario("a short question and an answer of 256 tokens", (Workload(128, 256),)),
        "agent": Scenario(
            "prompts of 8,000 to 32,000 tokens: read as a whole, then with only the last 500 new",
            _agent((8_000, 16_000, 32_000), 128),
        ),
        "batch": Scenario("8 clients at once", (Workload(512, 128), Workload(512, 128, clients=8))),
        "article": Scenario(
            "one question in plain text, about an epidemic, with up to 512 tokens of answer",
            (Workload(256, 512, text=_ARTICLE),),
        ),
    }
)


def cut(
    workloads: Sequence[Workload], context_tokens: int | None
) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """
    The same for workloads that were chosen freely.  Where none fits, the first one is shortened.

    Clients that do not fit into a shared context together are no reason: the gateway has some of them wait.
    """
    if context_tokens is None:
        return tuple(workloads), ()
    kept = tuple(each for each in workloads if needed_tokens(each) <= context_tokens)
    left_out = [each for each in workloads if each not in kept]
    said = [
        f"{described(each)} was left out: it needs {needed_tokens(each):,} tokens of context, and the server "
        f"has {context_tokens:,}."
        for each in left_out
    ]
    if not kept and (shorter := _shortened(workloads[0], context_tokens)):
        kept, said[0] = (shorter,), f"{said[0]} In its place {described(shorter)} is measured."
    return kept, tuple(said)


def needed_tokens(workload: Workload) -> int:
    """Of context, for one client."""
    return workload.depth_tokens + workload.prompt_tokens + workload.answer_tokens


def described(workload: Workload) -> str:
    """``8 clients with a prompt of 512 tokens``, for sentences and tables."""
    prompt = f"a {'warm ' if workload.warm else ''}prompt of {workload.prompt_tokens:,} tokens"
    if workload.text:
        prompt = "the question in plain text"
    if workload.depth_tokens:
        prompt += f" behind {workload.depth_tokens:,}"
    return prompt if workload.clients == 1 else f"{workload.clients} clients with {prompt}"


def _shortened(workload: Workload, context_tokens: int) -> Workload | None:
    """None for a text, which stays as it is, and where there is no room for anything."""
    answer = min(workload.answer_tokens, context_tokens // 4)
    if workload.text or answer < 1:
        return None
    return replace(workload, prompt_tokens=context_tokens - answer, answer_tokens=answer, depth_tokens=0)
