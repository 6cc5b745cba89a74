"""What a client is told, and what it comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Language = Literal["json", "python", "sh", "text", "toml", "yaml"]

KEY_ENV = "GOSS_API_KEY"
MOST_ANSWER_TOKENS = 32_000  # what Claude Code asks for by itself


@dataclass(frozen=True, slots=True)
class Target:
    """
    The address that a client shall use, and what it finds there.

    ``url`` has no slash at its end and no ``/v1``.  ``key_env`` is the environment variable that holds the
    key, never the key; None where none is asked for.  ``context_tokens`` is what one request can have; None
    where the profile leaves it to llama-server.  ``is_local``: other machines, and containers, do not reach
    it.  ``is_everywhere``: it listens on every address of this machine, and ``url`` has the local one.
    """

    url: str
    model: str
    key_env: str | None = None
    context_tokens: int | None = None
    is_local: bool = True
    is_everywhere: bool = False

    @property
    def api(self) -> str:
        """For clients of OpenAI's API, which want the path as well."""
        return f"{self.url}/v1"

    @property
    def answer_tokens(self) -> int | None:
        """Of the context, what clients that ask for it may leave to an answer: a quarter."""
        return min(self.context_tokens // 4, MOST_ANSWER_TOKENS) if self.context_tokens else None


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text to paste; ``path`` is the file, or the menu, that it goes to."""

    path: str
    language: Language
    text: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to paste, and what else there is to do or to know: one or more sentences each."""

    files: tuple[Snippet, ...]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """A program that people use models with; ``title`` is what it calls itself."""

    name: str
    title: str
    recipe: Callable[[Target], Recipe]


def quoted(text: str) -> str:
    """A string as JSON, TOML and Python all write it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
