"""
The forms in which people keep a launch of llama-server, besides a shell's: systemd units, quadlets, launchd
plists, compose files, llama-swap's and Kubernetes' YAML, supervisord, Dockerfiles, lists of words.

Each is read for what it would run. Nothing is run, and no file that a text names is opened.
"""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Iterator, Sequence
from xml.parsers.expat import ExpatError

from ..errors import UsageError
from ..options.commandline import script_of, the_launch
from ..options.containers import Container
from ..options.launch_words import CommandLine
from ..options.shell_script import LaunchScript, join_folder
from ..options.shell_words import Argument
from .launch_yaml import list_of, plain_tree, read_toml, read_yaml, strings_of, texts_of
from .yaml_nodes import Broken, Items, parse_yaml

_SECTION = re.compile(r"^[ \t]*\[([\w:. -]+)\][ \t]*$", re.MULTILINE)
_SETTING = re.compile(r"([A-Za-z][\w.-]*)\s*=\s*(.*)", re.DOTALL)
_DOCKERFILE = re.compile(r"^[ \t]*(?:CMD|ENTRYPOINT)[ \t]+\S", re.MULTILINE)
_LIST = re.compile(r"\[\s*[\"'][^\[\]]*?llama-server[^\[\]]*\]", re.DOTALL)
_MOST_CHARACTERS = 64 * 1024
_REFUSED = (
    (
        r"^[ \t]*(?:PARAMETER[ \t]+\w+[ \t]|TEMPLATE[ \t]+\"|SYSTEM[ \t]+\S)|^[ \t]*FROM[ \t]+\S+\.gguf",
        "This is a Modelfile of Ollama, which starts no llama-server that an option could be read from.",
        "Take its model as -hf OWNER/REPO or as a .gguf file: PARAMETER num_ctx is -c, num_gpu is -ngl.",
    ),
    (
        r"^[ \t]*(?:\$ )?ollama\s+(?:run|serve|pull|create)\b",
        "Ollama chooses the options itself, so there is nothing to import.",
        "Find the model at huggingface.co and import: llama-server -hf OWNER/REPO",
    ),
    (
        r"^[ \t]*(?:\$ )?lms\s+(?:load|server|get)\b",
        "LM Studio loads the model into its own server, so there is no llama-server to import.",
        "Import its file: llama-server -m ~/.lmstudio/models/OWNER/REPO/FILE.gguf",
    ),
    (
        r"^[ \t]*\[[^\]\n]+\][^\[]*?^[ \t]*(?:model|m|hf-repo|hf|LLAMA_ARG_MODEL|LLAMA_ARG_HF_REPO)[ \t]*=",
        "This is a preset file of llama-server's router, with a section for each model.",
        "Import each section as a command, llama-server -m FILE; then: goss-supervisor serve add NAME...",
    ),
    (
        r"\bllama_cpp\.server\b",
        "llama_cpp.server is the server of llama-cpp-python, whose options are others.",
        "Write it as llama-server has it: --n_ctx is -c, --n_gpu_layers is -ngl.",
    ),
    (
        r"\bllama-(?:cli|simple|bench|run|perplexity|mtmd-cli)\b|(?:^|[/\s])main\s+-m\b",
        "This starts another program of llama.cpp than llama-server.",
        "Most options have the same names: put llama-server in its place.",
    ),
    (
        r"\bvllm\s+serve\b|\bmlx_lm\.server\b|\bkoboldcpp\b|\bsglang\b|\btext-generation-launcher\b",
        "This starts another program than llama-server.",
        "A profile can run any program by engine.command; see 'Another program' in docs/profiles.md.",
    ),
)


def read_launch(text: str) -> CommandLine:
    """
    The one launch of llama-server in a text of any form.

    Raises UsageError where there is none, or more than one, and for a text that cannot be read.
    """
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(
            f"This text has {len(text)} characters, and no launch is as long as that.",
            hint="Paste the lines that start llama-server.",
        )
    try:
        return _launch_in(text)
    except RecursionError:
        raise UsageError("This text is nested too deeply.", hint="Paste the command alone.") from None


