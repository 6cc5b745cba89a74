"""Three models that differ, side by side in real engines; less memory than they take; the set-ups of the docs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from .conftest import MODELS
from .gateway_load import Clients, demo_profile
from .test_serve import served

SMOLLM2, GEMMA3 = "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-Q4_K_M.gguf"
CLIENTS, KILLS = 8, 4


@pytest.fixture
def models():
    """The folder with the files."""
    if not (folder := os.environ.get(MODELS)):
        pytest.skip(f"{MODELS} is not set: run bin/test, which says why a model cannot be had")
    return Path(folder)


def question(name, number):
    """A short answer, always the same."""
    text = f"What comes after {number}, {number + 1}, {number + 2}?"
    messages = [{"role": "user", "content": text}]
    return {
        "model": name,
        "messages": messages,
        "max_tokens": 8,
        "temperature": 0,
        "cache_prompt": False,
        "stream": number % 2 == 0,
    }


def real_profile(home, name, model, **sections):
    """One thread each: engines that compute at the same time would hold each other up with more."""
    server = {"ctx-size": 4096, "parallel": 1, "cache-ram": 0} | sections.pop("server", {})
    demo_profile(home, name, model={"path": str(model)}, server=server, **sections)


def test_one_that_is_killed_again_and_again_costs_the_others_nothing_and_is_answered_all_the_same(
    built_home, models
):
    demo_profile(built_home, "demo-model")
    real_profile(built_home, "smollm2", models / SMOLLM2)
    real_profile(built_home, "gemma3", models / GEMMA3)
    names, victim = ("demo-model", "smollm2", "gemma3"), "smollm2"
    started = built_home.run("start", *names, "--detach")
    clients = Clients(built_home.root, built_home.port)

    async def run():
        await clients.until(lambda now: set(served(now).values()) == {"ready"})
        known = {
            (name, number): await said(clients, name, number) for name in names for number in range(CLIENTS)
        }
        assert len({known[name, 1] for name in names}) == 3
        pids = {each["profile"]: each["pid"] for each in (await clients.status())["servers"]}
        over, answers = asyncio.Event(), Answers()
        asking = [
            asyncio.create_task(ask_until(over, clients, answers, name, number))
            for name in names
            for number in range(CLIENTS)
        ]
        for _ in range(KILLS):
            os.kill(await pid_of(clients, victim), signal.SIGKILL)
            await answers.from_each(victim)  # those under way too, which the next one answered
        over.set()
        await asyncio.gather(*asking)
        wrong = [
            (name, number, each)
            for (name, number), some in answers.by_client.items()
            for each in some
            if each != known[name, number]
        ]
        assert wrong == []
        now = {each["profile"]: each for each in (await clients.status())["servers"]}
        assert {name: now[name]["restarts"] for name in names} == dict.fromkeys(names, 0) | {victim: KILLS}
        assert [name for name in names if now[name]["pid"] != pids[name]] == [victim]
        others = [each for each in await clients.requests() if each["profile"] != victim]
        assert [each for each in others if each["replayed"] or each["held_seconds"] > 1] == []

    asyncio.run(run())


class Answers:
    """What each client got of each model, and how to wait for one more."""

    def __init__(self):
        self.by_client = defaultdict(list)
        self._more = asyncio.Condition()

    async def add(self, name, number, text):
        async with self._more:
            self.by_client[name, number].append(text)
            self._more.notify_all()

    async def from_each(self, name):
        """One more for every client of this model."""
        wanted = {number: len(self.by_client[name, number]) + 1 for number in range(CLIENTS)}
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(
                lambda: all(len(self.by_client[name, number]) >= count for number, count in wanted.items())
            )


async def ask_until(over, clients, answers, name, number):
    while not over.is_set():
        await answers.add(name, number, await said(clients, name, number))


async def said(clients, name, number):
    """The text and the tokens that its prompt is: no two of the models count the same."""
    answer = await clients.ask(body=question(name, number)).result()
    assert (answer.status, answer.ended) == (200, True), answer
