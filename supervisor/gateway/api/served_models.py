"""
The models that clients may ask for: how they are listed, and which one a name means.  Pure.

The web UI (b11434) takes the first entry as the active model and looks its details up in ``models``, another
list in the same order.  So a profile that serves is first in both.  ``status`` is for its router mode.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from ...plan.listen import Offer
from ...profile.definition import Effort, Role
from .routes import Route, Trouble

ModelEntry = dict[str, Any]


_SERVING: Final = ("ready", "degraded")
_IN_ROUTER_MODE: Final = {
    **dict.fromkeys((*_SERVING, "draining"), "loaded"),
    **dict.fromkeys(("loading", "preparing", "starting", "backoff", "stopping", "killing"), "loading"),
}
"""
The words of llama.cpp's router (b11434, tools/server/server-models.h).  Its ``sleeping`` is a process without
a model; a model of ours that sleeps has no process either, and is ``unloaded``.
"""


def router_status(state: str, *, failed: bool = False) -> dict[str, Any]:
    """
    As llama.cpp's router says it; ``failed``: the last load came to nothing.  Without the arguments of the
    process, which name paths of this disk.
    """
    value = _IN_ROUTER_MODE.get(state, "unloaded")
    has_failed = value == "unloaded" and (failed or state == "failed")
    return {"value": value, "args": [], **({"failed": True, "exit_code": 1} if has_failed else {})}


def models_document(
    offers: Iterable[Offer],
    states: Mapping[str, str],
    upstream: Mapping[str, Mapping[str, Any] | None],
    started: float,
    *,
    contexts: Mapping[str, int] = MappingProxyType({}),
    failed: Collection[str] = (),
    peers: Iterable[ModelEntry] = (),
) -> ModelEntry:
    """
    ``states`` are the servers' in one word, by profile; every other profile is unloaded.  ``started`` is in
    epoch seconds.  ``contexts`` are the tokens that a request can have, as the profiles' servers said when
    they last ran, and ``failed`` are profiles whose last load came to nothing.

    ``upstream`` is what each llama-server says of its model (``GET /v1/models``), where it can be asked.  The
    id is the first name that no earlier offer has; an offer without one cannot be asked for, and is left out.
    """
    entries = _entries(offers, int(started))
    for entry in entries:
        entry["state"] = states.get(entry["profile"], "unloaded")
        entry["status"] = router_status(entry["state"], failed=entry["profile"] in failed)
        entry["context"] = contexts.get(entry["profile"], entry["context"])
    entries.sort(key=lambda entry: (entry["state"] not in _SERVING, entry["state"] == "unloaded"))
    data, models = [], []
    for entry in entries:
        theirs = upstream.get(entry["profile"])
        data.append(_first(theirs, "data") | entry)
        models.append(_first(theirs, "models") | _for_ui(entry))
    for entry in peers:
        data.append(entry)
        models.append(_for_ui(entry))
    return {"object": "list", "data": data, "models": models}


def model_document(document: Mapping[str, Any], name: str) -> ModelEntry | None:
    """The entry of ``models_document`` that has this id or alias, in any case of letters."""
    wanted = name.casefold()
    entry: ModelEntry
    for entry in document["data"]:
        if wanted in {known.casefold() for known in (entry["id"], *entry["aliases"])}:
            return entry
    return None


def public_ids(offers: Iterable[Offer]) -> dict[str, str]:
    """What each profile's model is called in lists."""
    return {offer.profile: names[0] for offer, names in _named(offers)}


def _named(offers: Iterable[Offer]) -> Iterator[tuple[Offer, list[str]]]:
    """Those that have a name which no earlier one has, with all such names."""
    taken: set[str] = set()
    for offer in offers:
        names = [name for name in offer.names if name.casefold() not in taken]
        taken.update(name.casefold() for name in names)
        if names:
            yield offer, names


