"""Several profiles served: as config.yaml says, as a start names them, and in less memory than they take."""

from __future__ import annotations

import asyncio
import json

from .gateway_load import QUESTION, Clients, demo_profile
from .test_gateway_profiles import states


def configure(home, text):
    (home.root / "config" / "config.yaml").write_text(text, encoding="utf-8")


def demos(home, *names, **sections):
    """They differ in their context alone."""
    for number, name in enumerate(names, 1):
        demo_profile(home, name, server={"ctx-size": 8 * 1024 * number}, **sections)
    return Clients(home.root, home.port)


def served(now):
    return {each["profile"]: each["state"] for each in now["served"]}


async def answer(clients, name):
    found = await clients.ask(body=QUESTION | {"model": name}).result()
    assert found.outcome == "whole", found


def test_what_config_yaml_serves_is_loaded_pinned_changed_and_reloaded(built_home):
    clients = demos(built_home, "one", "two", "three", gateway={"max-loaded": 2, "min-warm": "0s"})
    configure(built_home, "# mine\nserve:\n  - one\n  - {profile: two, pinned: true}\n")

    async def run():
        started = await asyncio.to_thread(built_home.run, "start", "--detach")
        assert "one is ready" in started.stdout
        assert "still loading: two (goss-supervisor ps)" in started.stderr
        now = await clients.until(lambda now: served(now) == {"one": "ready", "two": "ready"})
        pids = {each["profile"]: each["pid"] for each in now["servers"]}
        await answer(clients, "one")
        await answer(clients, "two")

        added = await asyncio.to_thread(built_home.run, "serve", "add", "three")
        assert "goss-supervisor reload" in added.stdout
        await asyncio.to_thread(built_home.run, "reload")
        now = await clients.until(lambda now: now["served"][-1]["trouble"])  # nothing is unloaded for it
        assert served(now) == {"one": "ready", "two": "ready", "three": "unloaded"}
        await answer(clients, "three")  # but for who asks for it, and never what is pinned
        assert await states(clients) == {"one": "sleeping", "two": "ready", "three": "ready"}
        assert {each["profile"]: each["pid"] for each in (await clients.status())["servers"]}["two"] == (
            pids["two"]
        )

        await asyncio.to_thread(built_home.run, "serve", "rm", "two")
        await asyncio.to_thread(built_home.run, "reload")
        await answer(clients, "two")  # until somebody ends it, it goes on
        await asyncio.to_thread(built_home.run, "stop", "two")
        listed = json.loads((await clients.get("/v1/models")).body)["data"]
        assert {each["id"] for each in listed} == {"one-alias", "three-alias"}
        text = (built_home.root / "config" / "config.yaml").read_text()
        assert text == "# mine\nserve:\n  - one\n  - three\n"

    asyncio.run(run())


def test_where_not_all_memory_is_ours_what_does_not_fit_is_told_and_loaded_when_asked_for(built_home):
    clients = demos(built_home, "one", "two", gateway={"min-warm": "0s"})
    budget(built_home, 1.5)

    async def run():
        started = await asyncio.to_thread(built_home.run, "start", "one", "two", "--detach")
        assert "still loading: two" in started.stderr
        now = await clients.until(lambda now: any(each["trouble"] for each in now["served"]))
        assert served(now) == {"one": "ready", "two": "unloaded"}
        pid = await clients.pid()
        shown = (await asyncio.to_thread(built_home.run, "ps")).stdout
        assert "two does not fit: needs" in shown
        assert "that memory.leave keeps for others" in shown
        await answer(clients, "one")
        assert await clients.pid() == pid
        await answer(clients, "two")  # whoever asks for it gets it, in place of the other
        assert await states(clients) == {"one": "sleeping", "two": "ready"}
        assert not any(each["trouble"] for each in (await clients.status())["served"])

    asyncio.run(run())


def budget(home, times):
    """Leaves so many times of the RAM to us that one of the demos needs."""
    home.run("start", "one", "--detach")  # makes the demo
    home.run("stop")
    memory = json.loads(home.run("plan", "one", "--json").stdout)["ledger"]["devices"][-1]
    leave = memory["total_bytes"] - int(memory["needed_bytes"] * times)
    configure(home, f"memory: {{leave: {{RAM: {leave}}}}}\n")
