"""
What peers offer, and which of them answers a request.  Pure.

A model of a peer is asked for by its own name, or as ``peer/model``.  Among peers that have a model: first
where it is loaded, then where it can be; of equal ones, where the fewest of our requests are under way.

A request says which supervisors it has passed (`HOPS_HEADER`), and a list of models which supervisors each
model is behind.  So nothing goes to a supervisor that it has come from, however peers name each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from .api.routes import OF_A_MODEL
from .api.served_models import ModelEntry, router_status
from .auth.keys import KeyLimits
from .http_heads import Head

HOPS_HEADER: Final = b"x-goss-supervisor-hops"
MOST_HOPS: Final = 4
MOST_MODELS: Final = 1000  # of one peer
_LONGEST_ID = 200
_MOST_ALIASES = 20
_ID: Final = re.compile(r"[0-9a-f]{16}")
_NOT_PASSED_ON: Final = frozenset(
    b"origin referer cookie forwarded x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)
"""What a browser or a proxy says of a client of ours is not for another box."""

_WITH_VERSION: Final = frozenset(path for path in OF_A_MODEL if f"/v1{path}" in OF_A_MODEL)
"""Paths that other endpoints have below ``/v1`` only."""

PeerModelStatus = Literal["loaded", "loading", "unloaded", "failed", ""]
_RANKS: Final[dict[PeerModelStatus, int]] = {"loaded": 0, "": 0, "loading": 1, "unloaded": 1, "failed": 2}
_STATES: Final = {"loaded": "ready", "": "ready"}


@dataclass(frozen=True, slots=True)
class PeerModel:
    """
    One model of a peer.  ``status`` "" is of a peer that does not tell; ``path`` are the ids of the
    supervisors that a request to it passes.
    """

    peer: str
    id: str
    status: PeerModelStatus = ""
    path: tuple[str, ...] = ()
    role: str = "chat"
    context: int | None = None
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that no other peer's model has."""
        return f"{self.peer}/{self.id}"

    @property
    def names(self) -> list[str]:
        """All that clients may call it."""
        own = (self.id, *self.aliases)
        return [*own, *(f"{self.peer}/{name}" for name in own)]

    def is_one_of(self, names: Iterable[str]) -> bool:
        """Whether one of these means it, in any case of letters."""
        return not {name.casefold() for name in self.names}.isdisjoint(name.casefold() for name in names)


@dataclass(frozen=True, slots=True)
class PeerList:
    """The models that a peer lists and that are served here; it ``listed`` so many."""

    models: tuple[PeerModel, ...] = ()
    listed: int = 0

    @property
    def problem(self) -> str:
        """What a person should know of it; "" for nothing."""
        if self.listed <= len(self.models) or len(self.models) < MOST_MODELS:
            return ""
        named = "name those that you want under models in config.yaml"
        return f"it lists {self.listed:,} models, and the first {MOST_MODELS:,} are served; {named}"


def models_in(body: bytes, peer: str, peer_id: str, own_id: str, wanted: Sequence[str] = ()) -> PeerList:
    """
    What the answer to ``GET /v1/models`` lists, without what leads back to us; ``wanted`` are the only ones
    that count, if there are any.  Raises ValueError for what is no such list.
    """
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    listed = document.get("data") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list called data")  # noqa: TRY004 - as for what is no JSON
    found: dict[str, PeerModel] = {}
    for entry in listed:
        model = _model_in(entry, peer, peer_id)
        is_wanted = model is not None and (not wanted or model.is_one_of(wanted))
        if model is not None and is_wanted and own_id not in model.path and len(model.path) <= MOST_HOPS:
            found.setdefault(model.id.casefold(), model)
        if len(found) == MOST_MODELS:
            break
    return PeerList(tuple(found.values()), len(listed))


