"""The variables of a script, and words with their values put in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .shell_words import Argument, Piece, Reference, Word, split_script

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_EXPORTS = {"export", "declare", "readonly", "local", "typeset", "setenv"}
_MAKE = {"=", ":=", "::=", "?=", "+="}
_FISH_FLAGS = re.compile(r"-[xglUuf]+|--(?:export|global|local|universal)")
_BEFORE_VARIABLE = {"-e", "-E", "-i", "-S", "--setenv", "--env", "--"}
_HOMES = {"home", "userprofile"}
_HERE = {"pwd", "cd", "~dp0", "psscriptroot"}  # the folder of the script, or where it was started


class Variables:
    """
    ``exported`` are those that a program sees. What a reference used is no setting for the server.

    ``assigned`` are all names that were set, in order; those in ``kept`` keep the value that they have.
    """

    def __init__(self, *, windows: bool) -> None:
        self.assigned: list[str] = []
        self.kept: frozenset[str] = frozenset()
        self._windows = windows
        self._values: dict[str, tuple[Argument, ...]] = {}
        self._exported: set[str] = set()
        self._used: set[str] = set()

    def define(self, values: Mapping[str, str], *, exported: bool = False) -> None:
        """Values from outside of the script; only ``exported`` ones reach the server."""
        for name, value in values.items():
            self._set(name, (Argument(value),))
            (self._exported if exported else self._used).add(name)

    def environment(self) -> dict[str, Argument]:
        """What the script leaves to the server: exported, or set and used for nothing else."""
        seen = {name for name in self._values if name in self._exported or name not in self._used}
        return {name: self._values[name][0] for name in self._values if name in seen and self._values[name]}

    def expand(self, word: Word) -> list[Argument]:
        """The words that it stands for: several for a list, or for a variable without quotes."""
        if word.items is not None:
            return [text for item in word.items for text in self.expand(item)]
        pieces = [piece for piece in word.pieces if piece.text]
        if len(pieces) == 1 and (reference := pieces[0].reference):
            values = self._known(reference)
            if values is not None:
                whole = pieces[0].quoted and not reference.is_list and len(values) < 2
                return (
                    list(values)
                    if whole
                    else [part for value in values for part in self._split(value, values)]
                )
        text, unknown = "", tuple[str, ...]()
        for piece in word.pieces:
            values = self._known(piece.reference) if piece.reference else None
            if piece.reference is None:
                text += piece.text
            elif values is not None:
                text += " ".join(value.text for value in values)
                unknown += tuple(each for value in values for each in value.unknown)
            elif piece.reference.name.lower() in _HOMES | _HERE and (not text or text[-1] in "=:,"):
                text += _folder_of(piece.reference.name)
            else:
                text += piece.text
                unknown += (piece.text,) if piece.reference.is_certain else ()
        return [Argument(text, unknown, word.is_bare)]

    def _known(self, reference: Reference) -> tuple[Argument, ...] | None:
        self._used.add(reference.name)
        found = self._values.get(reference.name)
        if found is None and self._windows:  # cmd and PowerShell do not tell small letters from capitals
            found = next((v for n, v in self._values.items() if n.lower() == reference.name.lower()), None)
            self._used |= {name for name in self._values if name.lower() == reference.name.lower()}
        if found is None and reference.default is not None:
            return (Argument(reference.default),)
        return found

    def _split(self, value: Argument, values: Sequence[Argument]) -> list[Argument]:
        """A single value of several words, as a shell splits one that is not in quotes."""
        if not value.text:
            return []  # a shell passes no word for it
        if len(values) > 1 or not re.search(r"\s", value.text):
            return [value]
        if not self._windows and not re.search("[\"'\\\\]", value.text):
            words = value.text.split()
            return [Argument(word, tuple(each for each in value.unknown if each in word)) for word in words]
        commands = split_script(value.text, windows=self._windows)
        return [text for command in commands for word in command.words for text in self.expand(word)]

    def split_prefix(self, texts: Sequence[Argument]) -> tuple[dict[str, Argument], list[Argument]]:
        """The assignments before a program, ``A=1 llama-server``, and the other words there."""
        own: dict[str, Argument] = {}
        others: list[Argument] = []
        option = ""
        for each in texts:
            found = _ASSIGNMENT.fullmatch(each.text)
            if found and (not option or option in _BEFORE_VARIABLE):  # not: systemd-run -p MemoryMax=20G
                own[found[1]] = replace(each, text=found[3])
            else:
                others.append(each)
            option = each.text if each.text.startswith("-") else ""
        return own, others

    def assign(self, words: Sequence[Word]) -> bool:
        """Whether a whole command sets variables, in the way of any shell, make or just."""
        first, rest = words[0].text, words[1:]
        name = first.lower().lstrip("@")
        if rest and name in _EXPORTS:
            return self._exports(name, rest)
        if rest and name == "set":
            return self._sets(rest)
        reference = words[0].pieces[0].reference
        if reference and words[0].text.startswith("$"):
            return self._powershell(reference, words)
        if len(rest) >= 1 and rest[0].text in _MAKE and re.fullmatch(r"[A-Za-z_][\w-]*", first):
            value = " ".join(text.text for word in rest[1:] for text in self.expand(word))
            return self._set(first, (Argument(value),))
        if all(_ASSIGNMENT.fullmatch(word.text) for word in words):
            return all(self._assigned(word) for word in words)
        return False

    def _set(self, name: str, values: tuple[Argument, ...]) -> bool:
        self.assigned.append(name)
        if name not in self.kept:
            self._values[name] = values
        return True

    def known_names(self) -> frozenset[str]:
        """Those whose value the text says in full."""
        values = self._values.items()
        return frozenset(
            n for n, parts in values if any(p.text for p in parts) and not any(p.unknown for p in parts)
        )

    def _assigned(self, word: Word) -> bool:
        found = _ASSIGNMENT.fullmatch(word.text)
        if found is None:
            return False
        values = self._value(_behind(word, found.start(3)))
        before = self._values.get(found[1], ()) if found[2] else ()
        return self._set(found[1], _grown(before, values, is_list=word.items is not None))

    def _value(self, word: Word) -> tuple[Argument, ...]:
        if word.items is not None:
            return tuple(self.expand(word))
        pieces = tuple(replace(piece, quoted=True) for piece in word.pieces)  # an assignment splits nothing
        return tuple(self.expand(Word(pieces or (Piece("", quoted=True),))))

    def _exports(self, name: str, rest: Sequence[Word]) -> bool:
        if name == "setenv" and len(rest) == 2:
            self._exported.add(rest[0].text)
            return self._set(rest[0].text, self._value(rest[1]))
        flags = "".join(word.text for word in rest if word.text.startswith("-"))
        plain = [word for word in rest if not word.text.startswith("-")]
        if len(plain) > 2 and plain[1].text in _MAKE:  # make's and just's: export NAME := value
            plain = [Word((Piece(f"{plain[0].text}="), *plain[2].pieces))]
        for word in plain:
            self._assigned(word)
            if name == "export" or "x" in flags:
                self._exported.add(word.text.partition("=")[0])
        return True

    def _sets(self, rest: Sequence[Word]) -> bool:
        """Cmd's ``set A=b c`` and fish's ``set -x A b c``."""
        whole = " ".join(word.text for word in rest)
        if found := _ASSIGNMENT.fullmatch(whole):
            value = " ".join(text.text for word in rest for text in self.expand(word))
            return self._set(found[1], (Argument(value.partition("=")[2]),))
        flags = [word.text for word in rest if _FISH_FLAGS.fullmatch(word.text)]
        names = [word for word in rest if word.text not in flags]
        if len(names) < 2 or not re.fullmatch(r"[A-Za-z_]\w*", names[0].text):
            return False
        if any("x" in flag for flag in flags):
            self._exported.add(names[0].text)
        return self._set(names[0].text, tuple(text for word in names[1:] for text in self.expand(word)))

    def _powershell(self, reference: Reference, words: Sequence[Word]) -> bool:
        """``$env:A = "b"`` and ``$list = @('-m', 'x')``."""
        head = Word(words[0].pieces[1:])
        operator = head.text if head.text in {"=", "+="} else ""
        if not head.pieces and len(words) > 1 and words[1].text in {"=", "+=", "=@"}:
            operator, values = words[1].text, (words[1].items and (words[1],)) or words[2:]
        elif head.text.startswith("="):
            values = (_behind(Word(head.pieces, words[0].items), 1), *words[1:])
        else:
            return False
        given = tuple(text for word in split_commas(values) for text in self._value(word))
        before = self._values.get(reference.name, ()) if operator == "+=" else ()
        if words[0].text.lower().startswith("$env:"):
            self._exported.add(reference.name)
        return self._set(reference.name, _grown(before, given, is_list=len(given) > 1))


def _grown(
    before: tuple[Argument, ...], more: tuple[Argument, ...], *, is_list: bool
) -> tuple[Argument, ...]:
    """A list gets more items, and a text a longer end."""
    if is_list or len(before) != 1 or len(more) != 1:
        return (*before, *more)
    return (Argument(before[0].text + more[0].text, (*before[0].unknown, *more[0].unknown)),)


def _folder_of(name: str) -> str:
    """``%~dp0`` ends with a backslash."""
    return "~" if name.lower() in _HOMES else ".\\" if name.startswith("~") else "."


def _behind(word: Word, start: int) -> Word:
    """The word without its first ``start`` characters, which no reference has."""
    first, *others = word.pieces
    if len(first.text) < start and others:
        return _behind(Word(tuple(others), word.items), start - len(first.text))
    return Word((replace(first, text=first.text[start:]), *others), word.items)


def split_commas(words: Sequence[Word]) -> list[Word]:
    """PowerShell's list without brackets: ``'-m','x'`` is one word to the scanner."""
    split: list[Word] = []
    for word in words:
        if word.items is not None:
            split.append(word)
            continue
        current: list[Piece] = []
        for piece in word.pieces:
            parts = [piece.text] if piece.quoted or piece.reference else piece.text.split(",")
            for index, part in enumerate(parts):
                if index:
                    split.append(Word(tuple(current)))
                    current = []
                if part or piece.quoted:
                    current.append(replace(piece, text=part))
        split.append(Word(tuple(current)))
    return [word for word in split if word.pieces or word.items is not None]


def start_parameters(texts: Sequence[Argument]) -> tuple[dict[str, list[Argument]], list[Argument]]:
    """PowerShell's parameters by name in small letters, each with its list, and what has no name."""
    given: dict[str, list[Argument]] = {}
    rest: list[Argument] = []
    current: list[Argument] | None = None
    for each in texts:
        found = re.fullmatch(r"-([A-Za-z]{2,})", each.text) if each.is_bare else None
        if found and found[1].lower() in START_PARAMETERS:
            values = given.setdefault(found[1].lower(), [])
            current = None if found[1].lower() in _SWITCHES else values
        elif current is not None:
            current.append(each)
        elif each.text not in {"$true", "$false"}:
            rest.append(each)
    return given, rest


_SWITCHES = {"nonewwindow", "wait", "passthru"}
STARTS = {"start-process", "saps"}
_START_NAMES = (
    *(
        "FilePath",
        "ArgumentList",
        "Args",
        "WorkingDirectory",
        "NoNewWindow",
        "WindowStyle",
        "Wait",
        "PassThru",
    ),
    *("RedirectStandardOutput", "RedirectStandardError", "RedirectStandardInput", "Verb"),
)
START_PARAMETERS = {name.lower(): name for name in _START_NAMES}
