"""Models that sleep, load and change places: by command, by themselves, and because a request names one."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import openai
import psutil

from supervisor.model.demo import DEMO_ANSWER

from ..fakes.binaries import script
from .conftest import BUILT
from .gateway_load import CHAT, COMPLETION, MESSAGES, QUESTION, Clients, answers_of, demo_profile, start
from .test_main_job import lives

TWO = {"server": {"ctx-size": 8 * 2048}}
LOOKS = ("/health", "/v1/models", "/metrics", "/slots", "/props", "/supervisor/health", "/supervisor/ready")


def launches(clients):
    """By the daemon's own log."""
    return (clients.root / "logs" / "daemon.log").read_text().count(": starting\n")


async def n_ctx(clients, **named):
    """Of the model that answers to this name, by what it has as its settings."""
    asked = {"prompt": "hi", "n_predict": 1} | named
    assert (answer := await clients.ask(COMPLETION, asked).result()).status == 200, answer
    path = f"/props?model={named.get('model', '')}"
    return json.loads((await clients.get(path)).body)["default_generation_settings"]["n_ctx"]


async def states(clients):
    """By profile."""
    return {each["profile"]: each["state"] for each in (await clients.status())["servers"]}


# Sleep


def test_fifty_requests_at_once_wake_one_server(built_home):
    clients = start(built_home)

    async def run():
        before = launches(clients)
        assert "sleep" in built_home.run("unload").stdout
        asked = [clients.ask(body=QUESTION | {"stream": n % 2 == 0}) for n in range(25)]
        asked += [clients.ask(MESSAGES) for _ in range(25)]
        answers = await answers_of(asked)
        assert {answer.status for answer in answers} == {200}
        assert Counter(answer.outcome for answer in answers[:25]) == {"whole": 25}
        assert all(DEMO_ANSWER[:60].encode() in answer.body for answer in answers[25:])
        assert launches(clients) == before + 1
        assert (await clients.status())["server"]["restarts"] == 0

    asyncio.run(run())


def test_an_idle_server_gives_its_memory_back_and_looking_does_not_wake_it(built_home):
    clients = start(built_home, gateway={"idle-unload": "1s"})

    async def run():
        process = psutil.Process(await clients.pid())
        await clients.get("/health")  # the clock runs while somebody is there
        await clients.until_state("sleeping")
        assert not lives(process)
        answers = [await clients.get(path) for path in LOOKS]
        told = dict(zip(LOOKS, [answer.status for answer in answers], strict=True))
        assert told == dict.fromkeys(LOOKS, 200) | {"/slots": 503}
        assert (await clients.status())["server"]["state"] == "sleeping"
        assert json.loads(answers[1].body)["data"][0]["state"] == "sleeping"
        assert (await clients.ask().result()).outcome == "whole"

    asyncio.run(run())


def test_without_preload_the_first_request_loads_the_model(built_home):
    clients = start(built_home, gateway={"preload": False})

    async def run():
        assert (await clients.status())["server"]["state"] == "sleeping"
        assert launches(clients) == 0
        assert (await clients.ask().result()).outcome == "whole"
        assert launches(clients) == 1

    asyncio.run(run())


def test_a_stream_that_waits_is_told_so_and_then_answered_in_the_same_stream(built_home):
    clients = gated(built_home)

    async def run():
        raw, answered = clients.stream(), asyncio.create_task(asyncio.to_thread(streamed, clients))
        await clients.until_state("starting")
        await raw.until_text(b": starting")
        await clients.until_busy(waiting=2)
        await asyncio.to_thread(let_go_on, clients)
        answer = await raw.result()
        assert answer.outcome == "whole"
        assert b"of the model loaded" in answer.body.partition(b"data:")[0]
        assert await answered == DEMO_ANSWER

    asyncio.run(run())


