"""A launch of llama-server in YAML, JSON or TOML: compose, Kubernetes, llama-swap, an editor's tasks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ..options.commandline import is_windows
from ..options.containers import Container
from ..options.meanings import understand
from ..options.script_values import Variables
from ..options.shell_script import LaunchScript
from ..options.shell_words import Argument, word_of
from .yaml_nodes import Broken, Items, Scalar, YamlNode, parse_yaml

_YAML = re.compile(r"^[ \t]*(?:- )?[\"']?[A-Za-z_][\w.${}/ -]*[\"']?:(?:[ \t]|$)|^[ \t]*[\[{]", re.MULTILINE)
_IN_A_HEREDOC = re.compile(
    r"<<-?[ \t]*['\"]?(?:\w+)['\"]?[^\n]*\n(services:.*?)^\w+$", re.MULTILINE | re.DOTALL
)
_NO_MACROS: Mapping[str, str] = MappingProxyType({})


def strings_of(values: object) -> dict[str, str]:
    """A mapping of texts; empty for anything else."""
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, Mapping) else {}


def list_of(value: object) -> list[Any]:
    """A list, one thing as a list, or nothing."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def read_yaml(text: str) -> LaunchScript | None:
    """Compose, Kubernetes, llama-swap, and whatever else has a key for a command."""
    plain = re.sub(r"^[ \t]*```\w*[ \t]*$", "", text, flags=re.MULTILINE)
    if not _YAML.search(plain):
        return None
    if here := _IN_A_HEREDOC.search(plain):
        plain = here[1]
    try:
        root = parse_yaml(plain.expandtabs(8).encode()).root
    except Broken:
        return None
    tree = plain_tree(root) if root is not None else None
    return _script_in(tree, plain)


def read_toml(text: str) -> LaunchScript | None:
    """``command = "llama-server"`` with ``args = [ … ]``, wherever it is."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
    return _script_in(tree, text)


def _script_in(tree: object, text: str) -> LaunchScript:
    script = LaunchScript(windows=is_windows(text))
    if isinstance(tree, list) and tree and all(isinstance(item, str) for item in tree):
        script.run_texts(texts_of(tree))
    elif isinstance(tree, Mapping | list):
        macros = _macros(tree)
        for record in _records(tree):
            _read_record(record, script, macros)
    return script


def plain_tree(node: YamlNode, seen: dict[int, Any] | None = None) -> Any:  # noqa: ANN401 - a tree of texts
    """
    Texts as they are written: a port is no number here. What an alias names is the same object everywhere, so
    that no document can grow; ``<<`` merges it.
    """
    seen = {} if seen is None else seen
    if isinstance(node, Scalar):
        return None if node.value is None else node.text
    if id(node) not in seen:
        seen[id(node)] = (
            [plain_tree(item, seen) for item in node.items]
            if isinstance(node, Items)
            else _merged({entry.key: plain_tree(entry.value, seen) for entry in node.entries})
        )
    return seen[id(node)]


def _merged(own: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for each in list_of(own.pop("<<", None)):
        merged = {**each, **merged} if isinstance(each, Mapping) else merged
    return {**merged, **own}


def _macros(tree: object, outer: Mapping[str, str] = _NO_MACROS) -> dict[str, str]:
    """llama-swap's ``macros``, which may use each other."""
    found = tree.get("macros") if isinstance(tree, Mapping) else None
    macros = {**outer, **strings_of(found)}
    for _ in range(3):
        macros = {name: _replaced(value, macros) for name, value in macros.items()}
    return macros


