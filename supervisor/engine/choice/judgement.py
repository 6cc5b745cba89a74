"""What is said of one flavour on one computer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Judgement:
    """``order`` is among the flavours of one family, less is better."""

    reason: str
    refused: bool = False
    order: tuple[int, ...] = ()


def refuse(reason: str) -> Judgement:
    return Judgement(reason, refused=True)


def together(clauses: Iterable[str]) -> str:
    return ", ".join(clause for clause in clauses if clause)
