"""A switch that a client's request asked for changes the model, and nothing of the door that all share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.daemon.guests import Guests
from supervisor.errors import StartFailed
from supervisor.plan.door import keep_door
from supervisor.plan.types import Door, LaunchPlan, Offer
from supervisor.profile.definition import GatewaySettings

CHOSEN, SMALL, OTHER = Offer("chosen", ("big", "chosen")), Offer("small", ("tiny",)), Offer("other", ("o",))
RUNNING = Door(
    "0.0.0.0",
    8080,
    GatewaySettings(max_queue=7, reasoning_effort="low", set_params={"top_k": 1}, strip_params=("stop",)),
    (CHOSEN, SMALL, OTHER),
    keys=("digest",),
    tls_certificate="/c.pem",
    tls_key="/k.pem",
)
NEW = Door(
    "127.0.0.1",
    9000,
    GatewaySettings(max_queue=9, reasoning_effort="high", set_params={"top_k": 2}, strip_params=("seed",)),
    (Offer("small", ("its-own-name",)),),
)


def plan_of(profile, door):
    return LaunchPlan(profile, ("x",), {}, "/run/x.sock", 0, "b1", "cpu", "", "m", profile, door=door)


RUNS, COMES = plan_of("chosen", RUNNING), plan_of("small", NEW)


def test_the_address_the_keys_and_the_limits_stay():
    door = keep_door(RUNS, COMES).door
    assert replace(door, settings=RUNNING.settings, offers=RUNNING.offers) == RUNNING
    assert door.settings.max_queue == 7


def test_what_is_done_to_requests_is_the_new_profiles():
    settings = keep_door(RUNS, COMES).door.settings
    assert (settings.reasoning_effort, settings.set_params, settings.strip_params) == (
        "high",
        {"top_k": 2},
        ("seed",),
    )


def test_the_new_profile_is_the_first_of_the_same_offers_under_the_same_names():
    assert keep_door(RUNS, COMES).door.offers == (SMALL, CHOSEN, OTHER)


def test_the_way_back_leads_to_the_order_that_was():
    there = keep_door(RUNS, COMES)
    back = keep_door(there, RUNS)
    assert back.door.offers == (CHOSEN, SMALL, OTHER)
    assert back.door == RUNNING


def test_a_profile_that_nobody_offers_brings_its_own_offer():
    stranger = plan_of("stranger", replace(NEW, offers=(Offer("stranger", ("s",)),)))
    assert keep_door(RUNS, stranger).door.offers == (Offer("stranger", ("s",)), CHOSEN, SMALL, OTHER)


def test_what_is_launched_is_the_new_plan():
    assert replace(keep_door(RUNS, COMES), door=NEW) == COMES


def test_the_plan_that_takes_less_memory_comes_in_by_the_same_door():
    less = replace(COMES, digest="less")
    kept = keep_door(RUNS, replace(COMES, adjusted=less))
    assert kept.adjusted.door == kept.door


def test_a_profile_without_a_gateway_is_refused_with_what_to_do():
    with pytest.raises(StartFailed, match="gateway: off") as error:
        keep_door(RUNS, plan_of("small", None))
    assert "gateway.models" in error.value.hint


def test_where_there_is_no_gateway_nothing_is_kept():
    assert keep_door(plan_of("chosen", None), COMES) is COMES


# --- who is a guest, and who is at home


ANEW = replace(NEW, port=9001)


def is_behind(plan, door):
    return (plan.door.host, plan.door.port) == (door.host, door.port)


def test_what_a_person_starts_has_its_own_door():
    assert Guests().admit(RUNS, COMES, by_request=False) is COMES
    assert Guests().admit(None, COMES, by_request=True) is COMES


def test_a_guest_that_is_restarted_or_reloaded_stays_behind_the_same_door():
    guests = Guests()
    guest = guests.admit(RUNS, COMES, by_request=True)
    assert is_behind(guest, RUNNING)
    again = guests.admit(guest, plan_of("small", ANEW), by_request=False)
    assert is_behind(again, RUNNING)


def test_the_host_that_is_back_takes_its_own_door_as_it_is_now():
    guests = Guests()
    guest = guests.admit(RUNS, COMES, by_request=True)
    back = guests.admit(guest, RUNS, by_request=True)
    moved = plan_of("chosen", replace(RUNNING, port=8081))
    assert guests.admit(back, moved, by_request=False) is moved


def test_a_guest_after_a_guest_is_behind_the_door_of_the_host():
    guests = Guests()
    guest = guests.admit(RUNS, COMES, by_request=True)
    second = guests.admit(guest, plan_of("other", ANEW), by_request=True)
    assert is_behind(second, RUNNING)
    back = guests.admit(second, RUNS, by_request=True)
    assert guests.admit(back, RUNS, by_request=False) is RUNS


def test_a_guest_that_could_not_come_leaves_the_host_at_home():
    guests = Guests()
    guests.admit(RUNS, COMES, by_request=True)
    moved = plan_of("chosen", replace(RUNNING, port=8081))
    assert guests.admit(RUNS, moved, by_request=False) is moved


def test_a_guest_stays_one_when_what_was_to_replace_it_could_not_come():
    guests = Guests()
    guest = guests.admit(RUNS, COMES, by_request=True)
    guests.admit(
        guest, plan_of("other", ANEW), by_request=False
    )  # its address was taken, or its model broken
    guests.admit(guest, RUNS, by_request=True)  # and the host did not come up again
    assert is_behind(guests.admit(guest, plan_of("small", ANEW), by_request=False), RUNNING)


def test_who_was_a_guest_is_at_home_behind_its_own_door():
    guests = Guests()
    guest = guests.admit(RUNS, COMES, by_request=True)
    home = guests.admit(guest, plan_of("other", ANEW), by_request=False)
    own = guests.admit(home, COMES, by_request=False)
    moved = plan_of("small", ANEW)
    assert own is COMES
    assert guests.admit(own, moved, by_request=False) is moved
