"""Words of shell text whose shell is not known: sh, cmd or PowerShell, as printed in articles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import UsageError

_CLOSERS = {
    '"': '"',
    "'": "'",
    **dict.fromkeys("\u201c\u201d\u201e", '\u201d\u201c"'),
    **dict.fromkeys("\u2018\u2019\u201a", "\u2019\u2018'"),
}
_TYPOGRAPHIC = set(_CLOSERS) - {'"', "'"}
_LITERAL = set("'\u2018\u2019\u201a")  # nothing is an escape in these
_CONTINUED = re.compile(r"[\\^`][ \t]*(?=\n|\Z|#[^\n]*(?:\n|\Z))")
_COMMENT_LINES = re.compile(r"(?:[ \t]*#[^\n]*\n)*")
_OPERATORS = re.compile(r"&&|\|\||[;|&]")


@dataclass(frozen=True, slots=True)
class Word:
    """One word; ``bare`` when no part of it was quoted or escaped, so that it may be an operator."""

    text: str
    bare: bool = True


@dataclass(slots=True)
class _Scanner:
    text: str
    windows: bool
    at: int = 0
    word: str | None = None
    bare: bool = True
    lines: list[list[Word]] = field(default_factory=lambda: [[]])

    def run(self) -> list[list[Word]]:
        while self.at < len(self.text):
            self._step(self.text[self.at])
        self._end_word()
        return [line for line in self.lines if line]

    def _step(self, char: str) -> None:
        if char == "\n":
            self._end_word()
            self._end_line()
        elif char in " \t":
            self._end_word()
        elif char in ";&" and self._separates(char):
            self._end_word()
            self._end_line()
        elif char == "#" and self.word is None:
            self.at = self._line_end()
            return
        elif self._opens_quote(char):
            self._quoted(char)
            return
        elif self._continues():
            return
        elif char == "\\" and not self.windows and self.at + 1 < len(self.text):
            self.at += 1
            self._add(self.text[self.at], bare=False)
        else:
            self._add(char)
        self.at += 1

    def _separates(self, char: str) -> bool:
        """A ``;`` or ``&`` at a word's end; within a word (``--samplers top_k;min_p``) it is text."""
        following = self.text[self.at + 1 : self.at + 2]
        call_operator = char == "&" and self.word is None and not self.lines[-1]  # PowerShell's
        return not following.strip() and not call_operator

    def _continues(self) -> bool:
        """A line that goes on: the mark must end the line, and stand alone unless it is a sh backslash."""
        found = _CONTINUED.match(self.text, self.at)
        if found is None or (self.word is not None and (self.windows or found.end() - self.at > 1)):
            return False
        self.at = found.end()
        self.at = self._line_end() + 1
        if comments := _COMMENT_LINES.match(
            self.text, self.at
        ):  # sh would stop here; articles do not mean it
            self.at = comments.end()
        return True

    def _line_end(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end

    def _opens_quote(self, char: str) -> bool:
        """Typographic quotes open only where a word or a value begins: an apostrophe is none."""
        begins = self.word is None or self.word.endswith(("=", ":", ","))
        return char in _CLOSERS and (char not in _TYPOGRAPHIC or begins)

    def _quoted(self, opener: str) -> None:
        start, closers = self.at, _CLOSERS[opener]
        self._add("", bare=False)
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] not in closers:
            if opener not in _LITERAL and self._is_escape():
                self.at += 1
            self._add(self.text[self.at], bare=False)
            self.at += 1
        if self.at >= len(self.text):
            line = self.text.count("\n", 0, start) + 1
            raise UsageError(
                f"The quote {opener} in line {line} of the command line is never closed.",
                hint=f"It begins here: {self.text[start : start + 40].splitlines()[0]}",
            )
        self.at += 1

    def _is_escape(self) -> bool:
        pair = self.text[self.at : self.at + 2]
        if self.windows:
            return pair in {'\\"', '`"', "`$", "``"}
        return pair in {'\\"', "\\\\", "\\$", "\\`"}

    def _add(self, text: str, *, bare: bool = True) -> None:
        self.word = (self.word or "") + text
        self.bare = self.bare and bare

    def _end_word(self) -> None:
        if self.word is not None:
            self._emit(Word(self.word, self.bare))
        self.word, self.bare = None, True

    def _emit(self, word: Word) -> None:
        if not (word.bare and _OPERATORS.fullmatch(word.text)):
            self.lines[-1].append(word)
        elif word.text != "&" or self.lines[-1]:
            self._end_line()

    def _end_line(self) -> None:
        if self.lines[-1]:
            self.lines.append([])


def split_lines(text: str, *, windows: bool) -> list[list[Word]]:
    """
    The commands of ``text`` as words: continuation lines joined, comments dropped.

    With ``windows`` a backslash is part of a path; otherwise it escapes, as in sh.  Raises UsageError
    for a quote that is never closed.
    """
    return _Scanner(text, windows).run()
