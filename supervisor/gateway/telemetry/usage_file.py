"""
The file that keeps usage across restarts (SQLite), and the daemon's part in it: one write a minute.

The daemon alone writes it; commands read it, also without a daemon.  sqlite3 takes 1.4 MB, so it is imported
by the first write or reading, outside the event loop.  A transaction is there as a whole or not at all, so a
crash loses what came since the last one.  A damaged file is put aside under another name, one of a newer
version is left alone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...disk import cannot_write
from ...errors import ConfigError, PermissionDenied, SupervisorError
from ...server.background import beside_the_loop
from .usage_tally import UsageByPlace, UsagePlace, UsageSums, UsageTally, day_of, place_among

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)

VERSION = 1
KEPT_DAYS = 400  # with any use; counted rather than compared with the date, which a wrong clock may falsify
WRITE_SECONDS = 60.0
LAST_SECONDS = 2.0  # for a disk that hangs, at the beginning and at the end
_BUSY_SECONDS = 5.0  # a reader holds the file for milliseconds

UsageColumn = Literal["day", "key", "model"]
_PLACE = UsagePlace._fields
_SUMS = tuple(field.name for field in fields(UsageSums))
_TABLE = f"""
CREATE TABLE IF NOT EXISTS usage (
  {", ".join(f"{name} TEXT NOT NULL" for name in _PLACE)},
  {", ".join(f"{name} {'REAL' if name == 'seconds' else 'INTEGER'} NOT NULL" for name in _SUMS)},
  PRIMARY KEY ({", ".join(_PLACE)})
) WITHOUT ROWID"""
_ADD = f"""
INSERT INTO usage VALUES ({", ".join("?" * len(_PLACE + _SUMS))})
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)}"""  # noqa: S608
_LAST_KEPT = "SELECT DISTINCT day FROM usage ORDER BY day DESC LIMIT 1 OFFSET ?"
_DROP = "DELETE FROM usage WHERE day < ?"
_TOKENS = "SELECT key, SUM(prompt_tokens + output_tokens) FROM usage WHERE day = ? GROUP BY key"
_PLAIN_ERROR, _READ_ONLY, _CORRUPT, _FULL, _CANNOT_OPEN, _NOT_A_DATABASE = 1, 8, 11, 13, 14, 26
"""SQLite's primary result codes; the first is what a table of another shape gives."""
_DAMAGED = frozenset((_PLAIN_ERROR, _CORRUPT, _NOT_A_DATABASE))
_MOST_ASIDE = 10  # more of them are no accident


