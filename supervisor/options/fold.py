"""A raw option list, as pasted from an article of any era, becomes meanings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import dialect
from .meanings import SECRETS, Reading, canonical, understand
from .settle import Said, hear, settle, unknown
from .types import Folded, OptionValue, Problem, Translation
from .values import Kind, kind

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"  # what editors make of - and --
_SWITCH_WORDS = {"on", "off", "auto", "true", "false", "enabled", "disabled", "0", "1"}
_NUMBER = re.compile(r"-?\.?[0-9]")


def fold(words: Sequence[str]) -> Folded:
    """
    What an option list means: ``-ngl 99 -fa`` is ``gpu-layers: 99, flash-attn: on``.

    Every repair (typographic dashes, ``--flag=value``, a bare ``-fa``, duplicates) is a translation;
    what cannot be understood is a problem, and the rest is folded all the same.
    """
    reader = _Reader(words)
    while reader.at < len(words):
        reader.step()
    folded = settle(reader.said, reader.problems, last_wins=True)
    return Folded(folded.options, (*reader.translations, *folded.translations), folded.problems)


@dataclass(slots=True)
class _Reader:
    words: Sequence[str]
    at: int = 0
    said: list[Said] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    translations: list[Translation] = field(default_factory=list)

    def step(self) -> None:
        """Read one option with what belongs to it."""
        written = self._take()
        spelling, attached = self._repaired(written)
        reading = _understood(spelling)
        if reading is None:
            self._reject(written)
        elif attached is not None:
            self._say(spelling, attached)
        else:
            self._say_following(spelling, reading)

    def _repaired(self, written: str) -> tuple[str, str | None]:
        """The spelling in ASCII dashes, and the value behind ``=`` if there is one."""
        spelling = _ascii_dashes(written)
        if spelling != written and _understood(spelling.partition("=")[0]):
            name, spelt = written.partition("=")[0], spelling.partition("=")[0]
            self._note(name, spelt, reason="the dashes were typographic ones")
        name, equals, value = spelling.partition("=")
        if equals and _understood(name) and not _understood(spelling):
            shown = () if canonical(name) in SECRETS else (value,)
            self._note(name if not shown else written, name, *shown, reason="--option=value is not taken")
            return name, value
        return spelling, None

    def _say_following(self, spelling: str, reading: Reading) -> None:
        option = reading.option
        if not option.takes_value:
            self._say(spelling, True)
        elif kind(option) is Kind.SWITCH and not self._switch_word_follows():
            source = dialect.source_of_switch(reading.name)
            reason = "without a value it meant on, and now it takes one"
            self._note(spelling, spelling, "on", reason=reason, source=source)
            self._say(spelling, "on")
        elif len(values := self._values(reading)) < option.arity:
            self.problems.append(Problem(spelling, f"{spelling} needs a value: {option.value_hint}"))
        else:
            self._say(spelling, values[0] if option.arity == 1 else tuple(values))

    def _values(self, reading: Reading) -> list[str]:
        values: list[str] = []
        while len(values) < reading.option.arity and self._value_follows():
            values.append(self._take())
        if reading.name in dialect.PAIRED and values and ":" not in values[0] and self._number_follows():
            values[0] += ":" + self._take()
        return values

    def _say(self, spelling: str, value: OptionValue) -> None:
        heard = hear(spelling, value)
        if isinstance(heard, Said):
            self.said.append(heard)
        else:
            self.problems.append(heard)

    def _reject(self, written: str) -> None:
        """An option that nobody knows, with the words that may be its values; or a word that is no option."""
        if not written.startswith(("-", *_DASHES)):
            reason = f"{written!r} is not an option, and llama-server takes nothing else"
            self.problems.append(Problem(written, reason))
            return
        self.problems.append(unknown(_ascii_dashes(written).partition("=")[0]))
        while "=" not in written and self._value_follows():
            self._take()

    def _note(self, written: str, *rendered: str, reason: str, source: str = "") -> None:
        self.translations.append(Translation(written, rendered, reason, source))

    def _take(self) -> str:
        self.at += 1
        return self.words[self.at - 1]

    def _peek(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def _switch_word_follows(self) -> bool:
        return (self._peek() or "").lower() in _SWITCH_WORDS

    def _number_follows(self) -> bool:
        return _NUMBER.match(self._peek() or "") is not None

    def _value_follows(self) -> bool:
        following = self._peek()
        return following is not None and not _is_option(following)


def _is_option(word: str) -> bool:
    """Whether a word is meant as an option; a negative number is not, nor is text that begins with a dash."""
    spelling = _ascii_dashes(word)
    if _understood(spelling) or _understood(spelling.partition("=")[0]):
        return True
    return re.match(r"--[a-z]", spelling) is not None and " " not in word


def _understood(spelling: str) -> Reading | None:
    return understand(spelling) if spelling.startswith("-") else None


def _ascii_dashes(word: str) -> str:
    """A dash that an editor made stands for ``--`` or for ``-``: whichever gives an option."""
    rest = word.lstrip("-" + _DASHES)
    if rest == word or not any(dash in word[: len(word) - len(rest)] for dash in _DASHES):
        return word
    name = rest.partition("=")[0]
    return f"-{rest}" if _understood(f"-{name}") and not _understood(f"--{name}") else f"--{rest}"
