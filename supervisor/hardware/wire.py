"""The hardware record as JSON: what ``detect --json`` prints, and what ``--hardware FILE`` reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..decoding import Malformed, decode, kind_of, shown
from ..errors import ConfigError, NotFound
from .hardware import Hardware

SCHEMA = 1
_BESIDE = ("schema", "profiles", "workers")  # what detect --json adds to the record
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
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: must be an object with os and arch, not {kind_of(document)}", hint=_HINT)
    if (schema := document.get("schema", SCHEMA)) != SCHEMA:
        raise ConfigError(f"{where}: schema: must be {SCHEMA}, not {shown(schema)}")
    kept = {key: value for key, value in document.items() if key not in _BESIDE}
    try:
        made = decode(Hardware, kept, by_hand=True)
    except Malformed as error:
        problems = error.problems
    else:
        if not (problems := list(_wrong_sizes(made))):
            return made
    raise ConfigError("\n".join(f"{where}: {each}" for each in problems), hint=_HINT)


def _wrong_sizes(made: Hardware) -> Iterator[str]:
    for index, gpu in enumerate(made.gpus):
        if gpu.shared_bytes > (gpu.memory_bytes or 0):
            yield f"gpus[{index}].shared_bytes: must not be more than memory_bytes, of which it is a part"
