"""The state record: what a daemon that was killed leaves behind for the next one, and for ``status``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import read_json, write_json
from .identity import Identity


@dataclass(frozen=True, slots=True)
class Record:
    """One server as it was last seen.  Holds no secrets."""

    server: str
    state: str
    why: str
    profile: str
    port: int | None
    identity: Identity | None
    failure: dict[str, Any] | None


def write_record(path: Path, record: Record) -> None:
    """Raises SupervisorError; a record that cannot be written is no reason to stop a server."""
    write_json(path, asdict(record))


def read_record(path: Path) -> Record | None:
    """The record, or None where there is none or it is not one (truncated, of another version)."""
    return read_json(path, _record)


def _record(fields: dict[str, Any]) -> Record:
    identity = fields["identity"]
    return Record(**{**fields, "identity": None if identity is None else Identity(**identity)})
