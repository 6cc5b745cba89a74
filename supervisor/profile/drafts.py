"""Profiles in the making: new ones, imported ones, and texts that are being edited."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from .importer import Imported
from .jsonschema import FILE_NAME, FIRST_LINE, schema_text
from .load import load, read_bytes
from .resolve import resolve, resolve_layer
from .store import ProfileStore, valid_name, write_atomically
from .yaml_text import render, rows_of_profile


def new_profile(name: str, other: str, store: ProfileStore) -> Path:
    """A profile that extends ``other``, with all that it could say otherwise as comments."""
    base = resolve(other, store)
    lines = render(rows_of_profile(base)).splitlines()
    said = "".join(f"# {line}\n" for line in lines if not line.startswith("description:"))
    text = (
        f"{FIRST_LINE}description: {BASED_ON} {other}\nextends: {other}\n\n"
        f"# What {other} says.  Take the '#' and the blank away where yours is to be otherwise.\n{said}"
    )
    return _create(name, text, store)


BASED_ON = "My own, based on"


def save_imported(imported: Imported, store: ProfileStore, *, named: bool) -> Path:
    """A name that the user gave must be free; one that was made from the model's gets a number."""
    name = imported.name if named else _free_name(imported.name, store)
    return _create(name, imported.text, store)


def _free_name(name: str, store: ProfileStore) -> str:
    taken = store.names()
    return next(each for n in itertools.count(1) if (each := name if n == 1 else f"{name}-{n}") not in taken)


def _create(name: str, text: str, store: ProfileStore) -> Path:
    path = store.create(name, text)
    _lay_schema(store)
    return path


def _lay_schema(store: ProfileStore) -> None:
    """Beside the profiles, where their first line says that it is."""
    path, text = store.user_dir / FILE_NAME, schema_text()
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_atomically(path, text)


@dataclass(frozen=True, slots=True)
class Draft:
    """A text that is being edited; it is kept until it is sound and saved, or the same as before."""

    name: str
    path: Path
    original: bytes
    store: ProfileStore
    continued: bool

    @classmethod
    def begin(cls, name: str, store: ProfileStore, folder: Path) -> Draft:
        """Of a shipped profile a copy, which will shadow it.  Raises ``NotFound``."""
        stored = store.find(name)
        path = folder / f"{valid_name(name)}.yaml"
        original = read_bytes(stored.path)
        continued = path.exists()
        if not continued:
            write_atomically(path, original.decode(errors="replace"))
        return cls(name, path, original, store, continued)

    def finish(self) -> Path | None:
        """The saved file, or None if nothing was changed.  Raises ``ConfigError``, and keeps the draft."""
        data = read_bytes(self.path)
        saved = None
        if data != self.original:
            resolve_layer(load(data, self.name, str(self.path)), self.store)
            saved = self.store.save(self.name, data.decode("utf-8-sig"))
            _lay_schema(self.store)
        self.path.unlink(missing_ok=True)
        return saved
