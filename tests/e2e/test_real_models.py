"""Three models that differ, side by side in real engines; less memory than they take; the set-ups of the docs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from supervisor.memory.verdict import size

from ..unit.test_docs import set_ups
from .conftest import BUILT, PATIENCE
from .gateway_load import CHAT, Clients, demo_profile
from .test_gateway_profiles import states
from .test_serve import configure, served

MODELS = "GOSS_TEST_MODELS"
SMOLLM2, GEMMA3 = "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"
NAMES = ("demo-model", "smollm2", "gemma3")
VICTIM = "smollm2"
CLIENTS, KILLS = 4, 3
QUESTIONS = 4  # one for each client
COMPLETIONS = "/v1/completions"
MIB = 1024**2


@pytest.fixture
def models():
    """The folder with the files."""
    if not (folder := os.environ.get(MODELS)):
        pytest.skip(f"{MODELS} is not set: run bin/test, which says why a model cannot be had")
    return Path(folder)


LITTLE = {"ctx-size": 2048, "parallel": 1, "cache-ram": 0}


def add(home, name, model, server=None):
    """
    A profile with this file, or the demo, that takes little: also of the reserve that is left to the system.
    It computes on one thread; engines that do so at the same time hold each other up with more.
    """
    demo_profile(home, "base", server=LITTLE)
    made = {"extends": "base", "aliases": name, "guardrails": "relaxed", "server": server or {}}
    home.profile(name, json.dumps(made | ({"model": {"path": str(model)}} if model else {})))


async def said(clients, name, number=0):
    """A short answer, always the same: one slot computes it by itself, and from the beginning."""
    prompt = f"On day {number % QUESTIONS} we went to the"
    streams = name != VICTIM and number % 2 == 0  # a stream that has begun can only be broken off
    always = {"max_tokens": 3, "temperature": 0, "cache_prompt": False, "stream": streams}
    answer = await clients.ask(COMPLETIONS, {"model": name, "prompt": prompt} | always).result()
    assert (answer.status, answer.ended) == (200, True), answer
    events = answer.events if streams else [json.loads(answer.body)]
    return "".join(event["choices"][0]["text"] for event in events)


async def by_profile(clients):
    """The servers, as status has them."""
    return {each["profile"]: each for each in (await clients.status())["servers"]}


async def all_ready(clients):
    await clients.until(lambda now: set(served(now).values()) == {"ready"})


def test_one_that_is_killed_again_and_again_costs_the_others_nothing_and_loses_no_request(built_home, models):
    add(built_home, "demo-model", None)
    add(built_home, "smollm2", models / SMOLLM2)
    add(built_home, "gemma3", models / GEMMA3)
    built_home.run("start", *NAMES, "--detach")
    clients = Clients(built_home.root, built_home.port)

    async def run():
        await all_ready(clients)
        every = [(name, number) for name in NAMES for number in range(CLIENTS)]
        known = {name: [await said(clients, name, number) for number in range(QUESTIONS)] for name in NAMES}
        assert len(set(map(tuple, known.values()))) == len(NAMES)
        before = await by_profile(clients)
        over, answers = asyncio.Event(), Answers()
        async with asyncio.TaskGroup() as group:
            for each in every:
                group.create_task(answers.collect(clients, *each, over))
            for _ in range(KILLS):
                os.kill((await by_profile(clients))[VICTIM]["pid"], signal.SIGKILL)
                await answers.one_more_each(VICTIM)  # those that it was killed under, too
            over.set()
        assert {each: set(texts) for each, texts in answers.texts.items()} == {
            (name, number): {known[name][number % QUESTIONS]} for name, number in every
        }
        now = await by_profile(clients)
        assert {name: now[name]["restarts"] for name in NAMES} == dict.fromkeys(NAMES, 0) | {VICTIM: KILLS}
        assert [name for name in NAMES if now[name]["pid"] != before[name]["pid"]] == [VICTIM]
        others = [each for each in await clients.requests() if each["profile"] != VICTIM]
        assert [each for each in others if each["replayed"] or each["held_seconds"] > 1] == []

    asyncio.run(run())


class Answers:
    """What each client got of each model."""

    def __init__(self):
        self.texts = defaultdict(list)
        self._more = asyncio.Condition()

    async def collect(self, clients, name, number, over):
        while not over.is_set():
            text = await said(clients, name, number)
            async with self._more:
                self.texts[name, number].append(text)
                self._more.notify_all()

    async def one_more_each(self, name):
        """Until each client has one more of this model."""
        wanted = {number: len(self.texts[name, number]) + 1 for number in range(CLIENTS)}
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(
                lambda: all(len(self.texts[name, number]) >= count for number, count in wanted.items())
            )


# A draft


def test_a_model_that_drafts_for_itself_is_nearly_always_right_and_requests_and_metrics_say_so(
    built_home, models
):
    file = models / SMOLLM2
    add(built_home, "base-of-both", file)
    drafting = {"extends": "base-of-both", "model": {"path": str(file), "draft": {"path": str(file)}}}
    built_home.profile("drafting", json.dumps(drafting))
    plan = json.loads(built_home.run("plan", "drafting", "--json").stdout)
    alone, both = needs(built_home, "base-of-both"), needs(built_home, "drafting")
    assert 140 * MIB < both - alone < 170 * MIB  # weights 92, context 45, buffer 17
    assert plan["model_files"] == [str(file)] * 2
    wrong = drafting["model"] | {"draft": str(models / GEMMA3)}
    built_home.profile("wrong", json.dumps(drafting | {"model": wrong}))
    assert (
        "tokenizer.ggml.model is llama, that of this one gpt2"
        in built_home.run("plan", "wrong", code=78).stderr
    )

    built_home.run("start", "drafting", "--detach")
    clients = Clients(built_home.root, built_home.port)

    async def run():
        await all_ready(clients)
        question = {"prompt": "One, two, three,", "max_tokens": 24, "temperature": 0}
        answer = json.loads((await clients.ask(COMPLETIONS, question).result()).body)
        drafted, right = (answer["timings"][name] for name in ("draft_n", "draft_n_accepted"))
        assert 0.8 * drafted < right <= drafted
        assert drafted > 8
        [request] = await clients.requests()
        assert (request["drafted_tokens"], request["accepted_tokens"]) == (drafted, right)
        shown = await asyncio.to_thread(built_home.run, "requests")
        assert f"{right} of {drafted} drafted tokens were right" in shown.stdout
        metrics = (await clients.get("/metrics")).body.decode()
        for name, count in (("", drafted), ("_accepted", right)):
            assert f'goss_supervisor_drafted_tokens{name}_total{{profile="drafting"}} {count}.0' in metrics

    asyncio.run(run())


# Where memory is short


def test_in_less_memory_than_all_take_the_one_that_is_enough_goes_after_its_answers_and_pinned_ones_stay(
    built_home, models
):
    add(built_home, "demo-model", None)
    add(built_home, "pinned", models / SMOLLM2)
    add(built_home, "gemma3", models / GEMMA3)
    add(built_home, "other", models / SMOLLM2, {"ctx-size": 8192})
    add(built_home, "large", models / SMOLLM2, {"ctx-size": 24576, "parallel": 3})
    pinned, gemma3, other, large = (
        needs(built_home, name) for name in ("pinned", "gemma3", "other", "large")
    )
    ours = pinned + gemma3 + other // 2
    assert ours - pinned < large < ours
    serve = [{"profile": "pinned", "pinned": True}, "gemma3", "demo-model"]
    serve += [{"profile": name, "load": False} for name in ("other", "large")]
    settings = {"serve": serve, "gateway": {"min-warm": "0s", "max-wait": "0s"}}
    configure(built_home, json.dumps(settings | leaving(built_home, "gemma3", ours)))
    built_home.run("start", "--detach")
    clients = Clients(built_home.root, built_home.port)

    async def run():
        await clients.until(lambda now: served(now)["demo-model"] == served(now)["gemma3"] == "ready")
        before = await by_profile(clients)
        stream = clients.endless(model="gemma3", n_predict=20)
        await stream.until_begun()
        await said(clients, "other")
        ended = await stream.result(0.1)  # before the other one began
        assert ended.events[-1]["tokens_predicted"] == 20
        expected = {"pinned": "ready", "gemma3": "sleeping", "demo-model": "ready", "other": "ready"}
        assert await states(clients) == expected
        assert (await by_profile(clients))["other"]["placement"] == "loaded in place of gemma3"

        refused = await clients.ask(COMPLETIONS, {"model": "large", "prompt": "1"}).result()
        told = await asyncio.to_thread(built_home.run, "load", "large", code=7)
        assert (refused.status, refused.error["code"]) == (503, "load_failed")
        for text in (refused.error["message"], told.stderr):
            assert (
                f"large does not fit: needs {size(large)} of the {size(ours - pinned)} that are free" in text
            )
            assert f"Pinned models keep {size(pinned)} of RAM (goss-supervisor unload pinned)" in text
        assert await states(clients) == expected

        await said(clients, "gemma3")
        assert await states(clients) == expected | {"gemma3": "ready", "other": "sleeping"}
        now = await by_profile(clients)
        assert [name for name in before if now[name]["pid"] == before[name]["pid"]] == [
            "pinned",
            "demo-model",
        ]

    asyncio.run(run())


def ram(home, name):
    return json.loads(home.run("plan", name, "--json").stdout)["ledger"]["devices"][-1]


def needs(home, name):
    """Bytes of the RAM."""
    return ram(home, name)["needed_bytes"]


def leaving(home, name, ours_bytes):
    """A section of config.yaml; the profile is one of this machine's."""
    return {"memory": {"leave": {"RAM": ram(home, name)["total_bytes"] - ours_bytes}}}


