"""One entry of ``serve`` in config.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from .declare import NAME_PATTERN, Origin, key


@dataclass(frozen=True, slots=True)
class ServedProfile:
    """
    A profile that ``serve`` in config.yaml names, and on what terms.

    None of ``load`` is what its profile says (``gateway.preload``), and None of ``idle_unload_seconds`` what
    the gateway's own key says; 0 is never.
    """

    profile: str = key(
        "",
        "Which profile.",
        what="a profile name (small letters, digits, '.', '_' and '-')",
        pattern=NAME_PATTERN,
    )
    load: bool | None = key(
        None,
        "Whether a start loads it; else the first request does. Without it: what gateway.preload says.",
    )
    pinned: bool = key(False, "Never unload it to make room for another, nor because it is idle.")
    priority: int = key(
        0, "Of those that could make room, one with a lower number does.", least=-1000, most=1000
    )
    idle_unload_seconds: float | None = key(
        None,
        "In place of gateway.idle-unload, for this one; also where it is pinned.",
        or_off=True,
    )
    origin: Origin | None = None
