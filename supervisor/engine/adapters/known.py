"""The adapters that there are, by name."""

from __future__ import annotations

from typing import Final

from .adapter import Adapter
from .command import Command
from .llamacpp import LlamaCpp
from .rpc_server import RpcServer

_ALL: Final[tuple[Adapter, ...]] = (LlamaCpp(), Command(), RpcServer())


def is_known(name: str) -> bool:
    """Whether this version has it: a plan may come from another one."""
    return any(adapter.name == name for adapter in _ALL)


def adapter_of(name: str) -> Adapter:
    """The one that a launch plan names."""
    return next(adapter for adapter in _ALL if adapter.name == name)
