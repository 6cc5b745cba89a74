"""The embedded engine's program on the real wheel; ``python tests/engines.py FOLDER`` provides one."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from supervisor.engine.inspection import inspect
from supervisor.engine.pypi.embedded import NUMBER, PROGRAM
from supervisor.model.demo import ensure_demo
from supervisor.options.help import HelpOption
from supervisor.options.meanings import pinned

PYTHON = os.environ.get("GOSS_TEST_EMBEDDED_PYTHON", "")
COMMAND = (PYTHON, "-I", "-X", "utf8", str(PROGRAM))
TIMEOUT_SECONDS = 30

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="GOSS_TEST_EMBEDDED_PYTHON names no Python that has xllamacpp"
)
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

# a value for each option whose hint does not give one
SAMPLES = {
    "--chat-template-kwargs": '{"a": 1}',
    "--device": "none",
    "--override-tensor": "x=CPU",
    "--prio": "0",
    "--samplers": "top_k;temperature",
}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_demo(tmp_path_factory.mktemp("models"))


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        with child:
            child.kill()


def spawn(running: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    running.append(child)
    return child


def wait_for(stream: IO[str] | None, pattern: str) -> re.Match[str]:
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"no {pattern} in:\n{''.join(seen)}")


def serve(
    running: list[subprocess.Popen[str]], model: Path, *arguments: str
) -> tuple[subprocess.Popen[str], str]:
    child = spawn(running, "-m", str(model), "--port", "0", *arguments)
    return child, wait_for(child.stderr, r"listening on (http://\S+)")[1]


def fail(*arguments: str) -> str:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert ended.returncode == 1
    return ended.stderr


def request(url: str, body: object = None, key: str = "") -> str:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    asked = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:
        return answer.read().decode()


CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def test_it_passes_through_the_capability_reader_as_any_build(tmp_path: Path) -> None:
    seen = inspect(COMMAND, tmp_path, files=[PROGRAM])
    assert seen.capabilities.build == NUMBER
    for option in seen.capabilities.options:
        known = pinned().find(option.long_name)
        assert known is not None, option
        assert option.names == known.names
        assert option.negative_names == known.negative_names
        assert option.takes_value == known.takes_value


def a_value(option: HelpOption) -> str:
    if option.long_name in SAMPLES:
        return SAMPLES[option.long_name]
    return option.allowed[0] if option.allowed else "1"


def test_every_spelling_that_it_lists_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    arguments = []
    for option in inspect(COMMAND, tmp_path / "cache", files=[PROGRAM]).capabilities.options:
        if option.long_name in {"--help", "--version", "--list-devices"}:
            continue
        value = str(file) if option.long_name.endswith("-file") else a_value(option)
        for name in (*option.names, *option.negative_names):
            arguments += [name, value] if option.takes_value else [name]
    assert fail(*arguments, "--last") == "error: invalid argument: --last\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-such-thing"], "error: invalid argument: --no-such-thing"),
        (["--port=1"], "error: invalid argument: --port=1"),
        (["word"], "error: invalid argument: word"),
        (
            ["-fa", "--jinja"],
            "error while handling argument \"-fa\": error: unknown value for --flash-attn: '--jinja'",
        ),
        (["-c"], 'error while handling argument "-c": expected value for argument'),
        (["-c", "many"], 'error while handling argument "-c": stoi'),
        (["--temp", "hot"], 'error while handling argument "--temp": stof'),
        (["--prio", "9"], 'error while handling argument "--prio": invalid value'),
        (["-ot", "x=NOWHERE"], 'error while handling argument "-ot": '),
        (["--chat-template-file", "/nowhere"], "failed to open file '/nowhere'"),
        (["-dev", "CUDA0"], "invalid device: CUDA0"),
        (["--sleep-idle-seconds", "0"], "cannot be 0 or less than -1"),
        ([], "--model is required"),
    ],
)
def test_bad_arguments_end_as_with_llama_server(arguments: list[str], said: str) -> None:
    assert said in fail(*arguments)


def test_a_missing_model_and_a_taken_port_are_told_in_llama_servers_words(
    tmp_path: Path, model: Path
) -> None:
    assert "failed to load model" in fail("-m", str(tmp_path / "missing.gguf"), "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fail("-m", str(model), "--host", "127.0.0.1", "--port", str(port))
    assert f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {port}" in said


def test_it_answers_as_llama_server_does(running: list[subprocess.Popen[str]], model: Path) -> None:
    options = ("-c", "4096", "-np", "1", "--metrics", "--alias", "demo", "-fa", "on", "--n-cpu-moe", "1")
    child, url = serve(running, model, *options, "--no-repack", "--cache-ram", "0", "-lm", "none")
    assert json.loads(request(f"{url}/health")) == {"status": "ok"}
    assert json.loads(request(f"{url}/v1/models"))["data"][0]["id"] == "demo"
    assert len(json.loads(request(f"{url}/slots"))) == 1
    assert json.loads(request(f"{url}/props"))["total_slots"] == 1
    answer = json.loads(request(f"{url}/v1/chat/completions", CHAT))["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert answer["message"]["content"]
    chunks = [
        line for line in request(f"{url}/v1/chat/completions", {**CHAT, "stream": True}).splitlines() if line
    ]
    assert chunks[-1] == "data: [DONE]"
    streamed = [json.loads(line.removeprefix("data: ")) for line in chunks[:-1]]
    said = "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in streamed if chunk["choices"]
    )
    assert said == answer["message"]["content"]
    assert "llamacpp:tokens_predicted_total" in request(f"{url}/metrics")
    child.terminate()
    child.wait(TIMEOUT_SECONDS)


def test_a_key_from_the_environment_is_asked_for(
    running: list[subprocess.Popen[str]], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_API_KEY", "open sesame")
    _, url = serve(running, model, "-c", "512")
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        request(f"{url}/v1/models")
    refused.value.close()
    assert "data" in request(f"{url}/v1/models", key="open sesame")


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(
    running: list[subprocess.Popen[str]], model: Path, number: signal.Signals
) -> None:
    child, url = serve(running, model, "-c", "512")
    request(f"{url}/v1/chat/completions", CHAT)  # it says that it listens a moment before it handles signals
    child.send_signal(number)
    assert child.wait(TIMEOUT_SECONDS) == 0


@posix
def test_a_signal_ends_it_with_0_also_while_it_answers(
    running: list[subprocess.Popen[str]], model: Path
) -> None:
    child, url = serve(running, model, "-c", "100000", "-np", "1")
    body = {"prompt": "hello", "n_predict": 90000, "ignore_eos": True, "stream": True}
    asked = urllib.request.Request(f"{url}/completion", json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:
        assert answer.readline().startswith(b"data: ")
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 0


@posix
def test_while_it_loads_it_says_503_and_a_signal_kills_it(
    running: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "slow.gguf")  # opening it for reading waits for a writer, who never comes
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = spawn(running, "-m", str(tmp_path / "slow.gguf"), "--port", str(port))
    wait_for(child.stderr, "load_model: loading model")
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        request(f"http://127.0.0.1:{port}/health")
    refused.value.close()
    child.send_signal(signal.SIGTERM)
    assert child.wait(TIMEOUT_SECONDS) == -signal.SIGTERM
