"""Whole ``llama-server …`` command lines, as articles print them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .shellwords import Word, split_lines

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
    "rem",
    "::",
    "cd",
    "pushd",
    "mkdir",
    "git",
    "cmake",
    "make",
    "ninja",
    "brew",
    "which",
    "where",
    "echo",
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
    """Where the program stands, the program, and where its options begin."""
    for index, word in enumerate(line):
        name = re.split(r"[/\\]", word.text)[-1].lower().removesuffix(".exe")
        if name == _SERVER:
            return index, word.text, index + 1
        if name == "llama" and [w.text for w in line[index + 1 : index + 2]] == ["serve"]:
            return index, word.text, index + 2
    return None


def _assignments(words: Sequence[str], *, whole: bool) -> dict[str, str]:
    """What the words before a program, or (``whole``) a line of its own, put into the environment."""
    env: dict[str, str] = {}
    if whole and words[0].lower() == "set" and (found := _ASSIGNMENT.fullmatch(" ".join(words[1:]))):
        return {found[1]: found[2]}
    if whole and (found := _POWERSHELL_ASSIGNMENT.fullmatch(words[0])):
        return {found[1]: found[2] or " ".join(words[1:]).removeprefix("=").strip()}
    exported = not whole or words[0] in {"export", "env"} or all(map(_ASSIGNMENT.fullmatch, words))
    for word in words if exported else ():
        if found := _ASSIGNMENT.fullmatch(word):
            env[found[1]] = found[2]
    return env


def _until_redirection(words: Sequence[Word]) -> Iterator[str]:
    for word in words:
        if word.bare and _REDIRECTION.fullmatch(word.text):
            return
        yield word.text


def _not_one(found: Sequence[CommandLine]) -> UsageError:
    if found:
        return UsageError(
            f"There are {len(found)} llama-server commands in this text, and one is wanted.",
            hint="Paste them one by one.",
        )
    return UsageError(
        "There is no llama-server command in this text.",
        hint="Paste the whole line, beginning with llama-server (or llama serve).",
    )
