"""A whole ``llama-server …`` command line, as articles print it, to the profile that it means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PureWindowsPath

from ..options.commandline import CommandLine, split_command
from . import server_options
from .jsonschema import FIRST_LINE
from .layer import Layer, LayerBuilder
from .nodes import Mark
from .resolve import resolve_layer
from .store import ProfileStore
from .yaml_text import render, rows_of_values

_FILE = "command line"
_VARIABLE = re.compile(r"\$\{?\w|%\w+%")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True, slots=True)
class Imported:
    """``text`` is a profile that loads; ``name`` is made from the model's where none was given."""

    name: str
    text: str
    notes: tuple[str, ...]


def import_command(text: str, store: ProfileStore, name: str = "") -> Imported:
    """Raises ``ConfigError`` for options that make no sense, ``UsageError`` for a text without a server."""
    command = split_command(text)
    layer = _layer(command)
    resolve_layer(layer, store)
    name = name or _name_from(layer)
    notes = (*layer.notes, *_advice(command, layer))
    return Imported(name, _yaml(layer, notes), notes)


def _layer(command: CommandLine) -> Layer:
    builder = LayerBuilder("", _FILE)
    server_options.add_command_line(builder, command, Mark())
    return builder.done()


def _name_from(layer: Layer) -> str:
    """gpt-oss-120b-mxfp4 from …/gpt-oss-120b-mxfp4-00001-of-00003.gguf."""
    model = layer.values.get("model.file") or layer.values.get("model.path") or layer.values.get("model.repo")
    if model is None:
        return "imported"
    stem = re.sub(r"(\.gguf|-gguf)$", "", PureWindowsPath(str(model.value)).name.lower())
    return re.sub(r"[^a-z0-9._-]+", "-", _SPLIT.sub("", stem)).strip("-._") or "imported"


def _advice(command: CommandLine, layer: Layer) -> list[str]:
    advice = []
    if len(PureWindowsPath(command.program).parts) > 1:
        advice.append(
            f"the program was {command.program}; engine: {{source: path, path: …}} would take just that one"
        )
    if not any(key.startswith("model.") for key in layer.values):
        advice.append("no model was named; the profile needs one, or extends one that has")
    model = layer.values.get("model.path")
    if model and _VARIABLE.search(str(model.value)):
        advice.append(f"{model.value} has a variable in it, which is not replaced; write the path itself")
    return advice


def _yaml(layer: Layer, notes: tuple[str, ...]) -> str:
    comments = "".join(f"# {line}\n" for note in notes for line in note.splitlines())
    head = "# Imported from a llama-server command line.\n" + comments
    return (
        FIRST_LINE + head + render(rows_of_values({key: value.value for key, value in layer.values.items()}))
    )
