"""A program that is no llama-server under the real daemon: the same lifecycle, gateway, log and figures."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import PATIENCE, Home, free_port

SERVER = Path(__file__).parents[1] / "fakes" / "any_server.py"
TINY = Path(__file__).parents[1] / "fakes" / "tiny_gpt_oss.py"
PYTHON = "GOSS_TEST_TRANSFORMERS_PYTHON"
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


@dataclass
class CommandHome(Home):
    """Its profile ``tiny`` runs the scripted server with the faults that ``write`` gives it."""

    @property
    def record(self) -> list[dict]:
        file = self.root / "record"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def write(self, *script: str, more: str = "", engine: str = "", health: str = "") -> None:
        words = [sys.executable, "-S", "-E", "-u", str(SERVER), "--host", "{host}", "--port", "{port}"]
        words += ["--name", "/models/tiny", f"record={self.root / 'record'}", *script]
        self.profile(
            "tiny",
            f"aliases: small\nengine:\n  command: {json.dumps(words)}\n  upstream-model: /models/tiny\n{engine}"
            f"restart: {{backoff: 10ms}}\nhealth: {{interval: 100ms, {health}}}\n{more}",
        )

    def ask(self, path: str = CHAT, **body: object) -> tuple[int, dict | str]:
        """The status, and the body: as JSON where it is one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            headers = {"Content-Type": "application/json"}
            sent = json.dumps({"model": "small", "messages": MESSAGES, **body}) if path == CHAT else None
            connection.request("POST" if sent else "GET", path, sent, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.getheader("content-type", "").startswith("application/json")
            return answer.status, json.loads(text) if is_json else text
        finally:
            connection.close()

    @property
    def requests(self) -> list[dict]:
        return [json.loads(line) for line in self.run("requests", "--json").stdout.splitlines()]

    def until_ready_again(self, restarts: int) -> dict:
        return self.watch_for(
            lambda now: now["server"]["state"] == "ready" and now["server"]["restarts"] >= restarts
        )["server"]


@pytest.fixture
def home(tmp_path):
    made = CommandHome(tmp_path, (), free_port())
    yield made
    made.close()


def test_it_is_checked_planned_started_asked_measured_and_stopped(home):
    home.write()
    assert "ok" in home.run("profile", "check", "tiny").stdout
    plan = json.loads(home.run("plan", "tiny", "--json").stdout)
    assert "{port}" in plan["argv"]
    assert plan["ledger"] is None
    assert any("memory is not known" in warning for warning in plan["warnings"])

    home.start("tiny")
    server = home.status()["server"]
    assert (server["state"], server["profile"], server["flavour"]) == ("ready", "tiny", "command")
    assert any("memory is not known" in warning for warning in server["warnings"])
    status, answer = home.ask()
    assert (status, answer["model"]) == (200, "small")
    assert answer["choices"][0]["message"]["content"] == "I am /models/tiny"
    models = home.ask("/v1/models")[1]
    assert [entry["id"] for entry in models["data"]] == ["small"]
    assert "/models/tiny" not in json.dumps(models)
    [asked] = home.requests
    assert (asked["model"], asked["prompt_tokens"], asked["output_tokens"]) == ("small", 3, 2)
    assert "goss_supervisor_server_state{" in home.ask("/metrics")[1]
    assert '"POST /v1/chat/completions HTTP/1.1" 200' in home.run("logs").stdout

    assert "stopped" in home.run("stop").stdout
    assert home.record[-1] == {"signal": "SIGTERM"}
    after = json.loads(home.run("plan", "tiny", "--json").stdout)
    [ram] = after["ledger"]["devices"]
    assert ram["source"] == "measured" or ram["sources"]["other"] == "measured"
    assert ram["other_bytes"] > 1024**2


@pytest.mark.parametrize("http", ["1.0", "1.1"])
@pytest.mark.parametrize("length", ["true", "false"])
def test_answers_of_any_http_come_whole_and_under_the_clients_name(home, http, length):
    home.write(f"http={http}", f"length={length}")
    home.start("tiny")
    assert home.ask()[1]["model"] == "small"
    status, events = home.ask(stream=True)
    assert status == 200
    sent = [json.loads(line.removeprefix("data: ")) for line in events.split("\n\n")[:-2]]
    assert {event["model"] for event in sent} == {"small"}
    assert events.endswith("data: [DONE]\n\n")


def test_it_is_not_ready_while_it_answers_every_question_with_404(home, tmp_path):
    gate = tmp_path / "gate"
    home.write(f"questions={gate}")
    daemon = home.foreground("tiny")
    seen = (
        home.watch_for(lambda now: "does not answer" in now["server"]["why"])["server"]
        if _wait(daemon)
        else {}
    )
    assert seen["state"] == "starting"
    assert "HTTP 404" in seen["why"]
    assert "generation thread died" in seen["why"]
    gate.touch()
    assert home.until_ready_again(0)["why"] == ""


def _wait(daemon) -> bool:
    """Until the foreground start has a daemon that can be asked: it says that it launches."""
    for line in daemon.stdout:
        if "GET /health" in line:
            return True
    raise AssertionError("it ended")


def test_and_one_that_never_answers_fails_with_what_it_said(home):
    home.write("questions=404", health="start-timeout: 1s")
    done = home.start("tiny", "--set", "restart.policy=never", code=10)
    assert "does not answer: /v1/chat/completions got HTTP 404" in done.stderr
    assert "generation thread died" in done.stderr


def test_one_that_is_never_well_fails_too_though_it_logs_each_of_our_probes(home):
    home.write("health=503", health="start-timeout: 1s")
    done = home.start("tiny", "--set", "restart.policy=never", code=10)
    assert "made no progress while loading (/health got HTTP 503" in done.stderr


def test_a_role_without_a_question_is_ready_when_it_is_up(home):
    home.write("questions=404", engine="  ready: {path: /v1/models, question: off}\n")
    home.start("tiny")
    assert home.status()["server"]["state"] == "ready"


def test_it_comes_back_after_a_crash_and_the_request_is_answered(home):
    home.write("die=requests:2")  # the first is the question of the start
    home.start("tiny")
    assert home.ask()[0] == 200
    server = home.until_ready_again(1)
    assert "killed by SIGKILL" in server["last_failure"]["message"]
    assert len([entry for entry in home.record if "pid" in entry]) == 2


def test_it_is_restarted_when_it_hangs(home, tmp_path):
    gate = tmp_path / "hang"
    home.write(f"hang={gate}", health="timeout: 200ms, hang-timeout: 1s")
    home.start("tiny")
    first = home.status()["server"]["pid"]
    gate.touch()
    home.watch_for(lambda now: now["server"]["state"] in {"stopping", "killing", "backoff", "starting"})
    gate.unlink()
    server = home.until_ready_again(1)
    assert server["pid"] != first
    assert "answers no probe" in server["last_failure"]["message"]


def test_it_is_restarted_when_it_says_that_it_is_not_well_any_more(home, tmp_path):
    """As mlx-lm does once its generation thread has died."""
    gate = tmp_path / "ill"
    home.write(f"ill={gate}", health="hang-timeout: 1s")
    home.start("tiny")
    gate.touch()
    home.watch_for(lambda now: now["server"]["state"] in {"stopping", "killing", "backoff"})
    gate.unlink()
    failure = home.until_ready_again(1)["last_failure"]["message"]
    assert 'is not well (/health got HTTP 503 {"status": "unavailable"})' in failure


def test_it_is_stopped_with_the_signal_that_it_wants(home):
    home.write("stop=INT", more="stop: {signal: INT, grace: 30s}\n")
    home.start("tiny")
    home.run("stop")
    assert home.record[-1] == {"signal": "SIGINT"}


def test_one_that_does_not_listen_to_it_gets_a_term(home):
    """As a Python program that was started with SIGINT ignored."""
    home.write("stop=TERM", more="stop: {signal: INT, grace: 200ms, insist: 30s}\n")
    home.start("tiny")
    home.run("stop")
    assert home.record[-1] == {"signal": "SIGTERM"}


def test_the_key_of_a_launch_keeps_others_out_and_is_shown_nowhere(home):
    home.write("key_variable=MY_KEY", more='env: {MY_KEY: "{key}"}\n')
    home.start("tiny")
    assert home.ask()[0] == 200
    key = next(entry["env"]["MY_KEY"] for entry in home.record if "env" in entry)
    assert len(key) > 30
    shown = [home.run(*words).stdout for words in (("plan", "tiny"), ("status", "--json"), ("logs",))]
    assert not any(key in text for text in shown)
    port = next(entry["argv"] for entry in home.record if "argv" in entry)
    address = "127.0.0.1", int(port[port.index("--port") + 1])
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE)) as inside:
        inside.request("POST", CHAT, "{}")
        assert inside.getresponse().status == 401


