"""What people use, through the gateway: the openai and anthropic packages, efforts by name, keys."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack, asynccontextmanager

import anthropic
import openai
import psutil
import pytest

from supervisor.model.demo import DEMO_ANSWER, DEMO_REASONING

from .conftest import Home, engine_settings, free_port, until
from .gateway_load import BOUND_SECONDS, COMPLETION, QUESTION, Clients, start

WORDS = QUESTION["messages"]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


OPEN = ExitStack()  # the packages' clients of one test


@pytest.fixture(autouse=True)
def closed_clients():
    yield
    OPEN.close()


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """One demo for all who only ask it."""
    root = tmp_path_factory.mktemp("home")
    home = Home(root, engine_settings("built", root), free_port())
    yield start(home)
    home.close()


def address(where: Home | Clients) -> str:
    return f"http://127.0.0.1:{where.port}"


def of_openai(where, key="none"):
    made = openai.OpenAI(base_url=f"{address(where)}/v1", api_key=key, max_retries=0)
    return OPEN.enter_context(made)


def of_anthropic(where, key="none"):
    return OPEN.enter_context(anthropic.Anthropic(base_url=address(where), api_key=key, max_retries=0))


def message(where, key="none", **more):
    asked = {"model": "any", "max_tokens": 200, "messages": WORDS} | more
    return of_anthropic(where, key).messages.create(**asked)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


# The openai package


def test_a_chat_is_answered_to_the_letter(clients):
    answer = of_openai(clients).chat.completions.create(model="any", messages=WORDS)
    assert answer.choices[0].message.content == DEMO_ANSWER
    assert answer.choices[0].message.reasoning_content == DEMO_REASONING
    assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_chat_is_the_same_and_tells_its_usage(clients):
    stream = of_openai(clients).chat.completions.create(
        model="any", messages=WORDS, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == DEMO_ANSWER
    assert chunks[-1].usage.completion_tokens > 20


def test_completions_plain_and_streamed_are_the_same(clients):
    asked = {"model": "any", "prompt": "What are you?", "max_tokens": 100}
    plain = of_openai(clients).completions.create(**asked)
    stream = of_openai(clients).completions.create(**asked, stream=True)
    assert plain.choices[0].text == DEMO_ANSWER
    assert "".join(chunk.choices[0].text for chunk in stream) == DEMO_ANSWER


def test_responses_plain_and_streamed_are_the_same(clients):
    asked = {"model": "any", "input": "What are you?"}
    plain = of_openai(clients).responses.create(**asked)
    assert plain.output_text == DEMO_ANSWER
    events = list(of_openai(clients).responses.create(**asked, stream=True))
    assert "".join(each.delta for each in events if each.type == "response.output_text.delta") == DEMO_ANSWER
    assert events[-1].type == "response.completed"


def test_tools_are_taken_along(clients):
    answer = of_openai(clients).chat.completions.create(model="any", messages=WORDS, tools=[WEATHER])
    without = of_openai(clients).chat.completions.create(model="any", messages=WORDS)
    assert answer.choices[0].message.content == DEMO_ANSWER
    assert answer.usage.prompt_tokens > without.usage.prompt_tokens + len(
        "weather"
    )  # the model has read them


def test_what_llama_server_refuses_is_refused_in_its_own_words(clients):
    with pytest.raises(openai.APIStatusError) as refused:
        of_openai(clients).embeddings.create(model="any", input="hello")
    assert refused.value.status_code == 501
    assert refused.value.body == {
        "code": 501,
        "message": "This server does not support embeddings. Start it with `--embeddings`",
        "type": "not_supported_error",
    }
    with pytest.raises(openai.BadRequestError, match="messages"):
        of_openai(clients).chat.completions.create(model="any", messages=None)


def test_models_are_listed_and_found_by_alias(clients):
    (listed,) = of_openai(clients).models.list().data
    assert listed.id == "one-alias"
    assert of_openai(clients).models.retrieve("one").id == "one-alias"
    with pytest.raises(openai.NotFoundError, match="no model 'none'"):
        of_openai(clients).models.retrieve("none")


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_in_the_middle_ends_the_work(clients, stream):
    async def run():
        async with ends_a_task(clients):
            asked = clients.endless(stream=stream)
            await clients.until_busy(under_way=1)
            if stream:
                await asked.until_begun()
            await asked.leave()
            await clients.until_busy()
        assert b'"is_processing":true' not in (await clients.get("/slots")).body
        last = [each for each in await clients.requests() if each["endpoint"] == COMPLETION][-1]
        assert last["result"] == "cancelled"

    asyncio.run(run())


def test_a_stream_of_the_package_that_is_closed_ends_the_work(clients):
    async def run():
        async with ends_a_task(clients):
            stream = of_openai(clients).completions.create(
                model="any", prompt="hi", max_tokens=60000, stream=True, extra_body={"ignore_eos": True}
            )
            next(iter(stream))
            stream.close()
        metrics = (await clients.get("/metrics")).body.decode()
        assert re.search(r"^llamacpp:requests_processing\{.*\} 0", metrics, re.MULTILINE)

    asyncio.run(run())


@asynccontextmanager
async def ends_a_task(clients):
    """
    By llama-server's own word in its log; being asked meanwhile would keep it from looking.

    It looks after a client that waits for a whole answer once a second in which it has no result for anybody
    (``recv_with_timeout``, b11434); after one of a stream with each token.
    """
    log = clients.root / "logs" / "llama-server.log"
    before = log.read_text().count("cancel task")
    yield
    async with asyncio.timeout(BOUND_SECONDS):
        while not ended_after(log, before):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.02)


def ended_after(log, before):
    _, *later = log.read_text().split("cancel task")[before:]
    return any("stop processing" in each for each in later)


# The anthropic package


def test_a_message_is_answered_to_the_letter(clients):
    answer = message(clients)
    assert text_of(answer) == DEMO_ANSWER
    assert answer.stop_reason == "end_turn"


def test_a_streamed_message_is_the_same(clients):
    with of_anthropic(clients).messages.stream(model="any", max_tokens=200, messages=WORDS) as stream:
        assert "".join(stream.text_stream) == DEMO_ANSWER
        assert stream.get_final_message().stop_reason == "end_turn"


def test_tokens_of_a_message_are_counted(clients):
    counted = of_anthropic(clients).messages.count_tokens(model="any", messages=WORDS)
    used = message(clients).usage
    assert counted.input_tokens == used.input_tokens + used.cache_read_input_tokens


# Names


def prompt_tokens(clients, model, **more):
    """The demo has a token for each letter: ``Reasoning: high`` is one longer than ``Reasoning: low``."""
    answer = of_openai(clients).chat.completions.create(model=model, messages=WORDS, **more)
    return answer.usage.prompt_tokens


def test_an_effort_goes_by_the_models_name(clients):
    medium = prompt_tokens(clients, "one-alias")
    assert prompt_tokens(clients, "one-alias:medium") == medium
    assert prompt_tokens(clients, "one:high") == medium - len("medium") + len("high")
    assert prompt_tokens(clients, "One-Alias:low") == medium - len("medium") + len("low")
    assert prompt_tokens(clients, "one", reasoning_effort="high") == prompt_tokens(clients, "one:high")
    used = message(clients, model="one:low").usage
    assert used.input_tokens + used.cache_read_input_tokens == prompt_tokens(clients, "one:low")


def test_a_name_that_nobody_has_is_answered_by_the_active_one(clients):
    assert prompt_tokens(clients, "gpt-5") == prompt_tokens(clients, "one")
    assert prompt_tokens(clients, "gpt-5:high") == prompt_tokens(clients, "one:high")


def test_the_profile_says_who_unknown_is_and_how_hard_to_think(built_home):
    settings = {"unknown-model": "reject", "reasoning-effort": "high", "set-params": {"max_tokens": 3}}
    clients = start(built_home, gateway=settings)
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-5'") as unknown:
        prompt_tokens(clients, "gpt-5")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(anthropic.NotFoundError, match="no model 'claude'"):
        message(clients, model="claude")
    assert prompt_tokens(clients, "one") == prompt_tokens(clients, "one:high")
    assert prompt_tokens(clients, "one") == prompt_tokens(clients, "one:low") + 1
    assert message(clients, model="one").usage.output_tokens == 3


# Keys


def test_on_an_open_address_a_key_is_asked_for_and_found_nowhere(built_home):
    key = built_home.run("key", "add", "default").stdout.strip()
    built_home.start("demo", "--set", "listen.host=0.0.0.0")
    for who, refused in (
        (of_openai, openai.AuthenticationError),
        (of_anthropic, anthropic.AuthenticationError),
    ):
        for wrong in ("none", key[:-1]):
            with pytest.raises(refused) as error:
                ask(who(built_home, wrong))
            assert wrong not in str(error.value).split()
        assert ask(who(built_home, key)) == DEMO_ANSWER
    assert built_home.run("ask", "What are you?").stdout.strip() == DEMO_ANSWER
    said = [
        built_home.run(*words.split()).stdout
        for words in ("status", "status --json", "ps", "requests", "logs", "key ls")
    ]
    said += [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not any(key in each for each in said)
    assert files_with(built_home.root, key) == []
    again = built_home.run("restart")
    assert "key" not in again.stderr
    assert ask(of_openai(built_home, key)) == DEMO_ANSWER  # with the same key


def ask(client):
    if isinstance(client, anthropic.Anthropic):
        return text_of(client.messages.create(model="any", max_tokens=200, messages=WORDS))
    return client.chat.completions.create(model="any", messages=WORDS).choices[0].message.content


def files_with(root, text):
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "keys.json" for path in files)
    return [path for path in files if text.encode() in path.read_bytes()]


def test_a_key_that_is_removed_is_out_and_the_last_one_closes_no_loopback(built_home):
    clients = start(built_home)
    assert ask(of_openai(clients, "anything")) == DEMO_ANSWER  # nobody has made a key
    key, admin = (
        built_home.run("key", "add", *words).stdout.strip() for words in (["a"], ["b", "--scope", "admin"])
    )
    until(lambda: status_with(clients, "") == 401)
    assert status_with(clients, key) == 200
    assert status_with(clients, key, "/slots") == 403
    assert status_with(clients, admin, "/slots") == 200
    assert built_home.run("ask", "What are you?").stdout.strip() == DEMO_ANSWER
    built_home.run("key", "rm", "a")
    until(lambda: status_with(clients, key) == 401)
    assert status_with(clients, admin) == 200
    built_home.run("key", "rm", "b")
    until(lambda: status_with(clients, "") == 200)


def status_with(clients, key, path="/v1/models"):
    async def run():
        return await clients.ask(
            path, None, headers=(f"Authorization: Bearer {key}",) if key else ()
        ).result()

    return asyncio.run(run()).status
