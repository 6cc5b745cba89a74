"""
What llama.cpp says itself that it takes, read from its log.  Pure.

Its table "memory breakdown" is printed at -lv 4 by llama-server (first by the pass of --fit, which measures
half a second long without loading, and again when it exits) and by llama-fit-params.  Of that tool the
column of compute holds for logits of the whole batch, which the server does not compute since b9460.
Source: common_memory_breakdown_print in common/fit.cpp of llama.cpp b11434.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .guardrails import RAM

_MIB = 1024**2
_HEAD = "memory breakdown [MiB]"
_ROW = re.compile(r"\| +- (\S{1,64})(?: \(.{0,256}\))? +\|(.{1,256})\|$")
_SELF = re.compile(r"(\d{1,12}) = +(\d{1,12}) \+ +(\d{1,12}) \+ +(\d{1,12})")


@dataclass(frozen=True, slots=True)
class Taken:
    """In whole MiB, rounded down."""

    weights_bytes: int = 0
    context_bytes: int = 0
    compute_bytes: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            self.weights_bytes + other.weights_bytes,
            self.context_bytes + other.context_bytes,
            self.compute_bytes + other.compute_bytes,
        )


def read_breakdowns(lines: Iterable[str]) -> tuple[Mapping[str, Taken], ...]:
    """
    Every table of a log, by name of the pool.

    What has no device is in the RAM: Host, CPU_REPACK, AMX.
    """
    tables: list[dict[str, Taken]] = []
    for line in lines:
        if _HEAD in line:
            tables.append({})
        elif tables and (row := _ROW.search(line.rstrip())):
            name, figures = row.groups()
            pool = name if "(" in figures else RAM
            tables[-1][pool] = tables[-1].get(pool, Taken()) + _taken(figures)
    return tuple(table for table in tables if table)


def _taken(figures: str) -> Taken:
    found = _SELF.search(figures)
    if found is None:
        return Taken()
    _, weights, context, compute = (int(number) * _MIB for number in found.groups())
    return Taken(weights, context, compute)
