"""Who takes an answer from a connection to the engine, as it comes."""

from __future__ import annotations

from typing import Protocol

from ..http_heads import ResponseHead


class Taker(Protocol):
    """Gets `connected` or `unreachable` where it has to; then `begin`, `go_on`s, `complete`; or `lose`."""

    def connected(self) -> None:
        """The connection is there: ask."""

    def unreachable(self, why: str) -> None:
        """It cannot be made."""

    def begin(self, answer: ResponseHead, *, more: bool) -> None:
        """The head is there; ``more``: another call follows in the same breath."""

    def go_on(self, data: bytes) -> None:
        """A piece of the body, and not the last."""

    def complete(self, data: bytes) -> None:
        """The last piece; may be empty."""

    def lose(self, why: str) -> None:
        """There will be no more of it."""
