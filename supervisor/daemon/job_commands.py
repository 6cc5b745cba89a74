"""
The commands of ours that a client of the control socket may have the daemon run, each by a name.

Clients never send words of a command line.  They name a command of this table and give arguments, each of
which is checked here: a page that somebody has taken over can do no more than the table says.  Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import PermissionDenied, UsageError
from ..profile.declare import NAME_PATTERN

_LONGEST_TEXT = 1024 * 1024  # as long as a profile may be
_STDIN = "-"
_QUIET = frozenset(("--json", "--yes", "--stdin", "--"))  # of no interest to people


@dataclass(frozen=True, slots=True)
class _Argument:
    """
    ``option`` is how the command line has it: an option, "" for a name, "-" for its standard input.  A text
    has to fulfil ``pattern``, which is ``what`` in words; without a pattern it is true or false.
    """

    option: str = ""
    pattern: str = ""
    what: str = ""
    needed: bool = True
    most: int = 1  # more than one: a list of so many at most
    least: int = 0
    off: str = ""  # the option where it is false

    @property
    def is_option(self) -> bool:
        return (self.option or self.off).startswith("--")

    @property
    def is_name(self) -> bool:
        return not (self.option or self.off)

    def words(self, name: str, value: object) -> list[str]:
        """Of the command line, or the one text for its standard input.  Raises UsageError."""
        if not self.pattern:
            if not isinstance(value, bool):
                raise _wrong(name, "true or false")
            return [each for each in (self.option if value else self.off,) if each]
        texts = [value] if self.most == 1 else value
        if not isinstance(texts, Sequence) or isinstance(texts, str) or len(texts) > self.most:
            raise _wrong(name, f"a list of at most {self.most} texts")
        if len(texts) < self.least:
            raise _wrong(name, "a list that is not empty")
        return [self._word(name, text) for text in texts]

    def _word(self, name: str, text: object) -> str:
        if not isinstance(text, str) or not re.fullmatch(self.pattern, text, re.DOTALL):
            raise _wrong(name, self.what)
        return f"{self.option}={text}" if self.is_option else text


def _wrong(name: str, what: str) -> UsageError:
    return UsageError(f"The argument {name} must be {what}.")


def _named(what: str, *, needed: bool = True, option: str = "") -> _Argument:
    return _Argument(option, rf"(?=.{{1,100}}\Z){NAME_PATTERN}", what, needed=needed)


def _option(option: str, pattern: str, what: str) -> _Argument:
    return _Argument(option, pattern, what, needed=False)


def _repeated(option: str, pattern: str, what: str) -> _Argument:
    return _Argument(option, pattern, what, needed=False, most=30)


def _flag(option: str) -> _Argument:
    return _Argument(option, needed=False)


_PROFILE = _named("the name of a profile")
_RESULT = _named("the name of a result or of a profile")
_TEXT = _Argument(_STDIN, rf"[^\0]{{0,{_LONGEST_TEXT}}}", "a text of at most 1 MiB")
_KEY = r"[a-z][a-z0-9.-]{0,99}"
_LINE = r"[^\x00-\x1f\x7f]"


@dataclass(frozen=True, slots=True)
class JobCommand:
    """
    ``words`` begin the command line.  ``is_job``: it changes something, so it is listed and goes on without
    the client; the others only read.  ``edits``: it writes a text of the client's into a profile.
    """

    words: tuple[str, ...]
    arguments: Mapping[str, _Argument] = field(default_factory=dict)
    is_job: bool = True
    edits: bool = False


def _reads(*words: str, **arguments: _Argument) -> JobCommand:
    return JobCommand(words, arguments, is_job=False)


JOB_COMMANDS: Mapping[str, JobCommand] = MappingProxyType({
    "load": JobCommand(("load", "--json"), {"profile": _PROFILE, "alone": _flag("--alone")}),
    "switch": JobCommand(("switch", "--json"), {"profile": _PROFILE}),
    "restart": JobCommand(("restart", "--json"), {"server": _named("the name of a server", needed=False)}),
    "pin": JobCommand(
        ("serve", "pin", "--json"), {"profile": _PROFILE, "pinned": _Argument("", off="--off", needed=False)}
    ),
    "reload": JobCommand(("reload", "--json")),
    "pull": JobCommand(
        ("model", "pull", "--json"),
        {
            "model": _Argument(
                pattern=rf"[A-Za-z0-9]{_LINE}{{0,299}}",
                what="a repository, OWNER/REPO:FILE, or the name of a profile",
            )
        },
    ),
    "engine-update": JobCommand(("engine", "update", "--json")),
    "engine-use": JobCommand(
        ("engine", "use", "--json"), {"tag": _Argument("", r"b[0-9]{1,7}", "a tag such as b11429")}
    ),
    "engine-check": JobCommand(("engine", "update", "--check", "--json")),
    "bench": JobCommand(
        ("bench", "--json"),
        {
            "profiles": _Argument("", _PROFILE.pattern, _PROFILE.what, most=20, least=1),
            "scenario": _repeated("--scenario", r"[a-z][a-z0-9-]{0,49}", "the name of a scenario"),
            "seconds": _option("--seconds", r"[0-9]{1,5}", "a number of seconds, as a text"),
            "polite": _flag("--polite"),
        },
    ),
    "tune": JobCommand(
        ("tune", "--json", "--yes"),
        {
            "profile": _PROFILE,
            "goal": _option("--goal", r"[a-z][a-z0-9-]{0,49}", "the name of a goal"),
            "budget": _option("--budget", r"[0-9][0-9a-z. ]{0,19}", "a time such as 20m or 1h"),
            "fix": _repeated("--fix", _KEY, "the key of a setting"),
            "vary": _repeated("--vary", rf"{_KEY}(={_LINE}{{1,200}})?", "KEY or KEY=VALUE,VALUE"),
            "polite": _flag("--polite"),
        },
    ),
    "serve-add": JobCommand(("serve", "add", "--json"), {"profile": _PROFILE}),
    "serve-rm": JobCommand(("serve", "rm", "--json"), {"profile": _PROFILE}),
    "profile-new": JobCommand(
        ("profile", "new", "--json"),
        {"profile": _PROFILE, "from": _named("the name of a profile", option="--from")},
        edits=True,
    ),
    "profile-save": JobCommand(
        ("profile", "save", "--json"),
        {
            "profile": _PROFILE,
            "text": _TEXT,
            "based_on": _Argument("--based-on", r"[0-9a-f]{64}", "the digest of the text that was changed"),
        },
        edits=True,
    ),
    "detect": _reads("detect", "--json"),
    "plan": _reads("plan", "--json", profile=_PROFILE),
    "profiles": _reads("profile", "ls", "--json"),
    "profile": _reads("profile", "show", "--json", profile=_PROFILE),
    "profile-text": _reads("profile", "show", "--text", "--json", profile=_PROFILE),
    "profile-check": _reads(
        "profile", "check", "--stdin", "--json", profile=_PROFILE, text=_TEXT, plan=_flag("--plan")
    ),
    "models": _reads("model", "ls", "--json"),
    "bench-ls": _reads("bench", "ls", "--json"),
    "bench-show": _reads("bench", "show", "--json", id=_RESULT),
    "bench-compare": _reads("bench", "compare", "--json", a=_RESULT, b=_RESULT),
    "tune-surface": _reads("tune", "--show", "--json", profile=_PROFILE),
    "usage": _reads(
        "usage",
        "--json",
        since=_option("--since", r"[0-9][0-9a-z-]{0,19}", "a day such as 2026-11-01, or a time such as 7d"),
        by=_option("--by", r"key|model|day", "key, model or day"),
    ),
    "search": _reads(
        "search",
        "--json",
        query=_Argument("", rf"(?!-){_LINE}{{1,200}}", "a text of one line, at most 200 letters"),
    ),
    "keys": _reads("key", "ls", "--json"),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckedCommand:
    """A command with arguments that were checked: the words of its command line, and its standard input."""

    name: str
    words: tuple[str, ...]
    stdin: str = ""
    is_job: bool = True

    @property
    def shown(self) -> str:
        """The command line for people, without what only programs need."""
        return shlex.join(word for word in self.words if word not in _QUIET)


def checked_command(name: str, arguments: Mapping[str, object], *, can_edit: bool = True) -> CheckedCommand:
    """
    The command of this name.  Raises UsageError for one that is not in the table, or a wrong argument, and
    PermissionDenied for one that writes profiles where the client may not.
    """
    command = JOB_COMMANDS.get(name)
    if command is None:
        raise UsageError(
            f"There is no command {name!r} for clients of the daemon.",
            hint=f"Known: {', '.join(JOB_COMMANDS)}.",
        )
    if command.edits and not can_edit:
        raise PermissionDenied(
            f"{name} needs a session: any user of this computer can reach this page.",
            hint="goss-supervisor open begins one; so does a key of the scope admin.",
        )
    if unknown := [each for each in arguments if each not in command.arguments]:
        known = ", ".join(command.arguments) or "none"
        raise UsageError(f"{name} has no argument {unknown[0]!r}.", hint=f"Known: {known}.")
    missing = [each for each, about in command.arguments.items() if about.needed and each not in arguments]
    if missing:
        raise UsageError(f"{name} needs the argument {missing[0]}.")
    given = [(each, about) for each, about in command.arguments.items() if each in arguments]
    words = {each: about.words(each, arguments[each]) for each, about in given}
    options = [word for each, about in given if about.is_option for word in words[each]]
    names = [word for each, about in given if about.is_name for word in words[each]]
    stdin = "".join(word for each, about in given if about.option == _STDIN for word in words[each])
    line = (*command.words, *options, *(("--", *names) if names else ()))
    return CheckedCommand(name, line, stdin, command.is_job)
