"""Loads, switches, unloads, stops and crashes at random, in time that passes at once: all come to an end."""

from __future__ import annotations

import asyncio
import random
import selectors
from contextlib import suppress
from types import SimpleNamespace

import pytest

from supervisor.daemon.loads import Loads
from supervisor.errors import SupervisorError
from supervisor.fleet.fleet import Fleet
from supervisor.gateway.backends import phase_of
from supervisor.gateway.scheduler import Go, LoadProfile, Refuse, Scheduler, Situation, Ticket
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Offer
from supervisor.profile.definition import GatewaySettings, Restart, Stop
from supervisor.server.diagnosis import Diagnosis
from supervisor.server.lifecycle_table import LIVE, Exited, PreflightDone, Serving, State
from supervisor.server.output_log import OutputLog
from supervisor.server.server import Server

PREPARED_SECONDS = 0.3  # what a command takes to read its profile
NAMES = ("one", "two", "three", "four")
ROOM = 100
KINDS = (*["ask"] * 10, *["load"] * 2, "alone", "restart", "switch", "reload", "unload", "stop", "crash")
ASKED_TO = Diagnosis("exit", "it went", "", retryable=True)
CRASH = Diagnosis("crash", "it crashed", "", retryable=True)
SHORT = Diagnosis("memory", "no memory", "", retryable=True)


class Jumps(selectors.SelectSelector):
    """Nothing comes from outside, so what is waited for is there at once."""

    now = 0.0

    def select(self, timeout=None):
        assert timeout is not None, "nothing will ever happen again"
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.clock = Jumps()
        super().__init__(self.clock)

    def time(self):
        return self.clock.now


class Memory:
    """Of one server: it holds what was planned."""

    def __init__(self, world, server):
        self.world, self.server, self.warnings = world, server, {}

    def needed_bytes(self, plan):
        return {pool: max(number, self.server.alive) for pool, number in plan.needs.items()}

    def held_bytes(self, plan):
        return {"RAM": self.server.alive}

    async def free_for(self, plan, environ):
        await asyncio.sleep(self.world.draw.choice([0, 0, 0.3]))
        return {"RAM": ROOM - self.world.used}

    def close(self): ...

    def let_go(self, plan): ...


class Process(Server):
    """A server whose process takes time, and nothing else."""

    def __init__(self, world, name, next_id, under_way):
        self.alive = 0  # bytes
        super().__init__(
            name,
            output=OutputLog(world.tmp_path, f"{name}.log"),
            lock=None,
            private_config=world.tmp_path,
            jitter=lambda: 0.0,
            on_change=world.on_change,
            under_way=under_way,
            next_id=next_id,
            environ={},
        )
        self.world = world
        self.memory = Memory(world, self)

    def _later(self, seconds, event):
        asyncio.get_running_loop().call_later(seconds, self._inbox.put, event)

    async def released(self, plan):
        await asyncio.sleep(self.world.draw.choice([0, 0.2, 2.0]))

    def _begin_preflight(self, launch):
        self._later(0.1, PreflightDone(launch, None))

    async def _spawn(self, launch):
        assert not self.alive, "two processes of one server"
        self.alive = self.plan.needs["RAM"]
        self.world.most = max(self.world.most, self.world.used)
        self.running = launch
        if self.world.draw.random() < self.world.troubles:
            asyncio.get_running_loop().call_later(
                1.0, self.dies, launch, self.world.draw.choice([CRASH, SHORT])
            )
        else:
            asyncio.get_running_loop().call_later(
                self.world.draw.choice([0.5, 5.0, 40.0]), self.is_up, launch
            )

    def is_up(self, launch):
        if self.alive and self.running == launch:
            self._inbox.put(Serving(launch))

    def dies(self, launch, diagnosis):
        if self.alive and self.running == launch:
            self.alive = 0
            if self.state in LIVE:
                self.lifecycle.failure = diagnosis
            self._inbox.put(Exited(launch, diagnosis))

    def _signal(self, do):
        asyncio.get_running_loop().call_later(
            self.world.draw.choice([0.0, 0.5, 3.0]), self.dies, self.running, ASKED_TO
        )


class Instance(SimpleNamespace):
    placement = ""
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def profile(self):
        return self.server.plan.profile if self.server.plan else ""

    @property
    def why_there(self):
        return "is there"

    def under_way(self):
        return self.world.scheduler.count_at(self.name)

    def make_ready_for(self, plan): ...

    def close(self):
        self.server.close()

    def give_up_lock(self): ...


