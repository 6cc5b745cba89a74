"""
A launch of llama-server in the text of a shell, as articles, scripts and terminals have it.

Nothing in the text is run. What the text itself does not tell (variables of elsewhere) is never stored as if
it were a value: `CommandLine.notes` name it, with everything else that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import UsageError
from .meanings import SECRETS, canonical, understand
from .script_values import Text, as_options
from .shell_script import FoundLaunch, LaunchScript

_PROMPTS = (
    r"PS (?:(?!(?i:\.exe))[^\n>])*>{1,2}",
    r"[A-Za-z]:\\(?:(?!(?i:\.exe)|llama-server )[^\n>])*>",
    r"(?:\([\w.-]+\) )?[\w.-]+@[\w.-]+[^\n$#%]*[$#%] ",
    r"(?:\([\w.-]+\) )?[$%\u276f\u279c] ",
    r"(?:\([\w.-]+\) )?>{1,2} (?=\s*[-\u2010-\u2015]|\S*llama-server(?:\.exe)?(?:\s|$)|[A-Za-z_]\w*=)",
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
    r"(?i:^\s*@?set \"?\w+=)",
    r"(?i:^\s*@?echo off\b)",
    r"(?i:\bStart-Process\b)",
    r"^\s*\$\w+\s*=\s*(?:@\(|['\"])",
)
_WINDOWS = re.compile("|".join(_WINDOWS_SIGNS), re.MULTILINE)
_INVISIBLE = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u200b": None, "\ufeff": None, "\r": "\n"})
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


def split_command(text: str) -> CommandLine:
    """
    The one launch in a text: continuation lines, quotes, prompts, comments, sh or Windows.

    Whether a backslash is a path or an escape is decided by evidence in the text (a drive letter, ``.exe``, a
    caret at a line's end …). Raises UsageError where there is no llama-server, more than one, or an unclosed
    quote.
    """
    return the_launch(script_of(text))


def script_of(text: str) -> LaunchScript:
    """What is found in a text, without its prompts, fences and characters that nobody sees."""
    plain = _FENCE.sub("", text.replace("\r\n", "\n").translate(_INVISIBLE).strip())
    script = LaunchScript(windows=is_windows(plain))
    script.run(_with_splats(_PROMPT.sub("", plain)))
    return script


def _with_splats(text: str) -> str:
    """PowerShell: ``$p = @{ FilePath = 'x' }`` with ``Start-Process @p`` is ``Start-Process -FilePath 'x'``."""
    for table in re.finditer(r"\$(\w+)\s*=\s*@\{([^{}]*)\}", text):
        parameters = re.sub(r"(?m)(?:^|;)\s*(\w+)\s*=\s*", r" -\1 ", table[2])
        inline = " ".join(parameters.split("\n"))
        text = re.sub(rf"(?i)@{table[1]}\b", lambda _, inline=inline: inline, text.replace(table[0], ""))
    return text


def is_windows(text: str) -> bool:
    """Whether it is for cmd or PowerShell, by what it shows."""
    return _WINDOWS.search(text) is not None


def the_launch(script: LaunchScript) -> CommandLine:
    """Raises UsageError where there is none, or more than one that differ."""
    found = [_finished(launch, script) for launch in script.launches()]
    different = {(each.program, each.words): each for each in found}
    if len(different) != 1:
        raise _not_one(list(different.values()))
    return next(iter(different.values()))


def _not_one(found: Sequence[CommandLine]) -> UsageError:
    if found:
        problem = f"There are {len(found)} llama-server commands in this text, and one is wanted."
        lines = "".join(f"\n  {' '.join((each.program, *each.words))[:70]}" for each in found[:5])
        return UsageError(problem + lines, hint="Paste them one by one.")
    return UsageError(
        "There is no llama-server command in this text.",
        hint="Paste the whole line, beginning with llama-server (or llama serve).",
    )


def _finished(launch: FoundLaunch, script: LaunchScript) -> CommandLine:
    """As values, without what the text leaves open."""
    if launch.container is not None:
        launch.container.apply(launch)
    given, env = as_options({**script.variables.environment(), **launch.env})
    closing = _Closing()
    words = closing.words([*given, *launch.words])
    settings = closing.environment(env)
    notes = [*launch.notes, *closing.notes]
    if script.conditional:
        notes.append(f"taken as if its condition held: {_listed(script.conditional)}")
    if script.left_out:
        notes.append(f"left out, as it is no part of the launch: {_listed(script.left_out)}")
    program = launch.program.text
    return CommandLine(settings, program, words, tuple(notes), launch.folder, tuple(closing.kept))


def _listed(texts: Sequence[str]) -> str:
    shown = [text if len(text) <= 60 else f"{text[:59]}…" for text in dict.fromkeys(texts)]
    more = [f"and {len(shown) - 12} more"] if len(shown) > 12 else []
    return "; ".join([*shown[:12], *more])


def _says_more(text: str, unknown: Sequence[str]) -> bool:
    """Whether there is a name besides the variables."""
    for each in unknown:
        text = text.replace(each, "")
    return re.search(r"\w", text) is not None


@dataclass(slots=True)
class _Closing:
    """Takes out what has a variable that the text does not define, and names it."""

    notes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def words(self, texts: Sequence[Text]) -> tuple[str, ...]:
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
                unknown += [text.text for text in values if _WHOLE_VARIABLE.fullmatch(text.text)]
                unknown += [attached] if _WHOLE_VARIABLE.fullmatch(attached) else []
            if unknown and not (name in _KEPT and _says_more(group[-1].text, unknown)):
                self._leave_out(group, unknown, is_secret=name in SECRETS)
            else:
                self.kept += unknown
                words += [text.text for text in group]
            at += len(group)
        return tuple(words)

    def _leave_out(self, group: Sequence[Text], unknown: Sequence[str], *, is_secret: bool) -> None:
        names = ", ".join(dict.fromkeys(unknown))
        written = " ".join(text.text for text in group)
        verb = "has" if len(set(unknown)) == 1 else "have"
        also = "; a key is made with goss-supervisor key add" if is_secret else ""
        self.notes.append(f"{written} is left out: the text does not say what value {names} {verb}{also}")

    def environment(self, env: Mapping[str, Text]) -> dict[str, str]:
        settings = {}
        for name, value in env.items():
            text, unknown = value.text, list(value.unknown)
            if name in _LISTS and name != "PATH" and unknown:  # …:$LD_LIBRARY_PATH: what was there before
                parts = [part for part in text.split(":") if part and not any(u in part for u in unknown)]
                self.notes.append(f"{name} is {':'.join(parts)}, without {', '.join(unknown)}")
                text, unknown = ":".join(parts), []
            if name in SECRETS.values() and _WHOLE_VARIABLE.fullmatch(text):
                unknown.append(text)
            if unknown or name == "PATH":
                self._leave_out([Text(f"{name}={text}")], unknown or [name], is_secret=False)
            elif text:
                settings[name] = text
        return settings
