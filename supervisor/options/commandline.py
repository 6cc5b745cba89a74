"""
A launch of llama-server in the text of a shell, as articles, scripts and terminals have it.

Nothing in the text is run. `CommandLine.notes` name everything that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import UsageError
from .containers import as_options
from .launch_words import Closing, CommandLine
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
    r"(?i:^[ \t]*@?set \"?\w+=)",
    r"(?i:^[ \t]*@?echo off\b)",
    r"(?i:\bStart-Process\b)",
    r"^[ \t]*\$\w+[ \t]*=[ \t]*(?:@\(|['\"])",
)
_WINDOWS = re.compile("|".join(_WINDOWS_SIGNS), re.MULTILINE)
_RECIPE = re.compile(
    r"^[a-z][\w-]*((?:[ \t]+[*+$]?\w+(?:=(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s:]+))?)+)[ \t]*:[ \t]*$", re.MULTILINE
)
_INVISIBLE = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u200b": None, "\ufeff": None, "\r": "\n"})


def script_of(text: str) -> LaunchScript:
    """What is found in a text, without its prompts, fences and characters that nobody sees."""
    plain = _FENCE.sub("", text.replace("\r\n", "\n").translate(_INVISIBLE).strip())
    script = LaunchScript(windows=is_windows(plain))
    script.variables.define(_parameters(plain))
    script.run(_with_splats(_PROMPT.sub("", plain)))
    return script


def _parameters(text: str) -> dict[str, str]:
    """Defaults of a PowerShell script, ``param([int]$Ctx = 4096)``, or of just, ``serve port="9000":``."""
    if recipes := _RECIPE.findall(text):
        found = re.findall(r"(\w+)=(?:\"([^\"]*)\"|'([^']*)'|([^\s:]+))", " ".join(recipes))
        return {name: double or single or bare for name, double, single, bare in found}
    begins = re.search(r"^[ \t]*param[ \t]*\(", text, re.MULTILINE | re.IGNORECASE)
    end = re.search(r"^[ \t]*\)|\)[ \t]*$", text[begins.end() :], re.MULTILINE) if begins else None
    if begins is None or end is None:
        return {}
    inner = text[begins.end() : begins.end() + end.start()]
    found = re.findall(r"\$(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([\w.-]+))", inner)
    return {name: double or single or bare for name, double, single, bare in found}


def _with_splats(text: str) -> str:
    """PowerShell: with ``$p = @{ FilePath = 'x' }``, ``@p`` is ``-FilePath 'x'``."""
    for table in re.finditer(r"\$(\w+)\s*=\s*@\{([^{}]*)\}", text):
        parameters = re.sub(r"(?m)(?:^|;)\s*(\w+)\s*=\s*", r" -\1 ", table[2])
        inline = " ".join(parameters.split("\n")).replace("\\", "\\\\")
        text = re.sub(rf"(?i)@{table[1]}\b", inline, text.replace(table[0], ""))
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
    closing = Closing()
    words = closing.words([*given, *launch.words])
    settings = closing.environment(env)
    notes = [*launch.notes, *closing.notes]
    if script.conditional:
        notes.append(f"taken as if its condition held: {_listed(script.conditional)}")
    if script.alternatives:
        notes.append(f"not taken, as an earlier branch says otherwise: {_listed(script.alternatives)}")
    if script.left_out:
        notes.append(f"left out, as it is no part of the launch: {_listed(script.left_out)}")
    program = launch.program.text
    return CommandLine(settings, program, words, tuple(notes), launch.folder, tuple(closing.kept))


def _listed(texts: Sequence[str]) -> str:
    shown = [text if len(text) <= 60 else f"{text[:59]}…" for text in dict.fromkeys(texts)]
    more = [f"and {len(shown) - 12} more"] if len(shown) > 12 else []
    return "; ".join([*shown[:12], *more])
