"""The decisions of an update: is it newer, is it slower, what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.status import _update
from supervisor.engine.catalogue.releases import REPOSITORY, Release
from supervisor.errors import ConfigError
from supervisor.measure import speed
from supervisor.measure.comparison import indented, log_of, rolled_back
from supervisor.measure.measurement import Workload
from supervisor.measure.speed import Speed
from supervisor.plan.launch import LaunchPlan
from supervisor.profile.definition import Engine
from supervisor.update import update_check
from supervisor.update.rollout import is_newer
from supervisor.update.update_check import UpdateCheck, look
from supervisor.update.update_target import FleetServer, UpdateTarget, why_fixed

LOAD = Workload(256, 128)
RATES = st.floats(min_value=0.01, max_value=1e6)


def at(generated: float, prompt: float = 1000.0) -> Speed:
    return Speed(generated, prompt, LOAD)


@pytest.mark.parametrize(("new", "slower"), [(31.2, True), (41.3, True), (41.4, False), (60.0, False)])
def test_a_build_is_slower_below_nine_tenths_of_the_tokens(new, slower):
    assert speed.is_slower(at(new), at(45.9)) is slower


def test_a_slow_prompt_alone_does_not_condemn():
    assert not speed.is_slower(at(45.9, prompt=1.0), at(45.9))


def test_the_comparison_names_both_figures_and_the_other_build():
    said = speed.comparison(at(31.2), at(45.9), "b11429")
    assert said == "31.2 tokens/s, 68 % of the 45.9 that b11429 gave"


@given(RATES, RATES)
def test_of_two_measurements_the_better_counts(one, other):
    assert speed.best(at(one), at(other)).generated_per_second == max(one, other)


@given(RATES, RATES)
def test_the_load_fits_into_the_time_or_is_the_smallest(generated, prompt):
    load = speed._load_for(Speed(generated, prompt, LOAD))
    seconds = speed.RUNS * (load.prompt_tokens / prompt + load.answer_tokens / generated)
    assert seconds <= speed.AIM_SECONDS or load == speed._LOADS[-1]


def test_a_fast_machine_gets_the_largest_load():
    assert speed._load_for(at(50.0)) == LOAD


def test_newer_is_a_matter_of_the_number_and_not_of_the_spelling():
    assert is_newer("b11434", "b9999")
    assert not is_newer("b9999", "b11434")
    assert not is_newer("b11434", "b11434")
    assert is_newer("b1", None)
    assert is_newer("b1", "unknown")


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (Engine(), ""),
        (Engine(source="release", channel="nightly"), ""),
        (Engine(channel="b11434"), "b11434 is pinned"),
        (Engine(source="system"), "engine.source is system"),
        (Engine(source="embedded"), "engine.source is embedded"),
    ],
)
def test_what_does_not_move_says_why(engine, said):
    reason = why_fixed(engine)
    assert reason.startswith(said)
    assert bool(reason) is bool(said)


def test_there_is_no_channel_where_a_tag_is_pinned():
    with pytest.raises(ConfigError, match=r"gpt: b11434 is pinned \(engine\.channel\)"):
        _ = UpdateTarget(Engine(channel="b11434"), profile="gpt").channel
    assert UpdateTarget(Engine()).channel == "default"
    assert UpdateTarget(Engine(channel="stable")).channel == "stable"


def answer(result: str, why: str, tail=None):
    failure = None if tail is None else {"log_tail": tail}
    return {"outcome": {"result": result, "why": why}, "status": {"server": {"last_failure": failure}}}


def test_only_a_rollback_is_a_rollback():
    assert rolled_back(answer("rolled back", "it ended (exit code 3).")) == "it ended (exit code 3)"
    assert rolled_back(answer("degraded", "on the CPU")) == ""
    assert rolled_back(answer("ready", "")) == ""


def test_the_last_lines_stand_below_the_sentence():
    log = log_of(answer("rolled back", "x", ["one", "two"]))
    assert indented(log) == "\n  | one\n  | two"
    assert log_of(answer("ready", "")) == ()


NEWS = UpdateCheck("stable", "b11429", "b11500")


def test_the_news_name_both_builds_and_what_was_passed_over():
    assert NEWS.sentence == "b11500 is there, b11429 is in use"
    assert replace(NEWS, available=None).sentence == "nothing newer than b11429"
    assert replace(NEWS, note="b11501: half").sentence.endswith("in use (b11501: half)")


@pytest.mark.parametrize(
    ("repository", "sentence"),
    [
        (REPOSITORY, "nothing newer than b11549"),
        (
            "xllamacpp",
            "b11429 is there, b11549 is in use (an official release, where b11549 stands in)",
        ),
    ],
)
def test_an_older_official_release_is_news_only_where_something_stands_in(monkeypatch, repository, sentence):
    monkeypatch.setattr(update_check, "_newest", lambda *_: (Release("b11429", ()), (), ""))
    plan = LaunchPlan("p", (), {}, "127.0.0.1", 1, "b11549", "cpu", "", "", "", repository=repository)
    assert look(UpdateTarget(Engine(), running=plan), None).sentence == sentence


def plan_of(profile, build):
    return LaunchPlan(profile, (), {}, "", 0, build, "cpu", "", "", build, repository=REPOSITORY)


def test_a_server_that_lacks_the_build_is_news_and_so_is_an_update_that_was_broken_off(monkeypatch):
    monkeypatch.setattr(update_check, "_newest", lambda *_: (Release("b2", ()), (), ""))
    monkeypatch.setattr(update_check, "chosen_tag", lambda *_: chosen)
    plans = plan_of("one", "b2"), plan_of("two", "b1")
    one, two = (FleetServer(each.profile, "ready", each) for each in plans)
    target = UpdateTarget(Engine(), running=plans[0], fleet=(one, two))
    chosen = "b2"
    assert look(target, None).sentence == "b2 is there, b2 is in use (not on two yet)"
    assert look(replace(target, fleet=(one,)), None).available is None
    chosen = "b1"
    half = look(replace(target, fleet=(one,)), None)
    assert half.sentence == "b2 is there, b2 is in use (an update was broken off)"


def status(**news):
    return {"server": {"build": "b11429"}, "update": {"current": "b11429", "available": None, **news}}


def test_status_tells_of_an_update_in_one_line():
    assert list(_update(status(available="b11500"))) == [
        "update    b11500 is there: goss-supervisor engine update"
    ]
    assert list(_update(status(note="b11500 was taken back: slow"))) == [
        "update    b11500 was taken back: slow"
    ]


def test_status_is_silent_about_old_news_and_about_a_network_that_is_down():
    assert not list(_update(status(available="b11500", current="b11000")))
    assert not list(_update(status(problem="GitHub does not answer")))
    assert not list(_update({"server": {"build": "b11429"}, "update": None}))
