"""Which models live together: what holds in any situation, and over any course of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Literal

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from supervisor.fleet.decisions import Asked, Beside, Evict, NoRoom, Resident, UsableMemory, WaitFor
from supervisor.fleet.demand import Demand
from supervisor.fleet.residency import decide_all
from supervisor.profile.definition import GatewaySettings

TURNS = GatewaySettings(min_warm_seconds=30, max_wait_seconds=120)
POOLS = ("CUDA0", "CUDA1", "RAM")
NOW = 1000.0
TIMES = st.sampled_from([0.0, 700.0, 880.0, 900.0, 970.0, 971.0, 1000.0])
BYTES = st.dictionaries(st.sampled_from(POOLS), st.integers(0, 12), max_size=3)


def decide(asked, there, memory, demand):
    return decide_all([asked], there, memory, demand, TURNS, now=NOW)[asked.name]


@st.composite
def residents(draw, known=False):
    return [
        Resident(
            name,
            draw(BYTES if known else st.none() | BYTES | BYTES | BYTES),
            draw(st.sampled_from(["ready", "ready", "ready", "loading", "leaving"])),
            is_busy=draw(st.booleans()),
            pinned=draw(st.integers(0, 4)) == 0,
            priority=draw(st.sampled_from([0, 0, 1])),
            since=draw(TIMES),
            load_seconds=draw(st.none() | st.floats(0.5, 90)),
            waited_since=draw(st.none() | st.none() | TIMES),
        )
        for name in draw(st.lists(st.sampled_from("abcdef"), unique=True))
    ]


@st.composite
def asked_ones(draw, name="new", known=False):
    wanted = draw(BYTES if known else st.none() | BYTES | BYTES | BYTES)
    priority, alone = draw(st.sampled_from([0, 0, 1])), not known and draw(st.integers(0, 9)) == 0
    return Asked(name, wanted, draw(st.none() | TIMES), priority, alone)


@st.composite
def memories(draw):
    unknown = draw(st.sampled_from(["", "", "CUDA1"]))
    return UsableMemory({pool: draw(st.integers(0, 30)) for pool in POOLS if pool != unknown})


@st.composite
def demands(draw):
    demand = Demand()
    for when in sorted(draw(st.lists(st.floats(0, NOW), max_size=12))):
        demand.note(draw(st.sampled_from("abcdef")), when)
    return demand


def live_together(asked, others, memory):
    """The account, written another way: whether this one and these fit into the memory."""
    for other in others:
        if not other.pinned:
            if asked.alone or asked.bytes is None or other.bytes is None:
                return False
            both = {pool for pool in asked.bytes if asked.bytes[pool] and other.bytes.get(pool)}
            if both - memory.bytes.keys():
                return False
    for pool, usable in memory.bytes.items():
        needed = taken(asked, pool)
        if needed and needed + sum(taken(other, pool) for other in others) > usable:
            return False
    return True


def taken(model, pool):
    return (model.bytes or {}).get(pool, 0)


def may_go_now(asked, other, demand):
    """The turns, written another way."""
    if other.pinned or other.phase == "leaving":
        return False
    if asked.since is None:
        return True
    if other.waited_since is not None and other.waited_since <= asked.since:
        return False
    has_waited = NOW - asked.since >= 120
    if other.phase == "loading":
        return has_waited and other.priority <= asked.priority
    if other.is_busy:
        return has_waited and NOW - other.since >= 120 and other.priority <= asked.priority
    if other.priority > asked.priority:
        return NOW - max(other.since, demand.asked_at(other.name) or 0.0) >= 30
    return other.priority < asked.priority or NOW - other.since >= 30


def subsets(models):
    for size in range(len(models) + 1):
        yield from combinations(models, size)


def without(models, gone):
    return [each for each in models if each not in gone]


@given(asked_ones(), residents(), memories(), demands())
def test_every_decision_is_what_the_account_and_the_turns_allow(asked, there, memory, demand):
    decision = decide(asked, there, memory, demand)
    stays = [each for each in there if each.phase != "leaving"]
    free_to_go = [each for each in stays if may_go_now(asked, each, demand)]
    if not live_together(asked, [each for each in stays if each.pinned], memory):
        assert isinstance(decision, NoRoom)
        assert "may be used" in decision.why or "for itself" in decision.why
    elif live_together(asked, stays, memory):
        gone = [each for each in there if each.phase == "leaving"]
        assert decision == (
            Beside()
            if live_together(asked, there, memory)
            else WaitFor(tuple(sorted(each.name for each in gone)), None)
        )
    elif isinstance(decision, Evict):
        goes = [each for each in there if each.name in decision.names]
        assert len(goes) == len(decision.names)
        assert set(decision.names) <= {each.name for each in free_to_go}
        assert live_together(asked, without(stays, goes), memory)
        for each in goes:  # no more than needed
            assert not live_together(asked, [*without(stays, goes), each], memory)
        if any(each.is_busy or each.phase == "loading" for each in goes):  # idle ones are not enough
            idle = [each for each in free_to_go if each.phase == "ready" and not each.is_busy]
            assert not live_together(asked, without(stays, idle), memory)
    else:
        assert isinstance(decision, WaitFor)
        assert decision.names
        assert decision.until is None or decision.until > NOW
        overdue = asked.since is None or NOW - asked.since >= 120
        if overdue:  # nothing that may go now is enough
            assert not live_together(asked, without(stays, free_to_go), memory)
        elif live_together(asked, without(stays, free_to_go), memory):
            assert decision.until is not None


@given(st.integers(6, 20), st.lists(st.tuples(st.integers(1, 9), st.floats(0.5, 90)), max_size=7), demands())
def test_of_idle_models_the_set_goes_whose_loss_is_expected_to_cost_least(needed, sizes, demand):
    memory, asked = UsableMemory({"RAM": 20}), Asked("new", {"RAM": needed}, NOW)
    there = [
        Resident(name, {"RAM": size}, load_seconds=seconds)
        for name, (size, seconds) in zip("abcdefg", sizes, strict=False)
    ]
    decision = decide(asked, there, memory, demand)
    goes = [each for each in there if isinstance(decision, Evict) and each.name in decision.names]

    def cost(models):
        return sum(demand.loss_seconds(each.name, each.load_seconds, NOW) for each in models)

    for others in subsets(there):
        if live_together(asked, without(there, others), memory):
            assert cost(goes) <= cost(others) + 1e-9


@given(asked_ones(), residents(), memories(), demands(), st.randoms(use_true_random=False))
def test_the_order_in_which_residents_are_told_changes_nothing(asked, there, memory, demand, random):
    decision = decide(asked, there, memory, demand)
    random.shuffle(there)
    assert decide(asked, there, memory, demand) == decision


@dataclass(slots=True)
class Model:
    """One of the machine's models, and what becomes of it."""

    name: str
    bytes: dict[str, int] | None
    pinned: bool
    priority: int
    phase: str = "absent"  # loading, ready, draining, leaving
    since: float = 0.0
    under_way: int = 0
    waiting: list[float] = field(default_factory=list)
    person: Literal["", "loads", "loads alone"] = ""  # what somebody asked for who is no client
    evicts: set[str] = field(
        default_factory=set
    )  # those that have not gone yet: until then it does not ask again
    loads: int = 0


