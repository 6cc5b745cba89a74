"""The targets of bench/fuzz.py without coverage to guide them: good inputs, what once broke a promise, and others near both."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz_targets import TARGETS, spoiled


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_are_read_and_what_once_broke_a_promise_no_longer_does(name):
    target = TARGETS[name]
    assert [error for error in map(target.refusal, target.seeds()) if error is not None] == []
    for data in target.found:
        assert isinstance(target.refusal(data), (*target.errors, type(None)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=50)
@given(random=st.randoms(use_true_random=False), changes=st.integers(1, 4))
def test_inputs_that_are_nearly_right_give_a_value_or_an_error_of_ours(name, random, changes):
    target = TARGETS[name]
    data = random.choice(target.inputs)
    for _ in range(changes):
        data = spoiled(data, random)
    assert isinstance(target.refusal(data), (*target.errors, type(None)))
