"""Several models at once: side by side, in each other's place, and each unharmed by what befalls the others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter

import psutil

from .conftest import PATIENCE
from .gateway_load import QUESTION, demo_profile, start
from .test_main_job import lives

THREE = ("one", "two", "three")


def three(home, **gateway):
    for name in THREE[1:]:
        demo_profile(home, name)
    return start(home, gateway={"models": THREE[1:], **gateway})


async def servers(clients):
    """By profile, as status has them."""
    return {each["profile"]: each for each in (await clients.status())["servers"]}


def test_one_that_is_killed_again_and_again_costs_the_others_nothing(built_home):
    clients = three(built_home)
    for name in THREE[1:]:
        assert f"{name} is ready" in built_home.run("load", name).stdout

    async def run():
        before = {name: each["pid"] for name, each in (await servers(clients)).items()}
        over = asyncio.Event()
        asking = [asyncio.create_task(asks(clients, name, over)) for name in ("one", "two") for _ in range(4)]
        for _ in range(5):
            victim = (await servers(clients))["three"]["pid"]
            os.kill(victim, signal.SIGKILL)
            await until_another(clients, victim)
        over.set()
        answers = [answer for some in await asyncio.gather(*asking) for answer in some]
        assert Counter(answer.outcome for answer in answers) == {"whole": len(answers)}
        now = await servers(clients)
        assert [now[name]["restarts"] for name in THREE] == [0, 0, 5]
        assert [now[name]["pid"] == before[name] for name in THREE] == [True, True, False]

    asyncio.run(run())


async def asks(clients, name, over):
    answers = []
    while not over.is_set():
        answers.append(await clients.ask(body=QUESTION | {"model": name}).result())
    return answers


async def until_another(clients, pid):
    async with asyncio.timeout(PATIENCE):
        while True:
            third = (await servers(clients))["three"]
            if third["pid"] not in {pid, None} and third["state"] == "ready":
                return
            await asyncio.sleep(0.02)


def test_servers_are_commanded_by_name(built_home):
    clients = three(built_home)
    built_home.run("load", "two")
    assert "two sleeps" in built_home.run("unload", "two").stdout
    listed = json.loads(built_home.run("ps", "--json").stdout)["servers"]
    assert [(each["profile"], each["state"]) for each in listed] == [("one", "ready"), ("two", "sleeping")]
    assert "two is ready" in built_home.run("load", "two").stdout
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


def test_nothing_of_several_servers_outlives_a_daemon_that_is_killed(built_home):
    clients = three(built_home)
    built_home.run("load", "two")

    async def pids():
        now = await clients.status()
        return now["daemon"]["pid"], [each["pid"] for each in now["servers"]]

    daemon, before = asyncio.run(pids())
    before = [psutil.Process(pid) for pid in before]
    os.kill(daemon, signal.SIGKILL)
    built_home.run("start", "--profile", "one", "--detach")
    _, after = asyncio.run(pids())
    assert len(after) == 1
    assert not any(map(lives, before))
