"""What is served: loaded at a start one after the other, unloaded when idle on its own terms, and told of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from supervisor.cli import status
from supervisor.daemon.loads import Loads
from supervisor.daemon.status_document import served, status_of
from supervisor.errors import DoesNotFit
from supervisor.fleet.fleet import Fleet
from supervisor.home import client
from supervisor.home.places import make_folders
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Listen, Offer
from supervisor.profile.definition import GatewaySettings
from supervisor.server.instance import Instance
from supervisor.server.lifecycle_table import State
from supervisor.server.survivors import Survivors

from ..fakes.launching import BOUND_SECONDS, until
from ..fakes.loops import run_story
from ..fakes.relay import behind as behind_relay
from ..fakes.relay import hang_up, relay
from .test_server import behind, plan

pytestmark = pytest.mark.usefixtures("each_loop")
MIB = 1024**2


@dataclass
class Clients:
    """What the loads ask of a gateway: nobody asks for anything, unless a test says so."""

    offers: tuple[Offer, ...]
    busy: set[str] = field(default_factory=set)
    waiting: dict[str, float] = field(default_factory=dict)
    loaded_: list[tuple[str, str]] = field(default_factory=list)
    settings: GatewaySettings = field(default_factory=GatewaySettings)

    def touch(self, name: str) -> None: ...

    def is_busy(self, name: str) -> bool:
        return name in self.busy

    def waiting_since(self, profile: str) -> float | None:
        return self.waiting.get(profile)

    def gone(self, name: str) -> None: ...

    def offer_of(self, profile: str) -> Offer | None:
        return next((each for each in self.offers if each.profile == profile), None)

    def loaded(self, profile: str, why: str) -> None:
        self.loaded_.append((profile, why))


class Served:
    """A fleet whose loads prepare the plans that a test gives; one without a plan cannot be prepared."""

    def __init__(self, tmp_path: Path, offers: tuple[Offer, ...]) -> None:
        self.tmp_path = tmp_path
        self.paths = Paths.under(tmp_path / "home")
        make_folders(self.paths)
        self.plans: dict[str, LaunchPlan] = {}
        self.prepared: list[tuple[str, ...]] = []
        self.is_asked, self.goes_on = asyncio.Event(), asyncio.Event()
        self.goes_on.set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.listen = Listen("main", "127.0.0.1", 1, GatewaySettings(), offers)
        self.gateway = Clients(offers)
        self.loads = Loads(
            lambda: self.fleet,
            lambda: self.gateway,
            self.begin,
            self.prepare,
            survivors=Survivors(self.paths),
        )
        self.fleet = Fleet(
            lambda name, next_id: Instance(
                name,
                self.paths,
                on_change=self.changed,
                under_way=lambda: 0,
                next_id=next_id,
            )
        )

    def changed(self):
        self.loads.admission.changed()

    def begin(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def plan(self, name: str, **more) -> LaunchPlan:
        """One that takes little, unless it is told otherwise."""
        if name not in self.plans:
            made = behind(plan(self.tmp_path, name=name))
            self.plans[name] = replace(made, **{"needs": {"RAM": MIB}} | more)
        return self.plans[name]

    async def prepare(self, *words: str):
        self.is_asked.set()
        await self.goes_on.wait()
        self.prepared.append(words)
        if (made := self.plans.get(words[-1])) is None:
            return {"error": f"There is no profile {words[-1]}.", "hint": "profile ls"}
        try:
            loading = await self.loads.run_beside(made, evicts="--no-evict" not in words)
        except DoesNotFit as error:
            return {"error": str(error), "hint": error.hint}
        return {"outcome": asdict(await loading)}

    async def wait_for(self, name: str) -> asyncio.Task:
        """A request waits for this profile while the main server is busy."""
        self.gateway.busy, self.gateway.waiting = {"default"}, {name: asyncio.get_running_loop().time()}
        loading = asyncio.create_task(self.outcome(self.loads.run_beside(self.plan(name), by_request=True)))
        await until(lambda: name in {each.profile for each in self.loads.admission.awaited})
        return loading

    async def outcome(self, launching):
        return await (await launching)

    def keep_memory_of(self, instance) -> tuple[asyncio.Event, asyncio.Event]:
        """What is set when somebody waits for the memory of this server, and what gives it back."""
        asked, freed = asyncio.Event(), asyncio.Event()

        async def released(_):
            asked.set()
            await freed.wait()

        instance.server.released = released
        return asked, freed

    async def start(self) -> asyncio.Future:
        """As the daemon does it."""
        decided = await self.loads.run_main(self.plan("main"))
        self.loads.load_offers(self.listen, decided)
        return decided

    async def idle(self):
        await until(lambda: not self.tasks)

    def states(self) -> dict[str, str]:
        return {each["profile"]: each["state"] for each in served(self.listen, self.loads.state_of)}

    def troubles(self) -> dict[str, str]:
        found = served(self.listen, self.loads.state_of)
        return {each["profile"]: each["trouble"] for each in found if each["trouble"]}


@asynccontextmanager
async def served_by(tmp_path, *offers: Offer) -> AsyncIterator[Served]:
    it = Served(tmp_path, (Offer("main", ("main",)), *offers))
    working = asyncio.create_task(it.fleet.run())
    try:
        yield it
    finally:
        async with asyncio.timeout(BOUND_SECONDS):
            await it.fleet.stop(now=True)
        it.fleet.close()
        working.cancel()


def promise(story):
    def story_of(tmp_path):
        async def bounded():
            async with asyncio.timeout(BOUND_SECONDS * 2):
                await story(tmp_path)

        run_story(bounded())

    story_of.__name__ = story_of.__qualname__ = story.__name__
    return story_of


def offer(name: str, **terms) -> Offer:
    return Offer(name, (name,), **{"load": True, **terms})


@promise
async def test_after_the_main_server_the_others_are_loaded_in_their_order(tmp_path):
    async with served_by(tmp_path, offer("one"), offer("lazy", load=False), offer("two")) as it:
        it.plan("one"), it.plan("two"), it.plan("lazy")
        decided = await it.start()
        assert it.states() | {"main": ""} == {
            "main": "",
            "one": "loading",
            "lazy": "unloaded",
            "two": "loading",
        }
        assert not it.prepared  # nothing begins before the main server is there
        assert (await decided).result == "ready"
        await it.idle()
        assert it.prepared == [("--no-evict", "--", "one"), ("--no-evict", "--", "two")]
        assert it.states() == {"main": "ready", "one": "ready", "lazy": "unloaded", "two": "ready"}
        assert not it.gateway.loaded_  # no request has asked for them


@promise
async def test_one_that_cannot_be_loaded_is_told_of_and_does_not_stop_the_others(tmp_path):
    async with served_by(tmp_path, offer("gone"), offer("two")) as it:
        it.plan("two")
        assert (await (await it.start())).result == "ready"
        await it.idle()
        assert it.states() == {"main": "ready", "gone": "unloaded", "two": "ready"}
        assert it.troubles() == {"gone": "There is no profile gone. profile ls"}
        it.plan("gone")
        it.loads.load("gone")
        await it.idle()
        assert (it.states()["gone"], it.troubles()) == ("ready", {})


@promise
async def test_a_client_that_asks_meanwhile_waits_for_the_same_load(tmp_path):
    """Two loads of one profile would supersede each other, and the client get a 503."""
    async with served_by(tmp_path, offer("one")) as it:
        it.plan("one")
        it.goes_on.clear()
        await (await it.start())
        await it.is_asked.wait()
        it.loads.load("one")
        await until(lambda: it.loads.loading.count("one") == 2)
        it.goes_on.set()
        await it.idle()
        assert it.prepared == [("--no-evict", "--", "one")]
        assert (it.states()["one"], it.gateway.loaded_) == ("ready", [("one", "")])
        assert not it.loads.loading


@promise
async def test_who_waits_for_a_load_that_an_unload_replaces_is_not_told_that_it_failed(tmp_path):
    """The model sleeps then, and the waiting request has it loaded again: the gateway's next step."""
    async with served_by(tmp_path, offer("one", load=False)) as it:
        it.plans["one"] = replace(behind(plan(tmp_path, name="one", load=3600)), needs={"RAM": MIB})
        await (await it.start())
        it.loads.load("one")
        await until(lambda: it.states()["one"] == "starting")
        assert (await it.fleet.having("one").server.sleep()).result == "asleep"
        await it.idle()
        assert (it.gateway.loaded_, it.troubles()) == ([("one", "")], {})


