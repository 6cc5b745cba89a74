"""What `tune` measured a profile with, as the profile that it writes keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from .declare import key


@dataclass(frozen=True, slots=True)
class Tuned:
    """
    The goal and the day, and the fingerprint: what makes the result invalid when it changes.

    All parts of the fingerprint are texts that are compared as they are, except the RAM, of which the system
    does not always report the same.  "" and None mean unknown; see ``prepare/fingerprint.py``.
    """

    goal: str = key("", "What it was tuned for: chat, agent, batch or balanced.")
    date: str = key("", "The day of the measurement: 2026-11-30.")
    build: str = key("", "The engine: repository, tag and flavour.")
    model: str = key("", "The model: name, size and a digest of what its header says of the weights.")
    os: str = key("", "The operating system, and whether it is a container or WSL2.")
    cpu: str = key("", "The processor with its cores and threads.")
    ram_bytes: int | None = key(None, "The memory that the system reports.")
    gpus: str = key("", "The GPUs with their own memory and their drivers.")
