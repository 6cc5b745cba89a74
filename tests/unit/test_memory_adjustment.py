"""The one step back after a load that failed for memory, and what is remembered of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.home.records import plans_out_of_memory, remember_out_of_memory
from supervisor.memory.fitting import step_back
from supervisor.memory.memory_settings import settings_of
from supervisor.model.metadata import Model

MODEL = Model("gpt-oss", {"gpt-oss.block_count": 36, "gpt-oss.context_length": 131072}, (), ())


def after(options, *, layers=36, experts=128, on_gpu=True):
    return step_back(settings_of(options, 11434, MODEL), layers, experts, on_gpu=on_gpu)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"n-cpu-moe": 30}, {"n-cpu-moe": 33}),
        ({}, {"n-cpu-moe": 3}),
        ({"n-cpu-moe": 35}, {"n-cpu-moe": 36}),
        ({"cpu-moe": True}, {"ubatch-size": 256}),
        ({"cpu-moe": True, "ubatch-size": 128}, {}),
    ],
)
def test_the_experts_of_some_layers_go_first_then_the_batch_is_halved(options, changed):
    assert after(options) == changed


def test_a_small_model_gives_two_layers_and_a_dense_one_its_batch():
    assert after({}, layers=12) == {"n-cpu-moe": 2}
    assert after({}, experts=0) == {"ubatch-size": 256}
    assert after({}, on_gpu=False) == {"ubatch-size": 256}


def test_what_was_changed_is_known_by_the_digest(tmp_path):
    file = tmp_path / "adjusted.json"
    assert plans_out_of_memory(file) == {}
    remember_out_of_memory(file, "a", "n-cpu-moe 33")
    remember_out_of_memory(file, "b", "ubatch-size 256")
    assert plans_out_of_memory(file) == {"a": "n-cpu-moe 33", "b": "ubatch-size 256"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["adjusted.json", "adjusted.json.lock"]


def test_no_more_than_the_last_hundred_are_known(tmp_path):
    file = tmp_path / "adjusted.json"
    for number in range(101):
        remember_out_of_memory(file, str(number), "less")
    assert list(plans_out_of_memory(file)) == [str(number) for number in range(1, 101)]


@given(st.binary())
def test_a_file_that_is_none_knows_nothing(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("state") / "adjusted.json"
    file.write_bytes(content)
    assert isinstance(plans_out_of_memory(file), dict)