@promise
async def test_a_client_gets_what_did_not_fit_at_the_start(tmp_path):
    async with served_by(tmp_path, offer("one")) as it:
        takes = {"needs": {"RAM": 400 * MIB}, "ours": {"RAM": 700 * MIB}}
        it.plan("main", **takes)
        it.plan("one", **takes)
        it.goes_on.clear()
        await (await it.start())
        await it.is_asked.wait()
        it.loads.load("one", by_request=False)
        it.goes_on.set()
        await it.idle()
        assert it.states() == {"main": "sleeping", "one": "ready"}
        assert (it.gateway.loaded_, it.troubles()) == ([("one", "")], {})


@promise
async def test_nothing_is_unloaded_for_a_load_at_the_start(tmp_path):
    takes = {"needs": {"RAM": 400 * MIB}, "memory": {"RAM": 400 * MIB}, "ours": {"RAM": 700 * MIB}}
    async with served_by(tmp_path, offer("large"), offer("small")) as it:
        it.plan("main", **takes)
        it.plan("large", **takes)
        it.plan("small", **takes | {"needs": {"RAM": 200 * MIB}})
        assert (await (await it.start())).result == "ready"
        await it.idle()
        assert it.states() == {"main": "ready", "large": "unloaded", "small": "ready"}
        assert "large cannot be loaded" in it.troubles()["large"]
        assert "goss-supervisor load large unloads others for it." in it.troubles()["large"]
        it.loads.load("large", by_request=False)  # a person's load does unload
        await it.idle()
        assert it.states()["large"] == "ready"
        assert it.states()["main"] == "sleeping"