# What the docs say


def test_embeddings_and_chat_each_go_to_the_model_for_it(built_home, models):
    add(built_home, "vectors", models / GEMMA3, {"embeddings": True, "pooling": "mean", "ctx-size": 512})
    add(built_home, "chat", models / SMOLLM2)
    built_home.run("start", "vectors", "chat", "--detach")
    clients = Clients(built_home.root, built_home.port)

    async def run():
        await all_ready(clients)
        assert await dimensions(clients) == await dimensions(clients, model="text-embedding-3-small") == 640
        assert await who_chats(clients) == await who_chats(clients, model="gpt-4o") == "chat"

    asyncio.run(run())


async def dimensions(clients, **named):
    """Of an embedding; Gemma's have 640."""
    answer = await clients.ask("/v1/embeddings", {"input": "a text"} | named).result()
    assert answer.status == 200, answer
    return len(json.loads(answer.body)["data"][0]["embedding"])


async def who_chats(clients, **named):
    """The profile that answers."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2} | named
    answer = await clients.ask(CHAT, body).result()
    assert answer.status == 200, answer
    return (await clients.requests())[-1]["profile"]


FILES = {"gpt-oss-20b": SMOLLM2, "ryzen-ai-max-395": SMOLLM2, "helper": "", "embed": GEMMA3, "qwen": GEMMA3}
SMALL = {**LITTLE, "gpu-layers": 0, "threads": 1, "batch-size": 512, "ubatch-size": 512}


def copied(home, models, number):
    """
    A set-up of the docs: its profiles, in this home, with a port of their own and small models that take
    little and no GPU, and its config.yaml as a value.
    """
    profiles, settings = set_ups()
    shipped = {name: f"extends: {name}" for name in FILES.keys() - profiles.keys()}  # what it hides
    for name, text in (profiles | shipped).items():
        made = yaml.safe_load(text)
        if name in FILES:
            made["model"] = {"path": str(models / FILES[name])} if FILES[name] else "demo"
        made["server"] = made.get("server", {}) | SMALL
        made |= {"listen": {"port": home.port}, "guardrails": "relaxed", "engine": {"flavour": "cpu"}}
        home.profile(name, json.dumps(made))
    return yaml.safe_load(settings[number]) | {"engine": {"path": os.environ[BUILT]}}


def begun(home, settings):
    configure(home, json.dumps(settings))
    home.run("start", "--detach")
    return Clients(home.root, home.port)


def test_the_set_up_of_chat_helper_and_embeddings_runs(built_home, models):
    clients = begun(built_home, copied(built_home, models, 0))

    async def run():
        await clients.until(lambda now: served(now) == dict.fromkeys(("chat", "helper", "embed"), "ready"))
        assert await who_chats(clients) == await who_chats(clients, model="gpt-oss-20b") == "chat"
        assert await who_chats(clients, model="helper") == "helper"
        assert await dimensions(clients, model="text-embedding-3-small") == await dimensions(clients) == 640

    asyncio.run(run())


def test_the_set_up_of_one_pinned_model_and_small_ones_next_to_it_runs(built_home, models):
    settings = copied(built_home, models, 1)
    for small in settings["serve"][1:]:
        assert small["idle-unload"]
        small["idle-unload"] = "1s"
    settings["memory"]["leave"] = {"RAM": "1 GiB"}
    clients = begun(built_home, settings)

    async def run():
        await clients.until(
            lambda now: (
                served(now) == {"ryzen-ai-max-395": "ready", "helper": "sleeping", "embed": "sleeping"}
            )
        )
        assert await dimensions(clients) == 640
        assert (
            await who_chats(clients) == await who_chats(clients, model="gpt-oss-120b") == "ryzen-ai-max-395"
        )
        assert await who_chats(clients, model="helper") == "helper"

    asyncio.run(run())


def test_the_set_up_of_chat_models_that_take_turns_runs(built_home, models):
    settings = copied(built_home, models, 2)
    settings["gateway"]["min-warm"] = "1s"
    configure(built_home, json.dumps({"engine": settings["engine"]}))
    ours = needs(built_home, "chat") + needs(built_home, "qwen") - 2**26
    clients = begun(built_home, settings | leaving(built_home, "chat", ours))

    async def run():
        assert served(await clients.status()) == {"chat": "ready", "qwen": "unloaded", "helper": "unloaded"}
        assert await who_chats(clients, model="qwen3-14b") == "qwen"
        assert await states(clients) == {"chat": "sleeping", "qwen": "ready"}
        assert await who_chats(clients, model="helper") == "helper"
        assert await states(clients) == {"chat": "sleeping", "qwen": "ready", "helper": "ready"}
        assert await who_chats(clients, model="gpt-oss-20b") == "chat"
        assert (await states(clients))["qwen"] == "sleeping"

    asyncio.run(run())
