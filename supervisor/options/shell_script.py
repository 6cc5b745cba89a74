"""
Finds the launches of llama-server in the commands of a script, without running any of them.

Variables that the script itself sets are put in. What else it does is kept as a text, so that the importer
can name what it leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import PurePosixPath, PureWindowsPath

from .containers import Container, container_of_run
from .meanings import understand
from .script_values import START_PARAMETERS, STARTS, Variables, split_commas, start_parameters
from .shell_words import Argument, ShellCommand, Word, split_script

_SERVER = re.compile(r"(?:ik[_-])?llama(?:[-_.]?cpp)?[-_]server(?:[-_][\w.-]*)?(?:\.exe)?", re.IGNORECASE)
_PLAIN_SERVER = re.compile(r"llama-server(?:\.exe)?", re.IGNORECASE)
_IN_A_TEXT = re.compile(r"llama[-_ ]serve(?:r[\w-]*)?(?:\.exe)?[\"']*\s+-", re.IGNORECASE)
_SHELLS = {"bash", "sh", "zsh", "dash", "ash", "ksh", "fish", "su", "cmd", "powershell", "pwsh", "nix-shell"}
_RUNS_A_TEXT = re.compile(r"-[a-z]*c|/[ck]|-command|--command|--run", re.IGNORECASE)
_CONTAINER_TOOLS = {"docker", "podman", "nerdctl"}
_NO_LAUNCH = {
    *("rem", "::", "mkdir", "git", "cmake", "make", "ninja", "brew", "which", "where", "whereis", "type"),
    *("echo", "printf", "write-host", "write-output", "grep", "pkill", "killall", "pgrep", "kill", "ps"),
    *("chmod", "chown", "ls", "cp", "mv", "ln", "rm", "install", "cat", "tail", "man", "file", "ldd", "test"),
    *("[", "[[", "curl", "wget", "apt", "apt-get", "dnf", "pacman", "pip", "taskkill", "stop-process"),
    *("systemctl", "journalctl", "get-process", "get-command", "unset", "alias?"),
}
_BEFORE = {
    *("sudo", "doas", "nohup", "exec", "env", "time", "setsid", "command", "then", "do", "else", "if", "!"),
    *("while", "until", "{", "&", "call", "start", "unbuffer", "caffeinate", "@", "-", "eval"),
}
_MODEL_OPTIONS = {"-m", "--model", "-hf", "--hf-repo", "-hfr", "-mu", "--model-url"}
_ATTACHED = re.compile(r"\A[@-](?=[A-Za-z./\\])")  # of make and cmd: not to be echoed, may fail


@dataclass(slots=True)
class FoundLaunch:
    """``words`` are the options; ``folder`` is where it would have run, "" where the text does not say."""

    program: Argument
    words: list[Argument]
    env: dict[str, Argument] = field(default_factory=dict)
    folder: str = ""
    notes: list[str] = field(default_factory=list)
    container: Container | None = None

    @property
    def is_serving(self) -> bool:
        """Not one that only prints its version, or that has no option at all."""
        readings = [understand(word.text) for word in self.words if word.text.startswith("-")]
        return bool(self.words) and not any(reading and reading.is_action for reading in readings)


class LaunchScript:
    """Reads commands in their order; a script in quotes (``bash -c '…'``) is read as a part of it."""

    def __init__(self, *, windows: bool) -> None:
        self.windows = windows
        self.variables = Variables(windows=windows)
        self.folder = ""
        self.left_out: list[str] = []
        self.conditional: list[str] = []  # assignments that hold under a condition only
        self.alternatives: list[str] = []  # those of another branch, which are not taken
        self._conditions = 0
        self._branch = 0
        self._set_in: dict[str, int] = {}  # the first branch that sets a variable, by its name
        self._found: list[FoundLaunch] = []
        self._open: FoundLaunch | None = None  # the next line may belong to it
        self._pending: list[Word] = []  # of a container's command that names no image yet

    def launches(self) -> list[FoundLaunch]:
        """Those that serve, else those that do something else."""
        serving = [each for each in self._found if each.is_serving]
        return serving or self._found

    def run(self, text: str) -> None:
        """Read a text."""
        for command in split_script(text, windows=self.windows):
            self._command(command)
        self._open = None

    def run_texts(self, texts: list[Argument]) -> None:
        """Read one command that is split already."""
        self._texts(texts, " ".join(text.text for text in texts))

    def split(self, text: str) -> list[Argument]:
        """The words of a text, as one command."""
        commands = split_script(text, windows=self.windows)
        return [each for command in commands for each in self._expanded(command.words)]

    def _command(self, command: ShellCommand) -> None:
        words = [*self._pending, *command.words]
        self._pending = []
        words = self._without_keywords(words)
        if not words:
            return
        if self._goes_on(words):
            assert self._open is not None
            self._open.words += self._without_redirections(self._expanded(words))
        elif self._changes_folder(words) or self._assigns(command, words):
            pass
        elif _is_unfinished(words) and command.ends_line:
            self._pending = words
            return
        else:
            before = len(self._found)
            if _name_of(words[0]) in STARTS:
                words = split_commas(words)
            self._texts(self._expanded(words), command.written)
            self._open = self._found[-1] if len(self._found) > before else None
        if not command.ends_line:
            self._open = None

    def _assigns(self, command: ShellCommand, words: list[Word]) -> bool:
        """Whether it sets variables.  Of several branches that set the same one, the first is taken."""
        variables, before = self.variables, len(self.variables.assigned)
        if command.is_fallback:
            variables.kept = variables.known_names()
        elif self._conditions:
            others = (name for name, branch in self._set_in.items() if branch != self._branch)
            variables.kept = frozenset(others)
        if not variables.assign(words):
            return False
        names = set(variables.assigned[before:])
        if self._conditions or command.is_fallback:
            self._set_in |= dict.fromkeys(names - self._set_in.keys(), self._branch)
            listed = self.alternatives if names <= variables.kept else self.conditional
            listed.append(re.sub(r"^(?:then|else|do)\s+", "", command.written))
        variables.kept = frozenset()
        return True

    def _without_keywords(self, words: list[Word]) -> list[Word]:
        """``then A=1`` is an assignment, and one that may not happen."""
        texts = [word.text for word in words]
        head = texts[0]
        if head in {"if", "case"}:
            self._set_in = self._set_in if self._conditions else {}
            self._conditions += 1
        elif "else" in texts[:2] or head in {"elif", "elseif"}:
            self._conditions = max(1, self._conditions)
            self._branch += 1
        elif head in {"fi", "esac"} or texts in (["}"], [")"]):
            self._conditions = max(0, self._conditions - 1)
        elif self._conditions and words[0].is_bare and re.fullmatch(r"[^($]+\)", head):  # a pattern of case
            self._branch += 1
            return words[1:]
        if head.startswith("$") and len(words) > 2 and words[1].text == "=" and _name_of(words[2]) in STARTS:
            return words[2:]  # $process = Start-Process …
        return words[1:] if head in {"then", "else", "fi", "esac", "do", "done"} else words

    def _goes_on(self, words: Sequence[Word]) -> bool:
        """A line that begins with an option, or with the value that the last option still lacks."""
        if self._open is None:
            return False
        first = words[0].text
        if re.match(r"[-\u2010-\u2015\u2212]+[A-Za-z]", first) or (
            words[0].is_bare and _is_redirection(first)
        ):
            return True
        if len(words) == 1 and words[0].pieces[0].reference and not words[0].text.startswith("{"):
            return True  # $ARGS, or "${args[@]}"
        last = self._open.words[-1].text if self._open.words else ""
        reading = understand(last) if last.startswith("-") else None
        return reading is not None and reading.option.takes_value

    def _expanded(self, words: Sequence[Word]) -> list[Argument]:
        return [text for word in words for text in self.variables.expand(word)]

    def _changes_folder(self, words: Sequence[Word]) -> bool:
        if not (expanded := self._expanded(words)):
            return False  # an array without words
        name, *rest = expanded
        if name.text.lower().lstrip("@") not in {"cd", "pushd", "set-location", "sl", "chdir"}:
            return False
        target = [each for each in rest if each.text.lower() not in {"/d", "--", "-path", "-literalpath"}]
        if len(target) != 1 or target[0].unknown:
            return False
        self.folder = join_folder(self.folder, target[0].text)
        return True

    def _texts(self, texts: list[Argument], written: str) -> None:
        """One command, its variables put in."""
        if not texts:
            return
        if self._started_process(texts) or self._contained(texts) or self._nested(texts):
            return
        at = _program_at(texts)
        if at is None:
            self._leave_out(written)
            return
        begin = at + 2 if _name(texts[at]) in {"llama", "llama.exe"} else at + 1
        own, before = self.variables.split_prefix(texts[:at])
        words = self._without_redirections(texts[begin:])
        if any(each.text.endswith("{") for each in before) and words and words[-1].text == "}":
            words = words[:-1]
        self._add(FoundLaunch(replace(texts[at], text=_ATTACHED.sub("", texts[at].text)), words, own))
        self._leave_out(" ".join(each.text for each in before))

    def _without_redirections(self, texts: Sequence[Argument]) -> list[Argument]:
        """The words for the program itself; where its output goes is left out."""
        words, at = [], 0
        while at < len(texts):
            text = texts[at].text
            if not (texts[at].is_bare and _is_redirection(text)):
                words.append(texts[at])
            elif "|" in text:
                self._leave_out(" ".join(each.text for each in texts[at:]))
                break
            else:
                has_target = re.fullmatch(r"[\d&*]?(?:>>?|<{1,3}-?)", text) is None
                end = at + (1 if has_target else 2)
                self._leave_out(" ".join(each.text for each in texts[at:end]))
                at = end - 1
            at += 1
        return words

    def _add(self, found: FoundLaunch) -> None:
        found.folder = found.folder or self.folder
        self._found.append(found)

    def _leave_out(self, written: str) -> None:
        if written and not written.startswith("#!"):
            self.left_out.append(" ".join(written.split()))

    def _nested(self, texts: list[Argument]) -> bool:
        """``bash -c '…'``, ``tmux new -d '…'``, ``alias x='…'``, and all that get a script as a text."""
        head = _name(texts[0])
        if head in _NO_LAUNCH:
            return False
        for index, each in enumerate(texts):
            follows_shell = index > 1 and _RUNS_A_TEXT.fullmatch(texts[index - 1].text)
            is_script = follows_shell and any(_name(word) in _SHELLS for word in texts[: index - 1])
            if is_script and head in {"cmd", "powershell", "pwsh"} and " " not in each.text.strip():
                return False  # cmd /c llama-server -m x
            if not is_script and not (re.search(r"\s", each.text) and _IN_A_TEXT.search(each.text)):
                continue
            own, before = self.variables.split_prefix(texts[:index])
            inner = re.sub(r"\A[\w-]+=", "", each.text) if head == "alias" else each.text
            found = self._inside(partial(self.run, inner))
            for launch in found:
                launch.env = {**own, **launch.env}
            if found:
                rest = texts[index + 1 :]
                self._leave_out(" ".join(word.text for word in [*before, Argument("…"), *rest]))
            return bool(found)
        return False

    def _inside(self, read: Callable[[], None]) -> list[FoundLaunch]:
        """The launches that reading something inner finds."""
        before, folder = len(self._found), self.folder
        read()
        self.folder = folder
        return self._found[before:]

    def _contained(self, texts: list[Argument]) -> bool:
        """``docker run``, with what stands before it."""
        at = next((i for i, each in enumerate(texts[:6]) if _name(each) in _CONTAINER_TOOLS), None)
        if at is None or not _has_run(texts[at:]):
            return False
        container = container_of_run(texts[at:])
        return container is not None and self.contain(container)

    def contain(self, container: Container) -> bool:
        """Read what a container runs, and say it as the host sees it."""

        def read() -> None:
            self.variables.define(
                {name: each.text for name, each in container.env.items() if not each.unknown}
            )
            texts = container.words()
            if len(texts) == 1 and re.search(r"\s", texts[0].text):
                self.run(texts[0].text)
            elif texts:
                self._texts(texts, "")

        found = self._inside(read)
        for launch in found:
            launch.container = container
        return bool(found)

    def _started_process(self, texts: list[Argument]) -> bool:
        """PowerShell's ``Start-Process``, whose ``-ArgumentList`` is joined and split again by Windows."""
        if _name(texts[0]) not in STARTS:
            return False
        given, rest = start_parameters(texts[1:])
        program = given.pop("filepath", None) or rest[:1]
        if not program or _SERVER.fullmatch(_name(program[0])) is None:
            return False
        arguments = given.pop("argumentlist", None) or given.pop("args", None) or rest[1:]
        folder = given.pop("workingdirectory", None)
        found = FoundLaunch(program[0], self._rejoined(arguments))
        if folder and not folder[0].unknown:
            found.folder = join_folder(self.folder, folder[0].text)
        self._add(found)
        for name, values in given.items():
            self._leave_out(" ".join((f"-{START_PARAMETERS[name]}", *(each.text for each in values))))
        return True

    def _rejoined(self, arguments: Sequence[Argument]) -> list[Argument]:
        words: list[Argument] = []
        for each in arguments:
            is_one = each.unknown or not each.text.lstrip().startswith(("-", '"'))
            if is_one or not re.search(r"\s", each.text):
                words.append(replace(each, text=each.text.strip('"') if is_one else each.text))
            else:
                inner = split_script(each.text, windows=True)
                words += [text for command in inner for text in self._expanded(command.words)]
        return words