def test_a_stream_that_was_told_to_wait_in_vain_ends_visibly_with_why(built_home):
    clients = gated(built_home)

    async def run():
        raw, plain = clients.stream(), clients.ask()
        await raw.until_text(b": starting")
        model = Path((await clients.status())["server"]["model"])
        os.remove(model)
        await asyncio.to_thread(let_go_on, clients)
        told, refused = await raw.result(), await plain.result()
        assert told.outcome == "broken"
        assert model.name in told.events[-1]["error"]["message"]
        assert refused.status == 503
        assert refused.error["message"] == told.events[-1]["error"]["message"]

    asyncio.run(run())


def streamed(clients):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{clients.port}/v1", api_key="none") as client:
        stream = client.chat.completions.create(model="any", messages=QUESTION["messages"], stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def gated(home) -> Clients:
    """A sleeping demo, whose next llama-server loads only when it is told to (`let_go_on`)."""
    engine = home.root / "gated-llama-server"
    gate = f'case "$*" in *--host*) cat {home.root}/gate >&2;; esac'
    script(engine, f'{gate}\nexec {os.environ[BUILT]} "$@"')
    os.mkfifo(home.root / "gate")
    return start(home, engine={"path": str(engine)}, gateway={"loading-state": True, "preload": False})


def let_go_on(clients):
    with (clients.root / "gate").open("w"):
        pass  # opened as soon as the other end is


# Several profiles


def both(home, **gateway):
    """``one`` and ``two``, which differ in their context."""
    demo_profile(home, "two", **TWO)
    return start(home, gateway={"models": ["two"], "min-warm": "0s", **gateway})


def test_a_request_that_names_another_profile_has_it_loaded_beside_the_first(built_home):
    clients = both(built_home)

    async def run():
        assert await n_ctx(clients, model="one") == 8192
        pid = await clients.pid()
        assert await n_ctx(clients, model="two-alias") == 2048
        now = await clients.status()
        assert [each["port"] for each in now["servers"]] == [built_home.port] * 2
        assert await states(clients) == {"one": "ready", "two": "ready"}
        assert await clients.pid() == pid
        listed = json.loads((await clients.get("/v1/models")).body)["data"]
        assert [(each["id"], each["state"], each["meta"]["n_ctx"]) for each in listed] == [
            ("one-alias", "ready", 8192),
            ("two-alias", "ready", 2048),
        ]
        assert await n_ctx(clients, model="unheard-of") == 8192
        assert await n_ctx(clients, model="two:high") == 2048
        assert launches(clients) == 2

    asyncio.run(run())


def test_where_one_may_be_loaded_a_request_that_names_another_has_it_in_place_of_the_first(built_home):
    clients = both(built_home, **{"max-loaded": 1})

    async def run():
        assert await n_ctx(clients, model="two-alias") == 2048
        assert await states(clients) == {"one": "sleeping", "two": "ready"}
        listed = json.loads((await clients.get("/v1/models")).body)["data"]
        assert [(each["id"], each["state"]) for each in listed] == [
            ("two-alias", "ready"),
            ("one-alias", "sleeping"),
        ]
        assert await n_ctx(clients, model="unheard-of") == 2048
        assert await n_ctx(clients, model="one:high") == 8192
        assert await states(clients) == {"one": "ready", "two": "sleeping"}

    asyncio.run(run())


def test_streams_finish_before_a_request_gets_another_model(built_home):
    clients = both(built_home, **{"max-wait": "0s", "max-loaded": 1})

    async def run():
        streams = [clients.endless(n_predict=300) for _ in range(8)]
        for stream in streams:
            await stream.until_begun()
        others = [clients.ask(body=QUESTION | {"model": "two", "stream": n % 2 == 0}) for n in range(8)]
        old, new = await answers_of(streams), await answers_of(others)
        assert [answer.outcome for answer in old + new] == ["whole"] * 16
        assert all(answer.events[-1]["tokens_predicted"] == 300 for answer in old)
        assert await states(clients) == {"one": "sleeping", "two": "ready"}

    asyncio.run(run())


def test_a_profile_that_cannot_load_is_answered_with_why_and_the_first_serves_again(built_home):
    demo_profile(built_home, "broken", model={"path": "broken.gguf"})
    clients = both(built_home, models=["two", "broken"])
    good = Path(asyncio.run(clients.status())["server"]["model"])
    good.with_name("broken.gguf").write_bytes(good.read_bytes().replace(b"gpt-oss", b"gpt-ess"))

    async def run():
        asked = [clients.ask(path, QUESTION | {"model": "broken"}) for path in (CHAT, MESSAGES)]
        openai_, anthropic_ = await answers_of(asked)
        assert (openai_.status, anthropic_.status) == (503, 503)
        assert openai_.error["code"] in {"load_failed", "server_down"}
        assert anthropic_.error["type"] == "overloaded_error"
        for answer in (openai_, anthropic_):
            assert "broken" in answer.error["message"]
            assert "gpt-ess" in answer.error["message"]
        assert (await clients.ask(body=QUESTION | {"model": "one"}).result()).outcome == "whole"
        assert await n_ctx(clients, model="two") == 2048

    asyncio.run(run())


def test_a_profile_that_cannot_be_prepared_is_answered_with_why_and_nothing_stops(built_home):
    demo_profile(built_home, "wrong")
    clients = both(built_home, models=["two", "wrong"])
    built_home.profile("wrong", "extends: demo\nserver:\n  ctx-sizes: 4096\n")

    async def run():
        pid = await clients.pid()
        stream = clients.endless(n_predict=300)
        answer = await clients.ask(body=QUESTION | {"model": "wrong"}).result()
        assert answer.status == 503
        assert "ctx-sizes" in answer.error["message"]
        assert (await stream.result()).outcome == "whole"
        assert await clients.pid() == pid

    asyncio.run(run())


def test_two_clients_that_want_different_models_do_not_make_it_thrash(built_home):
    clients = both(built_home, **{"min-warm": "2s", "max-wait": "2s", "max-loaded": 1})

    async def run():
        before = launches(clients)
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(ten(clients, name) for name in ("one", "two")))
        assert Counter(answer.outcome for some in answers for answer in some) == {"whole": 20}
        took = asyncio.get_running_loop().time() - began
        assert launches(clients) - before <= took / 2 + 1

    asyncio.run(run())