@dataclass(frozen=True, slots=True)
class UsageFile:
    """Everything here blocks, and raises ConfigError for a file of a newer version, and SupervisorError."""

    path: Path

    def add(self, sums: UsageByPlace, day: str) -> dict[str, int]:
        """Add these figures, in one transaction; then as `tokens_on`."""
        try:
            return self._add(sums, day)
        except _DamagedUsage as error:
            log.warning("%s It is now called %s, and a new one begins.", error, self._put_aside().name)
            return self._add(sums, day)

    def _add(self, sums: UsageByPlace, day: str) -> dict[str, int]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open("rwc") as file:
            file.execute("BEGIN IMMEDIATE")
            file.execute(_TABLE)
            file.execute(f"PRAGMA user_version = {VERSION}")
            for each in sorted({place.day for place in sums}):
                pairs = file.execute("SELECT key, model FROM usage WHERE day = ?", (each,))
                known = {UsagePlace(each, *pair) for pair in pairs}
                for place in (place for place in sums if place.day == each):
                    known.add(kept := place_among(known, place))
                    file.execute(_ADD, (*kept, *astuple(sums[place])))
            if last := file.execute(_LAST_KEPT, (KEPT_DAYS - 1,)).fetchone():
                file.execute(_DROP, last)
            file.execute("COMMIT")
            return dict(file.execute(_TOKENS, (day,)))

    def tokens_on(self, day: str) -> dict[str, int]:
        """Tokens in and out of each key on this day."""
        return dict(self._rows(_TOKENS, (day,)))

    def read(self, since: str, until: str, by: Sequence[UsageColumn]) -> UsageByPlace:
        """Sums over these days, both included, by these columns in their order; the others are ""."""
        columns = [name if name in by else "''" for name in _PLACE]
        order = ", ".join(by)
        rows = self._rows(
            f"SELECT {', '.join((*columns, *(f'TOTAL({name})' for name in _SUMS)))} FROM usage "  # noqa: S608
            f"WHERE day BETWEEN ? AND ? GROUP BY {order} ORDER BY {order}",
            (since, until),
        )
        return {UsagePlace(*row[:3]): _sums(row[3:]) for row in rows}

    def damaged(self) -> list[Path]:
        """Files that were put aside."""
        return sorted(self.path.parent.glob(f"{self.path.stem}.damaged-*{self.path.suffix}"))

    def _rows(self, query: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """None from a file that is not there, or that the daemon is about to fill."""
        if not self.path.exists():
            return []
        # What a crash interrupted is undone by the next one who opens the file, who has to write for it.
        with self._open("rw" if self._journal.exists() else "ro") as file:
            return file.execute(query, values).fetchall() if _version(file) else []

    @contextmanager
    def _open(self, mode: Literal["ro", "rw", "rwc"]) -> Iterator[sqlite3.Connection]:
        try:
            import sqlite3  # noqa: PLC0415 - see above
        except ImportError as error:
            raise SupervisorError(
                f"This Python has no sqlite3, so usage is not kept: {error}.",
                hint="Install Python's sqlite3 module, or use a Python that has it.",
            ) from error
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(
                sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as file:
                if _version(file) > VERSION:
                    raise ConfigError(
                        f"{self.path} was written by a newer goss-supervisor.",
                        hint="Update this one. Until then it leaves the file alone, and keeps no usage.",
                    )
                (found,) = file.execute("PRAGMA quick_check(1)").fetchone()  # milliseconds for a megabyte
                if found != "ok":
                    raise self._damaged(found)
                yield file
        except UnicodeDecodeError as error:  # a damaged name of a table, in what SQLite says of it
            raise self._damaged("it holds text that is not UTF-8") from error
        except sqlite3.Error as error:
            raise self._said(error) from error

    def _said(self, error: sqlite3.Error) -> SupervisorError:
        code = getattr(error, "sqlite_errorcode", _PLAIN_ERROR) & 0xFF
        if code in _DAMAGED:
            return self._damaged(error)
        if code in {_READ_ONLY, _CANNOT_OPEN}:
            return PermissionDenied(f"{self.path} cannot be used: {error}.")
        if code == _FULL:
            return cannot_write(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return SupervisorError(f"{self.path} cannot be used: {error}.")

    def _damaged(self, why: object) -> _DamagedUsage:
        text = " ".join(str(why).split()).rstrip(".")
        return _DamagedUsage(f"{self.path} is damaged: {text}.", hint="The daemon puts it aside.")

    def _put_aside(self) -> Path:
        """With its journal, which must not be applied to the next file."""
        if len(self.damaged()) >= _MOST_ASIDE:
            raise SupervisorError(
                f"{self.path} is damaged, and so were {_MOST_ASIDE} before it.",
                hint=f"Check the disk, and delete {self.path.stem}.damaged-* in {self.path.parent}.",
            )
        aside = self.path.with_name(f"{self.path.stem}.damaged-{time.time_ns()}{self.path.suffix}")
        self.path.replace(aside)
        if self._journal.exists():
            self._journal.replace(aside.with_name(f"{aside.name}-journal"))
        return aside

    @property
    def _journal(self) -> Path:
        return self.path.with_name(f"{self.path.name}-journal")


class _DamagedUsage(ConfigError):
    """Not what this program wrote."""


def _version(file: sqlite3.Connection) -> int:
    """0 for a file that is empty."""
    (version,) = file.execute("PRAGMA user_version").fetchone()
    return int(version)


def _sums(figures: Sequence[float]) -> UsageSums:
    *counts, seconds = figures
    return UsageSums(**dict(zip(_SUMS, map(int, counts), strict=False)), seconds=seconds)


class UsageKeeper:
    """
    The daemon's: writes the tally into the file each minute.  ``needs_today`` tells whether the tokens a day
    of some key are limited, so that what the file says of today has to be known.  ``problem`` is why nothing
    can be written, in words; the figures stay in memory meanwhile.
    """

    def __init__(self, file: UsageFile, tally: UsageTally, needs_today: Callable[[], bool]) -> None:
        self.problem = ""
        self._file, self._tally = file, tally
        self._needs_today = needs_today
        self._turn = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Before the first request, whose key may have used up its tokens before a restart."""
        await self._write_in_time()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def finish(self) -> None:
        """After the last request."""
        await self._write_in_time()
        self.let_go()
        if lost := self._tally.unwritten:
            why = self.problem or "the disk did not answer in time"
            log.warning("The usage of the last requests (%d) may be lost: %s", lost, why)

    def let_go(self) -> None:
        """Write no more."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def _write_in_time(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self.write()

    async def write(self) -> None:
        """Once, if there is anything to write or to know; what cannot be written is tried again."""
        async with self._turn:
            today = day_of(time.time())
            if not self._tally.unwritten and (self._tally.knows(today) or not self._needs_today()):
                return
            sums = self._tally.take()
            work = partial(self._file.add, sums, today) if sums else partial(self._file.tokens_on, today)
            try:
                tokens = await beside_the_loop(work)
            except (OSError, SupervisorError) as error:
                self._tally.give_back()
                self._say(error)
            else:
                self._tally.written(today, tokens)
                self.problem = ""

    def _say(self, error: Exception) -> None:
        """Once for each problem."""
        text = f"usage is not kept for now: {error} {getattr(error, 'hint', '')}".rstrip()
        if text != self.problem:
            self.problem = text
            log.warning("%s", text)
