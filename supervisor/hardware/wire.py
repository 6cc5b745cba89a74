"""The hardware record as JSON: what ``detect --json`` prints, and what ``--hardware FILE`` reads."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import ConfigError, NotFound
from .hardware import Cpu, Gpu, Hardware, Node, PcieLink

SCHEMA = 1
_BESIDE = ("schema", "profiles")  # what detect --json adds to the record
_RECORDS = (Hardware, Cpu, Gpu, PcieLink, Node)
_LARGEST = 2**60  # of bytes; more is a mistake, and no JSON writer agrees on it
_HINT = "goss-supervisor detect --json prints one that can be edited."


def to_json(hardware: Hardware) -> dict[str, Any]:
    """All of it, by the names of the fields; unknown is null or "" as in the record."""
    return {"schema": SCHEMA, **dataclasses.asdict(hardware)}


def load(path: Path) -> Hardware:
    """The record in a file.  Raises NotFound, ConfigError, and the OSError of a file that cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.", hint=_HINT) from None
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON: {error}", hint=_HINT) from None
    return from_json(document, str(path))


def from_json(document: object, where: str) -> Hardware:
    """
    The record that `to_json` wrote, or that a person did: os and arch are needed, the rest may be left out.

    Raises ConfigError with every problem, each with ``where`` and its key.
    """
    problems: list[str] = []
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: must be an object with os and arch, not {_kind(document)}", hint=_HINT)
    if (schema := document.get("schema", SCHEMA)) != SCHEMA:
        raise ConfigError(f"{where}: schema: must be {SCHEMA}, not {_shown(schema)}")
    kept = {key: value for key, value in document.items() if key not in _BESIDE}
    made = _record(Hardware, kept, "", problems)
    _check_sizes(made, problems)
    if problems or made is None:
        raise ConfigError("\n".join(f"{where}: {each}" for each in problems), hint=_HINT)
    return typing.cast("Hardware", made)


def _check_sizes(made: object, problems: list[str]) -> None:
    gpus = made.gpus if isinstance(made, Hardware) else ()
    for index, gpu in enumerate(gpus):
        if gpu.shared_bytes > (gpu.memory_bytes or 0):
            problems.append(
                f"gpus[{index}].shared_bytes: must not be more than memory_bytes, of which it is a part"
            )


def _record(kind: type[Any], value: object, key: str, problems: list[str]) -> object:
    """One of the records from an object; None, and what is wrong among ``problems``."""
    if not isinstance(value, Mapping):
        problems.append(f"{key}: must be an object, not {_kind(value)}")
        return None
    before = len(problems)
    known = typing.get_type_hints(kind)
    strange = [name for name in value if name not in known]
    problems += [_unknown(_join(key, str(name)), str(name), tuple(known)) for name in strange]
    needed = [field.name for field in dataclasses.fields(kind) if _needed(field)]
    problems += [f"{_join(key, name)}: is missing" for name in needed if name not in value]
    told = {name: known[name] for name in known if name in value}
    read = {name: _read(told[name], value[name], _join(key, name), problems) for name in told}
    return None if len(problems) > before else kind(**read)


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _unknown(key: str, name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    question = f" (did you mean {near[0]}?)" if near else ""
    return f"{key if key.isprintable() else ascii(key)}: is no key here{question}"


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _read(kind: Any, value: object, key: str, problems: list[str]) -> object:  # noqa: ANN401 - a type, as declared
    """A value of the declared type; the fields of the records are of no other types than these."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _read(inner[0], value, key, problems)
    if origin is tuple:
        return _sequence(inner[0], value, key, problems)
    if origin is typing.Literal:
        return _one_of(inner, value, key, problems)
    if kind in _RECORDS:
        return _record(kind, value, key, problems)
    return _plain(kind, value, key, problems)


def _sequence(kind: Any, value: object, key: str, problems: list[str]) -> object:  # noqa: ANN401
    if not isinstance(value, list | tuple):
        problems.append(f"{key}: must be a list, not {_kind(value)}")
        return ()
    return tuple(_read(kind, each, f"{key}[{index}]", problems) for index, each in enumerate(value))


def _one_of(words: tuple[str, ...], value: object, key: str, problems: list[str]) -> object:
    if not isinstance(value, str) or value not in words:
        problems.append(f"{key}: must be one of {', '.join(words)}, not {_shown(value)}")
    return value


def _plain(kind: type, value: object, key: str, problems: list[str]) -> object:
    if kind is str and isinstance(value, str) and _is_writable(value):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number and _in_bounds(value):
        return float(typing.cast("float", value))
    if kind is int and is_number and isinstance(value, int) and _in_bounds(value):
        return value
    words = {
        str: "a text",
        bool: "true or false",
        int: "a whole number from 0 to 2^60",
        float: "a number from 0 to 2^60",
    }
    problems.append(f"{key}: must be {words[kind]}, not {_shown(value)}")
    return None


def _is_writable(text: str) -> bool:
    """JSON can spell half of a surrogate pair, which no terminal and no file takes."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)


def _in_bounds(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= _LARGEST


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return _kind(value)
    try:
        written = json.dumps(value, ensure_ascii=not str(value).isprintable())
    except ValueError:  # a number of more digits than Python writes
        return "a number"
    return written if len(written) <= 60 else f"{written[:57]}…"
