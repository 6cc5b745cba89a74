"""A person's first own profile: what holds on their machine, each value with the reason why.  Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from . import scalars
from .jsonschema import FIRST_LINE
from .types import Profile

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Ground:
    """
    What the profile is made from: a machine in a line, the profile that suits it, and why.

    ``flavour`` is a family of engines, "" where none is known, with the reason why it is the one.
    """

    machine: str
    base: Profile
    reason: str
    flavour: str = ""
    flavour_reason: str = ""


def starter_text(name: str, ground: Ground) -> str:
    """The YAML of profile ``name``."""
    base = ground.base
    sections = (_head(name, ground), _engine(ground), _placement(ground), _context(ground), _listen(base))
    return FIRST_LINE + "\n".join("".join(f"{line}\n" for line in section) for section in sections)


def _head(name: str, ground: Ground) -> Iterator[str]:
    base = ground.base.name
    yield "#"
    yield from _comment(f"Made by goss-supervisor init for this machine: {ground.machine}.")
    yield from _comment(
        f"What is not said here comes from {base}: `goss-supervisor profile show {name}` shows all that "
        f"holds, `goss-supervisor plan {name}` what it takes of the memory."
    )
    yield f"description: {scalars.write(f'{ground.base.description or base}, on this machine')}"
    yield from _comment(f"It fits best: {ground.reason}.")
    yield f"extends: {base}"


def _engine(ground: Ground) -> Iterator[str]:
    said = ground.base.engine.flavour
    if said:
        yield "engine:"
        yield from _comment(f"What {ground.base.name} says; `goss-supervisor engine survey` shows others.", 2)
        yield f"  flavour: {scalars.write(said)}"
    elif ground.flavour:
        yield "engine:"
        yield from _comment(f"The best for this machine: {ground.flavour_reason}.", 2)
        yield f"  flavour: {scalars.write(ground.flavour)}"
    else:
        yield from _comment(
            "No official build is known for this machine; see `goss-supervisor engine survey`."
        )


def _is_cpu(ground: Ground) -> bool:
    return (ground.base.engine.flavour or ground.flavour) == "cpu"


def _placement(ground: Ground) -> Iterator[str]:
    """Where the base has options of its own for it, ``auto`` would contradict them."""
    base = ground.base
    if base.placement == "pinned":
        yield from _comment(
            f"What goes to the GPU is what {base.name} says, as it was reported to run well; `plan` shows it."
        )
    elif _is_cpu(ground):
        yield from _comment(
            "Everything lies in RAM, since the engine is for the CPU; `plan` shows how much that takes. "
            "`engine` would leave to llama.cpp what is fitted to the memory."
        )
        yield "placement: auto"
    else:
        yield from _comment(
            "As much on a GPU as fits beside the context, the rest in RAM; `plan` says why it comes out so. "
            "`engine` would leave that to llama.cpp."
        )
        yield "placement: auto"


def _context(ground: Ground) -> Iterator[str]:
    base = ground.base
    said = base.server.get("ctx-size")
    what = "Tokens that a conversation can hold."
    if said is None:
        kept = "" if _is_cpu(ground) else ", and more of the model goes to the RAM for it"
        yield from _comment(
            f"{what} {base.name} does not say, so it is the longest that fits, up to what the model was "
            f"trained for. A number here is kept{kept}."
        )
        yield from ("# server:", "#   ctx-size: 32768")
    else:
        yield "server:"
        yield from _comment(f"{what} It is what {base.name} says; more takes more memory.", 2)
        yield f"  ctx-size: {scalars.write(said)}"


def _listen(base: Profile) -> Iterator[str]:
    yield "listen:"
    yield from _comment(
        "127.0.0.1 is this computer only. 0.0.0.0 lets your network in; then a key is asked for, and the "
        "first is made and shown at the start.",
        2,
    )
    yield f"  host: {scalars.write(base.listen.host)}"
    yield from _comment("Clients keep this address, whatever runs behind it.", 2)
    yield f"  port: {base.listen.port}"


def _comment(text: str, indent: int = 0) -> list[str]:
    """Folded; what is no character to be read, as a broken tool may tell of a machine, is left out."""
    lead = f"{' ' * indent}# "
    plain = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return textwrap.wrap(
        plain,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=lead,
        break_on_hyphens=False,
        break_long_words=False,
    )
