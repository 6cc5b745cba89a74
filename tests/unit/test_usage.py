"""What is added up for each key and model, and under which day."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.api.routes import WORK, route_of
from supervisor.gateway.telemetry.usage_tally import (
    OTHERS,
    UsagePlace,
    UsageSums,
    UsageTally,
    day_of,
    place_among,
    seconds_until_tomorrow,
)

from ..fakes.asked import a_chat

CHAT = a_chat(seconds=3.0, prompt_tokens=1000, cached_tokens=900, output_tokens=64)
TODAY = day_of(CHAT.at + CHAT.seconds)


def tally(*requests):
    made = UsageTally()
    for request in requests:
        made.note(request)
    return made


@pytest.fixture
def berlin(monkeypatch):
    if sys.platform == "win32":
        pytest.skip("Windows takes its time zone from nowhere but its settings")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_requests_tokens_and_time_are_added_up_by_key_and_profile():
    taken = tally(CHAT, CHAT, replace(CHAT, caller="phone"), replace(CHAT, profile="other")).take()
    assert taken == {
        UsagePlace(TODAY, "laptop", "demo"): UsageSums(2, 0, 0, 2000, 1800, 128, 6.0),
        UsagePlace(TODAY, "phone", "demo"): UsageSums(1, 0, 0, 1000, 900, 64, 3.0),
        UsagePlace(TODAY, "laptop", "other"): UsageSums(1, 0, 0, 1000, 900, 64, 3.0),
    }


NO_TOKENS = {"prompt_tokens": None, "cached_tokens": None, "output_tokens": None}


@pytest.mark.parametrize(
    ("changes", "failed", "uncounted", "knows"),
    [
        ({}, 0, 0, True),
        ({"output_tokens": None}, 0, 0, True),  # an embedding has none
        (NO_TOKENS, 0, 1, False),
        ({**NO_TOKENS, "result": "cancelled", "partial_tokens": 7}, 0, 1, True),
        ({**NO_TOKENS, "result": "cancelled"}, 0, 1, False),
        ({**NO_TOKENS, "result": "cancelled", "status": None}, 0, 1, False),
        ({**NO_TOKENS, "result": "broken"}, 1, 1, False),
        ({**NO_TOKENS, "result": "refused", "status": 429}, 1, 0, True),
        ({**NO_TOKENS, "status": 400}, 1, 0, True),
    ],
)
def test_what_failed_and_whose_tokens_nobody_knows_is_counted(changes, failed, uncounted, knows):
    (sums,) = tally(replace(CHAT, **changes)).take().values()
    assert (sums.requests, sums.failed, sums.uncounted, sums.knows_tokens) == (1, failed, uncounted, knows)


def test_tokens_are_known_where_those_of_one_request_are():
    (sums,) = tally(CHAT, replace(CHAT, **NO_TOKENS)).take().values()
    assert (sums.uncounted, sums.knows_tokens, sums.tokens) == (1, True, 1064)
    (sums,) = tally(replace(CHAT, **NO_TOKENS), replace(CHAT, **NO_TOKENS, status=429)).take().values()
    assert not sums.knows_tokens


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "/v1/models", "method": "GET"},
        {"endpoint": "ui", "method": "GET"},
        {"endpoint": "/v1/*", "method": "GET"},
        {"endpoint": "/tokenize"},
        {"endpoint": "/v1/messages/count_tokens"},
        {"endpoint": "/slots/*"},
        {"method": "OPTIONS"},
    ],
)
def test_what_is_no_work_for_a_model_does_not_count(changes):
    assert not tally(replace(CHAT, **changes)).take()


def test_work_is_what_the_gateway_calls_so():
    assert {label for label in WORK if not route_of("POST", label).generates} == {"/v1/*"}
    assert route_of("POST", "/v1/of/tomorrow").label in WORK
    assert route_of("POST", "/v1/of/tomorrow").generates


def test_of_an_answer_that_was_given_up_what_came_counts():
    made = tally(replace(CHAT, **NO_TOKENS, result="cancelled", partial_tokens=7))
    assert made.tokens_on(TODAY, "laptop") == 7
    (sums,) = made.take().values()
    assert (sums.output_tokens, sums.prompt_tokens, sums.uncounted) == (7, 0, 1)


def test_each_run_of_an_operation_of_ours_counts_under_one_name():
    made = tally(*(replace(CHAT, caller=f"engine update (pid {pid})") for pid in (1, 22)))
    assert {place.key: sums.requests for place, sums in made.take().items()} == {"(engine update)": 2}


# --- days


def test_a_request_counts_on_the_local_day_on_which_it_ended(berlin):
    at = 1_798_757_990.0  # 2026-12-31 23:59:50 in Berlin
    made = tally(
        *(replace(CHAT, at=at, seconds=seconds) for seconds in (5.0, 9.9, 10.0, 86_409.9, 86_410.0, 1.0))
    )
    assert {place.day: sums.requests for place, sums in made.take().items()} == {
        "2026-12-31": 3,
        "2027-01-01": 2,
        "2027-01-02": 1,
    }


@pytest.mark.parametrize(
    ("local", "hours"),
    [
        ((2026, 11, 30, 23, 0), 1.0),
        ((2026, 12, 31, 0, 0), 24.0),
        ((2026, 10, 25, 0, 0), 25.0),  # clocks go back
        ((2026, 3, 29, 0, 0), 23.0),
    ],
)
def test_tomorrow_begins_at_midnight_here(berlin, local, hours):
    now = time.mktime((*local, 0, 0, 0, -1))
    assert seconds_until_tomorrow(now) == hours * 3600


# --- on the way to the file


def test_nothing_is_counted_twice_or_lost_on_the_way_to_the_file():
    made = tally(CHAT)
    made.take()
    made.note(CHAT)
    assert (made.unwritten, made.tokens_on(TODAY, "laptop")) == (2, 2128)
    made.give_back()
    assert (made.unwritten, made.tokens_on(TODAY, "laptop")) == (2, 2128)
    made.take()
    made.note(CHAT)
    made.written(TODAY, {"laptop": 5000})
    assert (made.unwritten, made.tokens_on(TODAY, "laptop")) == (1, 6064)
    assert made.tokens_on("2027-01-01", "laptop") == made.tokens_on(TODAY, "phone") == 0


def test_what_metrics_shows_goes_on_when_all_is_written():
    made = tally(CHAT)
    made.take()
    made.written(TODAY, {})
    made.note(CHAT)
    assert made.since_start[UsagePlace("", "laptop", "demo")].requests == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=60))
def test_names_that_are_too_many_go_to_others_and_nothing_is_lost(pairs):
    known = {}
    for key, model in pairs:
        place = place_among(known, UsagePlace(TODAY, key, model), most=3)
        known[place] = known.get(place, 0) + 1
    assert sum(known.values()) == len(pairs)
    assert len(known) <= 7
    assert len([place for place in known if place.model != OTHERS]) <= 3