class Course:
    """A machine over time, and the fleet that carries out what is decided."""

    def begin(self, sizes, memory, pinned=(), prior=()):
        self.now, self.memory, self.demand = 0.0, memory, Demand()
        self.models = [
            Model(name, size, number in pinned, int(number in prior))
            for number, (name, size) in enumerate(zip("abcdef", sizes, strict=False))
        ]
        self.refused = set()

    def arrive(self, model, many=1):
        for _ in range(many):
            self.demand.note(model.name, self.now)
            model.waiting.append(self.now)

    def end_one(self, model):
        model.under_way -= 1
        if model.phase == "draining" and not model.under_way:
            model.phase = "leaving"
        self.carry_on()

    def settle(self, model):
        model.phase = "ready" if model.phase == "loading" else "absent"
        model.since = self.now
        if model.phase == "absent":
            for each in self.models:
                each.evicts.discard(model.name)
        self.carry_on()

    def carry_on(self):
        """As the fleet does: those that are ready answer, and for all others it is decided, until nothing follows."""
        self.next_time = inf
        for _ in range(20):
            for each in self.models:
                if each.phase == "ready":
                    each.under_way += len(each.waiting)
                    each.waiting.clear()
            if not self.carry_out(self.decide()):
                return
        raise AssertionError("it decides without end")

    def decide(self):
        waiting = [
            Asked(each.name, each.bytes, None, each.priority, each.person == "loads alone")
            if each.person
            else Asked(each.name, each.bytes, each.waiting[0], each.priority)
            for each in self.models
            if each.person or (each.waiting and each.phase not in {"ready", "loading"})
        ]
        there = [self.resident(each) for each in self.models if each.phase != "absent"]
        return decide_all(waiting, there, self.memory, self.demand, TURNS, now=self.now)

    def resident(self, each):
        phase = "leaving" if each.phase == "draining" else each.phase
        is_busy = bool(each.under_way or each.waiting)
        waited = each.waiting[0] if each.waiting else None
        return Resident(
            each.name, each.bytes, phase, is_busy, each.pinned, each.priority, each.since, 9.0, waited
        )

    def carry_out(self, decisions):
        by_name = {each.name: each for each in self.models}
        has_changed = False
        for name, decision in decisions.items():
            asker = by_name[name]
            if asker.evicts:
                continue
            match decision:
                case Beside():
                    assert asker.phase == "absent" or (asker.person and asker.phase == "ready")
                    if asker.phase == "absent":
                        asker.phase = "loading"
                        asker.loads += 1
                    asker.person = ""
                    has_changed = True
                case Evict(names):
                    asker.evicts |= set(names)
                    for each in names:
                        self.stop(by_name[each], asker)
                    has_changed = True
                case NoRoom():
                    self.refused.add(name)
                    asker.waiting.clear()
                    asker.person = ""
                    has_changed = True
                case WaitFor(names, until):
                    assert names
                    assert until is None or until > self.now
                    self.next_time = min(self.next_time, until or inf)
        return has_changed

    def stop(self, model, asker):
        assert not model.pinned
        assert model.phase in {"ready", "loading"}
        if asker.person:
            pass  # does not wait
        elif model.under_way or model.phase == "loading":
            assert self.now - asker.waiting[0] >= 120
        if model.under_way and not asker.person:
            assert self.now - model.since >= 120
            assert model.priority <= asker.priority
        model.phase = "draining" if model.under_way else "leaving"


