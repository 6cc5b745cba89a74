"""What a key may use: rates with an injected clock, tokens a day, and which models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.api.routes import route_of
from supervisor.gateway.api.served_models import Names
from supervisor.gateway.auth.keys import NO_LIMITS, Caller, KeyLimits, Rate, epoch_of, rate_of
from supervisor.gateway.auth.limits import KeyLimiter, RateBuckets, visible
from supervisor.plan.listen import Offer

OFFERS = (Offer("chat", ("gpt-oss-20b", "chat")), Offer("coder", ("coder",)), Offer("small", ("small",)))
NAMES = Names(OFFERS)
CHAT = route_of("POST", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/min", Rate(60, 60.0)),
        ("5/s", Rate(5, 1.0)),
        ("1000/h", Rate(1000, 3600.0)),
        ("1/d", Rate(1, 86400.0)),
        *(
            (wrong, None)
            for wrong in ("", "60", "0/s", "-1/s", "1.5/s", "60/minute", "60 /min", "9999999999/s")
        ),
    ],
)
def test_a_rate_is_so_many_in_a_time(text, rate):
    assert rate_of(text) == rate


def test_an_expiry_is_utc():
    assert epoch_of("2026-12-31T23:59:59Z") == 1_798_761_599.0
    for wrong in (
        "",
        "2026-12-31",
        "2026-13-31T00:00:00Z",
        "2026-12-31T23:59:59",
        "2026-12-31T23:59:59+01:00",
    ):
        assert epoch_of(wrong) is None


# --- rates


def test_as_many_as_the_rate_go_at_once_and_then_one_after_the_other():
    buckets, rate = RateBuckets(), Rate(3, 60.0)
    assert [buckets.take("a", rate, 100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 20.0, 20.0]
    assert buckets.take("b", rate, 100.0) == 0.0
    assert buckets.take("a", rate, 119.0) == 1.0
    assert buckets.take("a", rate, 120.0) == 0.0
    assert buckets.take("a", rate, 121.0) == 19.0
    assert [buckets.take("a", rate, 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 20.0]


def test_a_lower_rate_counts_at_once_and_asks_for_no_longer_wait_than_its_time():
    buckets = RateBuckets()
    for _ in range(100):
        buckets.take("a", Rate(100, 3600.0), 0.0)
    assert buckets.take("a", Rate(1, 60.0), 0.0) == 60.0


@given(
    st.integers(1, 20),
    st.sampled_from([1.0, 60.0, 3600.0]),
    st.lists(st.floats(0.0, 100.0), max_size=80),
)
def test_no_more_go_than_the_rate_and_a_burst_allow_and_who_waits_as_told_goes(count, seconds, pauses):
    buckets, rate, now = RateBuckets(), Rate(count, seconds), 0.0
    for went, pause in enumerate(pauses, 1):
        now += pause
        wait = buckets.take("a", rate, now)
        if wait:
            now += wait
            assert buckets.take("a", rate, now) == 0.0
        assert went <= count + now * count / seconds + 0.01


# --- the gateway's question


class Day:
    """A clock, and tokens that were used."""

    def __init__(self, now=1_795_273_324.5, used=0):
        self.now, self.used, self.monotonic = now, used, 0.0

    def limiter(self):
        return KeyLimiter(lambda _, key: self.used, lambda: self.monotonic, lambda: self.now)


def asks(limits, profile="chat", route=CHAT, limiter=None):
    caller = Caller("laptop", "inference", limits)
    return (limiter or Day().limiter()).refusal(caller, route, profile, NAMES)


def test_a_key_without_limits_may_do_everything():
    assert asks(NO_LIMITS) is None


@pytest.mark.parametrize(
    "models", [("chat",), ("gpt-oss-20b",), ("GPT-OSS-20B", "coder"), ("nobody", "chat")]
)
def test_a_model_may_be_named_as_clients_name_it(models):
    assert asks(KeyLimits(models)) is None
    refused = asks(KeyLimits(models), "small")
    assert (refused.status, refused.code) == (403, "key_model")
    assert "The key laptop may not use small." in refused.text
    assert models[0] in refused.text


@pytest.mark.parametrize(
    ("method", "path", "may"),
    [
        ("POST", "/v1/embeddings", False),
        ("POST", "/tokenize", False),
        ("POST", "/v1/of/tomorrow", False),
        ("GET", "/v1/stream", False),
        ("GET", "/slots", False),
        ("GET", "/props", False),
        ("POST", "/supervisor/unload", False),
        ("POST", "/models/load", False),
        ("GET", "/v1/models", True),  # lists those that it may use
        ("GET", "/v1/models/small", True),
        ("GET", "/models/sse", True),
        ("GET", "/health", True),
        ("GET", "/", True),
        ("GET", "/metrics", True),
    ],
)
def test_only_what_is_about_another_model_is_refused(method, path, may):
    assert (asks(KeyLimits(("chat",)), "small", route_of(method, path)) is None) == may


def test_a_key_for_a_model_that_is_not_on_offer_gets_none():
    assert asks(KeyLimits(("gone",)), "").code == "key_model"
    assert visible(KeyLimits(("gone",)), OFFERS, NAMES) == []


def test_a_key_sees_its_models_only():
    assert visible(KeyLimits(("gpt-oss-20b", "small")), OFFERS, NAMES) == [OFFERS[0], OFFERS[2]]
    assert visible(KeyLimits(rate=Rate(1, 1.0)), OFFERS, NAMES) == OFFERS


def test_tokens_of_today_end_until_tomorrow():
    day, limits = Day(used=999), KeyLimits(tokens_per_day=1000)
    assert asks(limits, limiter=day.limiter()) is None
    day.used = 1000
    refused = asks(limits, limiter=day.limiter())
    assert (refused.status, refused.code) == (429, "key_tokens")
    assert 0 < refused.retry_seconds <= 86_400
    assert "1000 tokens" in refused.text
    assert asks(limits, route=route_of("POST", "/tokenize"), limiter=day.limiter()) is None


def test_a_rate_counts_work_for_models_only_and_nothing_that_is_refused_otherwise():
    day = Day(used=5)
    limiter, limits = day.limiter(), KeyLimits(("chat",), Rate(1, 10.0), 5)
    assert asks(limits, limiter=limiter).code == "key_tokens"
    day.used = 0
    assert asks(limits, "coder", limiter=limiter).code == "key_model"
    assert asks(limits, route=route_of("POST", "/tokenize"), limiter=limiter) is None
    assert asks(limits, limiter=limiter) is None
    day.monotonic = 0.5
    refused = asks(limits, limiter=limiter)
    assert (refused.status, refused.code, refused.retry_seconds) == (429, "key_rate", 10)