@promise
async def test_a_main_server_that_does_not_come_leaves_the_others_alone(tmp_path):
    async with served_by(tmp_path, offer("one")) as it:
        it.plan("one")
        broken = plan(tmp_path, name="main", exit=1, stderr="error: invalid argument: --broken")
        it.plans["main"] = behind(broken)
        assert (await (await it.start())).result == "failed"
        await it.idle()
        assert (it.prepared, it.states()["one"]) == ([], "unloaded")


@promise
async def test_a_reload_loads_what_is_new_and_leaves_the_rest_as_it_is(tmp_path):
    async with served_by(tmp_path, offer("one")) as it:
        it.plan("one"), it.plan("two")
        await (await it.start())
        await it.idle()
        one = it.fleet.get("one").server
        await one.sleep()
        it.listen = replace(it.listen, offers=(it.listen.offers[0], offer("two")))
        again = await it.loads.run_main(it.plans["main"], reload=True)
        it.loads.load_offers(it.listen, again)
        assert (await again).result == "unchanged"
        await it.idle()
        assert [words[-1] for words in it.prepared] == ["one", "two"]
        assert (one.state, it.states()) == (State.SLEEPING, {"main": "ready", "two": "ready"})


@promise
async def test_ps_shows_what_is_to_come_and_what_could_not_be_loaded(tmp_path):
    async with served_by(tmp_path, offer("gone"), offer("one")) as it:
        it.plan("one")
        await (await it.start())
        await it.idle()
        it.loads.loading.append("main-only")
        it.listen = replace(it.listen, offers=(*it.listen.offers, offer("main-only"), offer("lazy")))
        now = {
            "servers": [status_of(each, it.listen) for each in it.fleet],
            "served": served(it.listen, it.loads.state_of),
        }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "ask", lambda *_: {"status": now})
        rows = json.loads(CliRunner().invoke(status.ps, ["--json"]).stdout)["servers"]
        table = CliRunner().invoke(status.ps).stdout
    assert [(each["profile"], each["state"]) for each in rows] == [
        ("main", "ready"),
        ("one", "ready"),
        ("gone", "unloaded"),
        ("main-only", "loading"),
    ]
    assert "There is no profile gone. profile ls" in table


