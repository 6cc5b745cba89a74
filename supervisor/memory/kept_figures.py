"""What llama.cpp told about launches, kept: a second plan of the same launch asks nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SupervisorError
from ..files import JsonFile
from .engine_figures import Asked, Taken, Told

if TYPE_CHECKING:  # the daemon keeps figures too, and needs neither
    from ..engine.build import Build
    from .memory_settings import Settings

FORMAT = 1  # to be raised when what is kept means something else
MOST = 200
_SOURCES: tuple[Asked, ...] = ("engine", "measured")  # the surest last
_Rows = tuple[tuple[str, Told], ...]


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
class Figures:
    """One file of JSON, ``figures.json`` of the state folder: the newest last, the oldest are dropped."""

    file: Path

    def find(self, key: str) -> tuple[Told, ...]:
        """All that was told about ``key``, the surest last."""
        found = [told for kept, told in self._json.known() if kept == key]
        return tuple(sorted(found, key=lambda told: _SOURCES.index(told.source)))

    def keep(self, key: str, told: Told) -> None:
        """In place of what the same source said before.  A file that cannot be written costs time only."""

        def change(rows: _Rows) -> _Rows:
            others = (row for row in rows if (row[0], row[1].source) != (key, told.source))
            return (*others, (key, told))[-MOST:]

        with suppress(SupervisorError):
            self._json.update(change)

    @property
    def _json(self) -> JsonFile[_Rows]:
        return JsonFile(self.file, _parse, _render, (), schema=FORMAT, exact=True)


def _render(rows: _Rows) -> dict[str, Any]:
    return {"figures": [{"key": key, **asdict(told)} for key, told in rows]}


def _parse(document: dict[str, Any]) -> _Rows:
    return tuple(map(_read, document["figures"]))


def _read(row: Any) -> tuple[str, Told]:  # noqa: ANN401 - whatever JSON gives
    """Raises ValueError, KeyError, TypeError or AttributeError for what is no row."""
    source: Asked = _SOURCES[_SOURCES.index(row["source"])]
    buffers = {name: Taken(**taken) for name, taken in row["buffers"].items()}
    figures = (figure for taken in buffers.values() for figure in asdict(taken).values())
    if not isinstance(row["key"], str) or any(type(figure) is not int or figure < 0 for figure in figures):
        raise TypeError
    return row["key"], Told(source, buffers)
