"""Which models live together: told as stories.  `test_residency_properties` shakes it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from supervisor.fleet.decisions import (
    BYTES_OF_ONE_USER,
    Asked,
    Beside,
    Evict,
    NoRoom,
    Resident,
    UsableMemory,
    WaitFor,
)
from supervisor.fleet.demand import Demand
from supervisor.fleet.residency import decide_all, one_more
from supervisor.profile.definition import GatewaySettings

GIB = 1024**3
TURNS = GatewaySettings(min_warm_seconds=30, max_wait_seconds=120)
CARD = UsableMemory({"CUDA0": 23 * GIB, "RAM": 60 * GIB})
NOW = 1000.0


def loaded(name, *, card=0.0, ram=0.0, since=0.0, seconds=10.0, **more):
    taken = {"CUDA0": round(card * GIB), "RAM": round(ram * GIB)}
    return Resident(name, taken, since=since, load_seconds=seconds, **more)


def asks(name="new", *, card=0.0, ram=0.0, since=NOW, **more):
    return Asked(name, {"CUDA0": round(card * GIB), "RAM": round(ram * GIB)}, since, **more)


def what(asked, *residents, memory=CARD, demand=None, now=NOW):
    return decide(asked, residents, memory, demand or Demand(), TURNS, now=now)


def decide(asked, residents, memory, demand, turns, *, now):
    return decide_all([asked], residents, memory, demand, turns, now=now)[asked.name]


def each(waiting, *residents, memory=CARD, demand=None, now=NOW):
    return decide_all(waiting, residents, memory, demand or Demand(), TURNS, now=now)


def used(*uses):
    """What is known after these requests: names and times."""
    demand = Demand()
    for name, when in sorted(uses, key=lambda use: use[1]):
        demand.note(name, when)
    return demand


# --- the account


def test_a_model_that_fits_is_loaded_next_to_the_others():
    assert what(asks(card=8), loaded("a", card=10), loaded("b", card=5)) == Beside()


def test_to_the_last_byte_fits_and_one_more_does_not():
    memory = UsableMemory({"CUDA0": 20})
    resident = Resident("a", {"CUDA0": 10})
    assert what(Asked("new", {"CUDA0": 10}, NOW), resident, memory=memory) == Beside()
    assert what(Asked("new", {"CUDA0": 11}, NOW), resident, memory=memory) == Evict(("a",))


def test_each_memory_counts_for_itself():
    assert what(asks(card=8, ram=50), loaded("a", card=10, ram=5)) == Beside()
    assert what(asks(card=8, ram=56), loaded("a", card=10, ram=5)) == Evict(("a",))


def test_only_what_has_the_memory_that_is_short_goes():
    residents = loaded("on_card", card=14), loaded("in_ram", ram=20, seconds=0.1)
    assert what(asks(card=14, ram=20), *residents) == Evict(("on_card",))


def test_a_gpu_that_shares_the_ram_has_to_fit_into_both():
    memory = UsableMemory({"RAM": 90 * GIB, "Vulkan0": 85 * GIB})
    big = Asked("big", {"Vulkan0": 60 * GIB, "RAM": 62 * GIB}, NOW)
    assert what(big, Resident("a", {"Vulkan0": 20 * GIB, "RAM": 28 * GIB}), memory=memory) == Beside()
    assert what(big, Resident("a", {"Vulkan0": 20 * GIB, "RAM": 29 * GIB}), memory=memory) == Evict(("a",))
    assert what(big, Resident("a", {"Vulkan0": 26 * GIB, "RAM": 27 * GIB}), memory=memory) == Evict(("a",))


def test_the_memory_of_one_that_leaves_is_waited_for_instead_of_taking_another():
    residents = loaded("a", card=10, phase="leaving"), loaded("b", card=10)
    assert what(asks(card=10), *residents) == WaitFor(("a",), None)
    assert what(asks(card=3), *residents) == Beside()


def test_one_that_is_loading_counts_with_all_it_will_take():
    loading = loaded("a", card=10, phase="loading", waited_since=NOW - 5)
    assert what(asks(card=13), loading) == Beside()
    assert what(asks(card=14), loading) == WaitFor(("a",), None)


def test_one_that_is_already_coming_is_waited_for():
    assert what(asks("a", card=10), loaded("a", card=10, phase="loading")) == WaitFor(("a",), None)


def test_one_that_is_leaving_comes_back_when_it_is_gone():
    assert what(asks("a", card=10), loaded("a", card=10, phase="leaving")) == WaitFor(("a",), None)
    residents = loaded("a", card=10, phase="leaving"), loaded("b", card=20)
    assert what(asks("a", card=10), *residents) == Evict(("b",))


def test_what_takes_none_of_a_memory_does_not_mind_that_it_is_overfull():
    full = loaded("a", card=30)  # another program has taken some since
    assert what(asks(ram=1), full) == Beside()


def test_with_unknown_bytes_it_takes_the_place_of_all_but_pinned_ones():
    unknown = Asked("new", None, NOW)
    residents = loaded("a", card=1), loaded("b", ram=1), loaded("c", card=1, pinned=True)
    assert what(unknown, *residents) == Evict(("a", "b"))
    assert what(unknown, residents[2]) == Beside()


def test_one_with_unknown_bytes_makes_way_for_any_other_unless_it_is_pinned():
    assert what(asks(card=1), Resident("a", None), loaded("b", card=1)) == Evict(("a",))
    assert what(asks(card=1), Resident("a", None, pinned=True)) == Beside()


def test_two_do_not_share_a_device_of_which_nobody_knows_how_much_there_is():
    memory = UsableMemory({"RAM": 60 * GIB})
    residents = loaded("a", card=1, ram=1), loaded("b", ram=1)
    assert what(asks(card=1, ram=1), *residents, memory=memory) == Evict(("a",))
    assert what(asks(ram=1), *residents, memory=memory) == Beside()


def test_a_worker_serves_one_model_at_a_time_and_a_pinned_one_keeps_it():
    worker = "mini2.local:50052"
    memory = UsableMemory({"RAM": 60 * GIB, worker: BYTES_OF_ONE_USER})
    new = Asked("new", {worker: BYTES_OF_ONE_USER, "RAM": GIB}, NOW)
    user = Resident("a", {worker: BYTES_OF_ONE_USER, "RAM": GIB})
    assert what(new, user, loaded("b", ram=1), memory=memory) == Evict(("a",))
    assert what(asks(ram=1), user, memory=memory) == Beside()
    assert what(new, replace(user, pinned=True), memory=memory) == NoRoom(
        "new needs mini2.local:50052 for itself, which a uses and is pinned.",
        "goss-supervisor unload a",
    )


def test_alone_leaves_only_pinned_ones():
    residents = loaded("a", card=1), loaded("b", ram=1, pinned=True), loaded("c", ram=1)
    assert what(asks(card=1, since=None, alone=True), *residents) == Evict(("a", "c"))
    assert what(asks("a", card=1, since=None, alone=True), *residents) == Evict(("c",))
    assert what(asks("a", card=1, since=None, alone=True), *residents[:2]) == Beside()


def test_what_comes_while_one_is_to_be_alone_waits_until_it_is_loaded():
    """Otherwise the one that is to be alone evicts it, and the next request loads it again, without end."""
    alone, comes = asks("a", card=1, since=None, alone=True), asks("b", ram=1)
    there, leaves = loaded("a", card=1), loaded("c", ram=1, phase="leaving")
    assert each([comes, alone], there, leaves) == {"a": WaitFor(("c",), None), "b": WaitFor(("a",), None)}
    assert each([comes, alone], there) == {"a": Beside(), "b": WaitFor(("a",), None)}
    loads = replace(there, phase="loading")  # for somebody who does not need it alone
    assert each([comes, alone], loads) == dict.fromkeys("ab", WaitFor(("a",), None))
    assert each([comes], there) == {"b": Beside()}


# --- what cannot be


def test_what_is_larger_than_a_memory_is_refused_with_the_figures():
    assert what(asks(card=24, ram=1)) == NoRoom(
        "new needs 24.0 GiB of CUDA0, where 23.0 GiB may be used.",
        "goss-supervisor plan new shows what would make it smaller",
    )


def test_what_only_pinned_ones_keep_out_is_refused_and_they_are_named():
    residents = loaded("a", card=6, pinned=True), loaded("b", card=2, pinned=True), loaded("c", card=9)
    assert what(asks(card=16), *residents) == NoRoom(
        "new needs 16.0 GiB of CUDA0, where 23.0 GiB may be used and 8.0 GiB of that is pinned (a, b).",
        "goss-supervisor unload a; goss-supervisor unload b",
    )
    assert what(asks(card=15), *residents) == Evict(("c",))


def test_a_refused_one_keeps_nobody_from_being_loaded():
    assert each([asks("huge", card=24, since=1), asks("small", card=20, since=2)]) == {
        "huge": what(asks("huge", card=24)),
        "small": Beside(),
    }


# --- who goes


def test_no_more_go_than_are_needed():
    residents = loaded("a", card=4, seconds=1), loaded("b", card=9), loaded("c", card=9)
    demand = used(("a", 100), ("b", 200), ("c", 300))
    assert what(asks(card=9), *residents, demand=demand) == Evict(("b",))  # a would not be enough


def test_several_small_ones_go_before_one_that_takes_long_to_load():
    residents = (
        loaded("big", card=14, seconds=70),
        loaded("b", card=4, seconds=2),
        loaded("c", card=5, seconds=2),
    )
    assert what(asks(card=9), *residents) == Evict(("b", "c"))


def test_one_goes_before_several_whose_loads_together_take_longer():
    residents = (
        loaded("big", card=14, seconds=7),
        loaded("b", card=4, seconds=4),
        loaded("c", card=5, seconds=4),
    )
    assert what(asks(card=9), *residents) == Evict(("big",))


def test_of_two_asked_for_at_the_same_time_the_one_stays_that_is_used_more_often():
    residents = loaded("steady", card=10), loaded("visited", card=10)
    demand = used(("visited", 0), ("visited", 960), *(("steady", 60 * n) for n in range(17)))
    assert what(asks(card=10), *residents, demand=demand) == Evict(("visited",))


def test_a_load_that_was_never_timed_is_guessed_from_its_bytes():
    residents = Resident("a", {"CUDA0": 12 * GIB}), Resident("b", {"CUDA0": 8 * GIB})
    assert what(asks(card=8), *residents) == Evict(("b",))


def test_one_that_may_go_soon_is_waited_for_if_that_costs_less_than_another_load():
    new, dear = loaded("new_one", card=10, since=NOW - 20, seconds=2), loaded("dear", card=10, seconds=1000)
    demand = used(("dear", NOW - 60), ("new_one", NOW - 20))
    assert what(asks(card=10), new, dear, demand=demand) == WaitFor(("new_one",), NOW + 10)
    cheap = loaded("cheap", card=10, seconds=9)  # its loss costs less than ten seconds
    assert what(asks(card=10), new, cheap, demand=demand) == Evict(("cheap",))


def test_nobody_waits_longer_than_max_wait_to_save_another_load():
    """The cheap one is loaded again and again, so it is never warm; at last the dear one goes."""
    new, dear = loaded("new_one", card=10, since=NOW - 20, seconds=2), loaded("dear", card=10, seconds=1000)
    demand = used(("dear", NOW - 60), ("new_one", NOW - 20))
    assert what(asks(card=10, since=NOW - 119), new, dear, demand=demand) == WaitFor(("new_one",), NOW + 1)
    assert what(asks(card=10, since=NOW - 120), new, dear, demand=demand) == Evict(("dear",))


def test_more_candidates_than_all_sets_can_be_tried_of_still_end_in_a_set_without_a_needless_one():
    residents = [loaded(f"m{n:02}", card=1, seconds=n + 1) for n in range(20)]
    assert what(asks(card=6), *residents) == Evict(("m00", "m01", "m02"))
    residents[19] = loaded("m19", card=4, seconds=4.5)
    memory = UsableMemory({"CUDA0": 23 * GIB})
    assert what(asks(card=4), *residents, memory=memory) == Evict(("m19",))


# --- turns


def test_an_idle_model_is_kept_until_it_has_been_warm():
    resident = loaded("a", card=20, since=NOW - 10)
    assert what(asks(card=20), resident) == WaitFor(("a",), NOW + 20)
    assert what(asks(card=20), resident, now=NOW + 20) == Evict(("a",))


def test_nobody_waits_longer_for_a_warm_model_than_for_a_busy_one():
    turns = GatewaySettings(min_warm_seconds=500, max_wait_seconds=120)
    residents, asked = [loaded("a", card=20, since=NOW - 10)], asks(card=20)
    assert decide(asked, residents, CARD, Demand(), turns, now=NOW) == WaitFor(("a",), NOW + 120)
    assert decide(asked, residents, CARD, Demand(), turns, now=NOW + 120) == Evict(("a",))


def test_a_busy_model_is_drained_only_after_the_longest_wait():
    resident = loaded("a", card=20, is_busy=True)
    assert what(asks(card=20), resident) == WaitFor(("a",), NOW + 120)
    assert what(asks(card=20), resident, now=NOW + 119.9) == WaitFor(("a",), NOW + 120)
    assert what(asks(card=20), resident, now=NOW + 120) == Evict(("a",))


def test_the_longest_wait_begins_anew_for_a_model_that_has_just_got_its_turn():
    resident = loaded("a", card=20, is_busy=True, since=NOW - 5)
    assert what(asks(card=20, since=NOW - 500), resident) == WaitFor(("a",), NOW + 115)


def test_a_busy_model_stays_while_an_idle_one_will_do_even_after_the_longest_wait():
    residents = loaded("busy", card=10, is_busy=True, seconds=1), loaded("idle", card=10, seconds=500)
    assert what(asks(card=10, since=NOW - 500), *residents) == Evict(("idle",))


def test_one_that_is_loading_for_nobody_makes_way_after_the_longest_wait():
    loading = loaded("a", card=20, phase="loading")
    assert what(asks(card=20), loading) == WaitFor(("a",), NOW + 120)
    assert what(asks(card=20), loading, now=NOW + 120) == Evict(("a",))


def test_a_load_is_not_broken_off_while_an_idle_one_will_do():
    residents = loaded("coming", card=10, phase="loading", seconds=1), loaded("idle", card=10, seconds=500)
    assert what(asks(card=10, since=NOW - 500), *residents) == Evict(("idle",))


def test_one_that_somebody_waits_for_who_came_earlier_stays():
    earlier = loaded("a", card=20, phase="loading", waited_since=NOW - 1)
    assert what(asks(card=20), earlier, now=NOW + 900) == WaitFor(("a",), None)
    later = loaded("a", card=20, phase="loading", waited_since=NOW + 1)
    assert what(asks(card=20), later, now=NOW + 900) == Evict(("a",))


def test_a_persons_load_has_waited_long_enough_but_takes_idle_ones_first():
    residents = (
        loaded("busy", card=10, is_busy=True, since=NOW),
        loaded("idle", card=10, since=NOW, seconds=99),
    )
    assert what(asks(card=10, since=None), *residents) == Evict(("idle",))
    assert what(asks(card=15, since=None), *residents) == Evict(("busy", "idle"))
    assert what(asks(card=15, since=None), loaded("p", card=10, pinned=True)) == NoRoom(
        "new needs 15.0 GiB of CUDA0, where 23.0 GiB may be used and 10.0 GiB of that is pinned (p).",
        "goss-supervisor unload p",
    )


def test_turns_concern_only_those_that_are_in_each_others_way():
    """Two that alternate on the card do not keep a third one from the RAM."""
    residents = loaded("a", card=20, is_busy=True, since=NOW), loaded("c", ram=30)
    decisions = each([asks("b", card=20), asks("d", ram=50, since=NOW + 1)], *residents, now=NOW + 2)
    assert decisions == {"b": WaitFor(("a",), NOW + 120), "d": Evict(("c",))}


# --- priority


def test_lower_priorities_go_first_whatever_they_cost():
    residents = loaded("high", card=10, seconds=1, priority=1), loaded("low", card=10, seconds=500)
    assert what(asks(card=10), *residents) == Evict(("low",))


def test_a_request_waits_for_a_lower_priority_rather_than_taking_a_higher_one():
    residents = loaded("high", card=10, priority=1), loaded("low", card=10, since=NOW - 10)
    assert what(asks(card=10), *residents) == WaitFor(("low",), NOW + 20)


def test_a_higher_priority_does_not_wait_until_a_lower_one_has_been_warm():
    resident = loaded("low", card=20, since=NOW - 1)
    assert what(asks(card=20, priority=1), resident) == Evict(("low",))


def test_a_higher_priority_in_use_is_not_taken_away_by_a_request():
    busy = loaded("high", card=20, priority=1, is_busy=True)
    assert what(asks(card=20), busy, now=NOW + 10_000) == WaitFor(("high",), None)
    idle = loaded("high", card=20, priority=1)
    just_used = used(("high", NOW - 10))
    assert what(asks(card=20), idle, demand=just_used) == WaitFor(("high",), NOW + 20)
    assert what(asks(card=20), idle, demand=just_used, now=NOW + 20) == Evict(("high",))


def test_a_persons_load_is_not_bound_by_priority():
    assert what(asks(card=20, since=None), loaded("high", card=20, priority=1, is_busy=True)) == Evict(
        ("high",)
    )


# --- several that wait


def test_those_that_wait_take_their_turns_by_person_priority_and_arrival():
    waiting = [
        asks("late", since=3),
        asks("early", since=1),
        asks("prior", since=4, priority=2),
        asks("person", since=None),
    ]
    assert list(each(waiting)) == ["person", "prior", "early", "late"]


def test_two_that_fit_together_are_loaded_together_and_two_that_do_not_one_after_the_other():
    assert each([asks("a", card=10), asks("b", card=10)]) == {"a": Beside(), "b": Beside()}
    assert each([asks("a", card=20), asks("b", card=20)]) == {"a": Beside(), "b": WaitFor(("a",), None)}


def test_two_do_not_both_get_what_is_free_while_a_third_one_leaves():
    leaving = loaded("x", card=10, phase="leaving")
    decisions = each([asks("a", card=6), asks("b", card=8, since=NOW + 1)], leaving, now=NOW + 2)
    assert decisions == {"a": Beside(), "b": WaitFor(("x",), None)}


def test_what_an_earlier_one_needs_is_kept_for_it():
    """A waits until x may be drained, and B would fit until then, but not next to A."""
    busy = loaded("x", card=15, is_busy=True)
    waiting = [asks("a", card=20), asks("b", card=5, since=NOW + 1), asks("c", card=3, since=NOW + 2)]
    assert each(waiting, busy, now=NOW + 3) == {
        "a": WaitFor(("x",), NOW + 120),
        "b": WaitFor(("a",), None),
        "c": Beside(),
    }


def test_room_that_is_made_for_one_is_not_given_to_the_next():
    residents = loaded("x", card=10), loaded("y", card=10)
    decisions = each([asks("a", card=10), asks("b", card=3, since=NOW + 1)], *residents, now=NOW + 2)
    assert decisions == {"a": Evict(("x",)), "b": Beside()}
    decisions = each([asks("a", card=13), asks("b", card=3, since=NOW + 1)], *residents, now=NOW + 2)
    assert decisions == {"a": Evict(("x",)), "b": Evict(("y",))}


def test_who_waits_for_a_higher_priority_in_use_keeps_nothing_free():
    busy = loaded("high", card=15, priority=1, is_busy=True)
    decisions = each([asks("a", card=20), asks("b", card=5, since=NOW + 1)], busy, now=NOW + 3)
    assert decisions == {"a": WaitFor(("high",), None), "b": Beside()}


def test_two_that_fit_in_the_place_of_one_evict_it_once():
    waiting = [asks("a", card=10), asks("b", card=10, since=NOW + 1)]
    assert each(waiting, loaded("x", card=20), now=NOW + 2) == {
        "a": Evict(("x",)),
        "b": WaitFor(("x",), None),
    }


def test_room_that_a_higher_priority_leaves_is_kept_for_whom_it_was_made():
    idle = loaded("high", card=15, priority=1)
    decisions = each([asks("a", card=20), asks("b", card=5, since=NOW + 1)], idle, now=NOW + 3)
    assert decisions == {"a": Evict(("high",)), "b": WaitFor(("a",), None)}


def test_two_clients_that_alternate_leave_each_model_its_time():
    """Each asks for its own model again as soon as it has its answer: for an hour."""
    now, there, wants, loads = 0.0, None, {"a": 0.0, "b": 0.0}, []
    while now < 3600:
        name = min((name for name in wants if name != there), key=lambda name: wants[name])
        residents = [loaded(there, card=20, since=loads[-1], is_busy=True)] if there else []
        match what(asks(name, card=20, since=wants[name]), *residents, now=now):
            case WaitFor(_, until):
                now = until
                wants[there] = now  # answered all the time meanwhile
            case Evict(_):
                there = None
            case Beside():
                there, now = name, now + 5
                loads.append(now)
    assert len(loads) <= 3600 / 120
    assert max(later - earlier for earlier, later in pairwise(loads)) <= 130


# --- a load that died of memory


def test_after_a_load_died_of_memory_the_cheapest_idle_one_with_the_same_memory_goes():
    residents = [
        loaded("dear", card=5, seconds=60),
        loaded("cheap", card=5, seconds=2),
        loaded("elsewhere", ram=5, seconds=1),
        loaded("busy", card=5, seconds=1, is_busy=True),
        loaded("pinned", card=5, seconds=1, pinned=True),
        loaded("going", card=5, seconds=1, phase="leaving"),
    ]
    assert one_more(asks(card=5), residents, CARD, Demand(), now=NOW) == Evict(("cheap",))
    assert one_more(asks(card=5), residents[2:], CARD, Demand(), now=NOW) is None
    assert one_more(Asked("new", None, NOW), residents[2:], CARD, Demand(), now=NOW) == Evict(("elsewhere",))


@pytest.mark.parametrize("seconds", [1.0, 1e6])
def test_the_same_situation_gives_the_same_decision_in_any_order(seconds):
    residents = [loaded(name, card=7, seconds=seconds) for name in "cab"]
    assert what(asks(card=7), *residents) == what(asks(card=7), *residents[::-1]) == Evict(("a",))
