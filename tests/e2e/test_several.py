"""Several models at once: commanded by name, and none pays for another one."""

from __future__ import annotations

import asyncio
import json
import os
import signal

from .gateway_load import QUESTION, Traffic, demo_profile, start

THREE = ("one", "two", "three")


def three(home):
    for name in THREE[1:]:
        demo_profile(home, name)
    return start(home, gateway={"models": THREE[1:]})


async def pids(clients):
    """By profile."""
    return {each["profile"]: each["pid"] for each in (await clients.status())["servers"]}


def test_servers_are_commanded_by_name(built_home):
    clients = three(built_home)
    built_home.run("load", "two")
    assert "two sleeps" in built_home.run("unload", "two").stdout
    listed = json.loads(built_home.run("ps", "--json").stdout)["servers"]
    assert [(each["profile"], each["state"]) for each in listed] == [("one", "ready"), ("two", "sleeping")]
    assert "two is ready" in built_home.run("load", "two").stdout
    ram = json.loads(built_home.run("status", "--json").stdout)["memory"][0]
    held = {each["profile"]: each["measured_bytes"] for each in ram["shares"]}
    assert (list(held), min(held.values()) > 0) == (["one", "two"], True)
    assert ram["total_bytes"] == ram["left_bytes"] + ram["others_bytes"] + sum(held.values())
    assert "\nRAM     one             " in built_home.run("status").stdout
    assert "two is ready" in built_home.run("restart", "two").stdout
    assert "listening on" in built_home.run("logs", "two").stdout
    for command in ("logs", "unload", "restart", "stop"):
        assert "nobody" in built_home.run(command, "nobody", code=5).stderr
    built_home.run("stop", "two")

    async def refused():
        answer = await clients.ask(body=QUESTION | {"model": "two"}).result()
        assert (answer.status, answer.error["code"]) == (503, "server_down")

    asyncio.run(refused())
    alone = built_home.run("load", "three", "--alone").stdout
    assert "three is ready" in alone
    listed = {each["profile"]: each for each in json.loads(built_home.run("ps", "--json").stdout)["servers"]}
    assert (listed["one"]["state"], listed["one"]["placement"]) == ("sleeping", "unloaded for three")
    assert "three is ready" in built_home.run("switch", "three").stdout
    listed = json.loads(built_home.run("ps", "--json").stdout)["servers"]
    assert [(each["name"], each["profile"]) for each in listed] == [("default", "three"), ("two", "two")]
    built_home.run("stop")
    built_home.run("status", code=3)


def test_one_that_is_killed_costs_the_others_nothing(built_home):
    clients = three(built_home)
    built_home.run("load", "two")

    async def run():
        before = await pids(clients)
        async with Traffic.of(clients, 2, QUESTION | {"model": "one"}) as traffic:
            await traffic.more(2)
            os.kill(before["two"], signal.SIGKILL)
            await clients.until(lambda now: [each["restarts"] for each in now["servers"][:2]] == [0, 1])
            await traffic.more(2)
        assert traffic.outcomes == {"whole": len(traffic.answers)}
        assert not any(each["replayed"] or each["held_seconds"] > 1 for each in await clients.requests())
        assert (await pids(clients))["one"] == before["one"]

    asyncio.run(run())
