"""``--set key=value``: a word is a llama-server option, a dotted key is a key of the profile."""

from __future__ import annotations

from collections.abc import Mapping

from . import scalars, server_options
from .layer import Layer, LayerBuilder, is_null
from .load import SHORT_FORMS, parameter, variable
from .nodes import Entry, Mark, Node, Scalar
from .schema import BY_KEY, PARAMETERS, SECTIONS, known_spelling, nearest_key
from .yaml_nodes import Broken, parse

FILE = "--set"
_NOWHERE = Mark()


def overrides_layer(name: str, overrides: Mapping[str, str]) -> Layer:
    """The layer that lies over profile ``name``; ``null`` takes a value back."""
    builder = LayerBuilder(name, FILE)
    options = []
    for written, text in overrides.items():
        key = known_spelling(written)
        node = Scalar(scalars.resolve(text), text, _NOWHERE)
        if option := _option_name(key):
            options.append(Entry(option, _NOWHERE, node))
        else:
            _profile_key(builder, key, node)
    server_options.add_entries(builder, options)
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
        found = parse(node.text.encode()).root if node.text.startswith(("[", "{")) else None
    except Broken:
        return node
    return found or node


def _nearest(section: str, rest: str) -> str:
    prefix = section if section in SECTIONS else nearest_key("", section)
    found = nearest_key(prefix, rest) if prefix else ""
    return f"{prefix}.{found}" if found else ""