class World:
    def __init__(self, seed, tmp_path):
        self.draw, self.tmp_path = random.Random(seed), tmp_path
        self.settings = GatewaySettings(
            max_loaded=self.draw.choice([0, 1, 2]), min_warm_seconds=self.draw.choice([0.0, 30.0])
        )
        self.sizes = {name: self.draw.choice([20, 40, 60, 100]) for name in NAMES}
        self.troubles = self.draw.choice([0.0, 0.0, 0.2])
        self.evictions = self.loads_asked = self.most = 0
        self.scheduler = Scheduler(self.settings)
        self.refused, self.answered = [], 0
        self.tasks = set()
        self.undecided = {}
        self.timer = None
        self.loads = Loads(
            lambda: self.fleet,
            lambda: self,
            self.begin,
            self.prepare,
            survivors=SimpleNamespace(take=lambda *_: None, profiles={}),
        )
        self.fleet = Fleet(self.make)
        self.uses = SimpleNamespace(touch=lambda _: None)

    @property
    def used(self):
        return sum(each.server.alive for each in self.fleet)

    def make(self, name, next_id):
        it = Instance(name=name, world=self)
        it.server = Process(self, name, next_id, it.under_way)
        return it

    def plan(self, name):
        return LaunchPlan(
            profile=name,
            argv=(name,),
            env={},
            host="/run/x",
            port=0,
            build="b",
            flavour="cpu",
            engine="",
            model="",
            digest=name,
            behind_gateway=True,
            drain_seconds=20.0,
            needs={"RAM": self.sizes[name]},
            restart=Restart(max_restarts=2, backoff_seconds=1.0),
            stop=Stop(grace_seconds=5.0, insist_seconds=5.0),
        )

    def begin(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # --- what the daemon does

    def on_change(self):
        for each in self.fleet:
            self.loads.admission.changed(each)
            server = each.server
            if server.plan is not None or each is self.fleet.main:
                situation = Situation(
                    phase_of(server),
                    each.profile,
                    server.launch,
                    retries=server.state is State.FAILED and each is not self.fleet.main,
                )
                self.act(self.scheduler.change(situation, self.now, each.name))
            if server.state in {State.STOPPING, State.KILLING}:
                for ticket in [each_ for each_ in self.scheduler.under_way if each_.server == each.name]:
                    self.end(ticket)
            if server.state is State.DRAINING and not self.scheduler.count_at(each.name):
                server.drained()

    async def prepare(self, *words):
        await asyncio.sleep(PREPARED_SECONDS)
        *options, _, name = words
        by_request, evicts = "--by-request" in options, "--no-evict" not in options
        try:
            outcome = await (
                await self.loads.run_beside(self.plan(name), by_request=by_request, evicts=evicts)
            )
        except SupervisorError as error:
            return {"error": str(error), "hint": ""}
        return {"outcome": {"result": outcome.result, "why": outcome.why, "hint": ""}}

    # --- the gateway

    @property
    def now(self):
        return asyncio.get_running_loop().time()

    def is_busy(self, name):
        return self.scheduler.is_busy(name)

    def waiting_since(self, profile):
        return self.scheduler.waiting_since(profile)

    def offer_of(self, profile):
        return Offer(profile, (profile,))

    def loaded(self, profile, why):
        self.act(self.scheduler.loaded(profile, why, self.now))

    def gone(self, name):
        self.act(self.scheduler.remove(name, self.now))

    def act(self, actions):
        for action in actions:
            match action:
                case Go(ticket):
                    asyncio.get_running_loop().call_later(
                        self.draw.choice([0.1, 2.0, 15.0]), self.end, ticket
                    )
                case Refuse(ticket, reason, why):
                    self.refused.append((reason, why))
                case LoadProfile(profile):
                    self.loads_asked += 1
                    self.loads.load(profile)
        if self.timer:
            self.timer.cancel()
        due = self.scheduler.next_time(self.now)
        self.timer = asyncio.get_running_loop().call_at(due, self.tick) if due is not None else None

    def tick(self):
        self.act(self.scheduler.tick(self.now))

    def end(self, ticket):
        if ticket in self.scheduler.under_way:
            self.answered += 1
            self.act(self.scheduler.end(ticket, self.now))
            for each in self.fleet:
                if each.server.state is State.DRAINING and not self.scheduler.count_at(each.name):
                    each.server.drained()
                if not self.scheduler.is_busy(each.name):
                    self.loads.rested()

    def ask(self, name):
        self.loads.wanted(name)
        ticket = Ticket(self.now, name)
        self.act(self.scheduler.arrive(ticket, self.now))
        if self.draw.random() < 0.2:
            asyncio.get_running_loop().call_later(self.draw.choice([0.0, 0.5, 60.0]), self.leave, ticket)

    def leave(self, ticket):
        if ticket in self.scheduler.waiting:
            self.act(self.scheduler.end(ticket, self.now))
            self.loads.rested()

    def note_eviction(self, _):
        self.evictions += 1

    # --- people

    async def person(self, kind, name):
        with suppress(SupervisorError):  # it does not fit, or there is no such server
            match kind:
                case "load" | "alone":
                    await self.load(name, alone=kind == "alone")
                case "restart":
                    await (await self.loads.run_beside(self.plan(name), again=True))
                case "switch":
                    await asyncio.sleep(PREPARED_SECONDS)
                    await (await self.loads.run_main(self.plan(name)))
                case "reload" if self.fleet.main.server.plan is not None:
                    await (await self.loads.run_main(self.fleet.main.server.plan, reload=True))
                case "unload" | "stop":
                    found = self.fleet.get(name)
                    self.loads.admission.give_up(kind, found, by_request=kind == "stop")
                    await (found.server.sleep() if kind == "unload" else found.server.stop())
                case "crash" if (server := self.fleet.get(name).server).alive:
                    server.dies(server.running, CRASH)

    async def load(self, name, *, alone):
        """As the command does it."""
        found = self.fleet.having(name)
        if found is not None and found.server.state not in {State.FAILED, State.STOPPED}:
            await (await self.loads.wake(found, alone=alone))
        else:
            await asyncio.sleep(PREPARED_SECONDS)
            await (await self.loads.run_beside(self.plan(name), alone=alone))

    def happens(self, kind, name):
        if kind == "ask":
            return self.ask(name)
        task = self.begin(self.person(kind, name))
        self.undecided[task] = (kind, name, self.now)
        return task.add_done_callback(self.undecided.pop)

    def is_at_work(self):
        admission = self.loads.admission
        return bool(self.undecided or self.tasks or self.scheduler.waiting or admission._undecided)

    def picture(self):
        return {
            "servers": [(each.name, each.profile, each.server.state.value) for each in self.fleet],
            "waiting": [(each.name, each.by_request, each.alone) for each in self.loads.admission._waiting],
            "admitted": [(each.instance.name, each.name) for each in self.loads.admission._admitted],
            "tickets": [(each.profile, each.arrived) for each in self.scheduler.waiting],
            "undecided": list(self.undecided.values()),
            "now": self.now,
            "sizes": self.sizes,
            "settings": (self.settings.max_loaded, self.settings.min_warm_seconds),
        }


async def life(world):
    """Some minutes of it, then until nobody waits any more; what was asked for."""
    draw, working, done = world.draw, asyncio.create_task(world.fleet.run()), []
    try:
        world.loads.admission._demand.note_eviction = world.note_eviction
        await (await world.loads.run_main(world.plan("one")))
        for _ in range(draw.randint(5, 40)):
            done.append((round(world.now, 1), draw.choice(KINDS), draw.choice(NAMES)))
            world.happens(*done[-1][1:])
            await asyncio.sleep(draw.choice([0, 0, 0, 0.1, 0.5, 3.0, 30.0]))
        ends = world.now + 900
        while world.is_at_work() and world.now < ends:  # noqa: ASYNC110 - no time passes meanwhile
            await asyncio.sleep(draw.choice([0.1, 1.0]))
        assert not world.is_at_work(), (done, world.picture())
        return done
    finally:
        await world.fleet.stop(now=True)
        world.fleet.close()
        working.cancel()


ONCE_WRONG = (118, 329, 396, 516, 1014, 1027, 2168, 2263, 2773, 2920, 3468, 6622, 6816, 7156, 8722, 13933)
"""Two processes of one profile, more than the memory, a daemon that spins, an eviction again and again."""


@pytest.mark.parametrize("seed", [*range(40), *ONCE_WRONG])
def test_whatever_people_and_clients_ask_for_at_once_comes_to_an_end(seed, tmp_path, monkeypatch):
    async def story():
        monkeypatch.setattr("time.monotonic", asyncio.get_running_loop().time)
        world = World(seed, tmp_path)
        return world, await life(world)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        world, done = runner.run(story())
    assert world.evictions <= 2 * len(done), done
    assert world.loads_asked <= 4 * len(done), done
    assert world.most <= ROOM, done
    assert not [reason for reason, _ in world.refused if reason == "late"], done
