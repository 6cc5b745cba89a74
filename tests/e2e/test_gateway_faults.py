"""What clients see when llama-server dies, hangs, is switched or stopped under them: whole, or visibly not."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import anthropic
import openai
import psutil
import pytest

from .conftest import is_free
from .gateway_load import (
    BOUND_SECONDS,
    CHAT,
    COMPLETION,
    ENDLESS,
    MESSAGES,
    QUESTION,
    Traffic,
    all_of,
    answers_of,
    demo_profile,
    request_bytes,
    start,
)
from .test_main_job import lives

# 100 and 100000 show the same in some minutes.
SWITCHES = int(os.environ.get("GOSS_TEST_SWITCHES", "10"))
CONNECTIONS = int(os.environ.get("GOSS_TEST_CONNECTIONS", "5000"))
CLIENTS = 32
ENDLESSLY = {"server": {"ignore-eos": True}}  # a demo that goes on until its context is full
LONG = QUESTION | {"max_tokens": 60000}


@contextmanager
def frozen(pid):
    """llama-server does nothing in this block: whoever asks it has no byte of an answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# It dies


def test_whom_a_dying_server_has_told_nothing_the_next_one_answers(built_home):
    clients = start(built_home)

    async def run():
        pid = await clients.pid()
        with frozen(pid):
            asked = [clients.ask(body=QUESTION | {"stream": n % 2 == 0}) for n in range(CLIENTS)]
            await clients.until_busy(under_way=CLIENTS)
            os.kill(pid, signal.SIGKILL)
        assert await all_of(asked) == {"whole": CLIENTS}
        known = await clients.requests()
        assert [each["replayed"] for each in known] == [True] * CLIENTS
        assert (await clients.status())["server"]["restarts"] == 1

    asyncio.run(run())


def test_a_request_that_two_servers_died_under_fails_visibly(built_home):
    clients = start(built_home, **ENDLESSLY)

    async def run():
        asked = [clients.ask(path, LONG) for path in (CHAT, MESSAGES)]
        await clients.until_busy(under_way=2)
        for restarts in (1, 2):
            os.kill(await clients.pid(), signal.SIGKILL)
            if restarts == 1:
                await clients.until(lambda now: now["server"]["restarts"] == 1)
                await clients.until_state("ready")
                await clients.until_busy(under_way=2)  # with the next one
        openai, anthropic = await answers_of(asked)
        assert (openai.status, anthropic.status) == (502, 502)
        assert openai.error["code"] == "server_lost"
        assert anthropic.error["type"] == "api_error"

    asyncio.run(run())


def test_a_stream_that_its_server_dies_under_never_looks_whole(built_home):
    clients = start(built_home)

    async def run():
        streams = [clients.endless() for _ in range(8)]
        waiting = [clients.stream() for _ in range(CLIENTS - 8)]  # llama-server has eight places
        for stream in streams:
            await stream.until_begun()
        os.kill(await clients.pid(), signal.SIGKILL)
        for answer in await answers_of(streams):
            assert answer.outcome == "broken"
            assert answer.events[-1]["error"]["code"] == "stream_broken"
        assert await all_of(waiting) == {"whole": CLIENTS - 8}
        counted = Counter(each["result"] for each in await clients.requests())
        assert counted == {"broken": 8, "answered": CLIENTS - 8}

    asyncio.run(run())


def test_both_packages_raise_for_a_stream_that_broke(built_home):
    clients = start(built_home, **ENDLESSLY)
    begun = threading.Barrier(4)

    def read(kind):
        with kind(f"http://127.0.0.1:{clients.port}") as stream:
            events = iter(stream)
            next(events)
            begun.wait(BOUND_SECONDS)
            deque(events, maxlen=0)

    with ThreadPoolExecutor() as pool:
        reading = [pool.submit(read, kind) for kind in (chat_stream, response_stream, message_stream)]
        begun.wait(BOUND_SECONDS)
        os.kill(asyncio.run(clients.pid()), signal.SIGKILL)
        errors = [each.exception(BOUND_SECONDS) for each in reading]
    assert [type(error) for error in errors[:2]] == [openai.APIError] * 2
    assert isinstance(errors[2], anthropic.APIError)
    assert all("llama-server" in str(error) or "the engine" in str(error) for error in errors)


