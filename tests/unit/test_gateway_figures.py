"""What is counted: each request once, in the right place, and nothing where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.telemetry.activity import RESULTS
from supervisor.gateway.telemetry.metrics import (
    FIRST_TOKEN_SECONDS,
    SECONDS,
    TOKENS,
    TOKENS_PER_SECOND,
    Histogram,
    RequestFigures,
)

from ..fakes.asked import a_chat

CHAT = a_chat(
    first_byte_seconds=0.4,
    seconds=3.0,
    prompt_tokens=1000,
    cached_tokens=900,
    output_tokens=64,
    tokens_per_second=25.0,
)


def counted(*requests):
    figures = RequestFigures()
    for request in requests:
        figures.count(request)
    return figures


def test_a_request_is_counted_by_endpoint_status_and_profile():
    other = replace(CHAT, endpoint="/v1/embeddings", status=429, result="refused")
    figures = counted(CHAT, CHAT, other, replace(CHAT, status=None, result="cancelled"))
    assert figures.requests == {
        ("/v1/chat/completions", 200, "demo"): 2,
        ("/v1/embeddings", 429, "demo"): 1,
        ("/v1/chat/completions", None, "demo"): 1,
    }
    assert figures.results == {"answered": 2, "refused": 1, "cancelled": 1, "broken": 0, "failed": 0}


def test_held_and_replayed_requests_are_counted_beside_what_became_of_them():
    figures = counted(CHAT, replace(CHAT, held_seconds=12.0), replace(CHAT, replayed=True, held_seconds=3.0))
    assert (figures.held, figures.replayed) == (2, 1)
    assert figures.profiles["demo"].held.total == 15.0


def test_tokens_and_speeds_are_the_profiles():
    figures = counted(CHAT, replace(CHAT, profile="other", output_tokens=None, tokens_per_second=None))
    demo, other = figures.profiles["demo"], figures.profiles["other"]
    assert (demo.prompt_tokens, demo.cached_tokens, demo.output_tokens) == (1000, 900, 64)
    assert sum(demo.speed.counts) == 1
    assert other.output_tokens == sum(other.outputs.counts) == sum(other.speed.counts) == 0


@pytest.mark.parametrize(
    "changes", [{"stream": False}, {"status": 503}, {"status": None}, {"first_byte_seconds": None}]
)
def test_a_first_token_is_only_what_a_stream_began_with(changes):
    assert sum(counted(replace(CHAT, **changes)).profiles["demo"].first_token.counts) == 0
    assert sum(counted(CHAT).profiles["demo"].first_token.counts) == 1


@pytest.mark.parametrize("bounds", [FIRST_TOKEN_SECONDS, SECONDS, TOKENS, TOKENS_PER_SECOND])
@given(values=st.lists(st.floats(0, 1e9), max_size=30))
def test_each_value_is_counted_at_the_first_bound_that_is_not_below_it(bounds, values):
    histogram = Histogram(bounds)
    for value in values:
        histogram.add(value)
    for place, bound in enumerate(bounds):
        assert sum(histogram.counts[: place + 1]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)
    assert histogram.total == pytest.approx(sum(values))


@pytest.mark.parametrize("bounds", [FIRST_TOKEN_SECONDS, SECONDS, TOKENS, TOKENS_PER_SECOND])
def test_bounds_rise(bounds):
    assert list(bounds) == sorted(set(bounds))


@given(st.lists(st.sampled_from(RESULTS), max_size=50))
def test_every_request_is_counted_once(results):
    figures = counted(*(replace(CHAT, result=result) for result in results))
    assert sum(figures.requests.values()) == sum(figures.results.values()) == len(results)
    assert sum(sum(each.counts) for each in figures.seconds.values()) == len(results)
