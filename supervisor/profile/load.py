"""One profile file to a layer: every mistake found, each with its position."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError, NotFound, PermissionDenied
from . import server_options
from .gateway_fields import PARAMETER
from .gateway_kinds import JsonValue
from .kinds import Invalid
from .layer import Layer, LayerBuilder, is_null
from .nodes import Entry, Mark, Node, Problem, Scalar, Table, kind_name
from .schema import (
    BY_KEY,
    ENV_PATTERN,
    FREE,
    PARAMETERS,
    SECTIONS,
    known_spelling,
    names_under,
    nearest_key,
)
from .yaml_nodes import MAX_BYTES, Broken, parse


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
        document = parse(data)
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


def _value(builder: LayerBuilder, key: str, entry: Entry) -> None:
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
        server_options.add_entries(builder, table.entries)


def _env(builder: LayerBuilder, node: Node) -> None:
    if table := _table(builder, "env", node, "variable names with values"):
        for entry in table.entries:
            variable(builder, entry.key, entry.value, entry.mark)


def variable(builder: LayerBuilder, name: str, node: Node, mark: Mark) -> None:
    """One environment variable; numbers and truth values are taken as they are written."""
    if not ENV_PATTERN.fullmatch(name):
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
    if not re.fullmatch(PARAMETER, name):
        builder.problem(mark, key, "is no name for a parameter")
    elif is_null(node):
        builder.clear(key)
    else:
        try:
            builder.put(key, JsonValue().read(node), mark)
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
    "args": server_options.add_args,
    PARAMETERS: _parameters,
}
