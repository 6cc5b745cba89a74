"""The profiles of a store, ranked for a computer."""

from __future__ import annotations

from ..errors import SupervisorError
from ..hardware.types import Hardware
from .matching import Ranking, Unfit, rank
from .resolve import engine_settings, resolve
from .store import ProfileStore
from .types import Profile


def rank_stored(store: ProfileStore, hardware: Hardware) -> Ranking:
    """
    All of them; one that is wrong does not suit and says what to do, and stops nobody.

    Raises ConfigError for a ``config.yaml`` that is wrong: it stands under every profile.
    """
    engine_settings(store)
    profiles: list[Profile] = []
    broken: list[Unfit] = []
    for stored in store.list():
        try:
            profiles.append(resolve(stored.name, store))
        except SupervisorError:
            advice = f"it has mistakes: goss-supervisor profile check {stored.name}"
            broken.append(Unfit(stored.name, (advice,)))
    own = [stored.name for stored in store.list() if not stored.shipped]
    ranking = rank(profiles, hardware, own)
    return Ranking(ranking.best, ranking.others, (*ranking.unfit, *broken))
