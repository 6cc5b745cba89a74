"""Files that a daemon writes for others: its state record, and the plans that ran out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..decoding import decode
from ..errors import NotFound
from ..files import JsonFile, read_json, write_json
from ..paths import Paths
from .identity import Identity
from .places import SERVER, other_servers, record_file

DEMO = "demo"


@dataclass(frozen=True, slots=True)
class KeptFailure:
    """Why a launch failed; ``log_tail`` is what the log said before, ``at`` a time as ISO 8601 has it."""

    kind: str
    message: str
    hint: str
    at: str | None
    log_tail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """
    One server as it was last seen.  Holds no secrets.

    ``chosen`` is the last profile that it ran and that was not the demo, "" where it ran none: what a start
    without a name takes.  ``launched`` is what a later daemon needs to take its process over, None where that
    cannot be done.
    """

    server: str
    state: str
    why: str
    profile: str
    port: int | None
    identity: Identity | None
    failure: KeptFailure | None
    chosen: str = ""
    launched: Mapping[str, Any] | None = None
    ready_since: float | None = None

    @property
    def held(self) -> Mapping[str, int]:
        """Bytes of each memory that its process holds by its plan, where it can be taken over."""
        memory = (self.launched or {}).get("memory")
        return memory if isinstance(memory, dict) else {}

    @property
    def remembered(self) -> str:
        """``chosen``; a record of an older version has only the last profile."""
        return self.chosen or ("" if self.profile == DEMO else self.profile)


def write_record(path: Path, record: Record) -> None:
    """Raises SupervisorError; a record that cannot be written is no reason to stop a server."""
    write_json(path, asdict(record))


def read_record(path: Path) -> Record | None:
    """The record, or None where there is none or it is not one (truncated, of another version)."""
    return read_json(path, partial(decode, Record, any_text=True))


def server_named(paths: Paths, name: str) -> str:
    """The server that has, or last had, the profile of this name, or is called so.  Raises NotFound."""
    known = [SERVER, *other_servers(paths)]
    for each in known:
        record = read_record(record_file(paths, each))
        if record is not None and record.profile == name:
            return each
    if name not in known:
        raise NotFound(f"No server here has ever run {name}.", hint="goss-supervisor ps")
    return name


_MOST = 100  # the oldest goes first; a digest covers model, build and options


def plans_out_of_memory(file: Path) -> dict[str, str]:
    """What was changed, by the digest of the plan; empty where nothing can be read."""
    return _json(file).known()


def remember_out_of_memory(file: Path, digest: str, words: str) -> None:
    """Raises SupervisorError where it cannot be written."""
    if plans_out_of_memory(file).get(digest) != words:
        _json(file).update(lambda kept: dict(list({**kept, digest: words}.items())[-_MOST:]))


def _json(file: Path) -> JsonFile[dict[str, str]]:
    return JsonFile(file, _plans, lambda plans: {"plans": plans}, {})


def _plans(document: dict[str, Any]) -> dict[str, str]:
    """Before it had a schema, the document was the plans."""
    return {str(digest): str(words) for digest, words in document.get("plans", document).items()}
