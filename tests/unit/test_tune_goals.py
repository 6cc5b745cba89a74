"""The work of a goal, and what it costs by a measurement."""

from __future__ import annotations

import pytest

from supervisor.errors import ConfigError
from supervisor.measure.measurement import Sample
from supervisor.tune.goals import GOALS, cost_seconds, run_seconds, scaled, within

CHAT, AGENT, BATCH = GOALS["chat"], GOALS["agent"], GOALS["batch"]


def sample(prompt=1000.0, answer=50.0, seconds=10.0):
    return Sample(prompt, answer, 0.1, seconds)


def test_the_cost_is_the_whole_work_at_the_measured_rates():
    assert cost_seconds(CHAT, sample(512.0, 64.0)) == pytest.approx(1 + 4)
    assert cost_seconds(AGENT, sample(1024.0, 64.0)) == pytest.approx(16 + 32)


def test_of_clients_who_disturb_each_other_the_whole_time_counts():
    assert cost_seconds(BATCH, sample(seconds=7.0)) == pytest.approx(7.0)
    part = scaled(BATCH, sample(100.0, 20.0), aim_seconds=9.12)
    assert part.workload.answer_tokens == pytest.approx(16)
    assert cost_seconds(part, sample(seconds=7.0)) == pytest.approx(7.0 * 5120 / (8 * (128 + 16)))


def test_a_server_that_says_no_rates_is_judged_by_the_whole_time():
    assert cost_seconds(CHAT, sample(None, None, seconds=3.0)) == pytest.approx(3.0)


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS.keys())
def test_on_a_slow_machine_a_run_takes_about_as_long_as_aimed_at_and_the_cost_stays_the_same(goal):
    slow = sample(40.0, 8.0)
    part = scaled(goal, slow, aim_seconds=20.0)
    asked = part.workload
    takes = asked.clients * (asked.prompt_tokens / 40.0 + asked.answer_tokens / 8.0)
    assert takes <= 20.5 or (asked.prompt_tokens, asked.answer_tokens) == (128, 16)
    assert (part.reads, part.writes) == (goal.reads, goal.writes)
    if asked.clients == 1:
        assert cost_seconds(part, slow) == pytest.approx(cost_seconds(goal, slow))


def test_on_a_fast_machine_the_whole_work_is_measured():
    assert scaled(CHAT, sample(5000.0, 200.0), aim_seconds=8.0) == CHAT
    assert scaled(CHAT, sample(None, None), aim_seconds=8.0) == CHAT, "nobody knows how fast it is"


def test_prompts_are_cut_to_the_context_and_it_is_said():
    goal, said = within(AGENT, 4096)
    assert goal.workload.prompt_tokens + goal.workload.answer_tokens <= 4096
    assert "4,096 tokens" in said
    assert f"{goal.workload.prompt_tokens:,}" in said
    assert within(AGENT, 16384) == (AGENT, "")
    assert within(AGENT, 0) == (AGENT, ""), "the context is not known"


def test_slots_that_share_a_context_leave_each_client_its_part_and_others_their_own():
    together, said = within(BATCH, 4096, 8, shared=True)
    assert 8 * (together.workload.prompt_tokens + together.workload.answer_tokens) <= 4096
    assert "for each of 8" in said
    assert within(CHAT, 4096, 4, shared=True) == (CHAT, "")
    alone, _ = within(CHAT, 2048, 4)
    assert alone.workload.prompt_tokens + alone.workload.answer_tokens <= 512


def test_a_context_that_holds_nothing_is_refused():
    with pytest.raises(ConfigError, match="too small to measure") as refused:
        within(CHAT, 128, 4)
    assert "ctx-size" in refused.value.hint


def test_a_run_that_costs_no_more_than_allowed_is_never_broken_off():
    for goal in GOALS.values():
        for rates in ((5000.0, 100.0), (20.0, 30.0), (300.0, 1.0)):
            part = scaled(goal, sample(*rates), aim_seconds=5.0)
            asked = part.workload
            takes = asked.clients * (asked.prompt_tokens / rates[0] + asked.answer_tokens / rates[1])
            cost = goal.reads / rates[0] + goal.writes / rates[1]
            assert run_seconds(part, cost) > takes
