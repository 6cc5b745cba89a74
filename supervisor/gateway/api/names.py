"""What a client means by ``model``: a profile that is offered, and how hard it shall think.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from ...plan.listen import Offer
from ...profile.definition import Effort

EFFORTS: Final[dict[str, Effort]] = {"low": "low", "medium": "medium", "high": "high"}


@dataclass(frozen=True, slots=True)
class Meant:
    """``profile`` is None for whichever is active, ``effort`` for what else says it."""

    profile: str | None
    effort: Effort | None = None


_ACTIVE: Final = Meant(None)


class Names:
    """The names of all offers, in any case of letters; the first offer that has one keeps it."""

    __slots__ = ("_profiles", "_takes_unknown")

    def __init__(self, offers: Iterable[Offer], unknown: Literal["active", "reject"] = "active") -> None:
        self._profiles: dict[str, str] = {}
        self._takes_unknown = unknown == "active"
        for offer in offers:
            for name in offer.names:
                self._profiles.setdefault(name.casefold(), offer.profile)

    def meant(self, model: str | None) -> Meant | None:
        """
        ``gpt-oss-120b:high`` is a name and an effort, unless it is a name as a whole.  ``None`` is a name
        that nobody has, where such are rejected.
        """
        if not model:
            return _ACTIVE
        name = model.casefold()
        if (profile := self._profiles.get(name)) is not None:
            return Meant(profile)
        base, colon, suffix = name.rpartition(":")
        effort = EFFORTS.get(suffix) if colon else None
        profile = self._profiles.get(base) if effort else None
        return Meant(profile, effort) if profile is not None or self._takes_unknown else None
