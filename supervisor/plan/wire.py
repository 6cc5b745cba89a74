"""Launch plans and listens as JSON, from the program that makes them to the daemon that runs them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..options.types import Translation
from ..profile.types import Gateway, Health, Restart, Stop
from .listen import Listen, Offer
from .types import LaunchPlan, Parameters

SCHEMA = 2


def to_json(plan: LaunchPlan) -> dict[str, Any]:
    """Everything, the secrets too: for the control socket (0600), never for a file or a screen."""
    return {"schema": SCHEMA, **asdict(plan)}


def public(plan: LaunchPlan) -> dict[str, Any]:
    """The same without what may be secret: for people."""
    hidden = {name: dict.fromkeys(getattr(plan, name), "(hidden)") for name in ("secrets", "settings")}
    document = {**to_json(plan), **hidden}
    document["adjusted"] = plan.adjusted.adjustment if plan.adjusted else None
    return document


def from_json(data: dict[str, Any]) -> LaunchPlan:
    """
    The plan that `to_json` wrote.

    Raises ValueError for another schema, and TypeError or KeyError for a document that is not a plan.
    """
    fields = dict(data)
    if fields.pop("schema") != SCHEMA:
        msg = f"this daemon speaks plan schema {SCHEMA}; the two programs are of different versions"
        raise ValueError(msg)
    if fields["adjusted"] is not None:
        fields["adjusted"] = from_json({"schema": SCHEMA, **fields["adjusted"]})
    fields["parameters"] = Parameters(**_tupled(fields["parameters"]))
    fields["restart"] = Restart(**fields["restart"])
    fields["health"] = Health(**fields["health"])
    fields["stop"] = Stop(**fields["stop"])
    fields["translations"] = tuple(
        Translation(t["option"], tuple(t["rendered"]), t["reason"], t["source"])
        for t in fields["translations"]
    )
    for name in ("argv", "aliases", "model_files", "devices", "warnings"):
        fields[name] = tuple(fields[name])
    return LaunchPlan(**fields)


def listen_to_json(listen: Listen) -> dict[str, Any]:
    """Everything, the digests of keys too."""
    return asdict(listen)


def public_listen(listen: Listen) -> dict[str, Any]:
    """For people: a digest tells a key that can be guessed, so the keys are hidden."""
    return {**asdict(listen), "keys": ["(hidden)"] * len(listen.keys)}


def listen_from_json(data: dict[str, Any]) -> Listen:
    """Raises TypeError or KeyError for a document that is no listen."""
    fields = dict(data)
    offers = tuple(Offer(o["profile"], tuple(o["names"]), o["description"]) for o in fields.pop("offers"))
    settings = Gateway(**_tupled(fields.pop("settings")))
    return Listen(**_tupled(fields), settings=settings, offers=offers)


def _tupled(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
