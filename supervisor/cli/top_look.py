"""Text in the cells of a terminal: its width; cut, wrapped, in columns; bars and sparklines.  Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Style = Literal[
    "",
    "title",
    "dim",
    "good",
    "warn",
    "bad",
    "current",
    "share0",
    "share1",
    "share2",
    "share3",
    "share4",
    "share5",
]
SHARES: tuple[Style, ...] = ("share0", "share1", "share2", "share3", "share4", "share5")
Span = tuple[Style, str]
TextLine = tuple[Span, ...]
BarPart = tuple[Style, str, float]  # of a bar: its character and its size
_GAP = 2  # cells between two columns


@lru_cache(4096)
def _cells_of(character: str) -> int:
    """Marks that combine, and the vowels and finals of Hangul, take no cell of their own."""
    if unicodedata.category(character) in {"Mn", "Me", "Cf"} or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def cells(text: str) -> int:
    """How many cells of a terminal it takes."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table.  Where not all fit, those with the largest ``drop`` are left out first; 0: never."""

    title: str
    drop: int = 0
    most: int = 20  # cells


@dataclass(frozen=True, slots=True)
class Look:
    """A terminal as a frame needs to know it; ``encoding`` is what it shows."""

    width: int
    height: int
    encoding: str = "utf-8"
    has_blocks: bool = True

    def shown(self, text: str) -> str:
        """With a question mark for what the terminal cannot show."""
        return text if text.isascii() else text.encode(self.encoding, "replace").decode(self.encoding)

    def cut(self, text: str, width: int) -> str:
        """At most so many cells; what was cut ends in a mark of that."""
        text = self.shown(text)
        if cells(text) <= width:
            return text
        kept, room = "", width - 1
        for character in text:
            room -= _cells_of(character)
            if room < 0:
                break
            kept += character
        return kept + ("…" if self.has_blocks else "~") if width > 0 else ""

    def fit(self, line: TextLine) -> TextLine:
        """At most as wide as the terminal."""
        found, room = [], self.width
        for style, text in line:
            if room > 0 and text:
                found.append((style, self.cut(text, room)))
                room -= cells(found[-1][1])
        return tuple(found)

    def wrapped(self, text: str, indent: int = 0) -> Iterator[str]:
        """In pieces as wide as the terminal, which end between words unless a word is very long."""
        text, width = self.shown(text), max(self.width - indent, 2)
        if cells(text) <= width:
            yield text
            return
        piece = ""
        for character in text:
            if cells(piece) + _cells_of(character) > width:
                place = piece.rfind(" ")
                whole, piece = (piece[:place], piece[place + 1 :]) if place > len(piece) // 2 else (piece, "")
                yield whole
            piece += character
        yield piece

    def table(self, columns: Sequence[Column], rows: Sequence[TextLine]) -> list[TextLine]:
        """
        A line of titles and one for each row, which has a cell for each column.  The last column takes the
        room that is left, at least a third if it needs that.  Of columns that may be left out, those that
        say nothing are.
        """
        titles: TextLine = tuple(("title", column.title) for column in columns)
        lines = (titles, *rows)
        widths = [
            min(max(cells(line[place][1]) for line in lines), column.most)
            for place, column in enumerate(columns)
        ]
        last = len(columns) - 1
        kept = [
            place
            for place, column in enumerate(columns[:last])
            if not column.drop or any(row[place][1] not in {"", "-"} for row in rows)
        ]
        least = max(cells(columns[last].title), min(widths[last], self.width // 3))
        while sum(widths[place] + _GAP for place in kept) + least > self.width:
            worst = max(kept, key=lambda place: columns[place].drop, default=0)
            if worst not in kept or not columns[worst].drop:
                break
            kept.remove(worst)
        return [(*(self._cell(line[place], widths[place]) for place in kept), line[last]) for line in lines]

    def _cell(self, span: Span, width: int) -> Span:
        text = self.cut(span[1], width)
        return span[0], text + " " * (width - cells(text) + _GAP)

    def bar(self, parts: Sequence[BarPart], whole: float, width: int) -> TextLine:
        """
        ``parts`` one after the other, of ``whole``; the rest is dots.  Sizes that do not fit are cut, and
        rounding is done at the ends of parts, so that it does not add up.
        """
        found: list[Span] = [("dim", "[")]
        end, done = 0.0, 0
        for style, character, part in parts:
            end += part
            upto = min(round(width * end / whole), width) if whole > 0 else 0
            found.append((style, character * (upto - done)))
            done = max(done, upto)
        return (*found, ("dim", "." * (width - done)), ("dim", "]"))

    def spark(self, values: Sequence[float | None]) -> str:
        """A character for each; what is not known is a blank."""
        levels = "▁▂▃▄▅▆▇█" if self.has_blocks else "_.,-=+*#"
        top = max((each for each in values if each is not None), default=0.0) or 1.0
        last = len(levels) - 1
        return "".join(" " if each is None else levels[round(each / top * last)] for each in values)
