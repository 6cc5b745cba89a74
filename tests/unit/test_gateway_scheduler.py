"""The queue: who goes, who waits, whose turn it is.  Told as stories, then shaken."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import inf

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import booleans, data, floats, integers, sampled_from

from supervisor.gateway.scheduler import Go, Refuse, Scheduler, Situation, Switch, Ticket, Wake
from supervisor.profile.definition import GatewaySettings

SMALL = GatewaySettings(min_warm_seconds=30, max_wait_seconds=120, hold_timeout_seconds=600, max_queue=3)
SERVING = Situation("serving", "a", 1, 0.0)


def test_each_request_goes_to_the_server_that_has_its_profile():
    line = queue(GatewaySettings())
    line.change(Situation("coming", "b", 1), 0.0, "small")
    to_a, to_b, to_any = at(1, "a"), at(1, "b"), at(1)
    assert line.arrive(to_a, 1.0) == [Go(to_a)]
    assert line.arrive(to_b, 1.0) == []
    assert line.arrive(to_any, 1.0) == [Go(to_any)]
    assert line.change(Situation("serving", "b", 2, 2.0), 2.0, "small") == [Go(to_b)]
    assert [each.server for each in (to_a, to_b, to_any)] == ["default", "small", "default"]


def queue(settings=SMALL, situation=SERVING):
    made = Scheduler(settings)
    made.change(situation, 0.0)
    return made


def at(seconds, profile="", **more):
    return Ticket(seconds, profile, **more)


def test_a_request_to_a_server_that_serves_goes_at_once():
    line, ticket = queue(), at(1)
    assert line.arrive(ticket, 1.0) == [Go(ticket)]


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
    assert actions == [Wake()]
    assert line.change(Situation("coming", "a"), 2.0) == []
    assert line.change(Situation("serving", "a", 2, 3.0), 3.0) == [Go(ticket) for ticket in tickets]


def test_who_only_looks_does_not_wake_it():
    line, look = queue(situation=Situation("asleep", "a")), at(1, wakes=False)
    assert line.arrive(look, 1.0) == [Refuse(look, "asleep")]


def test_an_idle_model_that_has_been_warm_makes_way_for_another_at_once():
    line, other = queue(), at(40, "b")
    assert line.arrive(other, 40.0) == [Switch("b")]


def test_a_model_that_was_just_loaded_is_kept_until_it_has_been_warm():
    line, other = queue(), at(1, "b")
    assert line.arrive(other, 1.0) == []
    assert line.next_time(1.0) == 30.0
    assert line.tick(30.0) == [Switch("b")]


def test_a_busy_model_makes_way_after_the_longest_wait_and_serves_until_it_does():
    line, busy, other = queue(), at(40), at(41, "b")
    line.arrive(busy, 40.0)
    assert line.arrive(other, 41.0) == []
    assert line.next_time(41.0) == 161.0
    assert line.tick(161.0) == [Switch("b")]
    meanwhile, late = at(162, "a"), at(164, "a")
    assert line.arrive(meanwhile, 162.0) == [Go(meanwhile)]
    line.change(Situation("coming", "a"), 163.0)
    assert line.arrive(late, 164.0) == []
    assert line.end(busy, 165.0) == line.end(meanwhile, 165.0) == []
    line.change(Situation("coming", "b"), 166.0)
    assert line.change(Situation("serving", "b", 2, 170.0), 170.0) == [Go(other)]
    line.end(other, 171.0)
    assert line.tick(199.9) == []
    assert line.tick(200.0) == [Switch("a")]  # b has been warm, and nobody uses it


def test_all_who_wait_for_a_profile_are_served_by_one_switch():
    line, others = queue(GatewaySettings()), [at(n, "b") for n in range(5)]
    for ticket in others:
        line.arrive(ticket, 5.0)
    assert line.tick(30.0) == [Switch("b")]
    assert line.tick(31.0) == []
    assert line.change(Situation("serving", "b", 2, 40.0), 40.0) == [Go(ticket) for ticket in others]


def test_two_clients_that_take_turns_leave_each_model_its_time():
    """Each asks for its own profile again as soon as it has its answer: for an hour."""
    line, now, switches = queue(GatewaySettings()), 0.0, []

    def judge(actions):
        for action in actions:
            if isinstance(action, Switch):
                switches.append(now)
                judge(line.change(Situation("serving", action.profile, len(switches) + 1, now), now))

    judge(line.arrive(at(now, "b"), now))
    judge(line.arrive(at(now, "a"), now))
    while now < 3600:
        now += 1.0
        for ticket in list(line.under_way):
            judge(line.end(ticket, now))
            judge(line.arrive(at(now, ticket.profile), now))
    assert len(switches) > 30
    assert all(later - earlier >= 30 for earlier, later in itertools.pairwise(switches))


def test_a_switch_that_fails_is_told_to_those_who_wanted_it_and_to_nobody_else():
    line, other, mine = queue(), at(40, "b"), at(41)
    assert line.arrive(other, 40.0) == [Switch("b")]
    assert line.arrive(mine, 41.0) == [Go(mine)]
    assert line.switched("b", "it does not fit", 42.0) == [Refuse(other, "switch", "it does not fit")]


@pytest.mark.parametrize("told", ["", "goss-supervisor switch ended with 1", None])
def test_a_switch_that_nobody_waits_for_any_more_holds_nobody_up(told):
    """Its client leaves, somebody unloads b while it starts, and its end is told rightly, wrongly or never."""
    line, leaver, other = queue(), at(40, "b"), at(45, "a")
    assert line.arrive(leaver, 40.0) == [Switch("b")]
    assert line.end(leaver, 41.0) == []
    line.change(Situation("coming", "b", 2), 42.0)
    line.change(Situation("asleep", "b", 3), 43.0)
    if told is not None:
        assert line.switched("b", told, 44.0) == []
    assert line.arrive(other, 45.0) == [Switch("a")]


def test_a_switch_that_is_known_to_have_come_about_cannot_fail_afterwards():
    line, other, late = queue(), at(40, "b"), at(44, "b")
    assert line.arrive(other, 40.0) == [Switch("b")]
    assert line.change(Situation("serving", "b", 2, 42.0), 42.0) == [Go(other)]
    line.change(Situation("asleep", "b", 3), 43.0)
    assert line.arrive(late, 44.0) == [Wake()]
    assert line.switched("b", "it ended with 1", 44.5) == []
    assert line.change(Situation("serving", "b", 4, 45.0), 45.0) == [Go(late)]


def test_a_switch_that_gave_way_to_a_persons_holds_nobody_up():
    line, other, mine = queue(), at(40, "b"), at(43, "a")
    assert line.arrive(other, 40.0) == [Switch("b")]
    line.change(Situation("serving", "c", 2, 41.0), 41.0)
    assert line.switched("b", "c was asked for", 42.0) == [Refuse(other, "switch", "c was asked for")]
    assert line.arrive(mine, 43.0) == []
    assert line.tick(71.0) == [Switch("a")]


def test_a_server_that_is_put_to_sleep_again_before_anybody_saw_it_wake_is_woken_again():
    line, ticket = queue(situation=Situation("asleep", "a", 1)), at(1)
    assert line.arrive(ticket, 1.0) == [Wake()]
    assert line.change(Situation("asleep", "a", 1), 1.5) == []
    assert line.change(Situation("asleep", "a", 3), 2.0) == [Wake()]


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
    assert line.change(Situation("serving", "a", 2, 2.3), 2.3) == [Go(first), Go(second)]


def test_requests_that_a_crash_failed_keep_the_order_of_their_arrival():
    line, lost = queue(), [at(1) for _ in range(4)]
    for ticket in lost:
        assert line.arrive(ticket, 1.0) == [Go(ticket)]
    line.change(Situation("coming", "a"), 2.0)
    late = at(3)
    line.arrive(late, 3.0)
    for ticket in (lost[2], lost[0], lost[3], lost[1]):  # as their connections happen to break
        assert line.come_again(ticket, 3.0) == []
    assert line.change(Situation("serving", "a", 2, 4.0), 4.0) == [Go(ticket) for ticket in [*lost, late]]


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


class AnyTrace(RuleBasedStateMachine):
    """
    Whatever happens, no request is lost, none is answered twice, and no bound is passed; and who waits goes.

    ``out`` is the profile of the switch of which nobody knows yet what came of it.
    """

    @initialize(limit=integers(0, 3))
    def begin(self, limit):
        self.settings = GatewaySettings(
            max_queue=4,
            max_concurrent=limit,
            min_warm_seconds=5,
            max_wait_seconds=10,
            hold_timeout_seconds=50,
        )
        self.line = Scheduler(self.settings)
        self.now, self.launch = 0.0, 0
        self.gone: set[Ticket] = set()
        self.refused: set[Ticket] = set()
        self.there: list[Ticket] = []
        self.situation = Situation("coming", "a")
        self.out, self.woken = "", -1

    def judge(self, actions):
        for action in actions:
            match action:
                case Go(ticket):
                    assert self.situation.phase == "serving"
                    assert ticket.profile in {"", self.situation.profile}
                    assert ticket not in self.refused
                    self.gone.add(ticket)
                case Refuse(ticket):
                    assert ticket not in self.gone
                    self.refused.add(ticket)
                    self.there.remove(ticket)
                case Switch(profile):
                    assert profile != self.situation.profile
                    assert self.situation.phase in {"serving", "down", "asleep"}
                    assert not self.out
                    self.out = profile
                case Wake():
                    assert self.situation.phase == "asleep"
                    assert self.woken != self.launch
                    self.woken = self.launch

    @rule(profile=sampled_from(["", "a", "b"]), generates=booleans(), wakes=booleans())
    def arrive(self, profile, generates, wakes):
        ticket = Ticket(self.now, profile, generates=generates, wakes=wakes)
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
            ticket.lost_launch, ticket.not_before = self.launch, self.now + 1
            self.judge(self.line.come_again(ticket, self.now))

    @rule(phase=sampled_from(["serving", "coming", "asleep", "down", "ending"]), profile=sampled_from("abc"))
    def change(self, phase, profile):
        self.launch += 1
        self.situation = Situation(phase, profile, self.launch, self.now)
        if phase != "coming" and profile == self.out:
            self.out = ""
        self.judge(self.line.change(self.situation, self.now))

    @rule(profile=sampled_from("ab"), why=sampled_from(["", "no"]))
    def hear_of_a_switch(self, profile, why):
        if profile == self.out:
            self.out = ""
        self.judge(self.line.switched(profile, why, self.now))

    @rule(seconds=floats(0.1, 20))
    def pass_time(self, seconds):
        self.now += seconds
        self.judge(self.line.tick(self.now))

    @invariant()
    def nobody_is_lost(self):
        if hasattr(self, "line"):
            assert set(self.there) == set(self.line.waiting) | self.line.under_way
            assert self.line.under_way == self.gone & set(self.there)
            assert (
                all(self.now - ticket.arrived < 50 for ticket in self.line.waiting) or not self.line.waiting
            )

    @invariant()
    def they_wait_in_the_order_of_their_arrival(self):
        if hasattr(self, "line"):
            waiting = [ticket for ticket in self.there if ticket in self.line.waiting]
            assert self.line.waiting == waiting

    @invariant()
    def bounds_hold(self):
        if hasattr(self, "line"):
            waiting = self.line.waiting
            # Those that were sent and come again are never turned away for want of room.
            fresh = [ticket for ticket in waiting if ticket.lost_launch < 0]
            assert len(fresh) <= 4
            limit = self.settings.max_concurrent
            assert not limit or sum(ticket.generates for ticket in self.line.under_way) <= limit

    @invariant()
    def nobody_waits_who_could_go(self):
        """While it serves, a request for what it serves that has room goes."""
        if not hasattr(self, "line") or self.situation.phase != "serving":
            return
        for ticket in self.line.waiting:
            mine = ticket.profile in {"", self.situation.profile}
            backs_off = ticket.lost_launch == self.launch and self.now < ticket.not_before
            room = not ticket.generates or self.line._has_room()
            assert not (mine and room and not backs_off)

    @invariant()
    def something_is_done_for_who_waits(self):
        """Unless it is coming anyway, a wake or a switch is out; or it serves, and the time is known."""
        if not hasattr(self, "line") or not self.line.waiting or self.out:
            return
        others = [
            ticket for ticket in self.line.waiting if ticket.profile not in {"", self.situation.profile}
        ]
        match self.situation.phase:
            case "asleep":
                assert self.woken == self.launch
            case "serving" if others:
                since = self.situation.since
                due = max(others[0].arrived, since) + self.settings.max_wait_seconds
                if len(others) == len(self.there):  # nobody uses what serves
                    due = min(due, since + self.settings.min_warm_seconds)
                assert self.now < due
                assert self.line.next_time(self.now) <= due
            case phase:
                assert phase in {"coming", "serving"}

    def teardown(self):
        """From wherever it is: if wakes and switches come about and answers end, everybody who waits goes."""
        if not hasattr(self, "line"):
            return
        self.line.settings = replace(self.settings, hold_timeout_seconds=inf)
        before = set(self.refused)
        for _ in range(100):
            if not self.line.waiting:
                break
            if self.gone:
                self.is_over(min(self.gone, key=self.there.index))
            elif self.out or self.situation.phase != "serving":
                self.change("serving", self.out or self.situation.profile)
            else:
                due = self.line.next_time(self.now)
                assert due < inf
                self.now = max(self.now, due)
                self.judge(self.line.tick(self.now))
        assert not self.line.waiting
        assert self.refused == before


AnyTrace.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyTrace = AnyTrace.TestCase
