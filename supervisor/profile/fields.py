"""
Every key of a profile, made from the declarations in ``definition``.

Keys are dotted paths as in the YAML: ``match.ram.min``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from . import definition, model_source, peer, served_profile
from .declare import NAME_PATTERN
from .field_kinds import (
    Choice,
    FilePath,
    Integer,
    Kind,
    OnOff,
    OrOff,
    Several,
    Text,
    WebOrigin,
    Workers,
    duration,
    nearest,
    size,
)
from .worker_address import LentMemory, Worker

DEVICE_PATTERN = r"RAM|[A-Za-z]+[0-9]+"
PARAMETERS = "gateway.set-params"
MEMORY = "engine.memory"
READY = "engine.ready"
FREE = ("server", "env", "args", PARAMETERS, MEMORY)  # sections with keys or words of no fixed set
SECTIONS = {
    "match": "The machine that this profile is made for; what is not said may be anything.",
    "match.ram": "How much main memory it has.",
    "match.gpu": "The GPU it has.",
    "engine": "Which llama.cpp to run, or which other program.",
    READY: "When the program of a command is ready: a path, or path and question.",
    MEMORY: "What the program of a command takes of each memory: RAM, and GPUs by llama.cpp's names (CUDA0, "
    "Vulkan0, MTL0). Without it, what was measured of the RAM the last time.",
    "model": "The model: a path, a Hugging Face repository and file, or 'demo'.",
    model_source.DRAFT: "What proposes tokens for the model to check: 'mtp' (or eagle3, dflash, dspark), "
    "a path, a repository with its quantisation, or a mapping.",
    model_source.PROJECTOR: "What turns images and sound into tokens: a path, a mapping, or 'off' for none. "
    "By default, the repository's own if model.quant chooses the model's file.",
    "server": "llama-server options by their long or short names, without the dashes; null takes back an "
    "inherited one.",
    "args": "A raw llama-server option list, as a text or a list; it is added to 'server'.",
    "env": "Environment variables for the engine.",
    "listen": "Where clients come in.",
    "lend": "What this computer lends to llama-servers elsewhere, over llama.cpp's RPC, in place of serving "
    "a model: it is a worker then. `goss-supervisor worker` sets it.",
    "gateway": "What holds, guards and passes on what clients ask for, or 'off'.",
    PARAMETERS: "Parameters by name that are set in every request, in place of what it says; any JSON value. "
    "Key by key over an inherited one; null takes one back.",
    "restart": "When the server comes back by itself, and when it stays down.",
    "health": "When a silent server is late, busy or dead.",
    "stop": "How the server is stopped: TERM, grace, TERM, insist, KILL.",
    "tuned": "What `tune` measured this profile with. It changes nothing; `plan`, `start` and `status` warn "
    "when a part of it is no longer what is there.",
}
RECORDS: dict[str, type[Any]] = {
    "match": definition.Match,
    "engine": definition.Engine,
    "model": model_source.ModelSource,
    "listen": definition.ListenSettings,
    "lend": LentMemory,
    "gateway": definition.GatewaySettings,
    "restart": definition.Restart,
    "health": definition.Health,
    "stop": definition.Stop,
    "tuned": definition.Tuned,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One key; ``attribute`` is its name in the record of its section; no fixed ``default`` is None."""

    key: str
    kind: Kind
    description: str
    attribute: str = ""
    default: object = None

    @property
    def section(self) -> str:
        return self.key.partition(".")[0] if "." in self.key else ""


def _declared(section: str, record: type[Any]) -> Iterator[Field]:
    """The keys of one section: the fields of its record that ``definition.key`` made."""
    types = get_type_hints(record)
    for each in dataclasses.fields(record):
        if each.metadata:
            name = each.metadata["name"] or re.sub("_(seconds|bytes)$", "", each.name).replace("_", "-")
            kind = _kind(types[each.name], each.name, each.metadata)
            default = each.default if section else None  # at the top, what is not said depends on the rest
            key = f"{section}.{name}" if section else name
            yield Field(key, kind, each.metadata["about"], each.name, default)


