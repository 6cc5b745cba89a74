"""Makes profiles: new, for this machine, and while they are edited."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SupervisorError, UsageError
from ..files import replace_file
from ..options.option_types import OptionValue
from .definition import Profile
from .jsonschema import FILE_NAME, FIRST_LINE, schema_text
from .load_layers import load, read_bytes
from .resolve import resolve, resolve_layer
from .store import ProfileStore, keep_current, valid_name, write_atomically
from .yaml_nodes import write_value
from .yaml_text import render, rows_of_profile


def new_profile(name: str, other: str, store: ProfileStore) -> Path:
    """A profile that extends ``other``, with what people change most as comments."""
    base = resolve(other, store)
    often = [row for row in rows_of_profile(base) if row.key in _OFTEN_CHANGED]
    given = "".join(f"# {line}\n" for line in render(often).splitlines())
    text = (
        f"{FIRST_LINE}description: My own, based on {other}\nextends: {other}\n\n"
        f"# What {other} says.  Remove '# ' from a line to change it.\n"
        f"# `goss-supervisor profile show -v {other}` shows all that can be changed.\n{given}"
    )
    return create(name, text, store)


_OFTEN_CHANGED = frozenset(
    ("server.ctx-size", "server.gpu-layers", "server.n-cpu-moe", "listen.host", "listen.port", "aliases")
)


def create(name: str, text: str, store: ProfileStore) -> Path:
    """A profile of the user's, with the schema that its first line names next to it."""
    path = store.create(name, text)
    lay_schema(store)
    return path


def lay_schema(store: ProfileStore) -> None:
    """Next to the profiles, where their first line says that it is."""
    keep_current(store.user_dir / FILE_NAME, schema_text())


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
        """Begin to edit; a shipped profile is copied, and the copy will hide it.  Raises ``NotFound``."""
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
            saved = _replaced(self.name, data, self.store)
        self.path.unlink(missing_ok=True)
        return saved


def digest_of(data: bytes) -> str:
    """Of the text of a profile: who saves a changed one says which he has read."""
    return hashlib.sha256(data).hexdigest()


def save_text(name: str, data: bytes, based_on: str, store: ProfileStore) -> Path | None:
    """
    Save the text of a profile of the user's, as it is; None where nothing has changed.

    ``based_on`` is the digest of the text that it was made from.  Raises UsageError for a shipped profile,
    SupervisorError if the file says something else by now, and ConfigError with every mistake.
    """
    stored = store.find(name)
    if stored.shipped:
        raise UsageError(
            f"{name} is a shipped profile, which is not changed.",
            hint=f"goss-supervisor profile new mine --from {name} makes one of your own that extends it.",
        )
    before = read_bytes(stored.path)
    if digest_of(before) != based_on:
        raise SupervisorError(
            f"{stored.path} was changed by somebody else meanwhile, so nothing was saved.",
            hint="Read it again, and make your change in the new text.",
        )
    if data == before:
        return None
    resolve_layer(load(data, name, str(stored.path)), store)
    return _replaced(name, data, store)


def _replaced(name: str, data: bytes, store: ProfileStore) -> Path:
    """The text before is kept as ``NAME.yaml~``, where no profile is looked for."""
    path = store.user_dir / f"{name}.yaml"
    if path.exists():
        replace_file(path.with_name(f"{path.name}~"), path.read_bytes(), mode=None)
    saved = store.save(name, data.decode("utf-8-sig"))
    lay_schema(store)
    return saved


_WIDTH = 100


@dataclass(frozen=True, slots=True)
class StarterBasis:
    """
    What the profile is made from: a machine in a line, the profile that suits it, and why.

    ``flavour`` is a family of engines, "" where none is known, with the reason why it is the one.
    ``options`` are those of the server that the model's maker recommends for this use.
    """

    machine: str
    base: Profile
    reason: str
    flavour: str = ""
    flavour_reason: str = ""
    options: Mapping[str, OptionValue] = field(default_factory=dict)


