"""What a request is expected to take of a context that several slots share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, none, tuples

from supervisor.gateway.context_budget import ContextBudget, has_media

BODY = b'{"messages":[{"role":"user","content":"' + b"word " * 600 + b'"}]}'
PICTURE = b"iVBORw0KGgo" * 100_000


def body_of(size):
    return b"x" * size


def test_before_anything_is_known_a_prompt_is_counted_by_its_bytes_and_an_answer_gets_a_share():
    assert ContextBudget(8192).expect(BODY, None) == int(1.25 * len(BODY)) + 96 + 1024


def test_an_answer_takes_no_more_than_the_request_allows():
    budget = ContextBudget(8192)
    assert budget.expect(BODY, 100) == int(1.25 * len(BODY)) + 96 + 100
    assert budget.expect(BODY, 32000) == budget.expect(BODY, None)


def test_it_learns_from_what_requests_took():
    budget = ContextBudget(8192)
    budget.learn(body_of(4000), 1096, 200)
    budget.learn(body_of(5000), 1096, 400)
    assert budget.expect(BODY, None) == int(1.25 * len(BODY) / 4) + 96 + 500


def test_a_prompt_that_was_counted_is_not_estimated():
    budget = ContextBudget(8192)
    budget.learn(BODY, 700, 400)
    assert budget.expect(BODY, None, prompt_tokens=700) == 700 + 500


def test_a_prompt_that_is_mostly_template_teaches_nothing():
    budget = ContextBudget(8192)
    before = budget.expect(BODY, 1)
    budget.learn(body_of(50), 60)
    assert budget.expect(BODY, 1) == before


def test_short_prompts_between_long_ones_do_not_make_the_long_ones_look_longer():
    """An agent asks for a title now and then: 100 bytes, 75 tokens, nearly all of them of the template."""
    budget = ContextBudget(8192)
    budget.learn(body_of(4000), 1096)
    before = budget.expect(BODY, 1)
    budget.learn(body_of(100), 75)
    assert budget.expect(BODY, 1) == before


def test_a_template_that_is_larger_than_usual_shows_in_short_prompts():
    budget = ContextBudget(8192)
    budget.learn(body_of(4000), 1096)
    budget.learn(body_of(100), 325)
    assert budget.expect(body_of(100), 1) == 31 + 300 + 1


@pytest.mark.parametrize(
    "image",
    [
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,' + PICTURE + b'"}}',
        b'{"type":"image","source":{"type":"base64","media_type":"image/png","data":"' + PICTURE + b'"}}',
        b'{"type":"input_audio","input_audio":{"format":"wav","data": "' + PICTURE + b'"}}',
    ],
)
def test_an_image_is_not_counted_by_its_bytes_and_they_teach_nothing(image):
    budget = ContextBudget(8192)
    before = budget.expect(image, 1)
    assert before < 1400
    budget.learn(image, 1500)
    assert has_media(image)
    assert budget.expect(image, 1) == before


def test_words_about_an_image_are_text():
    assert not has_media(b'{"content":"what is an \\"image_url\\"?"}')


@given(lists(tuples(integers(0, 10**5), none() | integers(0, 10**6), none() | integers(0, 10**6))))
def test_whatever_it_learns_it_expects_something_finite(learned):
    budget = ContextBudget(8192)
    for size, *taken in learned:
        budget.learn(body_of(size), *taken)
    assert 0 < budget.expect(BODY, None) <= 2.5 * len(BODY) + 384 + 1.25 * 10**6