def _replaced(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{([\w-]+)\}", lambda found: values.get(found[1], found[0]), text)


_COMMANDS = ("cmd", "command", "args", "entrypoint", "exec", "ExecStart")


def _records(tree: Any, seen: set[int] | None = None) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - of any shape
    """Every mapping that may say what is run, wherever it is, each once."""
    seen = set() if seen is None else seen
    if not isinstance(tree, Mapping | list) or id(tree) in seen:
        return
    seen.add(id(tree))
    if isinstance(tree, Mapping) and ("image" in tree or any(name in tree for name in _COMMANDS)):
        yield tree
    for value in tree.values() if isinstance(tree, Mapping) else tree:
        yield from _records(value, seen)


def _read_record(record: Mapping[str, Any], script: LaunchScript, macros: Mapping[str, str]) -> None:
    env = _environment(record.get("environment", record.get("env")))
    words = [*texts_of(record.get("entrypoint")), *texts_of(record.get("command"))]
    if "cmd" in record and isinstance(record["cmd"], str):
        _read_cmd(record, env, script, _macros(record, macros))
        return
    container = Container(image=str(record.get("image") or ""), env=dict(env), folder=_folder(record))
    container.command = [*words, *texts_of(record.get("args")), *texts_of(record.get("exec"))]
    container.command += texts_of(record.get("cmd"))
    container.command = [_with_env(word, env) for word in container.command]
    if not container.image and container.command and _begins_with_option(container.command):
        container.image = "llama.cpp"
    for volume in list_of(record.get("volumes")) + list_of(record.get("volumeMounts")):
        _add_volume(container, volume)
    for port in list_of(record.get("ports")):
        _add_port(container, port)
    known = {
        "image",
        "command",
        "args",
        "entrypoint",
        "exec",
        "cmd",
        "environment",
        "env",
        "volumes",
        "ports",
    }
    ignored = {"container_name", "working_dir", "workingDir", "name", "cwd", "volumeMounts", "type", "label"}
    others = [str(name) for name in record if name not in known | ignored]
    before = len(script.launches())
    if script.contain(container) and len(script.launches()) > before:
        script.left_out += [f"the keys {', '.join(others)}"] if others else []
        for launch in script.launches()[before:]:
            launch.notes += [note for name in _COMMANDS for note in _lost_in(_one_line(record.get(name)))]


def _read_cmd(
    record: Mapping[str, Any], env: Mapping[str, Argument], script: LaunchScript, macros: Mapping[str, str]
) -> None:
    """llama-swap joins the lines of ``cmd`` and leaves out those that are comments."""
    command = _replaced(record["cmd"], macros)
    text = _one_line(command)
    before = len(script.launches())
    script.run(text)
    for launch in script.launches()[before:]:
        launch.env = {**env, **launch.env}
        launch.notes += _lost_in(text)
        others = [str(name) for name in record if name not in {"cmd", "env", "macros"}]
        if others:
            script.left_out.append(f"the keys {', '.join(others)}")


def _one_line(value: object) -> str:
    """The lines of a command joined, without those that are comments; "" for a list."""
    lines = [line.strip() for line in value.splitlines()] if isinstance(value, str) else []
    return " ".join(line.removesuffix("\\").rstrip() for line in lines if line and not line.startswith("#"))


def _with_env(word: Argument, env: Mapping[str, Argument]) -> Argument:
    """Kubernetes puts the container's variables in: ``$(PORT)``."""
    text, unknown = word.text, []
    for each in word.unknown:
        name = each.removeprefix("$(").removesuffix(")")
        if each.startswith("$(") and name in env:
            text = text.replace(each, env[name].text)
        else:
            unknown.append(each)
    return replace(word, text=text, unknown=tuple(unknown))


def _lost_in(text: str) -> list[str]:
    found = re.search(r"(?<=\s)#.*", text)
    if found is None:
        return []
    return [f"{found[0]} is a comment of the command and lost; YAML folds lines behind '>', so use '|'"]


def _folder(record: Mapping[str, Any]) -> str:
    return str(record.get("working_dir") or record.get("workingDir") or record.get("cwd") or "")


def texts_of(value: object) -> list[Argument]:
    """A list of words, or a text that is split as a shell would."""
    if isinstance(value, str):
        script = LaunchScript(windows=is_windows(value))
        return script.split(_one_line(value).replace("$$", "\\$"))
    words = [str(word) for word in list_of(value) if word is not None]
    variables = Variables(windows=False)
    return [text for word in words for text in variables.expand(word_of(word))]


def _begins_with_option(words: Sequence[Argument]) -> bool:
    return words[0].text.startswith("-") and understand(words[0].text.partition("=")[0]) is not None


def _environment(value: object) -> dict[str, Argument]:
    """A mapping, a list of ``A=b``, or Kubernetes' list of name and value."""
    if isinstance(value, Mapping):
        pairs = [(str(name), "" if text is None else str(text)) for name, text in value.items()]
    else:
        pairs = []
        for each in list_of(value):
            if isinstance(each, Mapping):
                pairs.append((str(each.get("name", "")), str(each.get("value", "") or "")))
            else:
                name, equals, text = str(each).partition("=")
                pairs += [(name, text)] if equals else []
    variables = Variables(windows=False)
    return {name: variables.expand(word_of(text))[0] for name, text in pairs if name and text}


def _add_volume(container: Container, volume: object) -> None:
    if isinstance(volume, Mapping):
        source, target = volume.get("source", volume.get("src")), volume.get("target")
        if source and target:
            container.mount(_expanded(str(source)), str(target))
        elif volume.get("mountPath"):
            container.left_out.append(f"the volume {volume.get('name')} at {volume['mountPath']}")
    else:
        container.add_mount(_expanded(str(volume)))


def _expanded(text: str) -> Argument:
    return Variables(windows=False).expand(word_of(text))[0]


def _add_port(container: Container, port: object) -> None:
    if isinstance(port, Mapping):
        inside = port.get("target", port.get("containerPort"))
        outside = port.get("published", port.get("hostPort"))
        address = port.get("host_ip", port.get("hostIP")) or ""
        container.ports.append((str(address), str(outside or ""), str(inside)))
    else:
        container.add_port(_expanded(str(port)).text)