def test_a_command_line_that_it_does_not_like_fails_at_once_and_is_told(home):
    home.write("exit=2", "stderr=any_server.py: error: unrecognized arguments: --nope")
    done = home.start("tiny", code=10)
    assert "does not accept its command line: unrecognized arguments: --nope" in done.stderr
    assert len(home.record) == 1


def test_a_declared_memory_that_does_not_fit_is_refused(home):
    home.write(engine="  memory: {RAM: 9000 GiB}\n")
    done = home.start("tiny", code=7)
    assert "9000.0 GiB" in done.stderr
    assert home.record == []


@pytest.mark.parametrize(
    ("memory", "then"),
    [("", "sleeping"), ("  memory: {RAM: 100 MiB}\n", "ready")],
    ids=["unknown: in its place", "declared: beside it"],
)
def test_a_client_may_ask_for_it_and_for_another(home, memory, then):
    home.write(engine=memory)
    text = (home.root / "config" / "profiles" / "tiny.yaml").read_text()
    home.profile("other", text.replace("/models/tiny", "/models/big").replace("small", "large"))
    home.start("tiny", "--set", "gateway.models=[other]", "--set", "gateway.min-warm=0s")
    assert home.ask()[1]["model"] == "small"
    assert home.ask(model="large")[1]["model"] == "large"
    states = {each["profile"]: each["state"] for each in home.status()["servers"]}
    assert states == {"tiny": then, "other": "ready"}
    assert home.ask()[1]["model"] == "small"
    assert {each["id"] for each in home.ask("/v1/models")[1]["data"]} == {"small", "large"}


