"""Who gets memory: loads that go next to the others, in their place, later, or not at all; with real processes."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field, replace

import pytest

from supervisor.errors import DoesNotFit
from supervisor.fleet.admission import Admission
from supervisor.fleet.fleet import Fleet
from supervisor.home.places import make_folders
from supervisor.paths import Paths
from supervisor.plan.listen import Offer
from supervisor.profile.definition import GatewaySettings
from supervisor.server.instance import Instance
from supervisor.server.lifecycle_table import State

from ..fakes.launching import BOUND_SECONDS, until
from ..fakes.loops import run_story
from .test_server import plan

ONE_AT_A_TIME = GatewaySettings(max_loaded=1, min_warm_seconds=0)


@dataclass
class Clients:
    """``was_asked`` whether somebody is in use: a load has looked for room, and found none."""

    settings: GatewaySettings = ONE_AT_A_TIME
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    busy: set[str] = field(default_factory=set)
    waiting: dict[str, float] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)

    def is_busy(self, name):
        if name in self.busy:
            self.was_asked.set()
        return name in self.busy

    def waiting_since(self, profile):
        return self.waiting.get(profile)

    def offer_of(self, profile):
        return self.offers.get(profile)


class Home:
    """A fleet, and what is admitted to it."""

    def __init__(self, tmp_path):
        self.tmp_path, self.clients, self.answered = tmp_path, Clients(), 0
        self.paths = Paths.under(tmp_path / "home")
        make_folders(self.paths)
        self.fleet = Fleet(self.make)
        self.admission = Admission(self.fleet, lambda: self.clients)

    def make(self, name, next_id):
        return Instance(
            name, self.paths, on_change=self.changed, under_way=lambda: self.answered, next_id=next_id
        )

    def changed(self):
        for instance in self.fleet:
            self.admission.changed(instance)

    async def load(self, profile, *, by_request=False, alone=False, main=False, **faults):
        """The outcome."""
        instance = self.fleet.main if main else self.fleet.ensure(profile)
        made = replace(plan(self.tmp_path, name=profile, **faults), needs={"RAM": 1024})
        begin = functools.partial(instance.server.start, made)
        return await (await self.admission.launch(instance, made, begin, by_request=by_request, alone=alone))

    async def wait_for(self, profile, *busy):
        """A request waits for this profile, whose load waits for servers that are busy."""
        self.clients.busy, self.clients.waiting = {*busy}, {profile: asyncio.get_running_loop().time()}
        loading = asyncio.create_task(self.load(profile, by_request=True))
        await until(lambda: profile in {each.profile for each in self.admission.awaited})
        return loading

    def keep_memory_of(self, profile):
        """What is set when somebody waits for the memory of this server, and what gives it back."""
        asked, freed = asyncio.Event(), asyncio.Event()

        async def released(_):
            asked.set()
            await freed.wait()

        self.fleet.get(profile).server.released = released
        return asked, freed

    @property
    def states(self):
        return {each.profile: each.server.state for each in self.fleet if each.profile}


def promise(story):
    """Run one async story with a home of its own, within a bound."""

    @functools.wraps(story)
    def run(tmp_path):
        async def bounded():
            async with asyncio.timeout(BOUND_SECONDS * 2):
                home = Home(tmp_path)
                working = asyncio.create_task(home.fleet.run())
                try:
                    await story(home)
                finally:
                    await home.fleet.stop(now=True)
                    home.fleet.close()
                    working.cancel()

        run_story(bounded())

    del run.__wrapped__  # pytest would look for the story's own argument
    return run


@promise
async def test_where_there_is_room_a_model_is_loaded_beside_the_others(home):
    home.clients.settings = GatewaySettings()
    for profile in "pqr":
        assert (await home.load(profile)).result == "ready"
    assert home.states == dict.fromkeys("pqr", State.READY)
    assert [home.fleet.get(name).placement for name in "pqr"] == [
        "",
        "loaded next to p",
        "loaded next to p, q",
    ]


@promise
async def test_where_there_is_none_an_idle_one_goes_and_both_say_why(home):
    await home.load("p")
    assert (await home.load("q")).result == "ready"
    assert home.states == {"p": State.SLEEPING, "q": State.READY}
    assert [home.fleet.get(name).placement for name in "pq"] == ["unloaded for q", "loaded in place of p"]


@promise
async def test_a_request_waits_until_the_one_in_use_is_free(home):
    await home.load("p")
    home.clients.busy, home.clients.waiting = {"p"}, {"q": asyncio.get_running_loop().time()}
    loading = asyncio.create_task(home.load("q", by_request=True))
    await home.clients.was_asked.wait()
    assert home.states == {"p": State.READY}
    home.clients.busy = set()
    home.admission.changed()
    assert (await loading).result == "ready"
    assert home.states == {"p": State.SLEEPING, "q": State.READY}


@promise
async def test_meanwhile_it_says_what_it_waits_for_and_how_long_at_most(home):
    home.clients.settings = GatewaySettings(max_loaded=1, max_wait_seconds=60)
    await home.load("p")
    now = asyncio.get_running_loop().time()
    home.clients.busy, home.clients.waiting, home.answered = {"p"}, {"q": now}, 2
    loading = asyncio.create_task(home.load("q", by_request=True))
    await home.clients.was_asked.wait()
    (awaited,) = home.admission.awaited
    assert (awaited.profile, awaited.models) == ("q", ("p",))
    assert awaited.text == "waits for p, which answers 2 requests"
    assert 0 < awaited.seconds_left <= 60
    home.answered = 0
    assert home.admission.awaited[0].text == "waits for p, which must not be unloaded yet"
    home.clients.busy = set()
    home.clients.settings = ONE_AT_A_TIME
    home.admission.changed()
    await loading
    assert home.admission.awaited == []


@promise
async def test_a_load_that_nobody_waits_for_any_more_takes_nothing_from_anybody(home):
    await home.load("p")
    home.clients.busy, home.clients.waiting = {"p"}, {"q": asyncio.get_running_loop().time()}
    loading = asyncio.create_task(home.load("q", by_request=True))
    await home.clients.was_asked.wait()
    home.clients.waiting, home.clients.busy = {}, set()
    home.admission.changed()
    outcome = await loading
    assert (outcome.result, outcome.why) == ("superseded", "no request waits for it any more")
    assert home.states == {"p": State.READY}


@promise
async def test_what_is_pinned_stays_and_the_other_is_told(home):
    home.clients.offers = {"p": Offer("p", ("p",), pinned=True)}
    await home.load("p")
    with pytest.raises(DoesNotFit, match="q cannot be loaded"):
        await home.load("q", alone=True)
    assert home.states == {"p": State.READY}


@promise
async def test_a_load_that_dies_of_memory_is_tried_once_more_without_an_idle_one(home):
    home.clients.settings = GatewaySettings(min_warm_seconds=0)
    await home.load("p")
    await home.load("r")
    home.clients.busy = {"p"}
    outcome = await home.load("q", exit=1, stderr="cudaMalloc failed: out of memory")
    assert outcome.result == "failed"
    assert home.states == {"p": State.READY, "r": State.SLEEPING, "q": State.FAILED}
    assert home.fleet.get("q").placement == ""


@promise
async def test_two_that_are_asked_for_at_once_do_not_both_take_the_last_place(home):
    outcomes = await asyncio.gather(home.load("p"), home.load("q"))
    assert sorted(home.states.values()) == [State.READY, State.SLEEPING]
    assert {outcome.result for outcome in outcomes} <= {"ready", "superseded"}


@promise
async def test_what_a_model_holds_more_than_was_planned_leaves_less_for_the_next(home):
    home.clients.settings = GatewaySettings(min_warm_seconds=0)
    await home.load("p")
    home.fleet.get("p").server.memory.needed_bytes = lambda plan: {"RAM": 2**60}
    assert (await home.load("q")).result == "ready"
    assert home.fleet.get("q").placement == "loaded in place of p"


# --- while another one waits


@promise
async def test_a_switch_to_what_a_request_waits_for_does_not_wait_with_it(home):
    home.clients.settings = GatewaySettings(max_loaded=2, min_warm_seconds=0)
    await home.load("p", main=True)
    await home.load("r")
    asking = await home.wait_for("q", "default", "r")
    assert (await home.load("q", main=True)).result == "ready"
    home.clients.waiting = {}
    assert (await asking).result == "superseded"
    assert home.states == {"q": State.READY, "r": State.READY}


@promise
async def test_what_waits_when_all_is_stopped_does_not_begin_after_it(home):
    await home.load("p")
    asking = await home.wait_for("q", "p")
    home.admission.end("it ends")
    await home.fleet.stop()
    outcome = await asking
    assert (outcome.result, outcome.why, outcome.profile) == ("superseded", "it ends", "q")
    assert (await home.load("q")).result == "superseded"
    assert home.states == {"p": State.STOPPED}


@promise
async def test_a_load_that_is_given_up_while_it_waits_takes_nothing_from_anybody(home):
    await home.load("p")
    asking, server = await home.wait_for("q", "p"), home.fleet.get("q")
    home.admission.give_up("what others wait for", home.fleet.get("p"))
    home.admission.give_up("what persons wait for", server, by_request=False)
    home.admission.give_up("it is not wanted", server)
    home.clients.busy = set()
    outcome = await asking
    assert (outcome.result, outcome.why) == ("superseded", "it is not wanted")
    assert home.states == {"p": State.READY}


@promise
async def test_a_load_that_is_given_up_when_it_was_let_in_does_not_begin(home):
    await home.load("p")
    asked, freed = home.keep_memory_of("p")
    loading = asyncio.create_task(home.load("q"))
    await asked.wait()
    home.admission.give_up("it is not wanted", home.fleet.get("q"))
    freed.set()
    outcome = await loading
    assert (outcome.result, outcome.why) == ("superseded", "it is not wanted")
    assert home.states == {"p": State.SLEEPING}
    assert (await home.load("r")).result == "ready"  # nothing is kept for it


@promise
async def test_one_that_was_let_in_and_has_not_begun_makes_way_once_and_not_again_and_again(home):
    await home.load("p")
    asked, freed = home.keep_memory_of("p")
    first = asyncio.create_task(home.load("q"))
    await asked.wait()
    began = home.admission._demand._evicted_at
    evictions = []
    home.admission._demand.note_eviction = evictions.append
    assert (await home.load("r")).result == "ready"
    assert len(evictions) == 1
    assert evictions[0] >= began
    freed.set()
    outcome = await first
    assert (outcome.result, outcome.why) == ("superseded", "superseded by a load of r")
    assert home.states == {"p": State.SLEEPING, "r": State.READY}


@promise
async def test_who_was_evicted_for_one_that_died_of_memory_waits_until_that_is_decided(home):
    home.clients.settings = GatewaySettings(min_warm_seconds=0)
    await home.load("p")
    asked, freed = home.keep_memory_of("p")
    dying = asyncio.create_task(home.load("q", exit=1, stderr="cudaMalloc failed: out of memory"))
    await asked.wait()
    again = await home.wait_for("p")
    assert home.admission.awaited[0].models == ("q",)
    freed.set()
    assert ((await dying).result, (await again).result) == ("failed", "ready")
