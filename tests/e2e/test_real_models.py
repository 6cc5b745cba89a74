"""Real models: a draft, less memory than all take, the set-ups of the docs."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
import yaml

from supervisor.memory.verdict import size

from ..unit.test_docs import set_ups
from .conftest import BUILT
from .gateway_load import CHAT, Clients, demo_profile
from .test_gateway_profiles import states
from .test_serve import configure, served

MODELS = "GOSS_TEST_MODELS"
SMOLLM2, GEMMA3 = "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"
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


async def answers(clients, name):
    asked = {"model": name, "prompt": "On this day we went to the", "max_tokens": 3}
    answer = await clients.ask(COMPLETIONS, asked).result()
    assert (answer.status, answer.ended) == (200, True), answer


async def by_profile(clients):
    """The servers, as status has them."""
    return {each["profile"]: each for each in (await clients.status())["servers"]}


async def all_ready(clients):
    await clients.until(lambda now: set(served(now).values()) == {"ready"})


# A draft


def test_a_model_that_drafts_for_itself_is_nearly_always_right_and_requests_and_metrics_say_so(
    built_home, models
):
    file = models / SMOLLM2
    add(built_home, "base-of-both", file)
    drafting = {"extends": "base-of-both", "model": {"path": str(file), "draft": {"path": str(file)}}}
    built_home.profile("drafting", json.dumps(drafting))
    plan = json.loads(built_home.run("plan", "drafting", "--json").stdout)
    more = plan["ledger"]["devices"][-1]["needed_bytes"] - needs(built_home, "base-of-both")
    assert 140 * MIB < more < 170 * MIB  # weights 92, context 45, buffer 17
    assert plan["model_files"] == [str(file)] * 2

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
        await answers(clients, "other")
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

        await answers(clients, "gemma3")
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