# Idle


SHORT, LONG = 0.05, 0.3


class Noted(list):
    """Calls of a server, which are noted among those of others too."""

    def __init__(self, name, order):
        super().__init__()
        self.name, self.order = name, order

    def append(self, call):
        super().append(call)
        self.order.append(self.name)


@pytest.mark.parametrize(
    ("terms", "sleeps"),
    [
        ({"pinned": True}, False),
        ({"idle_unload_seconds": 0}, False),
        ({"pinned": True, "idle_unload_seconds": SHORT}, True),
        ({}, True),
    ],
)
def test_each_is_unloaded_when_idle_on_its_own_terms(terms, sleeps):
    """``r`` is unloaded after as long as the gateway says; all others were idle for longer by then."""

    async def story():
        offers = (Offer("p", ("p",), **terms), Offer("q", ("q",), idle_unload_seconds=SHORT))
        settings = GatewaySettings(idle_unload_seconds=LONG)
        async with (
            relay(hang_up, settings=settings, offers=offers) as it,
            behind_relay(it, "q", hang_up) as quick,
            behind_relay(it, "r", hang_up) as last,
        ):
            order = []  # both may be due at the same look, if the processor was away for long
            quick.calls, last.calls = Noted("quick", order), Noted("last", order)
            await until(lambda: last.calls)
            assert order[0] == "quick"
            assert ("sleep" in it.server.calls) is sleeps

    run_story(story())


def test_a_profile_s_own_terms_count_where_the_gateway_unloads_nothing():
    async def story():
        offers = (Offer("p", ("p",), idle_unload_seconds=SHORT),)
        async with relay(hang_up, offers=offers) as it, behind_relay(it, "r", hang_up) as other:
            await until(lambda: it.server.calls)
            assert (it.server.calls[0], other.calls) == ("sleep", [])

    run_story(story())


def test_one_that_is_loaded_later_is_unloaded_when_idle_although_no_client_ever_came():
    async def story():
        offers = (Offer("p", ("p",)), Offer("q", ("q",), idle_unload_seconds=SHORT))
        async with relay(hang_up, offers=offers) as it:
            await until(lambda: it.gateway._timer is None)  # nothing here needs a look every second
            async with behind_relay(it, "q", hang_up) as later:
                await until(lambda: later.calls)
                assert it.server.calls == []

    run_story(story())


def test_a_server_that_was_stopped_is_offered_only_if_it_is_served():
    async def story():
        async with relay(hang_up) as it, behind_relay(it, "stranger", hang_up) as other:
            assert it.gateway.offer_of("stranger")
            other.state = State.STOPPED
            it.gateway.changed(other)
            assert it.gateway.offer_of("stranger") is None
            it.turn(State.STOPPED)
            assert it.gateway.offer_of("p")

    run_story(story())


# --- loads that meet


ONE_AT_A_TIME = GatewaySettings(max_loaded=1, min_warm_seconds=0)


