"""The state record: what a daemon that was killed leaves behind for the next one, and for ``status``."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
    """
    Replace the record in one step, readable by its owner only.

    Raises OSError; a record that cannot be written is no reason to stop a server.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def read_record(path: Path) -> Record | None:
    """The record, or None where there is none or it is not one (truncated, of another version)."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["identity"] is not None:
            fields["identity"] = Identity(**fields["identity"])
        return Record(**fields)
    except (OSError, ValueError, KeyError, TypeError):
        return None
