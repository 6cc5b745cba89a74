"""Profile files, ``config.yaml`` and ``--set`` to layers: every mistake found, each with its position."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigError, NotFound, PermissionDenied
from .definition import PARAMETER_PATTERN
from .field_kinds import Invalid, read_json
from .fields import (
    BY_KEY,
    ENV_PATTERN,
    FREE,
    PARAMETERS,
    SECTIONS,
    known_spelling,
    names_under,
    nearest_key,
)
from .layers import Layer, LayerBuilder, add_args, add_entries, is_null
from .yaml_nodes import (
    MAX_BYTES,
    Broken,
    Mark,
    Node,
    Problem,
    Scalar,
    Table,
    TableEntry,
    kind_name,
    parse_yaml,
    plain_value,
)


def load_file(path: Path, name: str) -> Layer:
    """Raises where the file cannot be read at all; whatever it says wrong stands in ``problems``."""
    return load(read_bytes(path), name, str(path))


def read_bytes(path: Path) -> bytes:
    """The file, or the beginning of one that is too long.  Raises ``NotFound``, ``PermissionDenied`` …"""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except PermissionError:
        raise PermissionDenied(f"The file {path} may not be read.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def load(data: bytes, name: str, file: str) -> Layer:
    """The profile ``name`` as ``data`` says it; ``file`` is what messages call it."""
    builder = LayerBuilder(name, file)
    try:
        document = parse_yaml(data)
    except Broken as broken:
        return Layer(name, file, {}, problems=(Problem(file, broken.mark, broken.message),))
    for key, mark, mistake in document.mistakes:
        builder.problem(mark, key, mistake)
    if isinstance(document.root, Table):
        _mapping(builder, document.root, "")
    elif document.root is None or is_null(document.root):
        builder.problem(
            Mark(1, 1), "", "the file says nothing; a profile needs at least 'extends' or 'model'"
        )
    else:
        builder.problem(
            document.root.mark, "", f"must be a mapping of keys to values, not {kind_name(document.root)}"
        )
    return builder.done()


def _mapping(builder: LayerBuilder, table: Table, prefix: str) -> None:
    for entry in table.entries:
        key = known_spelling(f"{prefix}.{entry.key}" if prefix else entry.key)
        if key not in SECTIONS and key not in BY_KEY:
            builder.problem(entry.mark, key, "no such key", nearest_key(prefix, entry.key))
        elif is_null(entry.value):
            builder.clear(key)
        else:
            _value(builder, key, entry)


def _value(builder: LayerBuilder, key: str, entry: TableEntry) -> None:
    if key in FREE:
        _FREE_READERS[key](builder, entry.value)
    elif key in SHORT_FORMS and isinstance(entry.value, Scalar):
        SHORT_FORMS[key](builder, entry.value, entry.mark)
    elif key in BY_KEY:
        builder.read(key, entry.value, entry.mark)
    elif table := _table(builder, key, entry.value, "keys: " + ", ".join(names_under(key))):
        _mapping(builder, table, key)


def _model(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    """The word demo, or a path."""
    if node.text == "demo":
        builder.put("model.demo", value=True, mark=mark, written="model")
    else:
        builder.read("model.path", node, mark, "model")


def _gateway(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    builder.read("gateway.mode", node, mark, "gateway")


SHORT_FORMS = {"model": _model, "gateway": _gateway}
"""Sections of which one word may say all."""


def _server(builder: LayerBuilder, node: Node) -> None:
    if table := _table(builder, "server", node, "option names with values"):
        add_entries(builder, table.entries)


def _env(builder: LayerBuilder, node: Node) -> None:
    if table := _table(builder, "env", node, "variable names with values"):
        for entry in table.entries:
            variable(builder, entry.key, entry.value, entry.mark)


def variable(builder: LayerBuilder, name: str, node: Node, mark: Mark) -> None:
    """One environment variable; numbers and truth values are taken as they are written."""
    if not re.fullmatch(ENV_PATTERN, name):
        builder.problem(mark, f"env.{name}", "is no name for an environment variable")
    elif is_null(node):
        builder.clear(f"env.{name}")
    elif not isinstance(node, Scalar) or "\0" in node.text:
        builder.problem(node.mark, f"env.{name}", f"must be a text, not {kind_name(node)}")
    else:
        builder.put(f"env.{name}", node.text, mark)


def _parameters(builder: LayerBuilder, node: Node) -> None:
    if table := _table(builder, PARAMETERS, node, "names of parameters with values"):
        for entry in table.entries:
            parameter(builder, entry.key, entry.value, entry.mark)


def parameter(builder: LayerBuilder, name: str, node: Node, mark: Mark) -> None:
    """One parameter of requests; ``null`` takes an inherited one back, as everywhere."""
    key = f"{PARAMETERS}.{name}"
    if not re.fullmatch(PARAMETER_PATTERN, name):
        builder.problem(mark, key, "is no name for a parameter")
    elif is_null(node):
        builder.clear(key)
    else:
        try:
            builder.put(key, read_json(node), mark)
        except Invalid as invalid:
            builder.problem(node.mark, key, invalid.message)


def _table(builder: LayerBuilder, key: str, node: Node, what: str) -> Table | None:
    if isinstance(node, Table):
        return node
    builder.problem(node.mark, key, f"must be a mapping ({what}), not {kind_name(node)}")
    return None


_FREE_READERS = {
    "server": _server,
    "env": _env,
    "args": add_args,
    PARAMETERS: _parameters,
}


SETTINGS_NAME = "config.yaml"
_SETTINGS_SECTIONS = ("engine.", "gateway.")


def settings_layer(file: Path) -> Layer | None:
    """The layer that lies under every profile; None where there is no such file."""
    try:
        layer = load_file(file, SETTINGS_NAME)
    except NotFound:
        return None
    strangers = [
        Problem(layer.file, Mark(value.origin.line, value.origin.column), "belongs into a profile", key)
        for key, value in layer.values.items()
        if not key.startswith(_SETTINGS_SECTIONS)
    ]
    return replace(layer, problems=(*layer.problems, *strangers))


OVERRIDES_NAME = "--set"
_NOWHERE = Mark()


def overrides_layer(name: str, overrides: Mapping[str, str]) -> Layer:
    """The layer that lies over profile ``name``; ``null`` takes a value back."""
    builder = LayerBuilder(name, OVERRIDES_NAME)
    options = []
    for written, text in overrides.items():
        key = known_spelling(written)
        node = Scalar(plain_value(text), text, _NOWHERE)
        if option := _option_name(key):
            options.append(TableEntry(option, _NOWHERE, node))
        else:
            _profile_key(builder, key, node)
    add_entries(builder, options)
    return builder.done()


def _option_name(key: str) -> str:
    if key.startswith("server."):
        return key.removeprefix("server.")
    return "" if "." in key or key in BY_KEY or key in SHORT_FORMS else key


def _profile_key(builder: LayerBuilder, key: str, node: Scalar) -> None:
    section, _, rest = key.partition(".")
    if section == "env" and rest:
        variable(builder, rest, node, _NOWHERE)
    elif key.startswith(f"{PARAMETERS}."):
        parameter(builder, key.removeprefix(f"{PARAMETERS}."), _collection(node), _NOWHERE)
    elif key not in {*BY_KEY, *SHORT_FORMS, PARAMETERS} or key == "extends":
        builder.problem(_NOWHERE, key, "no such key", _nearest(section, rest))
    elif is_null(node):
        builder.clear(key)
    elif key in SHORT_FORMS:
        SHORT_FORMS[key](builder, node, _NOWHERE)
    elif key == PARAMETERS:
        builder.problem(_NOWHERE, key, f"name the parameter: {PARAMETERS}.temperature=0.7")
    else:
        builder.read(key, _collection(node) if key.startswith("gateway.") else node, _NOWHERE)


def _collection(node: Scalar) -> Node:
    """A list or a mapping where it is written as one: ``[a, b]``, ``{"enable_thinking": false}``."""
    try:
        found = parse_yaml(node.text.encode()).root if node.text.startswith(("[", "{")) else None
    except Broken:
        return node
    return found or node


def _nearest(section: str, rest: str) -> str:
    prefix = section if section in SECTIONS else nearest_key("", section)
    found = nearest_key(prefix, rest) if prefix else ""
    return f"{prefix}.{found}" if found else ""
