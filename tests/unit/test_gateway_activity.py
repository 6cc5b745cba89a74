"""The last requests: numbered, bounded, followed, and without what was said in them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace

from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.telemetry.activity import Activity, RequestRecord

from ..fakes.asked import a_chat

ONE = a_chat()


def numbers(activity, *args):
    return [request.number for request in activity.since(*args)]


def test_requests_are_numbered_from_one_as_they_end():
    activity = Activity()
    for _ in range(3):
        activity.add(ONE)
    assert numbers(activity, 0) == [1, 2, 3]
    assert numbers(activity, 2) == [3]
    assert numbers(activity, 3) == []


@given(st.integers(0, 30), st.integers(-5, 40), st.none() | st.integers(-5, 40))
def test_only_the_last_are_kept_and_only_the_last_of_those_given(count, number, last):
    activity = Activity(size=10)
    for _ in range(count):
        activity.add(ONE)
    expected = [each for each in range(1, count + 1) if each > max(number, count - 10)]
    assert numbers(activity, number, last) == (
        expected if last is None else expected[max(len(expected) - max(last, 0), 0) :]
    )


def test_who_follows_is_woken_once_by_each_and_misses_none():
    async def story():
        activity, seen = Activity(), []

        async def follow():
            while len(seen) < 100:
                changed = activity.changed
                seen.extend(numbers(activity, seen[-1] if seen else 0))
                if len(seen) < 100:
                    await changed.wait()

        following = asyncio.ensure_future(follow())
        for number in range(100):
            activity.add(ONE)
            if number % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(following, 5.0)
        return seen

    assert asyncio.run(story()) == list(range(1, 101))


def test_a_model_is_a_name_and_no_place_for_a_text():
    activity = Activity()
    activity.add(replace(ONE, model="\x1b[2Jsay: " + "a long secret story " * 50, note="a\nb\u202e"))
    [kept] = activity.since(0)
    assert len(kept.model) <= 80
    assert kept.model.startswith("[2Jsay: a long")
    assert kept.note == "ab"


@given(st.text(), st.text())
def test_what_is_kept_is_short_and_printable(model, note):
    activity = Activity()
    activity.add(replace(ONE, model=model, note=note))
    [kept] = activity.since(0)
    assert kept.model.isprintable()
    assert kept.note.isprintable()
    assert len(kept.model) <= 80
    assert len(kept.note) <= 200


def test_a_request_is_json_with_all_its_fields():
    told = json.loads(json.dumps(asdict(ONE)))
    assert RequestRecord(**told) == ONE
    assert told["prompt_tokens"] is None
