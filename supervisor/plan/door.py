"""One door for all profiles that its clients may ask for."""

from __future__ import annotations

from dataclasses import replace

from ..errors import StartFailed
from .types import Door, LaunchPlan, Offer


def keep_door(running: LaunchPlan, new: LaunchPlan) -> LaunchPlan:
    """
    The new plan behind the door of the one that runs: for a switch that a client's request asked for.

    Address, keys, limits and offers stay as the person chose them who started the first profile.  Of the new
    profile are its place at the head of the offers, and what it does to requests.  Raises StartFailed for a
    profile that wants no door.
    """
    if running.door is None:
        return new
    if new.door is None:
        raise StartFailed(
            f"{new.profile} has gateway: off, so no client of another profile's gateway can ask for it.",
            hint=f"Take it out of gateway.models, or remove gateway: off from {new.profile}.",
        )
    adjusted = keep_door(running, new.adjusted) if new.adjusted else None
    return replace(new, door=_entered_by(running.door, new.door, new.profile), adjusted=adjusted)


def _entered_by(running: Door, new: Door, profile: str) -> Door:
    settings = replace(
        running.settings,
        reasoning_effort=new.settings.reasoning_effort,
        set_params=new.settings.set_params,
        strip_params=new.settings.strip_params,
    )
    others = (offer for offer in running.offers if offer.profile != profile)
    return replace(running, settings=settings, offers=(_own(running, new, profile), *others))


def _own(running: Door, new: Door, profile: str) -> Offer:
    """As the running door offers it: its clients know it by those names."""
    known = (offer for offer in (*running.offers, *new.offers) if offer.profile == profile)
    return next(known, Offer(profile, (profile,)))