class AnyCourse(Course, RuleBasedStateMachine):
    """Requests come, take their time and end; models are loaded, drained and stopped as it is decided."""

    @initialize(
        sizes=st.lists(st.none() | BYTES | BYTES | BYTES, min_size=2, max_size=6),
        pinned=st.sets(st.integers(0, 5), max_size=2),
        prior=st.sets(st.integers(0, 5), max_size=2),
        memory=memories(),
    )
    def a_machine(self, sizes, pinned, prior, memory):
        self.begin(sizes, memory, pinned, prior)

    @rule(data=st.data(), many=st.integers(1, 3))
    def requests_come(self, data, many):
        model = data.draw(st.sampled_from(self.models))
        self.arrive(model, many)
        self.carry_on()

    @rule(data=st.data(), alone=st.booleans())
    def a_person_loads_one(self, data, alone):
        data.draw(st.sampled_from(self.models)).person = "loads alone" if alone else "loads"
        self.carry_on()

    @rule(data=st.data())
    def an_answer_ends(self, data):
        if busy := [each for each in self.models if each.under_way]:
            self.end_one(data.draw(st.sampled_from(busy)))

    @rule(data=st.data())
    def a_load_or_a_stop_is_over(self, data):
        if coming := [each for each in self.models if each.phase in {"loading", "leaving"}]:
            self.settle(data.draw(st.sampled_from(coming)))

    @rule(seconds=st.sampled_from([1.0, 29.0, 30.0, 119.0, 120.0, 500.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.carry_on()

    @invariant()
    def the_account_never_exceeds_what_is_there(self):
        there = [each for each in getattr(self, "models", ()) if each.phase != "absent"]
        for pool, usable in self.memory.bytes.items() if there else ():
            assert sum(taken(each, pool) for each in there) <= usable
        unknown = [each for each in there if each.bytes is None and not each.pinned]
        assert not unknown or all(each.pinned for each in there if each is not unknown[0])

    @invariant()
    def who_waits_has_something_to_wait_for(self):
        """Liveness: a load or a stop is under way, an answer is, or the time is known at which to go on."""
        if any(each.waiting or each.person for each in getattr(self, "models", ())):
            moves = any(each.phase in {"loading", "leaving"} or each.under_way for each in self.models)
            assert moves or self.next_time < inf

    def teardown(self):
        """From wherever it is: if loads, stops and answers come to an end, everybody is served."""
        if not hasattr(self, "models"):
            return
        for _ in range(200):
            if not any(each.waiting or each.person for each in self.models):
                break
            if coming := [each for each in self.models if each.phase in {"loading", "leaving"}]:
                self.settle(coming[0])
            elif busy := [each for each in self.models if each.under_way]:
                self.end_one(busy[0])
            else:
                assert self.next_time < inf
                self.now = self.next_time
                self.carry_on()
        assert not any(each.waiting or each.person for each in self.models)


AnyCourse.TestCase.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAnyCourse = AnyCourse.TestCase


@given(st.lists(BYTES, min_size=2, max_size=6), memories())
@hypothesis_settings(max_examples=25, deadline=None)
def test_nobody_starves_while_everything_is_asked_for_without_pause(sizes, memory):
    """Every model is asked for every five seconds, and no answer ends before the next request for it comes."""
    course, longest = Course(), 0.0
    course.begin(sizes, memory)
    while course.now < 1800:
        for each in course.models:
            if each.name not in course.refused:
                course.arrive(each)
        course.carry_on()
        for each in course.models:
            if each.phase in {"loading", "leaving"}:
                course.settle(each)
            while each.under_way > (each.phase == "ready"):
                course.end_one(each)
            longest = max([longest, *(course.now - arrived for arrived in each.waiting)])
        course.now += 5.0
    assert longest <= (len(sizes) - 1) * (120 + 20)  # each of the others has had its turn once


@given(st.lists(BYTES, min_size=3, max_size=6), memories(), st.booleans())
@hypothesis_settings(max_examples=50, deadline=None)
def test_a_persons_load_comes_to_an_end_while_everything_is_asked_for_without_pause(sizes, memory, alone):
    """Each one that has to go does so once, though requests for it wait by then."""
    course = Course()
    course.begin(sizes, memory)
    first = course.models[0]
    coming = []
    for step in range(6 * len(sizes)):
        if step == 3 * len(sizes):  # by now all are loaded that have room
            first.person = "loads alone" if alone else "loads"
        for each in course.models:
            if each.name not in course.refused:
                course.arrive(each)
        course.carry_on()
        for each in course.models:
            while each.under_way:
                course.end_one(each)
        coming = [each for each in coming if each.phase in {"loading", "leaving"}]
        coming += [
            each for each in course.models if each.phase in {"loading", "leaving"} and each not in coming
        ]
        if coming:  # one at a time, in the order in which they began
            course.settle(coming.pop(0))
    assert not first.person