def _launch_in(text: str) -> CommandLine:
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    for form in (_plist, read_toml, _sections, read_yaml, _dockerfile):
        script = form(text)
        if script is not None and script.launches():
            return the_launch(script)
    script = script_of(text)
    if not script.launches():
        script.run("$command $command_args")  # of OpenRC
    if not script.launches():
        script = _quoted_list(text) or script
    if not script.launches():
        for pattern, problem, hint in _REFUSED:
            if re.search(pattern, text, re.MULTILINE | re.IGNORECASE):
                raise UsageError(problem, hint=hint)
    return the_launch(script)


# launchd


def _plist(text: str) -> LaunchScript | None:
    if "<key>" not in text:
        return None
    inner = text[text.index("<") : text.rindex(">") + 1]
    if "<plist" not in inner:
        inner = f"<plist>{inner if inner.startswith('<dict>') else f'<dict>{inner}</dict>'}</plist>"
    try:
        found = plistlib.loads(inner.encode(), fmt=plistlib.FMT_XML)
    except (ValueError, ExpatError, plistlib.InvalidFileException, AttributeError, IndexError) as error:
        raise UsageError(
            f"This property list cannot be read: {error}.", hint="Paste the whole file."
        ) from error
    words = [str(word) for word in list_of(found.get("ProgramArguments"))] if isinstance(found, dict) else []
    if not words:
        return None
    script = LaunchScript(windows=False)
    env = found.get("EnvironmentVariables")
    script.variables.define(strings_of(env), exported=True)
    script.folder = str(found.get("WorkingDirectory", ""))
    script.run_texts([Argument(word) for word in words])  # launchd replaces nothing
    known = {"ProgramArguments", "EnvironmentVariables", "WorkingDirectory", "Label"}
    script.left_out += [str(key) for key in found if key not in known]
    return script


# systemd, quadlets, supervisord


def _sections(text: str) -> LaunchScript | None:
    """The settings of a unit; a key without a section may be a part of one."""
    begins = _SECTION.search(text)
    bare = re.search(r"^[ \t]*ExecStart[ \t]*=", text, re.MULTILINE)
    if begins is None and bare is None:
        return None
    start = min(found.start() for found in (begins, bare) if found)
    settings = list(_settings(text[start:]))
    names = {name for name, _ in settings}
    if "ExecStart" in names:
        return _unit(settings)
    if "Image" in names:
        return _quadlet(settings)
    return _supervisord(settings) if "command" in names else None


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """A line goes on behind a backslash, and where the next one begins with an option."""
    lines: list[str] = []
    goes_on = False
    for line in text.splitlines():
        plain = line.strip()
        if not plain or plain.startswith(("#", ";")) or _SECTION.fullmatch(line):
            continue
        goes_on = goes_on or (bool(lines) and re.match(r"-+[A-Za-z]", plain) is not None)
        part = plain.removesuffix("\\").rstrip()
        if goes_on and lines:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
        goes_on = plain.endswith("\\")
    for line in lines:
        if found := _SETTING.fullmatch(line):
            yield found[1], found[2]


_UNIT_SPECIFIERS = {"%h": "~", "%%": "%"}


def _unit(settings: Sequence[tuple[str, str]]) -> LaunchScript:
    script = LaunchScript(windows=False)
    for name, value in settings:
        if name == "Environment":
            script.variables.define(_assignments(value), exported=True)
        elif name == "WorkingDirectory":
            script.folder = _without_specifiers(value.lstrip("-"))
        elif name not in {"ExecStart", "Description"}:
            script.left_out.append(f"{name}={value}")
    for name, value in settings:
        if name == "ExecStart" and value:
            script.run(_without_specifiers(value.lstrip("@-:+!|")).replace("$$", "\\$"))
    return script


