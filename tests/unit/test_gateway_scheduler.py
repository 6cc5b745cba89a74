"""The queue: who goes, who waits, what is loaded.  Told as stories, then shaken."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import booleans, data, floats, integers, sampled_from

from supervisor.gateway.scheduler import (
    ContextUse,
    CountPrompt,
    Go,
    LoadProfile,
    Refuse,
    Scheduler,
    Situation,
    Ticket,
)
from supervisor.profile.definition import GatewaySettings

SMALL = GatewaySettings(hold_timeout_seconds=600, max_queue=3)
SERVING = Situation("serving", "a", 1)


def test_each_request_goes_to_the_server_that_has_its_profile():
    line = queue(GatewaySettings())
    line.change(Situation("coming", "b", 1), 0.0, "small")
    to_a, to_b, to_any = at(1, "a"), at(1, "b"), at(1)
    assert line.arrive(to_a, 1.0) == [Go(to_a)]
    assert line.arrive(to_b, 1.0) == []
    assert line.arrive(to_any, 1.0) == [Go(to_any)]
    assert line.change(Situation("serving", "b", 2), 2.0, "small") == [Go(to_b)]
    assert [each.server for each in (to_a, to_b, to_any)] == ["default", "small", "default"]


@pytest.mark.parametrize("far", ["coming", "asleep", "down"])
def test_of_two_servers_that_have_a_profile_a_request_goes_to_the_one_that_serves(far):
    line = queue(GatewaySettings(), Situation(far, "b", 4))
    line.change(Situation("serving", "b", 2), 0.0, "small")
    ticket = at(1, "b")
    assert line.arrive(ticket, 1.0) == [Go(ticket)]
    assert ticket.server == "small"


def queue(settings=SMALL, situation=SERVING):
    made = Scheduler(settings)
    made.change(situation, 0.0)
    return made


def at(seconds, profile="", **more):
    return Ticket(seconds, profile, **more)


def test_a_request_to_a_server_that_serves_goes_at_once():
    line, ticket = queue(), at(1)
    assert line.arrive(ticket, 1.0) == [Go(ticket)]


def test_who_has_a_server_to_itself_is_let_go_and_others_wait_whatever_becomes_of_it():
    line = queue()
    line.change(replace(SERVING, hold=7), 1.0)
    other, own, look = at(2), at(3, hold=7), at(3, generates=False)
    assert line.arrive(other, 2.0) == []
    assert line.arrive(own, 3.0) == [Go(own)]
    assert line.arrive(look, 3.0) == [Go(look)], "it is no work for the model"
    for phase in ("coming", "down", "asleep"):
        assert line.change(Situation(phase, "a", 2, hold=7, retries=True), 4.0) == []
    assert line.arrive(at(5, wakes=False), 5.0) == [], "it is not refused, nor anything loaded for it"
    assert [type(each) for each in line.change(replace(SERVING, launch=3), 6.0)] == [Go, Go]


def test_requests_that_come_while_it_loads_go_in_their_order_when_it_serves():
    line = queue(situation=Situation("coming", "a"))
    first, second = at(1), at(2)
    assert line.arrive(first, 1.0) == line.arrive(second, 2.0) == []
    assert line.change(SERVING, 3.0) == [Go(first), Go(second)]


def test_one_that_waited_too_long_is_told_so():
    line, ticket = queue(situation=Situation("coming", "a")), at(1)
    line.arrive(ticket, 1.0)
    assert line.next_time(1.0) == 601.0
    assert line.tick(600.9) == []
    assert line.tick(601.0) == [Refuse(ticket, "late")]


def test_more_than_may_wait_are_turned_away():
    line = queue(situation=Situation("coming", "a"))
    for second in range(3):
        assert line.arrive(at(second), second) == []
    too_many = at(4)
    assert line.arrive(too_many, 4.0) == [Refuse(too_many, "full")]


def test_a_server_that_stays_down_refuses_who_waits_and_who_comes():
    line, early, late = queue(situation=Situation("coming", "a")), at(1), at(3)
    line.arrive(early, 1.0)
    assert line.change(Situation("down", "a"), 2.0) == [Refuse(early, "down")]
    assert line.arrive(late, 3.0) == [Refuse(late, "down")]


def test_fifty_requests_wake_a_sleeping_server_once_and_all_go():
    line = queue(GatewaySettings(), Situation("asleep", "a"))
    tickets = [at(n) for n in range(50)]
    actions = [action for ticket in tickets for action in line.arrive(ticket, 1.0)]
    assert actions == [LoadProfile("a")]
    assert line.change(Situation("coming", "a"), 2.0) == []
    assert line.change(Situation("serving", "a", 2), 3.0) == [Go(ticket) for ticket in tickets]


def test_who_only_looks_does_not_wake_it():
    line, look = queue(situation=Situation("asleep", "a")), at(1, wakes=False)
    assert line.arrive(look, 1.0) == [Refuse(look, "asleep")]


def test_a_profile_that_nothing_serves_is_loaded_once_for_all_who_wait_and_the_others_go_on():
    line, others, mine = queue(), [at(n, "b") for n in range(3)], at(4, "a")
    assert line.arrive(others[0], 1.0) == [LoadProfile("b")]
    assert line.arrive(others[1], 2.0) == line.arrive(others[2], 3.0) == []
    assert line.arrive(mine, 4.0) == [Go(mine)]
    assert line.change(Situation("coming", "b", 1), 5.0, "b") == []
    assert line.change(Situation("serving", "b", 2), 6.0, "b") == [Go(ticket) for ticket in others]


def test_one_that_was_unloaded_for_another_is_loaded_again_when_somebody_wants_it():
    line, ticket = queue(), at(2, "a")
    line.change(Situation("serving", "b", 1), 1.0, "b")
    line.change(Situation("coming", "a", 1), 1.5)
    assert line.arrive(ticket, 2.0) == []
    assert line.change(Situation("asleep", "a", 2), 3.0) == [LoadProfile("a")]
    assert line.change(Situation("serving", "a", 3), 4.0) == [Go(ticket)]


def test_who_names_no_model_gets_one_that_serves_before_one_that_comes_or_sleeps():
    line, first, second, third = queue(), at(1), at(2), at(3)
    line.change(Situation("serving", "b", 1), 0.5, "b")
    line.change(Situation("serving", "embedder", 1, answers_any=False), 0.5, "e")
    assert line.arrive(first, 1.0) == [Go(first)]
    line.change(Situation("asleep", "a", 2), 1.5)
    assert line.arrive(second, 2.0) == [Go(second)]
    line.change(Situation("asleep", "b", 2), 2.5, "b")
    assert line.arrive(third, 3.0) == [LoadProfile("a")]
    assert [first.server, second.server] == ["default", "b"]


def test_a_load_that_fails_is_told_to_those_who_wanted_it_and_to_nobody_else():
    line, other, mine = queue(), at(40, "b"), at(41, "c")
    assert line.arrive(other, 40.0) == [LoadProfile("b")]
    assert line.arrive(mine, 41.0) == [LoadProfile("c")]
    assert line.loaded("b", "it does not fit", 42.0) == [Refuse(other, "load", "it does not fit")]
    assert line.waiting == [mine]


def test_a_main_server_that_cannot_be_woken_is_told_to_who_named_no_model_too():
    line, ticket = queue(situation=Situation("asleep", "a", 1)), at(1)
    assert line.arrive(ticket, 1.0) == [LoadProfile("a")]
    assert line.loaded("a", "it does not fit", 2.0) == [Refuse(ticket, "load", "it does not fit")]


@pytest.mark.parametrize("told", ["", "goss-supervisor load ended with 1", None])
def test_a_load_that_nobody_waits_for_any_more_holds_nobody_up(told):
    """Its client leaves, somebody unloads b while it starts, and its end is told rightly, wrongly or never."""
    line, leaver, other = queue(), at(40, "b"), at(45, "b")
    assert line.arrive(leaver, 40.0) == [LoadProfile("b")]
    assert line.end(leaver, 41.0) == []
    line.change(Situation("coming", "b", 2), 42.0, "b")
    line.change(Situation("asleep", "b", 3), 43.0, "b")
    if told is not None:
        assert line.loaded("b", told, 44.0) == []
    assert line.arrive(other, 45.0) == [LoadProfile("b")]


def test_a_load_that_is_known_to_have_come_about_cannot_fail_afterwards():
    line, other, late = queue(), at(40, "b"), at(44, "b")
    assert line.arrive(other, 40.0) == [LoadProfile("b")]
    assert line.change(Situation("serving", "b", 2), 42.0, "b") == [Go(other)]
    line.change(Situation("coming", "b", 3), 43.0, "b")
    assert line.arrive(late, 44.0) == []
    assert line.loaded("b", "it ended with 1", 44.5) == []
    assert line.change(Situation("serving", "b", 4), 45.0, "b") == [Go(late)]


def test_one_that_failed_beside_the_main_one_is_tried_again_by_the_next_who_wants_it():
    line, first, second = queue(), at(1, "b"), at(3, "b")
    failed = Situation("down", "b", 1, retries=True)
    assert line.arrive(first, 1.0) == [LoadProfile("b")]
    assert line.change(failed, 2.0, "b") == [Refuse(first, "down")]
    assert line.arrive(second, 3.0) == [LoadProfile("b")]
    assert line.change(replace(failed, launch=2), 4.0, "b") == [Refuse(second, "down")]


def test_a_server_that_is_put_to_sleep_again_before_anybody_saw_it_wake_is_woken_again():
    line, ticket = queue(situation=Situation("asleep", "a", 1)), at(1)
    assert line.arrive(ticket, 1.0) == [LoadProfile("a")]
    assert line.change(Situation("asleep", "a", 1), 1.5) == []
    assert line.change(Situation("asleep", "a", 3), 2.0) == [LoadProfile("a")]


def test_at_the_end_nobody_goes_and_those_who_wait_are_told():
    line, waiting, late = queue(situation=Situation("coming", "a")), at(1), at(3)
    line.arrive(waiting, 1.0)
    assert line.begin_to_end(2.0) == [Refuse(waiting, "ending")]
    assert line.change(SERVING, 2.5) == []
    assert line.arrive(late, 3.0) == [Refuse(late, "ending")]


SHARED = replace(SERVING, context_tokens=1000)


def test_requests_that_share_a_context_go_while_all_of_them_fit_and_nobody_passes_who_waits_for_room():
    line = queue(situation=SHARED)
    first, second, large, small = (at(n, tokens=tokens) for n, tokens in enumerate((400, 500, 600, 50)))
    look = at(5, generates=False)
    assert line.arrive(first, 0.0) == [Go(first)]
    assert line.arrive(second, 1.0) == [Go(second)]
    assert line.arrive(large, 2.0) == [CountPrompt(each) for each in (large, first, second)]
    assert line.arrive(small, 3.0) == []
    assert line.arrive(look, 5.0) == [Go(look)]
    assert line.context_use("default", 5.5) == ContextUse(1000, 900, 2, 3.5)
    assert line.end(second, 6.0) == [Go(large), CountPrompt(small)]
    assert line.end(first, 7.0) == [Go(small)]
    assert [each.waited_for_room(9.0) for each in (first, large, small)] == [0.0, 4.0, 4.0]


def test_one_that_was_estimated_too_high_goes_as_soon_as_it_is_counted():
    line, first, second, third = (
        queue(situation=SHARED),
        at(1, tokens=700),
        at(2, tokens=700),
        at(3, tokens=900),
    )
    line.arrive(first, 1.0)
    assert line.arrive(second, 2.0) == [CountPrompt(second), CountPrompt(first)]
    assert line.counted(second, 400, 2.1) == []
    assert line.counted(first, 300, 2.1) == [Go(second)]
    assert line.arrive(third, 3.0) == [CountPrompt(third)]
    assert line.counted(third, 300, 3.1) == [Go(third)]
    assert line.context_use("default", 4.0) == ContextUse(1000, 1000, 0, 0.0)
    for each in (first, second, third):
        line.end(each, 5.0)
    assert line.context_use("default", 5.0) == ContextUse(1000, 0, 0, 0.0)


def test_one_that_may_be_too_long_by_itself_is_counted_wherever_it_waits():
    line, first, second, huge = (
        queue(situation=SHARED),
        at(1, tokens=700),
        at(2, tokens=700),
        at(3, tokens=1001),
    )
    line.arrive(first, 1.0)
    line.arrive(second, 2.0)
    assert line.arrive(huge, 3.0) == [CountPrompt(huge)]
    assert line.end(huge, 3.5) == []
    assert line.waiting == [second]


def test_while_its_server_is_started_again_nobody_waits_for_room():
    line, first, second = queue(situation=SHARED), at(1, tokens=700), at(2, tokens=700)
    line.arrive(first, 1.0)
    line.arrive(second, 2.0)
    line.change(replace(SHARED, phase="coming"), 3.0)
    assert line.context_use("default", 9.0).waiting == 0
    assert second.waited_for_room(9.0) == 1.0


def test_who_waits_for_a_place_does_not_wait_for_room():
    line = queue(GatewaySettings(max_concurrent=1), SHARED)
    line.arrive(at(1, tokens=700), 1.0)
    assert line.arrive(at(2, tokens=700), 2.0) == []
    assert line.context_use("default", 3.0) == ContextUse(1000, 700, 0, 0.0)
    assert queue().context_use("default", 3.0) is None


def test_one_that_does_not_fit_even_alone_goes_alone_and_the_server_says_so():
    line, small, huge, after = queue(situation=SHARED), at(1, tokens=10), at(2, tokens=5000), at(3, tokens=10)
    line.arrive(small, 1.0)
    assert line.arrive(huge, 2.0) == [CountPrompt(huge), CountPrompt(small)]
    assert line.arrive(after, 3.0) == []
    assert line.end(small, 4.0) == [Go(huge), CountPrompt(after)]
    assert line.end(huge, 5.0) == [Go(after)]


def test_one_that_ran_out_of_context_is_sent_again_by_itself():
    line, one, other, third = queue(situation=SHARED), *(at(n, tokens=10) for n in range(3))
    line.arrive(one, 0.0)
    line.arrive(other, 1.0)
    one.alone, one.lost_launch, one.not_before = True, 1, 2.0
    assert line.come_again(one, 1.5) == []
    assert line.tick(2.0) == []
    assert line.end(other, 3.0) == [Go(one)]
    assert line.arrive(third, 4.0) == [CountPrompt(third)]
    assert line.end(one, 5.0) == [Go(third)]
    assert line._tokens == {"default": 10}


def test_what_others_want_to_know_of_it():
    line, busy, waits = queue(), at(1, "a"), at(2, "b")
    assert (line.is_busy("default"), line.waiting_since("b")) == (False, None)
    line.arrive(busy, 1.0)
    line.arrive(waits, 2.0)
    assert (line.is_busy("default"), line.count_at("default"), line.waiting_since("b")) == (True, 1, 2.0)
    line.end(busy, 3.0)
    assert (line.is_busy("default"), line.is_busy("b")) == (False, False)


def test_no_more_than_may_run_at_once_do_and_the_next_goes_when_one_ends():
    line = queue(GatewaySettings(max_concurrent=1))
    first, second, third, small = at(1), at(2), at(3), at(4, generates=False)
    assert line.arrive(first, 1.0) == [Go(first)]
    assert line.arrive(second, 2.0) == line.arrive(third, 3.0) == []
    assert line.arrive(small, 4.0) == [Go(small)]
    assert line.end(first, 5.0) == [Go(second)]
    assert line.end(second, 6.0) == [Go(third)]


def test_one_whose_server_failed_it_goes_first_to_the_next_launch():
    line, first, second = queue(), at(1), at(2)
    line.arrive(first, 1.0)
    first.lost_launch, first.not_before = 1, 3.0
    assert line.come_again(first, 2.0) == []
    line.change(Situation("coming", "a"), 2.1)
    line.arrive(second, 2.2)
    assert line.change(Situation("serving", "a", 2), 2.3) == [Go(first), Go(second)]


def test_requests_that_a_crash_failed_keep_the_order_of_their_arrival():
    line, lost = queue(), [at(1) for _ in range(4)]
    for ticket in lost:
        assert line.arrive(ticket, 1.0) == [Go(ticket)]
    line.change(Situation("coming", "a"), 2.0)
    late = at(3)
    line.arrive(late, 3.0)
    for ticket in (lost[2], lost[0], lost[3], lost[1]):  # as their connections happen to break
        assert line.come_again(ticket, 3.0) == []
    assert line.change(Situation("serving", "a", 2), 4.0) == [Go(ticket) for ticket in [*lost, late]]


def test_or_to_the_same_one_when_that_turns_out_to_live():
    line, ticket = queue(), at(1)
    line.arrive(ticket, 1.0)
    ticket.lost_launch, ticket.not_before = 1, 3.0
    assert line.come_again(ticket, 2.0) == []
    assert line.next_time(2.0) == 3.0
    assert line.tick(3.0) == [Go(ticket)]


def test_a_client_that_leaves_frees_its_place():
    line, ticket = queue(situation=Situation("coming", "a")), at(1)
    line.arrive(ticket, 1.0)
    line.end(ticket, 2.0)
    assert line.change(SERVING, 3.0) == []


CONTEXTS = {"default": 200, "b": 0}


class AnyTrace(RuleBasedStateMachine):
    """
    Whatever happens, no request is lost, none is answered twice, and no bound is passed; and who waits goes.

    ``out`` are the profiles whose load is out: nobody knows yet what came of it.
    """

    @initialize(limit=integers(0, 3))
    def begin(self, limit):
        self.settings = GatewaySettings(max_queue=4, max_concurrent=limit, hold_timeout_seconds=50)
        self.line = Scheduler(self.settings)
        self.now, self.launch = 0.0, 0
        self.gone: set[Ticket] = set()
        self.refused: set[Ticket] = set()
        self.there: list[Ticket] = []
        self.out: set[str] = set()
        self.judge(self.line.change(Situation("coming", "a", context_tokens=200), 0.0, "default"))

    @property
    def by_profile(self):
        return {each.profile: each for each in self.line.situations.values()}

    def judge(self, actions):
        for action in actions:
            match action:
                case Go(ticket):
                    there = self.line.situations[ticket.server]
                    assert there.phase == "serving"
                    assert ticket.profile in {"", there.profile}
                    assert ticket not in self.refused
                    self.gone.add(ticket)
                case Refuse(ticket):
                    assert ticket not in self.gone
                    self.refused.add(ticket)
                    self.there.remove(ticket)
                case LoadProfile(profile):
                    there = self.by_profile.get(profile)
                    assert there is None or there.phase in {"asleep", "down"}
                    self.out.add(profile)

    @rule(
        profile=sampled_from(["", "a", "b", "c"]),
        generates=booleans(),
        wakes=booleans(),
        tokens=integers(0, 120),
    )
    def arrive(self, profile, generates, wakes, tokens):
        ticket = Ticket(self.now, profile, generates=generates, wakes=wakes, tokens=tokens)
        self.there.append(ticket)
        self.judge(self.line.arrive(ticket, self.now))

    @rule(choice=data())
    def end(self, choice):
        if self.there:
            self.is_over(choice.draw(sampled_from(self.there)))

    def is_over(self, ticket):
        self.there.remove(ticket)
        self.gone.discard(ticket)
        self.judge(self.line.end(ticket, self.now))

    @rule(choice=data())
    def lose(self, choice):
        if self.gone:
            ticket = choice.draw(sampled_from([ticket for ticket in self.there if ticket in self.gone]))
            self.gone.discard(ticket)
            ticket.lost_launch = self.line.situations[ticket.server].launch
            ticket.not_before, ticket.alone = self.now + 1, choice.draw(booleans())
            self.judge(self.line.come_again(ticket, self.now))

    @rule(choice=data())
    def count(self, choice):
        """The estimate was as high as it may be; the count may come late."""
        if self.there:
            ticket = choice.draw(sampled_from(self.there))
            tokens = choice.draw(integers(0, ticket.tokens))
            self.judge(self.line.counted(ticket, tokens, self.now))

    @rule(
        phase=sampled_from(["serving", "coming", "asleep", "down"]),
        name=sampled_from(["default", "b"]),
        retries=booleans(),
    )
    def change(self, phase, name, retries=False):
        """The main server has a, and one beside it has b."""
        self.launch += 1
        profile = "a" if name == "default" else name
        if phase in {"serving", "down"}:
            self.out.discard(profile)
        situation = Situation(phase, profile, self.launch, retries=retries, context_tokens=CONTEXTS[name])
        self.judge(self.line.change(situation, self.now, name))

    @rule(profile=sampled_from("abc"), why=sampled_from(["", "no"]))
    def hear_of_a_load(self, profile, why):
        self.out.discard(profile)
        self.judge(self.line.loaded(profile, why, self.now))

    @rule(seconds=floats(0.1, 20))
    def pass_time(self, seconds):
        self.now += seconds
        self.judge(self.line.tick(self.now))

    @invariant()
    def nobody_is_lost(self):
        if hasattr(self, "line"):
            assert set(self.there) == set(self.line.waiting) | self.line.under_way
            assert self.line.under_way == self.gone & set(self.there)
            assert all(self.now - ticket.arrived < 50 for ticket in self.line.waiting)

    @invariant()
    def they_wait_in_the_order_of_their_arrival(self):
        if hasattr(self, "line"):
            waiting = [ticket for ticket in self.there if ticket in self.line.waiting]
            assert self.line.waiting == waiting

    @invariant()
    def bounds_hold(self):
        if hasattr(self, "line"):
            # Those that were sent and come again are never turned away for want of room.
            fresh = [ticket for ticket in self.line.waiting if ticket.lost_launch < 0]
            assert len(fresh) <= 4
            for name in self.line.situations:
                at_it = [ticket for ticket in self.line.under_way if ticket.server == name]
                assert self.line.count_at(name) == len(at_it)
                busy = [ticket.tokens for ticket in at_it if ticket.generates]
                if CONTEXTS.get(name) and not any(ticket.alone for ticket in at_it):
                    assert len(busy) < 2 or sum(busy) <= CONTEXTS[name]
                limit = self.settings.max_concurrent
                assert not limit or sum(ticket.generates for ticket in at_it) <= limit

    @invariant()
    def nobody_waits_who_could_go_and_something_is_done_for_who_waits(self):
        """It has no room or backs off where it would go; it comes; or its load is out."""
        if not hasattr(self, "line"):
            return
        full = set()
        for ticket in self.line.waiting:
            name = self.line.server_of(ticket)
            there = self.line.situations.get(name)
            match there.phase if there else "absent":
                case "serving":
                    is_the_same = (ticket.server, ticket.lost_launch) == (name, there.launch)
                    backs_off = is_the_same and self.now < ticket.not_before
                    full |= {name} if ticket.generates and not self.line._has_room(name, ticket) else set()
                    assert backs_off or (ticket.generates and name in full)
                case "coming":
                    pass
                case _:
                    assert (there.profile if there else ticket.profile) in self.out

    def teardown(self):
        """From wherever it is: if loads come about and answers end, everybody who waits goes."""
        if not hasattr(self, "line"):
            return
        self.line.settings = replace(self.settings, hold_timeout_seconds=inf)
        before = set(self.refused)
        for _ in range(100):
            if not self.line.waiting:
                break
            if self.gone:
                self.is_over(min(self.gone, key=self.there.index))
            elif self.out:
                profile = min(self.out)
                self.launch += 1
                self.out.discard(profile)
                name = "default" if profile == "a" else profile
                serving = Situation("serving", profile, self.launch, context_tokens=CONTEXTS.get(name, 0))
                self.judge(self.line.change(serving, self.now, name))
            elif any(each.phase == "coming" for each in self.line.situations.values()):
                coming = [name for name, each in self.line.situations.items() if each.phase == "coming"]
                self.change("serving", coming[0])
            else:
                due = self.line.next_time(self.now)
                assert due < inf
                self.now = max(self.now, due)
                self.judge(self.line.tick(self.now))
        assert not self.line.waiting
        assert self.refused == before


AnyTrace.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyTrace = AnyTrace.TestCase
