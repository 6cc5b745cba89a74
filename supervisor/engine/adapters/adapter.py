"""
What the daemon asks of an engine that it runs: one contract, by the name that the launch plan carries.

Nothing outside of this folder asks which engine it is.  What can be decided before a launch is in the plan
already, put there by a `Renderer`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

EngineProtocol = Literal["http", "rpc"]


@dataclass(frozen=True, slots=True)
class Sign:
    """
    A line of the log that tells the cause.  Named groups of the pattern fill message and hint.

    ``breaks``: the engine runs on and answers probes after it, but no request any more.
    """

    kind: str
    pattern: re.Pattern[str]
    message: str
    hint: str
    retryable: bool = False
    breaks: bool = False


def sign(
    kind: str, pattern: str, message: str, hint: str, *, retryable: bool = False, breaks: bool = False
) -> Sign:
    return Sign(kind, re.compile(pattern), message, hint, retryable, breaks)


@dataclass(frozen=True, slots=True)
class Ending:
    """What an exit code or a signal says of the cause, where the log says nothing."""

    kind: str
    message: str
    hint: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class LaunchAddress:
    """The command line and the environment of one launch, with its own port and key."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, str]


class Adapter(Protocol):
    """What is particular to an engine while it runs."""

    @property
    def name(self) -> str:
        """As the launch plan carries it."""

    @property
    def protocol(self) -> EngineProtocol:
        """What it speaks; one of RPC is asked for its HELLO, and clients' requests do not go there."""

    def environment(self, private_config: Path) -> Mapping[str, str]:
        """What each launch has, whatever the profile says; ``private_config`` is an empty folder of ours."""

    def program(self, argv: Sequence[str]) -> str:
        """What people call it."""

    def at_address(self, argv: tuple[str, ...], env: Mapping[str, str], port: int, key: str) -> LaunchAddress:
        """With the port and the key of this launch."""

    def api_key(self, argv: Sequence[str], env: Mapping[str, str], secrets: Mapping[str, str]) -> str:
        """The key that the engine asks for, or "" where it asks for none."""

    def lists_devices(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that prints how much of each GPU is free; empty where there is none."""

    def counter_of(self, path: str) -> str:
        """The path at which a request to ``path`` gets the number of its prompt's tokens; "" for none."""

    @property
    def signs(self) -> Sequence[Sign]:
        """The first that is anywhere in the log wins."""

    @property
    def endings(self) -> Mapping[int, Ending]:
        """By exit code, or minus the signal."""

    @property
    def final_exits(self) -> Collection[int]:
        """Exit codes that mean, before it was ready, that the same command would fail again."""

    @property
    def cpu_signs(self) -> Sequence[tuple[re.Pattern[str], str]]:
        """Lines of the log that say why it runs on the CPU though a GPU was asked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """The smallest request that proves that a model answers: a POST of this JSON ``body``."""

    path: str
    body: str


def question_for(model: str, role: str = "chat") -> Question | None:
    """What a model of that role is asked to prove that it answers; None where nothing small can be asked."""
    match role:
        case "chat":
            messages = [{"role": "user", "content": "Hi"}]
            asked = {"model": model, "messages": messages, "max_tokens": 1}
            return Question("/v1/chat/completions", json.dumps(asked))
        case "embedding":
            return Question("/v1/embeddings", json.dumps({"model": model, "input": "Hi"}))
        case "rerank":
            asked = {"model": model, "query": "Hi", "documents": ["Hi"]}
            return Question("/v1/rerank", json.dumps(asked))
        case _:
            return None
