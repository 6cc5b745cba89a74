"""What is measured under a name, and what of it fits into a server's context."""

from __future__ import annotations

import pytest

from supervisor.measure.measurement import Workload
from supervisor.measure.scenarios import SCENARIOS, chosen, cut, described, needed_tokens


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_large_context_and_one_that_is_not_known_leave_nothing_out(name):
    assert (
        cut(SCENARIOS[name].workloads, 131072)
        == cut(SCENARIOS[name].workloads, None)
        == (SCENARIOS[name].workloads, ())
    )


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("context", [512, 4096, 16384, 32768])
def test_what_is_measured_fits_and_what_does_not_is_said(name, context):
    kept, said = cut(SCENARIOS[name].workloads, context)
    assert all(needed_tokens(each) <= context for each in kept)
    assert len(said) == sum(needed_tokens(each) > context for each in SCENARIOS[name].workloads)
    assert all(f"the server has {context:,}" in each for each in said)


def test_an_agent_reads_a_prompt_as_a_whole_and_then_only_its_end():
    whole, end, *_ = SCENARIOS["agent"].workloads
    assert whole.depth_tokens == 0
    assert end.depth_tokens + end.prompt_tokens == whole.prompt_tokens == 8000


def test_all_of_the_agent_fits_into_32768_tokens():
    assert cut(SCENARIOS["agent"].workloads, 32768)[1] == ()


def test_where_nothing_fits_a_shorter_one_is_measured():
    kept, said = cut(SCENARIOS["agent"].workloads, 4096)
    assert kept == (Workload(3968, 128),)
    assert "In its place a prompt of 3,968 tokens is measured." in said[0]


def test_a_text_is_not_shortened():
    assert cut(SCENARIOS["article"].workloads, 300)[0] == ()


def test_freely_chosen_ones_are_all_combinations():
    found = chosen([128, 512], 64, depths=[0, 4096], clients=[1, 4])
    assert len(found) == 8
    assert found[0] == Workload(128, 64)
    assert found[-1] == Workload(512, 64, depth_tokens=4096, clients=4)


def test_workloads_are_described_in_words():
    assert described(Workload(512, 1)) == "a prompt of 512 tokens"
    assert described(Workload(512, 1, warm=True)) == "a warm prompt of 512 tokens"
    several = Workload(512, 1, depth_tokens=4096, clients=8)
    assert described(several) == "8 clients with a prompt of 512 tokens behind 4,096"


def test_clients_need_not_fit_into_the_context_together():
    assert cut([Workload(512, 128, clients=8)], 1024)[1] == ()