async def ten(clients, name):
    return [await clients.ask(body=QUESTION | {"model": name}).result() for _ in range(10)]


def test_a_person_need_not_wait_with_the_requests_for_what_the_person_loads(built_home):
    clients = both(built_home, **{"max-loaded": 1, "drain-timeout": "1s"})

    async def run():
        stream = clients.endless()
        await stream.until_begun()
        asking = clients.ask(body=QUESTION | {"model": "two"})
        await clients.until(lambda now: now["loads_waiting"])
        loaded = await asyncio.to_thread(built_home.run, "load", "two", waits=True)
        assert "two is ready" in loaded.stdout
        assert (await asking.result()).outcome == "whole"
        assert (await stream.result()).outcome == "broken"
        assert launches(clients) == 2

    asyncio.run(run())


def test_a_load_that_waits_is_ended_by_an_unload_and_by_the_end_of_the_daemon(built_home):
    clients = both(built_home, **{"max-loaded": 1})

    async def run():
        stream = clients.endless()
        await stream.until_begun()
        for command, why in {"unload two": "superseded by an unload", "stop": "is being stopped"}.items():
            loading = asyncio.create_task(
                asyncio.to_thread(built_home.run, "load", "two", code=12, waits=True)
            )
            await clients.until(lambda now: now["loads_waiting"])
            await asyncio.to_thread(built_home.run, *command.split(), waits=True)
            assert why in (await loading).stderr
        await stream.leave()
        assert launches(clients) == 1

    asyncio.run(run())


def test_without_switching_on_request_the_active_profile_answers_to_every_name(built_home):
    clients = both(built_home, **{"switch-on-request": False})

    async def run():
        pid = await clients.pid()
        assert await n_ctx(clients, model="two") == 8192
        assert await clients.pid() == pid

    asyncio.run(run())