@contextmanager
def chat_stream(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        asked = {"model": "any", "messages": QUESTION["messages"], "max_tokens": 60000}
        yield client.chat.completions.create(**asked, stream=True)


@contextmanager
def response_stream(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        asked = {"model": "any", "input": "What are you?", "max_output_tokens": 60000}
        yield client.responses.create(**asked, stream=True)


@contextmanager
def message_stream(address):
    with anthropic.Anthropic(base_url=address, api_key="none") as client:
        asked = {"model": "any", "messages": QUESTION["messages"], "max_tokens": 60000}
        yield client.messages.create(**asked, stream=True)


def test_who_waits_for_a_server_that_cannot_come_back_is_told_why_in_the_shape_of_its_api(built_home):
    clients = start(built_home)

    async def run():
        now = (await clients.status())["server"]
        model = Path(now["model"])
        with frozen(now["pid"]):
            asked = [clients.ask(), clients.ask(MESSAGES)]
            await clients.until_busy(under_way=2)
            os.remove(model)
            os.kill(now["pid"], signal.SIGKILL)
        openai, anthropic = await answers_of(asked)
        assert (openai.status, anthropic.status) == (503, 503)
        for answer in (openai, anthropic):
            assert model.name in answer.error["message"]
        assert openai.error["type"] == "unavailable_error"
        assert anthropic.error["type"] == "overloaded_error"
        assert b'{"type":"error"' in anthropic.body
        assert (await clients.ask().result()).body == openai.body  # and who comes later
        assert (await clients.get("/health")).status == 503

    asyncio.run(run())


def test_streams_of_a_server_that_hangs_end_visibly(built_home):
    health = {"interval": "0.2s", "timeout": "0.2s", "hang-timeout": "1s"}
    clients = start(built_home, health=health, stop={"grace": "0.1s", "insist": "0.1s"})

    async def run():
        streams = [clients.endless() for _ in range(4)]
        for stream in streams:
            await stream.until_begun()
        with frozen(await clients.pid()):
            for answer in await answers_of(streams):
                assert answer.outcome == "broken"
                assert "error" in answer.events[-1]
        assert (await clients.ask().result()).outcome == "whole"

    asyncio.run(run())


# It is switched


def test_streams_finish_on_the_old_server_and_new_requests_wait_for_the_new_one(built_home):
    clients = start(built_home)
    demo_profile(built_home, "two", server={"ctx-size": 8 * 2048})

    async def run():
        before = await clients.pid()
        streams = [clients.endless(n_predict=1500) for _ in range(8)]
        for stream in streams:
            await stream.until_begun()
        with frozen(before):  # so that they are under way for certain
            switching = asyncio.create_task(asyncio.to_thread(built_home.run, "switch", "two"))
            await clients.until_state("draining")
            later = [clients.ask(), clients.stream(), clients.ask("/slots", None)]
            await clients.until_busy(under_way=8, waiting=3)
        old, new = await answers_of(streams), await answers_of(later)
        assert [answer.outcome for answer in old + new] == ["whole"] * 11
        assert all(answer.events[-1]["tokens_predicted"] == 1500 for answer in old)
        assert b'"n_ctx":2048' in new[-1].body
        assert "two is ready" in (await switching).stdout
        assert not psutil.pid_exists(before)

    asyncio.run(run())


def test_a_stream_that_outlasts_the_drain_is_cut_visibly_and_the_switch_goes_on(built_home):
    clients = start(built_home, gateway={"drain-timeout": "1s"})
    demo_profile(built_home, "two")

    async def run():
        stream = clients.endless()
        await stream.until_begun()
        switched = await asyncio.to_thread(built_home.run, "switch", "two")
        assert "two is ready" in switched.stdout
        answer = await stream.result()
        assert answer.outcome == "broken"
        assert "cut off" in answer.events[-1]["error"]["message"]
        assert (await clients.ask().result()).outcome == "whole"

    asyncio.run(run())


def test_no_request_fails_however_often_profiles_are_switched(built_home):
    clients = start(built_home)
    demo_profile(built_home, "two", server={"ctx-size": 8 * 4096})
    plans = [plan_of(clients)]
    built_home.run("switch", "two")
    plans.append(plan_of(clients))

    async def run():
        async with Traffic.of(clients, 6) as traffic:
            for number in range(SWITCHES):
                decided = await clients.told({"op": "start", "plan": plans[number % 2]})
                assert decided["outcome"]["result"] == "ready", decided
                await traffic.more(3)
        assert traffic.outcomes == {"whole": len(traffic.answers)}
        print(SWITCHES, "switches,", len(traffic.answers), "requests")

    asyncio.run(run())


def plan_of(clients):
    return asyncio.run(clients.told({"op": "running"}))["plan"]


# It is stopped


@pytest.mark.parametrize(("predict", "outcome"), [(300, "whole"), (-1, "broken")])
def test_a_stop_lets_a_stream_finish_or_cuts_it_visibly_and_leaves_nothing(built_home, predict, outcome):
    clients = start(built_home, stop={"grace": "2s"})

    async def run():
        now = await clients.status()
        pids = now["server"]["pid"], now["daemon"]["pid"]
        stream = clients.endless(n_predict=predict)
        await stream.until_begun()
        await asyncio.to_thread(built_home.run, "stop")
        assert (await stream.result()).outcome == outcome
        assert is_free(built_home.port)
        assert not any(lives(psutil.Process(pid)) for pid in pids if psutil.pid_exists(pid))

    asyncio.run(run())


def test_who_waits_when_the_daemon_is_stopped_is_told_so(built_home):
    clients = start(built_home)

    async def run():
        with frozen(await clients.pid()):
            clients.endless()
            await clients.until_busy(under_way=1)
            asyncio.get_running_loop().run_in_executor(None, lambda: built_home.run("restart", code=None))
            await clients.until_state("draining")
            held = clients.ask()
            await clients.until_busy(under_way=1, waiting=1)
            stopping = asyncio.create_task(asyncio.to_thread(built_home.run, "stop", "--now"))
            assert (await held.result()).error["code"] == "stopping"
        await stopping

    asyncio.run(run())


# Others


def test_a_client_that_reads_nothing_holds_up_nobody_and_costs_a_bounded_memory(built_home):
    clients = start(built_home)

    async def run():
        daemon = psutil.Process((await clients.status())["daemon"]["pid"])
        await answers_of(clients.stream() for _ in range(8))
        before = daemon.memory_info().rss
        with socket.create_connection(("127.0.0.1", built_home.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            long = ENDLESS | {"n_predict": 2000, "n_probs": 200}  # some 20 KB a token
            slow.sendall(request_bytes(COMPLETION, long))
            await clients.until_busy(under_way=1)
            for _ in range(3):
                answers = await answers_of(clients.stream() for _ in range(8))
                assert Counter(answer.outcome for answer in answers) == {"whole": 8}
            await clients.until_busy(under_way=1)  # it is still at it
            assert daemon.memory_info().rss - before < 8 * 1024 * 1024
        await clients.until_busy()

    asyncio.run(run())


def test_connections_leave_neither_memory_nor_descriptors_behind(built_home):
    clients = start(built_home)
    kinds = (
        ("/health", None),
        ("/v1/models", None),
        ("/tokenize", {"content": "hi"}),
        (CHAT, QUESTION | {"max_tokens": 1, "stream": True}),
    )

    async def some(count):
        for _ in range(count // 50):
            assert {answer.status for answer in await asyncio.gather(*map(one, range(50)))} == {200}

    async def one(number):
        path, body = kinds[3 if number % 10 == 0 else number % 3]
        return await clients.ask(path, body).result()

    async def run():
        daemon = psutil.Process((await clients.status())["daemon"]["pid"])
        await some(1000)
        await clients.until(lambda now: not now["gateway"]["connections"])
        rss, descriptors = daemon.memory_info().rss, daemon.num_fds()
        await some(CONNECTIONS)
        await clients.until(lambda now: not now["gateway"]["connections"])
        after = daemon.memory_info().rss, daemon.num_fds()
        print(
            CONNECTIONS, "connections: RSS", rss, "->", after[0], "descriptors", descriptors, "->", after[1]
        )
        assert after[0] - rss < 4 * 1024 * 1024
        assert after[1] - descriptors <= 8  # the pool's idle connections, if none was there before

    asyncio.run(run())
