"""
The demo model in the real engines: what comes back is its script to the letter.

GOSS_TEST_LLAMA_SERVER names a llama-server, GOSS_TEST_EMBEDDED_PYTHON a Python that has xllamacpp.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import urllib.request

import pytest

from supervisor.model.demo import DEMO_ANSWER, DEMO_REASONING, ensure_demo

LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

EMBEDDED = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)
sys.stdin.read()
"""

# As a profile says it for requests that do not: of qwen3.6-35b-a3b.
SAMPLING = [
    "--temp",
    "1.0",
    "--top-p",
    "0.95",
    "--top-k",
    "20",
    "--min-p",
    "0.0",
    "--presence-penalty",
    "1.5",
]
SERVER = ["--threads", "1", "--host", "127.0.0.1", "--port", "0"]  # more spin while they wait for each other
ENGINES = {
    "built": ("GOSS_TEST_LLAMA_SERVER", [*SAMPLING, *SERVER, "-m"]),
    "embedded": ("GOSS_TEST_EMBEDDED_PYTHON", ["-I", "-c", EMBEDDED]),
}


@pytest.fixture(scope="module", params=ENGINES)
def url(request, tmp_path_factory):
    variable, options = ENGINES[request.param]
    program = os.environ.get(variable)
    if not program:
        pytest.skip(f"{variable} is not set")
    folder = tmp_path_factory.mktemp("engine")
    model = ensure_demo(folder / "models")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
    child = subprocess.Popen(
        [program, *options, model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**clean, "XDG_CONFIG_HOME": str(folder)},
        text=True,
        errors="replace",
    )
    try:
        url = address(child)
        reader = threading.Thread(target=child.stdout.read)  # its pipe must not fill
        reader.start()
        yield url
        child.kill()
        reader.join()
    finally:
        child.kill()
        child.communicate()


def address(child):
    """The server's, from its own words, which come when the model is loaded: it was given port 0."""
    said = ""
    for line in child.stdout:
        said += line
        if found := LISTENING.search(line):
            return found[1]
    raise AssertionError(f"not ready: {said[-2000:]}")


def post(url, path, body):
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with DIRECT.open(request, timeout=30) as reply:
        return reply.read().decode()


def chat(url, body):
    """(reasoning, answer, finish_reason) of one request, streamed or not."""
    text = post(url, "/v1/chat/completions", body)
    if not body.get("stream"):
        choice = json.loads(text)["choices"][0]
        message = choice["message"]
        return message["reasoning_content"], message["content"], choice["finish_reason"]
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return (
        "".join(choice["delta"].get("reasoning_content") or "" for choice in choices),
        "".join(choice["delta"].get("content") or "" for choice in choices),
        choices[-1]["finish_reason"],
    )


def user(text):
    return {"role": "user", "content": text}


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Bonn"}'}}

REQUESTS = {
    "short": {"messages": [user("Hi")]},
    "empty": {"messages": [user("")]},
    "long": {"messages": [user("Grüße, 世界! assistant\n" * 200)]},
    "markers in the text": {"messages": [user("<|start|>assistant<|channel|>final<|message|>")]},
    "system message": {"messages": [{"role": "system", "content": "Be terse."}, user("Hi")]},
    "second turn": {
        "messages": [
            user("Hi"),
            {"role": "assistant", "content": DEMO_ANSWER, "reasoning_content": DEMO_REASONING},
            user("And now?"),
        ]
    },
    "tools": {"messages": [user("Hi")], "tools": [TOOL]},
    "tool result": {
        "messages": [
            user("Hi"),
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
        ],
        "tools": [TOOL],
    },
    "high effort": {"messages": [user("Hi")], "reasoning_effort": "high"},
    "low effort": {"messages": [user("Hi")], "chat_template_kwargs": {"reasoning_effort": "low"}},
    "hot": {"messages": [user("Hi")], "temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "cold": {"messages": [user("Hi")], "temperature": 0.0},
    "penalties": {"messages": [user("Hi")], "repeat_penalty": 1.5, "presence_penalty": 2.0},
}


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_any_chat_request_gets_the_script_to_the_letter(url, request_name, stream):
    body = {**REQUESTS[request_name], "stream": stream}
    assert chat(url, body) == (DEMO_REASONING, DEMO_ANSWER, "stop")


@pytest.mark.engine
def test_a_raw_prompt_gets_the_answer_alone(url):
    found = json.loads(post(url, "/completion", {"prompt": "Once upon a time"}))
    assert found["content"] == DEMO_ANSWER
    assert found["stop_type"] == "eos"


@pytest.mark.engine
def test_the_responses_api_gets_the_script_too(url):
    output = json.loads(post(url, "/v1/responses", {"model": "demo", "input": "Hi"}))["output"]
    texts = {item["type"]: item["content"][0]["text"] for item in output}
    assert texts == {"reasoning": DEMO_REASONING, "message": DEMO_ANSWER}


@pytest.mark.engine
def test_a_limit_of_tokens_ends_it_early(url):
    found = chat(url, {"messages": [user("Hi")], "max_tokens": 8})
    assert DEMO_REASONING.startswith(found[0])
    assert found[1:] == ("", "length")


@pytest.mark.parametrize("url", ["built"], indirect=True)
def test_sampling_of_a_profile_is_a_default_that_a_request_overrides(url):
    body = {"prompt": "Hi", "n_predict": 1}
    of_profile, of_request = (
        json.loads(post(url, "/completion", body | more))["generation_settings"]
        for more in ({}, {"temperature": 0.25, "presence_penalty": 0.0})
    )
    named = ("temperature", "top_p", "top_k", "min_p", "presence_penalty")
    assert [of_profile[name] for name in named] == pytest.approx([1.0, 0.95, 20, 0.0, 1.5])
    assert [of_request[name] for name in named] == pytest.approx([0.25, 0.95, 20, 0.0, 0.0])
