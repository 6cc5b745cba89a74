"""Servers and requests in words, as ``status``, ``ps``, ``requests`` and ``top`` show them.  Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..home import client
from ..progress import duration

StatusDocument = dict[str, Any]
RequestRow = dict[str, Any]

KEPT = 1000  # by the daemon
_TIMES = ("held", "first", "total")
_SEEN = {"answered", "cancelled"}
HEADERS = ("at", "endpoint", "model", "profile", "status", *_TIMES, "in", "out", "tok/s", "note")


def all_servers(now: StatusDocument) -> list[StatusDocument]:
    """All of them; a daemon of the version before has one."""
    awaited = awaited_loads(now)
    return [
        {**each, "why": "; ".join(filter(None, (each.get("why"), awaited.get(each["profile"]))))}
        for each in now.get("servers") or [now["server"]]
    ]


def awaited_loads(now: StatusDocument) -> dict[str, str]:
    """What loads wait for, by profile."""
    return {each["profile"]: client.awaited_text(each) for each in now.get("loads_waiting", ())}


def absent_servers(now: StatusDocument) -> list[StatusDocument]:
    """What no server has: it is to be loaded, or could not be."""
    there, awaited = {each["profile"] for each in all_servers(now)}, awaited_loads(now)
    unknown = dict.fromkeys(("build", "flavour", "pid", "memory_bytes", "port", "uptime_seconds"))
    states = {
        each["profile"]: (each["state"], each["trouble"])
        for each in now.get("served", ())
        if each["trouble"] or each["state"] == "loading"
    }
    states |= {profile: ("waiting", why) for profile, why in awaited.items()}
    return [
        {"name": profile, "profile": profile, "state": state, **unknown}
        | {"restarts": 0, "why": why, "placement": ""}
        for profile, (state, why) in states.items()
        if profile not in there
    ]


def peers_of(now: StatusDocument) -> list[StatusDocument]:
    """A daemon of the version before has none."""
    return list((now.get("gateway") or {}).get("peers", ()))


def rows_of_peers(peers: Sequence[StatusDocument]) -> Iterator[StatusDocument]:
    """As rows of servers: one for each model that a peer has loaded, and one for a peer in trouble."""
    unknown = dict.fromkeys(("build", "flavour", "pid", "memory_bytes", "port", "uptime_seconds", "restarts"))
    for peer in peers:
        if peer["state"] in {"up", "not ready"}:
            rows = [(f"{peer['name']}/{model}", "ready", f"at {peer['url']}") for model in peer["loaded"]]
        else:
            rows = []
        if peer["why"] or not rows:
            rows.insert(0, (f"{peer['name']}/", peer["state"], peer["why"] or f"at {peer['url']}"))
        for name, state, why in rows:
            yield {"profile": name, "state": state, "why": why, **unknown}


def why_of(server: Mapping[str, Any]) -> str:
    held = server.get("held_by")
    by = f"held by {held['owner']}: {held['why']}" if held else ""
    return "; ".join(filter(None, (server["why"], server.get("placement", ""), by)))


def epoch_of(iso: str) -> float:
    from datetime import datetime  # noqa: PLC0415 - not for ``--json``

    return datetime.fromisoformat(iso).timestamp()


def held_text(held: Mapping[str, Any]) -> str:
    """``2 requests wait for chat, for up to 12 s: room in the context that its slots share``."""
    count = held["requests"]
    wait = "1 request waits" if count == 1 else f"{count} requests wait"
    return f"{wait} for {held['profile']}, for up to {duration(held['longest_seconds'])}: {held['reason']}"


def is_work(request: RequestRow) -> bool:
    """Not if it only looked at something, and saw it: a page loads dozens of files."""
    return request["method"] not in {"GET", "HEAD"} or request["result"] not in _SEEN


def row_of(request: RequestRow) -> list[str]:
    """A cell for each of `HEADERS`."""
    return [
        time.strftime("%m-%d %H:%M:%S", time.localtime(request["at"])),
        request["endpoint"],
        request["model"] or "-",
        request["profile"] or "-",
        _status(request),
        _time(request["held_seconds"] or None),
        _time(request["first_byte_seconds"]),
        _time(request["seconds"]),
        _number(request["prompt_tokens"]),
        _number(request["output_tokens"]),
        _number(request["tokens_per_second"]),
        ", ".join(filter(None, ("sent again" * request["replayed"], _drafted(request), request["note"]))),
    ]


def _drafted(request: RequestRow) -> str:
    """How good a draft was; "" where nothing was drafted, and of a daemon that does not say."""
    if not (drafted := request.get("drafted_tokens")):
        return ""
    accepted = request.get("accepted_tokens") or 0
    return f"{accepted} of {drafted} drafted tokens were right ({accepted / drafted:.0%})"


def _status(request: RequestRow) -> str:
    """``200``, ``200 broken``, ``429 refused``, ``cancelled``."""
    status = "" if request["status"] is None else str(request["status"])
    result = "" if request["result"] == "answered" else request["result"]
    return " ".join(filter(None, (status, result)))


def _time(seconds: float | None) -> str:
    """``0.25 s`` up to a minute: a first token is worth hundredths."""
    return f"{seconds:.2f} s" if seconds is not None and seconds < 60 else duration(seconds)


def _number(number: float | None) -> str:
    """Tokens whole, and tokens per second with a decimal where that says something."""
    if number is None:
        return "-"
    return f"{number:.1f}" if isinstance(number, float) and number < 100 else f"{number:.0f}"
