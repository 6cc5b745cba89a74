"""The engines that there are, by what a profile calls their source, and by their adapters."""

from __future__ import annotations

from typing import Final

from .command_rendering import CommandRenderer
from .llamacpp_rendering import LlamaCppRenderer
from .rendering import Renderer

_COMMAND: Final[Renderer] = CommandRenderer()
_LLAMACPP: Final[Renderer] = LlamaCppRenderer()


def renderer_for(source: str) -> Renderer:
    """For a profile's ``engine.source``: everything but a command is a build of llama.cpp."""
    return _COMMAND if source == "command" else _LLAMACPP


def renderer_of(adapter: str) -> Renderer:
    """The one that made a plan which names this adapter."""
    return _COMMAND if adapter == _COMMAND.adapter else _LLAMACPP
