"""Which servers outlive a killed daemon, and which plan a survivor is taken over with."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from supervisor.plan.launch import LaunchPlan
from supervisor.server.survivors import LeftPlan, why_ended

PLAN = LaunchPlan(
    profile="p",
    argv=("llama-server", "-m", "model.gguf"),
    env={},
    host="/run/llama-server-p.sock",
    port=0,
    build="b1",
    flavour="cpu",
    engine="",
    model="model.gguf",
    digest="d",
    wish="w",
    orphan="adopt",
    behind_gateway=True,
    memory={"RAM": 1},
)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere none does")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"orphan": "end"}, "the profile says so"),
        ({"host": "127.0.0.1", "port": 8080, "behind_gateway": False}, ""),
        ({"host": "127.0.0.1"}, "the key of its inner port"),
        ({"adapter": "command"}, "only llama-server itself"),
        ({"argv": ("python", "-I", "embedded_server/__main__.py", "-m", "m")}, "only llama-server itself"),
        ({"is_trial": True}, "it runs only to be measured"),
    ],
)
def test_only_a_server_that_can_be_proved_and_goes_on_unread_outlives_its_daemon(change, why):
    found = why_ended(replace(PLAN, **change))
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_a_survivor_has_its_own_placement_and_the_policies_that_are_asked_for():
    left = LeftPlan.of(PLAN)
    again = replace(PLAN, description="new")
    assert left.plan_for(again) is again
    placed = replace(again, digest="d2", argv=(*PLAN.argv, "-ngl", "9"), memory={"RAM": 2})
    found = left.plan_for(placed)
    assert (found.digest, found.argv, found.memory) == (PLAN.digest, PLAN.argv, PLAN.memory)
    assert found.description == "new"


@pytest.mark.parametrize(("had", "asked"), [("w", "other"), ("", ""), ("", "w")])
def test_a_survivor_of_another_wish_or_an_unknown_one_has_no_plan(had, asked):
    left = LeftPlan.of(replace(PLAN, wish=had))
    assert left.plan_for(replace(PLAN, digest="d2", wish=asked)) is None


def test_a_profile_that_now_says_that_it_ends_takes_nothing_over():
    assert LeftPlan.of(PLAN).plan_for(replace(PLAN, orphan="end")) is None
