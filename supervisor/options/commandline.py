"""Whole ``llama-server …`` command lines, as articles print them: for sh, cmd or PowerShell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import UsageError

_PROMPTS = (
    r"PS (?:(?!(?i:\.exe))[^\n>])*>{1,2}",
    r"[A-Za-z]:\\(?:(?!(?i:\.exe)|llama-server )[^\n>])*>",
    r"(?:\([\w.-]+\) )?[\w.-]+@[\w.-]+[^\n$#%]*[$#%] ",
    r"(?:\([\w.-]+\) )?(?:[$%\u276f\u279c]|>{1,2}) ",
)
_PROMPT = re.compile(rf"^[ \t]*(?:{'|'.join(_PROMPTS)})", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$|\A[ \t]*`(?=[^`\n])|`[ \t]*\Z", re.MULTILINE)
_WINDOWS_SIGNS = (
    r"(?:^|[\s\"'=“])[A-Za-z]:\\",
    r"(?i:\.exe)\b",
    r"[\^`][ \t]*$",
    r"\$env:",
    r"^PS ",
    r"(?:^|\s)\.\\\w",
    r"%[A-Za-z_]\w*%",
    r"^\s*set \w+=",
)
_WINDOWS = re.compile("|".join(_WINDOWS_SIGNS), re.MULTILINE)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_POWERSHELL_ASSIGNMENT = re.compile(r"\$env:(\w+)=?(.*)", re.DOTALL | re.IGNORECASE)
_REDIRECTION = re.compile(r"(?:\d|&)?>.*")
_NO_LAUNCH = {
    *("rem", "::", "cd", "pushd", "mkdir", "git", "cmake", "make", "ninja", "brew", "which", "where", "echo")
}
_SERVER = "llama-server"
_INVISIBLE = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u200b": None, "\ufeff": None, "\r": "\n"})


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One llama-server command: what is set for it, what is run, and the raw option list."""

    env: Mapping[str, str]
    program: str
    words: tuple[str, ...]


def split_command(text: str) -> CommandLine:
    """
    Read a pasted command line: continuation lines, quotes, prompts, comments, sh or Windows.

    Whether a backslash is a path or an escape is decided by evidence in the text (a drive letter,
    ``.exe``, a caret at a line's end …).  Variables such as ``$HOME`` stay as they are written.
    Raises UsageError where there is no llama-server, more than one, or an unclosed quote.
    """
    plain = _FENCE.sub("", text.replace("\r\n", "\n").translate(_INVISIBLE).strip())
    windows = _WINDOWS.search(plain) is not None
    lines = split_lines(_PROMPT.sub("", plain), windows=windows)
    env: dict[str, str] = {}
    found: list[CommandLine] = []
    for line in lines:
        if line[0].text.lower() in _NO_LAUNCH:
            continue
        command = _command(line)
        before = line if command is None else line[: command[0]]
        env.update(_assignments([word.text for word in before], whole=command is None))
        if command is not None:
            found.append(CommandLine({}, command[1], tuple(_until_redirection(line[command[2] :]))))
    if len(found) != 1:
        raise _not_one(found)
    return CommandLine(env, found[0].program, found[0].words)


def _command(line: Sequence[Word]) -> tuple[int, str, int] | None:
    """The program's position, the program, and where its options begin."""
    for index, word in enumerate(line):
        name = re.split(r"[/\\]", word.text)[-1].lower().removesuffix(".exe")
        if name == _SERVER:
            return index, word.text, index + 1
        if name == "llama" and [w.text for w in line[index + 1 : index + 2]] == ["serve"]:
            return index, word.text, index + 2
    return None


def _assignments(words: Sequence[str], *, whole: bool) -> dict[str, str]:
    """What the words before a program, or (``whole``) a line of its own, put into the environment."""
    if whole and words[0].lower() == "set" and (found := _ASSIGNMENT.fullmatch(" ".join(words[1:]))):
        return {found[1]: found[2]}
    if whole and (found := _POWERSHELL_ASSIGNMENT.fullmatch(words[0])):
        return {found[1]: found[2] or " ".join(words[1:]).removeprefix("=").strip()}
    exported = not whole or words[0] in {"export", "env"} or all(map(_ASSIGNMENT.fullmatch, words))
    matches = map(_ASSIGNMENT.fullmatch, words if exported else ())
    return {found[1]: found[2] for found in matches if found}


def _until_redirection(words: Sequence[Word]) -> Iterator[str]:
    for word in words:
        if word.bare and _REDIRECTION.fullmatch(word.text):
            return
        yield word.text


def _not_one(found: Sequence[CommandLine]) -> UsageError:
    if found:
        problem = f"There are {len(found)} llama-server commands in this text, and one is wanted."
        return UsageError(problem, hint="Paste them one by one.")
    return UsageError(
        "There is no llama-server command in this text.",
        hint="Paste the whole line, beginning with llama-server (or llama serve).",
    )


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
        comments = _COMMENT_LINES.match(self.text, self.at)  # sh would stop here; articles do not mean it
        self.at = comments.end() if comments else self.at
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
    """Commands as words; in ``windows`` no backslash escapes.  Raises UsageError for an open quote."""
    return _Scanner(text, windows).run()