def _kind(declared: Any, attribute: str, limits: Mapping[str, Any]) -> Kind:  # noqa: ANN401 - a type
    """What the type, the unit in the attribute's name, and the limits come to."""
    if NoneType in get_args(declared):
        [declared] = (each for each in get_args(declared) if each is not NoneType)
    if get_args(declared)[:1] == (Worker,):
        return Workers()
    words: tuple[str, ...] = limits.get("words", ())
    text = Text(limits.get("what", "a text"), limits.get("pattern", ""), words)
    if get_origin(declared) is tuple:
        return Several(WebOrigin() if "origins" in limits else Choice(words) if words else text)
    if get_origin(declared) is Literal:
        words = get_args(declared)
        return OnOff(as_word=True) if words == ("on", "off") else Choice(words)
    simple = {bool: OnOff(), str: text, Path: FilePath(absolute="absolute" in limits)}
    return simple.get(declared) or _number(attribute, limits)


def _number(attribute: str, limits: Mapping[str, Any]) -> Kind:
    bounds = {name: limits[name] for name in ("least", "most") if name in limits}
    unit = attribute.rpartition("_")[2]
    kind = {"seconds": duration, "bytes": size}.get(unit, Integer)(**bounds)
    return OrOff(kind) if "or_off" in limits else kind


_EXTENDS = Field(
    "extends",
    Text("a profile name (small letters, digits, '.', '_' and '-')", NAME_PATTERN),
    "The profile that this one is based on.",
)
_TOP = tuple(_declared("", definition.Profile))
FIELDS = (
    *(_TOP[0], _EXTENDS, *_TOP[1:]),
    *(field for section, record in RECORDS.items() for field in _declared(section, record)),
)
BY_KEY = {field.key: field for field in FIELDS}
_ATTRIBUTES = {
    section: {field.key: field.attribute for field in FIELDS if field.section == section and field.attribute}
    for section in ("", *RECORDS)
}
SERVE_FIELDS = tuple(_declared("serve", served_profile.ServedProfile))
"""The keys of an entry of ``serve`` in config.yaml."""
PEER_FIELDS = tuple(_declared("peers", peer.Peer))
"""The keys of an entry of ``peers`` there."""
SETTINGS_SECTIONS = {
    "serve": "The profiles that are served: a list of names, or of mappings with the keys below. `start` "
    "runs the first as the main server.",
    "memory.leave": "How much of each memory is not ours, by its name in `plan`: "
    "`{RAM: 8 GiB, CUDA0: 2 GiB}`. What other programs use already counts as a part of it.",
    "peers": "Other boxes whose models are served here, too: a list of addresses, or of mappings with the "
    "keys below. See [cluster.md](cluster.md#peers-several-boxes-behind-one-address).",
    "models-dir": "The folder for models, on a larger disk for example: a path from the root or from `~`. "
    "Without it, `models/` of the data folder.",
}
"""What config.yaml alone may say."""


def known_spelling(key: str) -> str:
    """``engine.auto_update`` means ``engine.auto-update``; anything else stays as it is."""
    dashed = key.replace("_", "-")
    if dashed.startswith(PARAMETERS):
        return PARAMETERS + key[len(PARAMETERS) :]
    return dashed if dashed in BY_KEY else key


def names_under(prefix: str) -> tuple[str, ...]:
    """The keys that a mapping may have: ``names_under("match.ram")`` is ``("min", "max")``."""
    lead = prefix + "." if prefix else ""
    keys = [*BY_KEY, *FREE]
    return tuple(dict.fromkeys(key[len(lead) :].partition(".")[0] for key in keys if key.startswith(lead)))


def attributes(section: str, values: Mapping[str, object]) -> dict[str, Any]:
    """Of values by dotted key those of one section, by the attribute of its record."""
    return {
        attribute: values[key] for key, attribute in _ATTRIBUTES.get(section, {}).items() if key in values
    }


def nearest_key(prefix: str, word: str) -> str:
    """The valid key most like ``word`` in the mapping at ``prefix``."""
    return nearest(word, names_under(prefix))
