"""The main job, as a user does it: start, chat, crash, switch, roll back, reload, stop."""

from __future__ import annotations

import json
import os
import signal

import openai
import psutil
import pytest

from supervisor.model.demo import DEMO_ANSWER, DEMO_REASONING

from .conftest import Home, engine_settings, free_port, is_free


@pytest.fixture(scope="module", params=["built", "embedded"])
def running(request, tmp_path_factory):
    """A home in which the demo runs, with each of the two engines: for tests after which it still does."""
    root = tmp_path_factory.mktemp(request.param)
    home = Home(root, engine_settings(request.param, root), free_port())
    home.started_with = home.start().stdout
    yield home
    home.close()


def client(home):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{home.port}/v1", api_key="none")


def question(home, **more):
    return client(home).chat.completions.create(
        model="any", messages=[{"role": "user", "content": "What are you?"}], **more
    )


def lives(process):
    """A zombie that its new parent has not reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_start_ends_with_an_address_that_answers_to_the_letter(running):
    assert f"http://127.0.0.1:{running.port}" in running.started_with
    choice = question(running).choices[0]
    assert choice.message.content == DEMO_ANSWER
    assert choice.message.reasoning_content == DEMO_REASONING
    assert choice.finish_reason == "stop"


def test_a_streamed_answer_is_the_same(running):
    deltas = [chunk.choices[0].delta for chunk in question(running, stream=True) if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == DEMO_ANSWER
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == DEMO_REASONING


def test_ask_prints_the_answer_on_stdout_and_the_speed_on_stderr(running):
    asked = running.run("ask", "What are you?", "--reasoning-effort", "low")
    assert asked.stdout.strip() == DEMO_ANSWER
    assert "tok/s" in asked.stderr
    assert DEMO_REASONING in asked.stderr


def test_a_killed_server_comes_back_by_itself(running):
    before = running.status()["server"]
    os.kill(before["pid"], signal.SIGKILL)
    after = running.watch_for(
        lambda now: now["server"]["state"] == "ready" and now["server"]["pid"] not in {None, before["pid"]}
    )
    assert after["server"]["restarts"] == before["restarts"] + 1
    assert "SIGKILL" in json.dumps(after["server"]["last_failure"])
    assert question(running).choices[0].message.content == DEMO_ANSWER


def test_a_switch_runs_the_other_profile(built_home):
    built_home.start()
    built_home.profile("other", "extends: demo\ndescription: the same, smaller\nserver: {ctx-size: 2048}\n")
    switched = built_home.run("switch", "other", *built_home.settings)
    assert "other is ready" in switched.stdout
    assert built_home.status()["server"]["profile"] == "other"
    assert question(built_home).choices[0].finish_reason == "stop"


def test_a_switch_to_a_profile_that_cannot_load_goes_back_and_says_why(running):
    broken = running.root / "data" / "models" / "broken.gguf"
    good = running.status()["server"]["model"]
    with open(good, "rb") as model:
        broken.write_bytes(model.read().replace(b"gpt-oss", b"gpt-ess"))  # an architecture that nobody has
    running.profile("broken", "extends: demo\nmodel: {path: broken.gguf}\n")
    switched = running.run("switch", "broken", *running.settings, code=10)
    assert "demo runs again" in switched.stderr
    assert running.status()["server"]["profile"] == "demo"
    assert question(running).choices[0].message.content == DEMO_ANSWER


def test_a_switch_to_a_profile_that_is_wrong_does_not_touch_the_server(running):
    before = running.status()["server"]["pid"]
    running.profile("wrong", "extends: demo\nserver:\n  ctx-sizes: 4096\n")
    switched = running.run("switch", "wrong", *running.settings, code=78)
    assert "wrong.yaml:3:3" in switched.stderr
    assert "ctx-size" in switched.stderr
    assert running.status()["server"]["pid"] == before


def test_reload_restarts_only_what_changed(built_home):
    path = built_home.profile("mine", "extends: demo\nserver: {ctx-size: 2048}\n")
    built_home.start("mine")
    before = built_home.status()["server"]["pid"]
    path.write_text("extends: demo\nserver: {ctx-size: 2048}\nstop: {grace: 7s}\n", encoding="utf-8")
    assert "unchanged" in built_home.run("reload").stdout
    assert built_home.status()["server"]["pid"] == before
    path.write_text("extends: demo\nserver: {ctx-size: 1024}\n", encoding="utf-8")
    built_home.run("reload")
    after = built_home.status()["server"]
    assert after["pid"] != before
    assert after["state"] == "ready"


def test_stop_leaves_nothing(home):
    home.start()
    now = home.status()
    children = [psutil.Process(now["server"]["pid"]), psutil.Process(now["daemon"]["pid"])]
    home.run("stop")
    assert not any(lives(process) for process in children)
    assert is_free(home.port)
    assert [path.name for path in (home.root / "run").iterdir() if path.suffix in {".sock", ".json"}] == []
    home.run("status", code=3)


def test_the_log_of_the_run_before_is_kept(running):
    running.run("restart")
    assert "listening" in running.run("logs", "--previous").stdout
    lines = [json.loads(line) for line in running.run("logs", "--json", "-n", "3").stdout.splitlines()]
    assert len(lines) == 3
    assert set(lines[0]) == {"time", "line"}