def _entries(offers: Iterable[Offer], created: int) -> list[ModelEntry]:
    return [
        {
            "id": names[0],
            "object": "model",
            "created": created,
            "owned_by": "goss-supervisor",
            "aliases": names[1:],
            "profile": offer.profile,
            "description": offer.description,
            "role": offer.role,
            "context": offer.context_tokens,
        }
        for offer, names in _named(offers)
    ]


def context_in(upstream: Mapping[str, Any]) -> int | None:
    """The tokens of one request in llama-server's own answer."""
    meta = _first(upstream, "data").get("meta")
    context = meta.get("n_ctx") if isinstance(meta, dict) else None
    return context if isinstance(context, int) and context > 0 else None


def _for_ui(entry: ModelEntry) -> ModelEntry:
    return {"name": entry["id"], "model": entry["id"], "type": "model", "description": entry["description"]}


def _first(upstream: Mapping[str, Any] | None, key: str) -> ModelEntry:
    """The first of that list; empty where there is none, or something else."""
    listed = (upstream or {}).get(key)
    first = listed[0] if isinstance(listed, list) and listed else None
    return dict(first) if isinstance(first, dict) else {}


def no_model(model: str, hint: str = "") -> Trouble:
    """For a request to a model that nobody has."""
    problem = f"There is no model {model[:80]!r} here."
    return Trouble(404, "model_not_found", problem, f"{hint} GET /v1/models lists them.".lstrip())


EFFORTS: Final[dict[str, Effort]] = {"low": "low", "medium": "medium", "high": "high"}


@dataclass(frozen=True, slots=True)
class Meant:
    """
    ``profile`` is None for whichever is active, ``effort`` for what else says it; ``is_unknown``: a model was
    named that is not on offer.
    """

    profile: str | None
    effort: Effort | None = None
    is_unknown: bool = False


class Names:
    """The names and roles of all offers, in any case of letters; the first offer that has one keeps it."""

    __slots__ = ("_by_role", "_profiles", "_roles", "_takes_unknown")

    def __init__(self, offers: Iterable[Offer], unknown: Literal["active", "reject"] = "active") -> None:
        self._profiles: dict[str, str] = {}
        self._takes_unknown = unknown == "active"
        self._by_role: dict[Role, str] = {}
        self._roles: dict[str, tuple[Role, ...]] = {}
        for offer in offers:
            self._roles.setdefault(offer.profile, offer.roles)
            for role in offer.roles:
                self._by_role.setdefault(role, offer.profile)
            for name in offer.names:
                self._profiles.setdefault(name.casefold(), offer.profile)

    def meant(self, model: str | None, role: Role | None = None) -> Meant | None:
        """
        ``gpt-oss-120b:high`` is a name and an effort, unless it is a name as a whole.  What names no model
        that there is means the first of the ``role`` that is asked for, or whichever is active.  ``None`` is
        a name that nobody has, where such are rejected.
        """
        of_role = self._by_role.get(role) if role else None
        if not model:
            return Meant(of_role)
        name = model.casefold()
        if (profile := self._profiles.get(name)) is not None:
            return Meant(profile)
        base, colon, suffix = name.rpartition(":")
        effort = EFFORTS.get(suffix) if colon else None
        if effort and (profile := self._profiles.get(base)) is not None:
            return Meant(profile, effort)
        return Meant(of_role, effort, is_unknown=True) if self._takes_unknown else None

    def profiles(self, models: Iterable[str]) -> set[str]:
        """Those that these names of profiles or models mean; a name that nobody has means none."""
        return {self._profiles[name.casefold()] for name in models if name.casefold() in self._profiles}

    def can(self, profile: str, route: Route) -> bool:
        """Whether this profile answers there; True where that is not known."""
        roles, role = self._roles.get(profile, ()), route.role
        if role is None or role in roles:
            return True
        hears = role == "transcription" and "chat" in roles  # some models of chat do
        return (hears or not roles) and not route.needs_role
