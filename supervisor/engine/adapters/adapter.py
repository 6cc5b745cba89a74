"""
The contract between an engine and everything else, which never asks which engine it is.

What can be decided before a launch becomes values in the launch plan (`Rendering`).  The rest is asked by the
name that the plan carries: where the address of a launch goes, what the end of a log means.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...options.option_types import OptionValue, Translation

if TYPE_CHECKING:
    from ...profile.definition import Profile
    from ..build import Build


@dataclass(frozen=True, slots=True)
class Sign:
    """A line of the log that tells the cause.  Named groups of the pattern fill message and hint."""

    kind: str
    pattern: re.Pattern[str]
    message: str
    hint: str
    retryable: bool = False


def sign(kind: str, pattern: str, message: str, hint: str, *, retryable: bool = False) -> Sign:
    return Sign(kind, re.compile(pattern), message, hint, retryable)


@dataclass(frozen=True, slots=True)
class Ending:
    """What an exit code or a signal says of the cause, where the log says nothing."""

    kind: str
    message: str
    hint: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """The smallest request that proves that a model answers: a POST of this JSON ``body``."""

    path: str
    body: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """
    One launch, decided as far as it can be without knowing where it will listen.

    ``liveness_path`` is asked while it serves, None for ``/health``.  ``upstream_model`` is the name that the
    engine wants to hear, "" for whatever the client said.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/health"
    question: Question | None = None
    liveness_path: str | None = None
    upstream_model: str = ""
    api_prefix: str = ""
    tls: bool = False
    translations: tuple[Translation, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchAddress:
    """The command line and the environment of one launch, with its own port and key."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, str]


class Adapter(Protocol):
    """What is particular to an engine.  Planning asks the first part, a running daemon the rest."""

    @property
    def name(self) -> str:
        """As the launch plan carries it."""

    @property
    def reads_models(self) -> bool:
        """Whether a GGUF file's header tells what a launch takes of the memory."""

    def takes_sockets(self, build: Build) -> bool:
        """Whether it can listen on a Unix socket."""

    def render(self, profile: Profile, build: Build, model: str) -> Rendering:
        """
        ``profile`` has the address where the engine is to listen; port 0 is found at the launch.  ``model``
        is the path or the name that the engine gets.  Raises ConfigError for what the engine does not take.
        """

    def environment(self, private_config: Path) -> Mapping[str, str]:
        """What each launch has, whatever the profile says; ``private_config`` is an empty folder of ours."""

    def program(self, argv: Sequence[str]) -> str:
        """What people call it."""

    def at_address(self, argv: tuple[str, ...], env: Mapping[str, str], port: int, key: str) -> LaunchAddress:
        """With the port and the key of this launch."""

    def api_key(self, argv: Sequence[str], env: Mapping[str, str], secrets: Mapping[str, str]) -> str:
        """The key that the engine asks for, or "" where it asks for none."""

    def options(self, argv: Sequence[str]) -> Mapping[str, OptionValue]:
        """llama-server's options by name, for what clients are told; empty where it has none."""

    def lists_devices(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that prints how much of each GPU is free; empty where there is none."""

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
