"""
Splits the text of a shell into commands and words: sh, cmd or PowerShell.

Nothing is run or looked up. A variable stays a reference, which `shell_script` replaces where the text itself
says what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import UsageError


@dataclass(frozen=True, slots=True)
class Reference:
    """``name`` is "" for what no text can tell: ``$1``, ``$(date)``. ``${X:-8192}`` has a ``default``."""

    name: str
    default: str | None = None
    is_list: bool = False
    is_certain: bool = True  # {{model}} is a reference only where the text defines it


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a word; ``text`` is what was written, without quotes."""

    text: str
    quoted: bool = False
    reference: Reference | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """``items`` are those of ``NAME=( … )`` and ``@( … )``."""

    pieces: tuple[Piece, ...]
    items: tuple[Word, ...] | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def is_bare(self) -> bool:
        """No part of it was quoted or escaped, so that it may be an operator."""
        return not any(piece.quoted for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Argument:
    """One word for a program; ``unknown`` are the references in it that the text does not define."""

    text: str
    unknown: tuple[str, ...] = ()
    is_bare: bool = False


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """
    ``written`` is its text; ``ends_line`` if nothing but the end of the line ended it; ``is_fallback`` if it
    follows ``||``.
    """

    words: tuple[Word, ...]
    written: str
    ends_line: bool
    is_fallback: bool = False


_CLOSERS = {
    '"': '"',
    "'": "'",
    **dict.fromkeys("\u201c\u201d\u201e", '\u201d\u201c"'),
    **dict.fromkeys("\u2018\u2019\u201a", "\u2019\u2018'"),
}
_TYPOGRAPHIC = set(_CLOSERS) - {'"', "'"}
_LITERAL = set("'\u2018\u2019\u201a")  # nothing is an escape in these
_BACKSLASHES = re.compile(r"(\\+)(?=\")")
_CONTINUED = re.compile(r"[\\^`][ \t]*(?=\n|\Z|#[^\n]*(?:\n|\Z))")
_COMMENT_LINES = re.compile(r"(?:[ \t]*#[^\n]*\n)*")
_OPERATORS = re.compile(r"&&|\|\||\|&|[;|&]")
_LIST_BEGINS = re.compile(r"[A-Za-z_]\w*\+?=|@")
_SUBSTITUTION_BEGINS = re.compile(r"[<>]\Z")

_DOLLAR = re.compile(
    r"\$\{?env:(?P<env>\w+)\}?"
    r"|\$\{(?P<braced>\w+)(?P<all>\[[@*]\])?(?:(?::?[-=])(?P<default>[^{}]*))?\}"
    r"|\$\((?P<make>[A-Za-z_]\w*)\)"
    r"|\$\{\{[^{}]*\}\}|\$\{[^{}]*\}"
    r"|\$(?P<plain>[A-Za-z_]\w*)"
    r"|\$[@*#?!0-9]",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"%(?P<name>[A-Za-z_]\w*)%|%(?P<dp>~dp0)|%~[a-z]*[0-9]|%[0-9*]", re.IGNORECASE)
_JUST = re.compile(r"\{\{\s*(?P<name>[A-Za-z_][\w-]*)\s*\}\}")
_BACKTICKS = re.compile(r"`[^`\n]*[^`\n\s][^`\n]*`")
_SPLAT = re.compile(r"@(?P<name>[A-Za-z_]\w*)(?![\w@.])")


def split_script(text: str, *, windows: bool) -> list[ShellCommand]:
    """In ``windows`` no backslash escapes. Raises UsageError for an open quote."""
    return _Scanner(text, windows).run()


def word_of(text: str) -> Word:
    """One word with the references in it, as in a compose file's list, where ``$$`` is a dollar."""
    scanner = _Scanner(text, windows=False)
    while scanner.at < len(text):
        if text.startswith("$$", scanner.at):
            scanner.add("$", quoted=True)
            scanner.at += 2
        elif not scanner.reference(quoted=True):
            scanner.add(text[scanner.at], quoted=True)
            scanner.at += 1
    return Word(tuple(scanner.pieces or (Piece("", quoted=True),)))


@dataclass(slots=True)
class _Scanner:
    text: str
    windows: bool
    at: int = 0
    in_list: bool = False
    pieces: list[Piece] | None = None
    items: tuple[Word, ...] | None = None
    words: list[Word] = field(default_factory=list)
    commands: list[ShellCommand] = field(default_factory=list)
    start: int = 0
    depth: int = 0
    follows_or: bool = False

    def run(self) -> list[ShellCommand]:
        while self.at < len(self.text):
            self._step(self.text[self.at])
        self._end_word()
        self._end_command(ends_line=True)
        return self.commands

    def _step(self, char: str) -> None:
        if char == "\n":
            self._end_word()
            self._end_command(ends_line=True)
        elif char in " \t":
            self._end_word()
        elif char in ";&" and not self.in_list and self._separates(char):
            self._end_word()
            self._end_command()
        elif self.in_list and self.windows and char == ",":
            self._end_word()
        elif char == "#" and self.pieces is None:
            self.at = self._line_end()
            return
        elif self._opens_quote(char):
            self._quoted(char)
            return
        elif self._continues() or self._bracket(char) or self.reference(quoted=False):
            return
        elif char == "\\" and not self.windows and self.at + 1 < len(self.text):
            self.at += 1
            self.add(self.text[self.at], quoted=True)
        else:
            self.add(char)
        self.at += 1

    def _separates(self, char: str) -> bool:
        """A ``;`` or ``&`` at a word's end; within a word (``--samplers top_k;min_p``) it is text."""
        following = self.text[self.at + 1 : self.at + 2]
        call_operator = char == "&" and self.pieces is None and not self.words  # PowerShell's
        return not following.strip() and not call_operator

    def _continues(self) -> bool:
        """A line that goes on: the mark must end the line, and stand alone unless it is a sh backslash."""
        found = _CONTINUED.match(self.text, self.at)
        if found is None or (self.pieces is not None and (self.windows or found.end() - self.at > 1)):
            return False
        self.at = found.end()
        self.at = self._line_end() + 1
        comments = _COMMENT_LINES.match(self.text, self.at)  # sh would stop here; articles do not mean it
        self.at = comments.end() if comments else self.at
        return True

    def _bracket(self, char: str) -> bool:
        """A list, the text of ``>( … )``, and the brackets of a subshell, which are left out."""
        if char == "(" and self.pieces is not None and self.items is None:
            written = "".join(piece.text for piece in self.pieces)
            if _LIST_BEGINS.fullmatch(written):
                return self._list()
            if _SUBSTITUTION_BEGINS.search(written):
                return self._substitution("")
        if char == "(" and self.pieces is None and not self.words:
            self.depth += 1
            self.at += 1
            return True
        if char == ")" and self.depth:
            self._end_word()
            self._end_command()
            self.depth -= 1
            self.at += 1
            return True
        return False

    def _list(self) -> bool:
        inner = _Scanner(self.text, self.windows, self.at + 1, in_list=True)
        while inner.at < len(self.text) and self.text[inner.at] != ")":
            inner._step(self.text[inner.at])
        inner._end_word()
        if inner.at >= len(self.text):
            raise self._never_closed("bracket", "(", self.at)
        self.items = tuple(inner.words)
        self.at = inner.at + 1
        return True

    def _substitution(self, lead: str) -> bool:
        """To the bracket that closes it."""
        depth, end = 0, self.at + len(lead)
        while end < len(self.text):
            depth += {"(": 1, ")": -1}.get(self.text[end], 0)
            end += 1
            if depth == 0:
                break
        written = self.text[self.at : end]
        own = "PWD" if re.search(r"dirname.*(?:\$0|BASH_SOURCE)", written) else ""  # where the script is
        self.add(written, reference=Reference(own) if lead else None)
        self.at = end
        return True

    def reference(self, *, quoted: bool) -> bool:
        """Take the reference to a variable that begins here."""
        char = self.text[self.at]
        found = name = None
        if char == "$":
            found = _DOLLAR.match(self.text, self.at)
            if found is None and self.text.startswith("$(", self.at):
                return self._substitution("$")
        elif char == "%" and self.windows:
            found = _PERCENT.match(self.text, self.at)
        elif char == "{":
            found = _JUST.match(self.text, self.at)
        elif char == "`" and not self.windows:
            found = _BACKTICKS.match(self.text, self.at)
        elif char == "@" and self.windows and self.pieces is None and self.words:
            found = _SPLAT.match(self.text, self.at)
        if found is None:
            return False
        groups = found.groupdict()
        name = next(
            (groups[each] for each in ("env", "braced", "make", "plain", "name", "dp") if groups.get(each)),
            "",
        )
        meant = Reference(name, groups.get("default"), bool(groups.get("all")), char != "{")
        self.add(found[0], quoted=quoted, reference=meant)
        self.at = found.end()
        return True

    def _line_end(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end

    def _opens_quote(self, char: str) -> bool:
        """Typographic quotes open only where a word or a value begins: an apostrophe is none."""
        begins = self.pieces is None or self.pieces[-1].text.endswith(("=", ":", ","))
        return char in _CLOSERS and (char not in _TYPOGRAPHIC or begins)

    def _quoted(self, opener: str) -> None:
        start, closers = self.at, _CLOSERS[opener]
        self.add("", quoted=True)
        self.at += 1
        while self.at < len(self.text):
            if self._is_doubled(opener):
                self.at += 1
            elif self.text[self.at] in closers:
                break
            elif self.windows and opener == '"' and (found := _BACKSLASHES.match(self.text, self.at)):
                self.add("\\" * (len(found[1]) // 2), quoted=True)  # as Windows reads them before a quote
                self.at += len(found[1])
                if len(found[1]) % 2 == 0:
                    continue
            elif opener not in _LITERAL and self._is_escape():
                self.at += 1
            elif opener not in _LITERAL and self.reference(quoted=True):
                continue
            self.add(self.text[self.at], quoted=True)
            self.at += 1
        if self.at >= len(self.text):
            raise self._never_closed("quote", opener, start)
        self.at += 1

    def _is_doubled(self, opener: str) -> bool:
        """Windows: a quote within quotes is written twice."""
        return self.windows and opener in "\"'" and self.text.startswith(opener * 2, self.at)

    def _never_closed(self, what: str, opener: str, start: int) -> UsageError:
        line = self.text.count("\n", 0, start) + 1
        return UsageError(
            f"The {what} {opener} in line {line} of the command line is never closed.",
            hint=f"It begins here: {self.text[start : start + 40].splitlines()[0]}",
        )

    def _is_escape(self) -> bool:
        pair = self.text[self.at : self.at + 2]
        if self.windows:
            return pair in {'\\"', '`"', "`$", "``"}
        return pair in {'\\"', "\\\\", "\\$", "\\`"}

    def add(self, text: str, *, quoted: bool = False, reference: Reference | None = None) -> None:
        pieces = self.pieces = self.pieces or []
        last = pieces[-1] if pieces else None
        if last and last.reference is None and reference is None and last.quoted == quoted:
            pieces[-1] = Piece(last.text + text, quoted)
        else:
            pieces.append(Piece(text, quoted, reference))

    def _end_word(self) -> None:
        if self.pieces is not None:
            self._emit(Word(tuple(self.pieces), self.items))
        self.pieces = self.items = None

    def _emit(self, word: Word) -> None:
        if self.in_list or not (word.is_bare and _OPERATORS.fullmatch(word.text)):
            self.words.append(word)
        elif word.text != "&" or self.words:
            self._end_command()
            self.follows_or = word.text == "||"

    def _end_command(self, *, ends_line: bool = False) -> None:
        if self.in_list:
            return
        if self.words:
            written = self.text[self.start : self.at].strip().rstrip(";&|").rstrip()
            self.commands.append(ShellCommand(tuple(self.words), written, ends_line, self.follows_or))
            self.follows_or = False
        self.words = []
        self.start = self.at + 1
