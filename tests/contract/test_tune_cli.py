"""The command's own words: what it refuses, and what it shows before it begins."""

from __future__ import annotations

import json

import pytest

from supervisor.cli.app import main
from supervisor.model.demo import ensure_demo
from supervisor.paths import Paths
from supervisor.prepare.variants import variants_of
from supervisor.tune.search_values import Trial, TrialResult
from supervisor.tune.tuning_journal import opened_journal
from supervisor.tune.tuning_setup import TuneRequest, set_up

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
        (("--vary", "no-such=1,2"), 2, "no-such: there is no such setting"),
        (("--vary", "thread=1,2"), 2, "Did you mean threads?"),
        (("--vary", "port=1,2"), 2, "does not change the speed"),
        (("--vary", "poll=50"), 2, "--vary poll=50 leaves nothing to try: the profile has this value"),
        (("--vary", "engine.flavour=vulkan"), 2, "there is no other flavour of it"),
        (("--fix", "threads=2"), 2, "--fix takes a key without a value"),
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


def test_values_of_a_setting_add_up_by_whatever_name_it_is_given(home, capsys):
    words = ("--vary", "top-k=1", "--vary", "top-k = 2, 3", "--vary", "server.top-k=4")
    assert main(["tune", "mine", "--dry-run", "--json", *words]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert next(each for each in settings if each["key"] == "server.top-k")["values"] == ["1", "2", "3", "4"]


def test_where_everything_is_fixed_nothing_is_measured(home, capsys):
    every = [axis["key"] for axis in space_of_mine(capsys)]
    assert main(["tune", "mine", "--dry-run", *(word for key in every for word in ("--fix", key))]) == 2
    assert "nothing is left to try for mine" in capsys.readouterr().err


def space_of_mine(capsys):
    assert main(["tune", "mine", "--dry-run", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["settings"]


def test_less_context_is_said_to_change_what_comes_out(home, capsys):
    for words, said in (((), True), (("--min-context", "2048"), False)):
        assert main(["tune", "mine", "--dry-run", *words]) == 0
        assert ("nothing that changes the answers" in capsys.readouterr().err) is said


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "goes on   with 1 trial of an earlier run (--restart starts over)"),
        (("--restart",), "restarts  and forgets 1 trial of an earlier run"),
    ],
    ids=["goes on", "restarts"],
)
def test_what_an_earlier_run_measured_is_told_before_it_begins(home, capsys, words, said):
    with opened_journal(set_up(TuneRequest("mine"), variants_of("mine", home)).file) as journal:
        journal.end(Trial(0, (), 1, "a setting to start from"), TrialResult((1.0,), 2.0))
    assert main(["tune", "mine", "--dry-run", *words]) == 0
    assert said in capsys.readouterr().err


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
