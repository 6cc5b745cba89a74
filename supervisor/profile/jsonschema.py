"""
JSON Schemas (draft 2020-12) of profiles and of ``config.yaml``, for completion and help in editors.

``load`` and ``settings_from`` are the judges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..options import dialect
from ..options.help import HelpOption
from ..options.meanings import pinned, understand
from ..options.option_values import OptionKind, option_kind
from . import fields, model_source
from .definition import PARAMETER_PATTERN
from .field_kinds import ENV_PATTERN, JSON, either, size
from .fields import (
    BY_KEY,
    DEVICE_PATTERN,
    PEER_FIELDS,
    SECTIONS,
    SERVE_FIELDS,
    SETTINGS_SECTIONS,
    Field,
    names_under,
)
from .settings import MEMORY_PATTERN, SHARED_SECTIONS

_HINT = "# yaml-language-server: $schema="
FILE_NAME, SETTINGS_FILE_NAME = "schema.json", "config-schema.json"
FIRST_LINE, SETTINGS_FIRST_LINE = f"{_HINT}{FILE_NAME}\n", f"{_HINT}{SETTINGS_FILE_NAME}\n"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema of profiles as it is printed and shipped."""
    return _text(_of_profiles())


def settings_schema_text() -> str:
    """The schema of ``config.yaml`` as it is printed and shipped."""
    return _text(_of_settings())


def _text(schema: JSON) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _of_settings() -> JSON:
    leave: JSON = {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{MEMORY_PATTERN})$"},
        "additionalProperties": _or_null(size().json_schema()),
    }
    about = SETTINGS_SECTIONS
    own: JSON = {
        "serve": _about(
            about["serve"], _or_null({"type": "array", "items": _entry(SERVE_FIELDS, "profile")})
        ),
        "peers": _about(about["peers"], _or_null({"type": "array", "items": _entry(PEER_FIELDS, "url")})),
        "memory": _or_null(_closed({"leave": _about(about["memory.leave"], _or_null(leave))})),
    }
    return {
        "$schema": _DRAFT,
        "title": "goss-supervisor config.yaml",
        "description": "What is served, how much of the memory is not ours, and settings for all profiles.",
        **_closed(own | {name: _property(name) for name in SHARED_SECTIONS}),
    }


def _entry(fields_of: tuple[Field, ...], main: str) -> JSON:
    """An entry of ``serve`` or ``peers``: its ``main`` key alone, or a mapping."""
    keys = {field.key.partition(".")[2]: field for field in fields_of}
    alone = keys[main].kind.json_schema()
    properties = {key: _field(field) for key, field in keys.items()}
    properties[main] = _about(keys[main].description, alone)  # the one that may not be null
    return {"anyOf": [alone, {**_closed(properties), "required": [main]}]}


def _of_profiles() -> JSON:
    return {
        "$schema": _DRAFT,
        "title": "goss-supervisor profile",
        "description": "How to run one model on one kind of machine.",
        **_mapping(""),
        "$defs": {
            name: {"description": option.summary, **_or_null(_option(option))}
            for name, option in sorted(_options().items())
        },
    }


def _mapping(prefix: str) -> JSON:
    lead = prefix + "." if prefix else ""
    return _closed({name: _property(lead + name) for name in names_under(prefix)})


def _closed(properties: Mapping[str, object]) -> JSON:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(key: str) -> JSON:
    return _field(BY_KEY[key]) if key in BY_KEY else _about(SECTIONS[key], _or_null(_free(key)))


def _field(field: Field) -> JSON:
    default = {} if field.default in (None, ()) else {"default": _plain(field.kind.write(field.default))}
    return _about(field.description, _or_null(field.kind.json_schema())) | default


def _about(description: str, schema: JSON) -> JSON:
    return {"description": description, **schema}


def _plain(written: str) -> object:
    try:
        value: object = json.loads(written)
    except ValueError:
        return written
    return value


def _or_null(schema: JSON) -> JSON:
    """``null`` takes back what is inherited, everywhere."""
    return either(schema, {"type": "null"})


_ONE_WORD = {
    "model": ("'demo', or the path of a GGUF file", "demo"),
    model_source.DRAFT: ("a type, a path, or owner/name:QUANT", "mtp"),
    model_source.PROJECTOR: ("'off', or the path of a GGUF file", "off"),
}


def _free(key: str) -> JSON:
    """Sections that one word may say all of, and those whose keys are not ours."""
    match key:
        case "model" | model_source.DRAFT | model_source.PROJECTOR:
            about, example = _ONE_WORD[key]
            short: JSON = {"type": "string", "description": about, "examples": [example]}
            return {"anyOf": [short, _mapping(key)]}
        case "listen":
            address: JSON = {"type": ["string", "integer"], "examples": ["127.0.0.1:9000"]}
            return {"anyOf": [_mapping("listen"), address]}
        case "gateway":
            return {"anyOf": [BY_KEY["gateway.mode"].kind.json_schema(), _mapping("gateway")]}
        case "engine.ready":
            return {"anyOf": [BY_KEY["engine.ready.path"].kind.json_schema(), _mapping("engine.ready")]}
        case fields.MEMORY:
            names = {"pattern": f"^(?:{DEVICE_PATTERN})$"}
            bytes_of = _or_null(size().json_schema())
            return {"type": "object", "propertyNames": names, "additionalProperties": bytes_of}
        case "args":
            words: JSON = {"type": "array", "items": {"type": ["string", "number", "boolean"]}}
            return {"anyOf": [{"type": "string"}, words]}
        case "env":
            scalar: JSON = {"type": ["string", "number", "boolean", "null"]}
            names = {"pattern": f"^{ENV_PATTERN}$"}
            return {"type": "object", "propertyNames": names, "additionalProperties": scalar}
        case "server":
            return _server()
        case fields.PARAMETERS:
            return {"type": "object", "propertyNames": {"pattern": f"^{PARAMETER_PATTERN}$"}}
        case _:
            return _mapping(key)


def _server() -> JSON:
    options = _options()
    spellings = {
        spelling.lstrip("-"): name
        for name, option in options.items()
        for spelling in (*option.names, *option.negative_names)
    }
    properties = {spelling: {"$ref": f"#/$defs/{name}"} for spelling, name in sorted(spellings.items())}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _options() -> dict[str, HelpOption]:
    """What ``server`` may hold, by today's name, with the options of other eras that have another one now."""
    spellings = [option.long_name for option in pinned().options] + [f"--{old}" for old in dialect.LEGACY]
    readings = [reading for spelling in spellings if (reading := understand(spelling))]
    return {reading.name: reading.option for reading in readings if not reading.is_action}


def _option(option: HelpOption) -> JSON:
    one = _one_value(option)
    several: JSON = {"type": "array", "items": {"type": ["string", "number"]}}
    return {"anyOf": [one, several]} if option.many else one


def _one_value(option: HelpOption) -> JSON:
    match option_kind(option):
        case OptionKind.FLAG:
            return {"type": "boolean"}
        case OptionKind.SWITCH:
            return {"enum": [*option.allowed, True, False]}
        case OptionKind.INTEGER if option.words:
            return {"anyOf": [{"type": "integer"}, {"enum": list(option.words)}]}
        case OptionKind.INTEGER:
            return {"type": "integer"}
        case OptionKind.NUMBER:
            return {"type": "number"}
        case OptionKind.JSON:
            return {"type": ["string", "object"]}
        case OptionKind.CHOICE if not option.many:
            return {"enum": list(option.allowed)}
        case _:
            return {"type": ["string", "number"]}
