"""What a request is expected to take of a context that several slots share."""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import integers, lists, none, tuples

from supervisor.gateway.context_budget import ContextBudget

BODY = b'{"messages":[{"role":"user","content":"' + b"word " * 600 + b'"}]}'


def test_before_anything_is_known_a_prompt_is_counted_by_its_bytes_and_an_answer_gets_a_share():
    assert ContextBudget(8192).expect(BODY, None) == len(BODY) + 96 + 1024


def test_an_answer_takes_no_more_than_the_request_allows():
    budget = ContextBudget(8192)
    assert budget.expect(BODY, 100) == len(BODY) + 96 + 100
    assert budget.expect(BODY, 32000) == budget.expect(BODY, None)


def test_it_learns_from_what_requests_took():
    budget = ContextBudget(8192)
    budget.learn(4000, 1000, 200)
    budget.learn(5000, 1000, 400)
    assert budget.expect(BODY, None) == len(BODY) // 4 + 96 + 500


def test_a_prompt_that_is_mostly_template_teaches_nothing():
    budget = ContextBudget(8192)
    before = budget.expect(BODY, 1)
    budget.learn(50, 60, None)
    assert budget.expect(BODY, 1) == before


def test_an_image_is_not_counted_by_its_bytes():
    image = b'{"url":"data:image/png;base64,' + b"A" * 1_000_000 + b'"}'
    assert ContextBudget(8192).expect(image, 1) < 1200


@given(lists(tuples(integers(0, 10**7), none() | integers(0, 10**6), none() | integers(0, 10**6))))
def test_whatever_it_learns_it_expects_something_finite(learned):
    budget = ContextBudget(8192)
    for taken in learned:
        budget.learn(*taken)
    assert 0 < budget.expect(BODY, None) <= 2 * len(BODY) + 96 + 1.25 * 10**6