def _without_specifiers(value: str) -> str:
    """Those that depend on the unit's name or the machine count as variables."""
    return re.sub(r"%[A-Za-z%]", lambda found: _UNIT_SPECIFIERS.get(found[0], f"${{{found[0]}}}"), value)


def _assignments(value: str) -> dict[str, str]:
    """``A=1 "B=c d"``, and supervisord's ``A="1",B="2"``."""
    splitter = shlex.shlex(_without_specifiers(value), posix=True, punctuation_chars=False)
    splitter.whitespace_split, splitter.commenters, splitter.whitespace = True, "", " \t\n"
    try:
        words = list(splitter)
    except ValueError as error:
        raise UsageError(f"{value} cannot be read: {error}.", hint="Close the quote.") from error
    return {name: text for name, equals, text in (word.partition("=") for word in words) if equals}


def _quadlet(settings: Sequence[tuple[str, str]]) -> LaunchScript:
    script = LaunchScript(windows=False)
    container = Container()
    for name, written in settings:
        value = _without_specifiers(written)
        if name == "Image":
            container.image = value
        elif name == "Environment":
            container.env |= {each: Argument(text) for each, text in _assignments(value).items()}
        elif name == "Exec":
            container.command = texts_of(value)
        elif name == "Entrypoint":
            container.entrypoint = texts_of(value)
        elif name in {"Volume", "Mount"}:
            container.add_mount(Argument(value))
        elif name == "PublishPort":
            container.add_port(value)
        elif name == "WorkingDir":
            container.folder = value
        elif name not in {"Description", "ContainerName"}:
            script.left_out.append(f"{name}={value}")
    script.contain(container)
    return script


def _supervisord(settings: Sequence[tuple[str, str]]) -> LaunchScript:
    script = LaunchScript(windows=False)
    for name, value in settings:
        if name == "environment":
            script.variables.define(_assignments(re.sub(r'(["\'])\s*,', r"\1 ", value)), exported=True)
        elif name == "directory":
            script.folder = value
        elif name != "command":
            script.left_out.append(f"{name}={value}")
    for name, value in settings:
        if name == "command":
            script.run(value)
    return script


# Dockerfiles, and lists in programs


def _dockerfile(text: str) -> LaunchScript | None:
    if not _DOCKERFILE.search(text) or not re.search(r"^[ \t]*FROM\s", text, re.MULTILINE):
        return None
    script = LaunchScript(windows=False)
    container = Container()
    for line in re.sub(r"\\[ \t]*\n", " ", text).splitlines():
        name, _, value = line.strip().partition(" ")
        value = value.strip()
        match name.upper():
            case "FROM":
                container.image = value.split()[0]
            case "ENV":
                container.env |= {each: Argument(given) for each, given in _assignments(value).items()}
            case "WORKDIR":
                container.folder = join_folder(container.folder, value)
            case "ENTRYPOINT":
                container.entrypoint = _exec_form(value)
            case "CMD":
                container.command = _exec_form(value)
            case "":
                pass
            case _ if not name.startswith("#"):
                script.left_out.append(line.strip())
    script.contain(container)
    return script


def _exec_form(value: str) -> list[Argument]:
    if not value.startswith("["):
        return texts_of(value)
    try:
        root = parse_yaml(value.encode()).root
    except Broken:
        return texts_of(value)
    return texts_of(plain_tree(root)) if root is not None else []


def _quoted_list(text: str) -> LaunchScript | None:
    """``subprocess.Popen(["llama-server", "-m", "x"])`` and the like."""
    found = _LIST.search(text)
    if found is None:
        return None
    try:
        tree = parse_yaml(found[0].encode()).root
    except Broken:
        return None
    words = plain_tree(tree) if isinstance(tree, Items) else []
    script = LaunchScript(windows=False)
    script.run_texts([Argument(word) for word in words if isinstance(word, str)])
    return script