def join_folder(folder: str, target: str) -> str:
    """Where ``cd target`` leads from ``folder``."""
    kind = (
        PureWindowsPath
        if "\\" in folder + target or re.match(r"[A-Za-z]:", folder + target)
        else PurePosixPath
    )
    return target if target.startswith("~") else str(kind(folder) / target)


def _name(text: Argument) -> str:
    return re.split(r"[/\\]", _ATTACHED.sub("", text.text))[-1].lower()


def _name_of(word: Word) -> str:
    return word.text.lower()


def _program_at(texts: Sequence[Argument]) -> int | None:
    """Where the program is: first of its command, or followed by one of its options."""
    if _name(texts[0]) in _NO_LAUNCH or _looks_only(texts):
        return None
    leads, models = True, [i for i, each in enumerate(texts) if each.text.partition("=")[0] in _MODEL_OPTIONS]
    for index, each in enumerate(texts):
        following = texts[index + 1].text if index + 1 < len(texts) else ""
        leads = leads and (index == 0 or _may_lead(texts[index - 1]))
        has_option = following.startswith("-") and understand(following.partition("=")[0]) is not None
        name = _name(each)
        if _SERVER.fullmatch(name) and (leads or (has_option and _PLAIN_SERVER.fullmatch(name))):
            return index
        if name in {"llama", "llama.exe"} and following == "serve":
            return index
        names_model = bool(models) and models[-1] > index
        if leads and names_model and (name in {"server", "server.exe"} or (each.unknown and has_option)):
            return index
    return None


def _looks_only(texts: Sequence[Argument]) -> bool:
    """``command -v llama-server``, also behind ``if``."""
    return any(a.text == "command" and b.text in {"-v", "-V"} for a, b in pairwise(texts[:4]))


def _may_lead(text: Argument) -> bool:
    word = text.text
    return word.lower() in _BEFORE or word.startswith("-") or re.match(r"[A-Za-z_]\w*=", word) is not None


def _is_redirection(text: str) -> bool:
    return re.match(r"(?:\d|&|\*)?>|<(?!.*>$)", text) is not None


def _has_run(texts: Sequence[Argument]) -> bool:
    return any(each.text in {"run", "create"} for each in texts[1:4])


def _is_unfinished(words: Sequence[Word]) -> bool:
    """A container's command that goes on without a mark: no image has been named yet."""
    texts = [Argument(word.text, (), is_bare=word.is_bare) for word in words]
    at = next((i for i, each in enumerate(texts[:3]) if _name(each) in _CONTAINER_TOOLS), None)
    return at is not None and _has_run(texts[at:]) and container_of_run(texts[at:]) is None