def test_what_it_held_lets_it_live_beside_another_the_next_time(home):
    home.write()
    text = (home.root / "config" / "profiles" / "tiny.yaml").read_text()
    home.profile("other", text.replace("/models/tiny", "/models/big").replace("small", "large"))
    for name in ("tiny", "other"):
        home.start(name)
        home.run("stop")
    home.start("tiny", "--set", "gateway.models=[other]", "--set", "gateway.min-warm=0s")
    assert home.ask(model="large")[1]["model"] == "large"
    states = {each["profile"]: each["state"] for each in home.status()["servers"]}
    assert states == {"tiny": "ready", "other": "ready"}


@pytest.fixture(scope="session")
def tiny_gpt_oss(tmp_path_factory):
    """The ``transformers`` program, and a gpt-oss made on the spot."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"{PYTHON} does not name a Python with torch and transformers[serving] (1.2 GB)")
    folder = tmp_path_factory.mktemp("model") / "tiny"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([python, TINY, folder], env=offline, check=True, capture_output=True, timeout=PATIENCE * 5)
    return Path(python).parent / "transformers", folder


def test_the_real_transformers_serve_with_a_gpt_oss(home, tiny_gpt_oss):
    program, folder = tiny_gpt_oss
    home.profile(
        "gpt",
        f"extends: transformers\nmodel: {{path: {folder}}}\naliases: small\nenv: {{HF_HUB_OFFLINE: '1'}}\n"
        f"engine:\n  command: [{program}, serve, '{{model}}', --host, '{{host}}', --port, '{{port}}', "
        "--device, cpu]\n",
    )
    home.start("gpt")
    status, answer = home.ask(max_tokens=5)
    assert (status, answer["model"]) == (200, "small")
    assert answer["usage"]["completion_tokens"] == 5
    status, events = home.ask(max_tokens=3, stream=True)
    assert status == 200
    assert '"model":"small"' in events
    assert str(folder) not in events
    models = home.ask("/v1/models")[1]
    assert [entry["id"] for entry in models["data"]] == ["small"]
    assert [request["output_tokens"] for request in home.requests] == [5, 3]

    os.kill(home.status()["server"]["pid"], signal.SIGKILL)
    home.until_ready_again(1)
    assert home.ask(max_tokens=1)[0] == 200
    home.run("stop")
