"""What an engine makes of a profile before a launch: one contract, by the profile's ``engine.source``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...options.option_types import OptionValue, Translation
from ...profile.definition import Profile
from ..build import Build
from .adapter import Question


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


class Renderer(Protocol):
    """What is particular to an engine while a launch is planned; see `Adapter` for the rest."""

    @property
    def adapter(self) -> str:
        """The name of the adapter that knows the engine while it runs."""

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

    def options(self, argv: Sequence[str]) -> Mapping[str, OptionValue]:
        """llama-server's options by name, for what clients are told; empty where it has none."""
