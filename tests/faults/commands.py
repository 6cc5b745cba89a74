"""Commands while clients ask: killed in the middle, and what they do to requests."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random

from .fault import under_load
from .ground import Ground

COMMANDS = "Commands under load"

for _words in (
    ("load", "two"),
    ("restart", "two"),
    ("reload",),
    ("unload", "two"),
    ("switch", "one"),
    ("status", "--watch"),
):

    @under_load(
        COMMANDS,
        f"`{' '.join(_words)}` is killed in the middle",
        how="`kill -9` of the command after 0.1 to 1.2 s, three times",
        promise="the daemon finishes the request, or never gets it; no request of a client breaks",
        servers="any",
    )
    def _(ground: Ground, chance: Random, words: tuple[str, ...] = _words) -> None:
        for _ in range(3):
            ground.cut(chance, *words)


@under_load(
    COMMANDS,
    "`start` is killed in the middle, while a daemon runs",
    how="`kill -9` of the command after 0.1 to 1.2 s, three times",
    promise="the daemon that runs does not notice",
)
def _(ground: Ground, chance: Random) -> None:
    for _ in range(3):
        ground.cut(chance, "start", "-p", "two", "-d")


@under_load(
    COMMANDS,
    "`bench` is killed in the middle",
    how="`kill -9` of the command after 0.5 to 3 s",
    promise="its hold ends; held requests go on",
    servers="any",
)
def _(ground: Ground, chance: Random) -> None:
    ground.cut(chance, "bench", "two", most=3)


@under_load(
    COMMANDS,
    "`restart`",
    how="`restart` of one server",
    promise="answers under way end on the old process, new requests wait for the new one",
    servers="new",
)
def _(ground: Ground, chance: Random) -> None:
    name = chance.choice(ground.names)
    ground.tell(op="start", plan=_plan(ground, name), server=_server_of(ground, name))


def _server_of(ground: Ground, name: str) -> str:
    return next((each["name"] for each in ground.status()["servers"] if each["profile"] == name), name)


def _plan(ground: Ground, name: str) -> object:
    return ground.tell(op="running", server=_server_of(ground, name)).get("plan")


@under_load(
    COMMANDS,
    "`unload` while clients ask that model",
    how="`unload` of one model",
    promise="answers under way end; the next request loads it again",
    servers="new",
)
def _(ground: Ground, chance: Random) -> None:
    ground.tell(op="unload", server=_server_of(ground, chance.choice(ground.names)))


@under_load(
    COMMANDS,
    "`load --alone` evicts the others",
    how="`load two --alone`",
    promise="answers under way end; the next request loads the others again",
    servers="new",
)
def _(ground: Ground, chance: Random) -> None:
    ground.tell(op="load", server=_server_of(ground, chance.choice(ground.names)), alone=True)


@under_load(
    COMMANDS,
    "`stop` of one server, then `load`",
    how="both, one after the other",
    promise="requests to it are refused in between; the others go on",
    servers="new",
    breaks=True,
)
def _(ground: Ground, chance: Random) -> None:
    name = chance.choice(ground.names[1:])
    ground.tell(op="stop", server=name)
    ground.run("load", name, code=None)


@under_load(
    COMMANDS,
    "`stop`, then `start`",
    how="both, one after the other",
    promise="answers under way end whole; later requests are refused until it is back",
    daemon="new",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    ground.run("stop", code=None)


@under_load(
    COMMANDS,
    "`stop --now`, then `start`",
    how="both, one after the other",
    promise="answers under way break visibly",
    daemon="new",
    servers="new",
    breaks=True,
)
def _(ground: Ground, _chance: Random) -> None:
    ground.run("stop", "--now", code=None)


@under_load(
    COMMANDS,
    "twenty switches in a row",
    how="to the same profile, without waiting for the outcome",
    promise="all but the last are superseded; no request breaks",
    servers="any",
)
def _(ground: Ground, _chance: Random) -> None:
    plan = _plan(ground, ground.names[0])
    for _ in range(20):
        with suppress(OSError):
            ground.send(json.dumps({"protocol": 1, "op": "start", "plan": plan}).encode() + b"\n", read=False)


@under_load(
    COMMANDS,
    "`reload` with a broken profile",
    how="a profile with a wrong key, `reload`, and back",
    promise="the error names the line; nothing restarts",
)
def _(ground: Ground, _chance: Random) -> None:
    path = ground.root / "config" / "profiles" / f"{ground.names[0]}.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text("server: {ctx-sizes: 3}\n", encoding="utf-8")
    try:
        ground.run("reload", code=None)
    finally:
        path.write_text(before, encoding="utf-8")