def starter_text(name: str, basis: StarterBasis) -> str:
    """The YAML of profile ``name``."""
    base = basis.base
    sections = (_head(name, basis), _engine(basis), _placement(basis), _context(basis), _listen(base))
    return FIRST_LINE + "\n".join("".join(f"{line}\n" for line in section) for section in sections)


def _head(name: str, basis: StarterBasis) -> Iterator[str]:
    base = basis.base.name
    yield "#"
    yield from commented(f"Made by goss-supervisor init for this machine: {basis.machine}.")
    yield from commented(
        f"Everything that is not set here comes from {base}: `goss-supervisor profile show {name}` shows all "
        f"of it, and `goss-supervisor plan {name}` the memory that it needs."
    )
    yield f"description: {write_value(f'{basis.base.description or base}, on this machine')}"
    yield from commented(f"Why this one: {basis.reason}.")
    yield f"extends: {base}"


def _engine(basis: StarterBasis) -> Iterator[str]:
    survey = "`goss-supervisor engine survey`"
    flavour, why = basis.flavour, f"The best for this machine: {basis.flavour_reason}."
    if basis.base.engine.flavour:
        flavour, why = basis.base.engine.flavour, f"What {basis.base.name} says; {survey} shows others."
    if flavour:
        yield "engine:"
        yield from commented(why, 2)
        yield f"  flavour: {write_value(flavour)}"
    else:
        yield from commented(f"No official build is known for this machine; see {survey}.")


def _is_cpu(basis: StarterBasis) -> bool:
    return (basis.base.engine.flavour or basis.flavour) == "cpu"


def _placement(basis: StarterBasis) -> Iterator[str]:
    """Where the base has options of its own for it, ``auto`` would contradict them."""
    base = basis.base
    if base.placement == "pinned":
        reported = "as it was reported to run well; `plan` shows it."
        yield from commented(f"What goes to the GPU is what {base.name} says, {reported}")
    elif _is_cpu(basis):
        yield from commented(
            "Everything is in RAM, since the engine is for the CPU; `plan` shows how much it needs. "
            "With `engine`, llama.cpp fits the model to the memory."
        )
        yield "placement: auto"
    else:
        yield from commented(
            "As much as fits next to the context goes on a GPU, the rest in RAM; `plan` says why. "
            "With `engine`, llama.cpp decides."
        )
        yield "placement: auto"


def _context(basis: StarterBasis) -> Iterator[str]:
    base = basis.base
    given = base.server.get("ctx-size")
    what = "Tokens that a conversation can hold."
    lead = "" if given is not None or basis.options else "# "
    if given is None:
        kept = "" if _is_cpu(basis) else ", and more of the model goes to the RAM for it"
        yield from commented(
            f"{what} {base.name} does not set it, so it is the longest that fits, up to what the model was "
            f"trained for. A number here is kept{kept}."
        )
        yield from (f"{lead}server:", "#   ctx-size: 32768")
    else:
        yield "server:"
        yield from commented(f"{what} The value is that of {base.name}; more tokens need more memory.", 2)
        yield f"  ctx-size: {write_value(given)}"
    if basis.options:
        yield from commented("What the model's maker recommends for this use.", 2)
        yield from (f"  {name}: {write_value(value)}" for name, value in basis.options.items())


def _listen(base: Profile) -> Iterator[str]:
    yield "listen:"
    yield from commented(
        "127.0.0.1 is this computer only. 0.0.0.0 lets your network in; then clients need a key, and the "
        "first start makes one and shows it.",
        2,
    )
    yield f"  host: {write_value(base.listen.host)}"
    yield from commented("Clients keep this address, whatever runs behind it.", 2)
    yield f"  port: {base.listen.port}"


def commented(text: str, indent: int = 0) -> list[str]:
    """Wrapped; what is no character to be read, as a broken tool may tell of a machine, is left out."""
    lead = f"{' ' * indent}# "
    plain = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    lines = textwrap.TextWrapper(_WIDTH, lead, lead, break_on_hyphens=False, break_long_words=False)
    return lines.wrap(plain)
