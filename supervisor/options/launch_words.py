"""
The words of one llama-server command, without what its text leaves open.

A variable that the text does not define is never stored as if it were a value, and a secret least of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .meanings import SECRETS, canonical, understand
from .script_values import Variables
from .shell_words import Argument, split_script

_PROGRAM = re.compile(r"(?:^|[/\\])llama-server(?:\.exe)?$", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:\\")
_WHOLE_VARIABLE = re.compile(r"\$(?:\{[^}]*\}|\([^)]*\)|env:\w+|\w+)|%\w+%|<[^>]*>", re.IGNORECASE)
_LISTS = {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBRARY_PATH"}
_KEPT = {"model"}  # a path that starts nothing until it is mended, and from which the profile has its name


@dataclass(frozen=True, slots=True)
class CommandLine:
    """
    One llama-server command: what is set for it, what is run, and the raw option list.

    ``folder`` is where it would have run, "" where the text does not say. ``notes`` name what was left out.
    """

    env: Mapping[str, str]
    program: str
    words: tuple[str, ...]
    notes: tuple[str, ...] = ()
    folder: str = ""
    variables: tuple[str, ...] = field(default=())  # in words that were kept in spite of them


def option_list(text: str) -> CommandLine:
    """
    The words of an option list as an article prints it, with or without the program in front.

    Lines need no mark at their ends to belong together. Raises UsageError for an open quote.
    """
    windows = _DRIVE.search(text) is not None
    variables = Variables(windows=windows)
    commands = split_script(text, windows=windows)
    words = [each for command in commands for word in command.words for each in variables.expand(word)]
    at = next((at for at, word in enumerate(words) if _PROGRAM.search(word.text)), None)
    env, _ = variables.split_prefix(words[:at] if at is not None else [])
    closing = Closing()
    options = closing.words(words if at is None else words[at + 1 :])
    settings = closing.environment(env)
    return CommandLine(settings, "llama-server", options, tuple(closing.notes), "", tuple(closing.kept))


def is_variable(text: str) -> bool:
    """Whether it is nothing but a variable, or a placeholder such as ``<your key>``."""
    return _WHOLE_VARIABLE.fullmatch(text) is not None


def _says_more(text: str, unknown: Sequence[str]) -> bool:
    """Whether there is a name besides the variables."""
    for each in unknown:
        text = text.replace(each, "")
    return re.search(r"\w", text) is not None


@dataclass(slots=True)
class Closing:
    """Takes out each option that has a variable which the text does not define; ``notes`` name it."""

    notes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def words(self, texts: Sequence[Argument]) -> tuple[str, ...]:
        words: list[str] = []
        at = 0
        while at < len(texts):
            option, _, attached = texts[at].text.partition("=")
            reading = understand(option) if option.startswith("-") else None
            arity = reading.option.arity if reading and not attached else 0
            values = texts[at + 1 : at + 1 + arity]
            group = (texts[at], *values)
            unknown = [name for text in group for name in text.unknown]
            name = canonical(option) if reading else None
            if name in SECRETS:
                unknown += [text.text for text in values if is_variable(text.text)]
                unknown += [attached] if is_variable(attached) else []
            if unknown and not (name in _KEPT and _says_more(group[-1].text, unknown)):
                self._leave_out(group, unknown, is_secret=name in SECRETS)
            else:
                self.kept += unknown
                words += [text.text for text in group]
            at += len(group)
        return tuple(words)

    def _leave_out(self, group: Sequence[Argument], unknown: Sequence[str], *, is_secret: bool) -> None:
        names = ", ".join(dict.fromkeys(unknown))
        written = " ".join(text.text for text in group)
        verb = "has" if len(set(unknown)) == 1 else "have"
        also = "; a key is made with goss-supervisor key add" if is_secret else ""
        self.notes.append(f"{written} is left out: the text does not say what value {names} {verb}{also}")

    def environment(self, env: Mapping[str, Argument]) -> dict[str, str]:
        settings = {}
        for name, value in env.items():
            text, unknown = value.text, list(value.unknown)
            if name in _LISTS and name != "PATH" and unknown:  # …:$LD_LIBRARY_PATH: what was there before
                parts = [part for part in text.split(":") if part and not any(u in part for u in unknown)]
                self.notes.append(f"{name} is {':'.join(parts)}, without {', '.join(unknown)}")
                text, unknown = ":".join(parts), []
            if name in SECRETS.values() and is_variable(text):
                unknown.append(text)
            if unknown or name == "PATH":
                self._leave_out([Argument(f"{name}={text}")], unknown or [name], is_secret=False)
            elif text:
                settings[name] = text
        return settings