@promise
async def test_a_person_does_not_wait_with_the_request_that_waits_for_the_same_and_both_have_it(tmp_path):
    async with served_by(tmp_path, offer("one", load=False)) as it:
        it.gateway.settings = ONE_AT_A_TIME
        await (await it.start())
        asking = await it.wait_for("one")
        assert (await it.outcome(it.loads.run_beside(it.plan("one")))).result == "ready"
        assert (await asking).result == "unchanged"
        one = it.fleet.get("one").server
        assert (one.state, one.launch) == (State.READY, 1)
        assert it.states()["main"] == "sleeping"


@promise
async def test_a_request_waits_for_the_load_that_a_person_has_begun(tmp_path):
    async with served_by(tmp_path, offer("one", load=False)) as it:
        await (await it.start())
        it.gateway.waiting = {"one": asyncio.get_running_loop().time()}
        person = await it.loads.run_beside(it.plan("one"))
        request = await it.loads.run_beside(it.plan("one"), by_request=True)
        assert ((await person).result, (await request).result) == ("ready", "unchanged")
        assert it.fleet.get("one").server.launch == 1


@promise
async def test_a_load_of_what_is_unloaded_while_it_waits_loads_it_all_the_same(tmp_path):
    async with served_by(tmp_path, offer("one", load=False)) as it:
        await (await it.start())
        await it.outcome(it.loads.run_beside(it.plan("one")))
        asked, freed = it.keep_memory_of(it.fleet.main)
        loading = asyncio.create_task(it.outcome(it.loads.run_beside(it.plan("one"), alone=True)))
        await asked.wait()
        await it.fleet.get("one").server.sleep()
        freed.set()
        assert (await loading).result == "ready"
        assert it.states() == {"main": "sleeping", "one": "ready"}


@promise
async def test_what_is_loaded_already_takes_nothing_from_others(tmp_path):
    async with served_by(tmp_path, offer("one", load=False)) as it:
        await (await it.start())
        await it.outcome(it.loads.run_beside(it.plan("one")))
        it.fleet.main.server.memory.needed_bytes = lambda _: {"RAM": 2**60}
        assert (await it.outcome(it.loads.run_beside(it.plan("one")))).result == "unchanged"
        assert it.states() == {"main": "ready", "one": "ready"}


@promise
async def test_a_reload_of_a_main_server_that_sleeps_takes_nothing_from_others(tmp_path):
    async with served_by(tmp_path, offer("one", load=False)) as it:
        it.gateway.settings = ONE_AT_A_TIME
        await (await it.start())
        await it.outcome(it.loads.run_beside(it.plan("one")))
        changed = replace(it.plan("main"), digest="changed")
        assert (await it.outcome(it.loads.run_main(changed, reload=True))).result == "asleep"
        assert it.states() == {"main": "sleeping", "one": "ready"}


@promise
async def test_a_switch_supersedes_a_load_of_the_same_that_has_not_begun(tmp_path):
    async with served_by(tmp_path, offer("one", load=False), offer("two", load=False)) as it:
        it.gateway.settings = GatewaySettings(max_loaded=2, min_warm_seconds=0)
        await (await it.start())
        await it.outcome(it.loads.run_beside(it.plan("two")))
        it.gateway.busy = {"default"}
        asked, freed = it.keep_memory_of(it.fleet.get("two"))
        loading = asyncio.create_task(it.outcome(it.loads.run_beside(it.plan("one"))))
        await asked.wait()
        switching = asyncio.create_task(it.outcome(it.loads.run_main(it.plan("one"))))
        await asyncio.sleep(0)
        freed.set()
        assert (await loading).why == "superseded by a start of one"
        assert (await switching).result == "ready"
        assert [each.name for each in it.fleet if each.profile == "one"] == ["default"]


@promise
async def test_requests_are_told_of_a_load_that_breaks(tmp_path):
    async with served_by(tmp_path, offer("one", load=False)) as it:
        await (await it.start())

        async def breaks(*_, **__):
            raise ZeroDivisionError

        it.loads._prepare = breaks
        it.loads.load("one")
        await it.idle()
        assert it.gateway.loaded_ == [("one", "goss-supervisor failed to load it; its log tells why")]
