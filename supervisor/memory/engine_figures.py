"""
llama.cpp's own figures of what a launch takes, and their history on disk; what other programs held.

Sources, at b11434: common_memory_breakdown_print in common/fit.cpp; the lines of load_tensors,
llama_kv_cache, llama_memory_recurrent and sched_reserve in src/.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SupervisorError
from ..files import JsonFile
from ..paths import Paths

if TYPE_CHECKING:
    from ..engine.build import Build
    from .memory_settings import Settings


AskedFigures = Literal["engine", "measured"]

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
class EngineFigures:
    """
    ``buffers`` by llama.cpp's names: Host, CPU_REPACK, AMX, CUDA0; after a load also CPU_Mapped, CUDA_Host.

    A tool (``engine``) says whole MiB, rounded down; a log (``measured``) hundredths, rounded.
    """

    source: AskedFigures
    buffers: Mapping[str, Taken]


def read_table(lines: Iterable[str]) -> EngineFigures | None:
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
                return EngineFigures("engine", found) if is_whole else None
            name, figures = row.groups()
            found[name] = found.get(name, Taken()) + _taken(figures)
    return None


def _taken(figures: str) -> Taken:
    numbers = _SELF.search(figures)
    return Taken(*(int(each) * _MIB for each in numbers.groups())) if numbers else Taken()


def measured(lines: Iterable[str]) -> EngineFigures | None:
    """
    What the log of a llama-server says after it loaded its model; None where it does not.

    It does at -lv 4 and above only.  The table at its exit is not read: a file that is mapped counts there,
    and in the line of CPU_Mapped, from the first tensor used to the last, with all between them (for
    gpt-oss-20b 11,536 MiB besides the 9,682 of it that are rearranged; the tool says 1,854).
    """
    loads = [_Load()]
    for line in lines:
        if found := _BUFFER.search(line):
            name, kind, mib = found.groups()
            if kind != "compute" and loads[-1].compute:
                loads.append(_Load())
            loads[-1].add(name, kind, round(float(mib) * _MIB))
    whole = next((load for load in loads if load.is_whole), None)
    return None if whole is None else EngineFigures("measured", whole.buffers())


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


FORMAT = 1  # to be raised when what is kept means something else
MOST = 200
_SOURCES: tuple[AskedFigures, ...] = ("engine", "measured")  # the surest last
_Rows = tuple[tuple[str, EngineFigures], ...]


def key_of(files: Sequence[Path], build: Build, settings: Settings) -> str | None:
    """
    Of a model in this state, a build on the devices that it sees, and all options that memory depends on.

    Hex; None where a file is not on disk.
    """
    try:
        stats = [(file.as_posix(), file.stat()) for file in files]
    except OSError:
        return None
    stamps = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    devices = [device.partition(":")[0] for device in build.devices]  # what follows says how much is free
    text = "\n".join([*stamps, build.digest, *devices, repr(settings)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if stamps else None


@dataclass(frozen=True, slots=True)
class FigureHistory:
    """One file of JSON, ``figures.json`` of the state folder: the newest last, the oldest are dropped."""

    file: Path

    def find(self, key: str) -> tuple[EngineFigures, ...]:
        """All figures of ``key``, the surest last."""
        found = [figures for kept, figures in self._json.known() if kept == key]
        return tuple(sorted(found, key=lambda figures: _SOURCES.index(figures.source)))

    def keep(self, key: str, figures: EngineFigures) -> None:
        """In place of what the same source said before.  A file that cannot be written costs time only."""

        def change(rows: _Rows) -> _Rows:
            others = (row for row in rows if (row[0], row[1].source) != (key, figures.source))
            return (*others, (key, figures))[-MOST:]

        with suppress(SupervisorError):
            self._json.update(change)

    @property
    def _json(self) -> JsonFile[_Rows]:
        return JsonFile(self.file, _parse, _render, (), schema=FORMAT, exact=True)


def _render(rows: _Rows) -> dict[str, Any]:
    return {"figures": [{"key": key, **asdict(figures)} for key, figures in rows]}


def _parse(document: dict[str, Any]) -> _Rows:
    return tuple(map(_read, document["figures"]))


def _read(row: Any) -> tuple[str, EngineFigures]:  # noqa: ANN401 - whatever JSON gives
    """Raises ValueError, KeyError, TypeError or AttributeError for what is no row."""
    source: AskedFigures = _SOURCES[_SOURCES.index(row["source"])]
    buffers = {name: Taken(**taken) for name, taken in row["buffers"].items()}
    figures = (figure for taken in buffers.values() for figure in asdict(taken).values())
    if not isinstance(row["key"], str) or any(type(figure) is not int or figure < 0 for figure in figures):
        raise TypeError
    return row["key"], EngineFigures(source, buffers)


# What launches held of the RAM, for engines whose models nobody here can read.

_MOST_MEASURED = 100  # the oldest goes first


def _measured_file(paths: Paths) -> JsonFile[dict[str, dict[str, int]]]:
    return JsonFile(paths.state / "measured.json", _measured_plans, lambda plans: {"plans": plans}, {})


def measured_memory(paths: Paths) -> Mapping[str, Mapping[str, int]]:
    """What launches held, by the digest of their plan; empty where nothing can be read."""
    return _measured_file(paths).known()


def keep_measured(paths: Paths, digest: str, name: str, size_bytes: int) -> None:
    """What a launch of this plan held of a memory, if it is the most so far.  Raises SupervisorError."""
    if measured_memory(paths).get(digest, {}).get(name, 0) < size_bytes:
        found = {digest: {name: size_bytes}}
        _measured_file(paths).update(lambda kept: dict(list({**kept, **found}.items())[-_MOST_MEASURED:]))


def _measured_plans(document: dict[str, Any]) -> dict[str, dict[str, int]]:
    plans = document["plans"]
    return {
        str(digest): {str(name): int(size) for name, size in each.items()} for digest, each in plans.items()
    }
