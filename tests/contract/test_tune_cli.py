"""The command's own words: what it refuses, and what it shows before it begins."""

from __future__ import annotations

import json

import pytest

from supervisor.cli.app import main
from supervisor.model.demo import ensure_demo
from supervisor.paths import Paths

from ..fakes.binaries import fake_server


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    paths = Paths.under(tmp_path)
    ensure_demo(paths.models)
    engine = fake_server(tmp_path / "engine" / "llama-server")
    paths.profiles.mkdir(parents=True)
    text = f"model: demo\nengine: {{source: path, path: {engine}}}\nserver: {{ctx-size: 4096}}\n"
    (paths.profiles / "mine.yaml").write_text(text)
    return paths


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--vary", "=3"), 2, "expected KEY=VALUE"),
        (("--vary", "threads="), 2, "expected KEY=VALUE"),
        (("--vary", "no-such=1,2"), 2, "no setting no-such"),
        (("--fix", "threads", "--vary", "threads=1,2"), 2, "both fixed and varied"),
        (("--budget", "soon"), 2, "a time such as 30s"),
        (("--budget", "1s"), 2, "--budget"),
        (("--min-context", "10"), 2, "--min-context"),
        (("--goal", "speed"), 2, "--goal"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(home, capsys, words, code, said):
    assert main(["tune", "mine", "--dry-run", *words]) == code
    assert said in capsys.readouterr().err


def test_a_profile_that_is_not_there(home, capsys):
    assert main(["tune", "nobody", "--dry-run"]) == 5
    assert "nobody" in capsys.readouterr().err


def test_a_dry_run_shows_what_would_be_tried_and_leaves_nothing(home, capsys):
    assert main(["tune", "mine", "--dry-run", "--goal", "agent", "--fix", "poll"]) == 0
    shown = capsys.readouterr()
    assert "ubatch-size" in shown.out
    assert "poll" not in shown.out
    assert "goal      agent: a prompt of 8,192 tokens" in shown.err
    assert "note      the context has 4,096 tokens" in shown.err
    assert "disturbs  nothing: no server runs" in shown.err
    assert "takes     up to 20 min" in shown.err
    assert not (home.state / "tune").exists()


def test_a_dry_run_as_json(home, capsys):
    assert main(["tune", "mine", "--dry-run", "--json", "--budget", "1h"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["profile"], found["goal"], found["budget_seconds"]) == ("mine", "balanced", 3600.0)
    assert found["starts"] == [{}]
    threads = next(each for each in found["settings"] if each["key"] == "server.ubatch-size")
    assert threads["now"] in threads["fit"]


def test_a_dry_run_on_an_empty_home_needs_neither_the_model_nor_an_engine(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    assert main(["tune", "demo", "--dry-run", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)["settings"]
    assert "server.ubatch-size" in {each["key"] for each in found}
    assert all(each["fit"] == each["values"] for each in found if each["key"] != "server.flash-attn"), found
    assert "downloads ggml-org/llama.cpp" in shown.err
    assert not (tmp_path / "home").exists(), "nothing was written"