def _model_in(entry: object, peer: str, peer_id: str) -> PeerModel | None:
    """None for an entry that names no model."""
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(name, str) or not _is_name(name):
        return None
    path = entry.get("path")
    further = path if isinstance(path, list) else []
    role, context, aliases = entry.get("role"), entry.get("context"), entry.get("aliases")
    named = (
        aliases[:_MOST_ALIASES] if isinstance(aliases, list) and not further else []
    )  # those are its peers'
    return PeerModel(
        peer,
        name,
        _status_in(entry),
        tuple(each for each in (peer_id, *further) if isinstance(each, str) and _ID.fullmatch(each)),
        role if isinstance(role, str) and role.isalpha() else "chat",
        context if isinstance(context, int) and 0 < context < 2**31 else None,
        tuple(each for each in named if isinstance(each, str) and _is_name(each)),
    )


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_ID and name.isprintable() and " " not in name


def _status_in(entry: dict[str, Any]) -> PeerModelStatus:
    """As llama.cpp's router says it, and a goss-supervisor with it."""
    status = entry.get("status")
    if not isinstance(status, dict):
        return ""
    if status.get("failed") is True:
        return "failed"
    value = status.get("value")
    return value if value in {"loaded", "loading", "unloaded"} else ""


@dataclass(frozen=True, slots=True)
class PeerCandidate:
    """A peer that has the model; ``is_ready``: it says so of itself."""

    model: PeerModel
    is_ready: bool = True
    under_way: int = 0


def best(candidates: Iterable[PeerCandidate]) -> PeerCandidate | None:
    """Where a request goes; of equal ones the first."""
    return min(
        candidates,
        key=lambda each: (_RANKS[each.model.status], not each.is_ready, each.under_way),
        default=None,
    )


def allows(limits: KeyLimits, model: PeerModel) -> bool:
    """Whether a key with these limits may use it: by its own name, which holds for all places, or with it."""
    return not limits.models or model.is_one_of(limits.models)


# --- hops


def hops_of(head: Head) -> tuple[str, ...]:
    """The supervisors that a request has passed, the first one first."""
    said = b",".join(value for name, value in head.headers if name == HOPS_HEADER).decode("latin-1")
    return tuple(filter(_ID.fullmatch, map(str.strip, said.split(","))))


def is_round(hops: Sequence[str], own_id: str) -> bool:
    """Whether a request has been here, or has passed so many that it must not go on."""
    return own_id in hops or len(hops) >= MOST_HOPS


def head_for_peer(head: Head, label: str, prefix: str, hops: Sequence[str]) -> Head:
    """The same request for a peer: its path there, by the route's ``label``, and where it has been."""
    query = head.target.partition(b"?")
    path = prefix + (f"/v1{label}" if label in _WITH_VERSION else label)
    kept = tuple(
        line
        for line in head.headers
        if line[0] not in _NOT_PASSED_ON and line[0] != HOPS_HEADER and not line[0].startswith(b"sec-")
    )
    passed = (HOPS_HEADER, ", ".join(hops).encode("ascii"))
    target = path.encode("ascii") + query[1] + query[2]
    return replace(head, target=target, path=path, headers=(*kept, passed))


# --- lists


def entries_of(models: Iterable[PeerModel], taken: Iterable[str]) -> list[ModelEntry]:
    """
    As ``GET /v1/models`` lists them, behind the local ones, whose names are ``taken``.  The id is the first
    name that nobody before has.
    """
    known = {name.casefold() for name in taken}
    entries = []
    for model in models:
        names = [name for name in model.names if name.casefold() not in known]
        known.update(name.casefold() for name in names)
        if names:
            entries.append(_entry(model, names))
    return entries


def _entry(model: PeerModel, names: list[str]) -> ModelEntry:
    state = _STATES.get(model.status, model.status)
    return {
        "id": names[0],
        "object": "model",
        "created": 0,
        "owned_by": model.peer,
        "aliases": names[1:],
        "profile": model.name,
        "description": "",
        "role": model.role,
        "context": model.context,
        "state": state,
        "status": router_status(state),
        "peer": model.peer,
        "path": list(model.path),
    }
