"""A launch plan as JSON, from the program that makes it to the daemon that runs it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..options.option_values import Translation
from ..profile.definition import GatewaySettings, Health, Restart, Stop
from .types import Door, LaunchPlan, Offer

SCHEMA = 1


def to_json(plan: LaunchPlan) -> dict[str, Any]:
    """Everything, the secrets too: for the control socket (0600), never for a file or a screen."""
    return {"schema": SCHEMA, **asdict(plan)}


def public(plan: LaunchPlan) -> dict[str, Any]:
    """The same without what may be secret: for people."""
    hidden = {name: dict.fromkeys(getattr(plan, name), "(hidden)") for name in ("secrets", "settings")}
    document = {**to_json(plan), **hidden}
    document["adjusted"] = plan.adjusted.adjustment if plan.adjusted else None
    if plan.door is not None:  # a digest tells a key that can be guessed
        document["door"] = {**document["door"], "keys": ["(hidden)"] * len(plan.door.keys)}
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
    if fields["door"] is not None:
        fields["door"] = _door(fields["door"])
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


def _door(data: dict[str, Any]) -> Door:
    fields = dict(data)
    offers = tuple(Offer(o["profile"], tuple(o["names"]), o["description"]) for o in fields.pop("offers"))
    settings = _tupled(fields.pop("settings"))
    return Door(**_tupled(fields), settings=GatewaySettings(**settings), offers=offers)


def _tupled(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
