"""The adapters that there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .adapter import Adapter
from .command import Command
from .llamacpp import LlamaCpp

_ALL: Final[tuple[Adapter, ...]] = (LlamaCpp(), Command())
ADAPTERS: Final[Mapping[str, Adapter]] = {adapter.name: adapter for adapter in _ALL}


def adapter_of(name: str) -> Adapter:
    """The one that a launch plan names."""
    return ADAPTERS[name]


def adapter_for(source: str) -> Adapter:
    """The one for a profile's ``engine.source``: everything but a command is a build of llama.cpp."""
    return ADAPTERS.get(source, _ALL[0])
