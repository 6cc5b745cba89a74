"""
What llama.cpp says that a launch takes, buffer by buffer: a tool before it, the log after it.  Pure.

Sources, at b11434: common_memory_breakdown_print in common/fit.cpp; the lines of load_tensors,
llama_kv_cache, llama_memory_recurrent and sched_reserve in src/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from operator import add
from typing import Literal

Asked = Literal["engine", "measured"]

_MIB = 1024**2
_HEAD = "memory breakdown [MiB]"
_ROW = re.compile(r"\| +- (\S{1,64})(?: \(.{0,256}\))? +\|(.{1,256})\|$")
_SELF = re.compile(r"\d{1,12} = +(\d{1,12}) \+ +(\d{1,12}) \+ +(\d{1,12})")
_BUFFER = re.compile(r": +(\S{1,64}) +(model|KV|RS|compute) buffer size = +(\d{1,9}\.\d\d) MiB")


@dataclass(frozen=True, slots=True)
class Taken:
    """By one buffer, or by all of one memory."""

    weights_bytes: int = 0
    context_bytes: int = 0
    compute_bytes: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class Told:
    """
    ``buffers`` by llama.cpp's names: Host, CPU_REPACK, AMX, CUDA0; after a load also CPU_Mapped, CUDA_Host.

    A tool (``engine``) says whole MiB, rounded down; a log (``measured``) hundredths, rounded.
    """

    source: Asked
    buffers: Mapping[str, Taken]


def read_table(lines: Iterable[str]) -> Told | None:
    """
    The first table "memory breakdown" of ``lines``, as a tool prints it at -lv 4.

    None without one, and without a line after it: what a program still has to log when it ends is lost
    (common_log_main in common/log.cpp), and a table without its last rows is no table.
    """
    found: dict[str, Taken] | None = None
    for line in lines:
        if _HEAD in line:
            found = {}
        elif found is not None:
            row = _ROW.search(line.rstrip())
            if row is None:
                is_whole = found and "|" not in line  # not half a row
                return Told("engine", found) if is_whole else None
            name, figures = row.groups()
            found[name] = found.get(name, Taken()) + _taken(figures)
    return None


def _taken(figures: str) -> Taken:
    numbers = _SELF.search(figures)
    return Taken(*(int(each) * _MIB for each in numbers.groups())) if numbers else Taken()


def measured(lines: Iterable[str]) -> Told | None:
    """
    What the log of a llama-server says after it loaded its model; None where it does not.

    It does at -lv 4 and above only.  The table at its exit is not read: a file that is mapped counts there,
    and in the line of CPU_Mapped, from the first tensor used to the last, with all between them (for
    gpt-oss-20b 11,536 MiB beside the 9,682 of it that are rearranged; the tool says 1,854).
    """
    loads = [_Load()]
    for line in lines:
        if found := _BUFFER.search(line):
            name, kind, mib = found.groups()
            if kind != "compute" and loads[-1].compute:
                loads.append(_Load())
            loads[-1].add(name, kind, round(float(mib) * _MIB))
    whole = next((load for load in loads if load.is_whole), None)
    return None if whole is None else Told("measured", whole.buffers())


@dataclass(slots=True)
class _Load:
    """
    The lines of one load, by name of the buffer.

    The first that has weights is the model's: at -lv 5 the pass of --fit comes before it, which allocates
    nothing, and a draft model after it.
    """

    weights: dict[str, int] = field(default_factory=dict)
    context: dict[str, int] = field(default_factory=dict)
    compute: dict[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return any(self.weights.values()) and bool(self.compute)

    def add(self, name: str, kind: str, size_bytes: int) -> None:
        """A model may have several caches and, by its files, weights; reserving again replaces."""
        if kind == "compute":
            self.compute[name] = size_bytes
            return
        column = self.weights if kind == "model" else self.context
        column[name] = column.get(name, 0) + size_bytes

    def buffers(self) -> Mapping[str, Taken]:
        columns = (self.weights, self.context, self.compute)
        names = dict.fromkeys(name for column in columns for name in column)
        return {name: Taken(*(column.get(name, 0) for column in columns)) for name in names}
