"""The life of one request: told as stories, then shaken."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, sampled_from

from supervisor.gateway.exchange_table import (
    EXCHANGE_TABLE,
    ExchangeDo,
    ExchangeEvent,
    ExchangeLife,
    ExchangeState,
    IllegalExchangeEvent,
)

GO, CONNECTED, UNREACHABLE, STALE, REFUSED, LOST, BEGUN, ANSWERED, FAILED, LEFT, HANDED_ON = ExchangeEvent
CONNECT, RECONNECT, SEND, DROP, WAIT, REPLAY, TELL, END = ExchangeDo
HELD, CONNECTING, SENT, OVER = (
    ExchangeState.HELD,
    ExchangeState.CONNECTING,
    ExchangeState.SENT,
    ExchangeState.OVER,
)
ENDS_BADLY = (DROP, TELL, END)
MOST_REFUSALS = 3  # as many as there are peers: each is asked once


def story(*events, replays=True):
    """What is done at each of these events."""
    life = ExchangeLife()
    return [life.handle(event, replays=replays) for event in events]


def test_it_goes_and_is_answered():
    assert story(GO, CONNECTED, BEGUN, ANSWERED) == [(CONNECT,), (SEND,), (), (END,)]


def test_a_small_answer_comes_whole():
    assert story(GO, CONNECTED, ANSWERED)[-1] == (END,)


def test_what_waits_again_since_its_server_went_while_it_was_connected_to_is_not_sent():
    """And that was no second chance: it has not been sent yet."""
    events = (GO, LOST, GO, CONNECTED, LOST, GO, CONNECTED, ANSWERED)
    done = [(CONNECT,), (DROP, WAIT), (CONNECT,), (SEND,), (DROP, REPLAY), (CONNECT,), (SEND,), (END,)]
    assert story(*events) == done


def test_what_waits_can_be_handed_on_and_what_is_answered_cannot():
    assert story(HANDED_ON) == [()]
    assert story(GO, CONNECTED, LOST, HANDED_ON)[-1] == ()
    for before in ((GO,), (GO, CONNECTED), (GO, CONNECTED, BEGUN)):
        with pytest.raises(IllegalExchangeEvent):
            story(*before, HANDED_ON)


def test_it_tries_to_reach_its_server_as_long_as_it_may_wait():
    assert story(*[GO, UNREACHABLE] * 20, replays=False)[1::2] == [(DROP, WAIT)] * 20


def test_a_server_that_dies_twice_is_told():
    assert story(GO, CONNECTED, LOST, GO, CONNECTED, LOST)[-1] == ENDS_BADLY


def test_without_replay_the_first_time_is_told():
    assert story(GO, CONNECTED, LOST, replays=False)[-1] == ENDS_BADLY


def test_an_answer_of_which_the_client_has_some_is_not_begun_anew():
    assert story(GO, CONNECTED, BEGUN, LOST)[-1] == ENDS_BADLY


def test_a_connection_that_was_closed_meanwhile_is_replaced():
    done = [(CONNECT,), (SEND,), (DROP, RECONNECT), (SEND,), (END,)]
    assert story(GO, CONNECTED, STALE, CONNECTED, ANSWERED, replays=False) == done


def test_what_a_peer_refuses_may_go_on_and_is_still_replayed_once():
    events = (GO, CONNECTED, REFUSED, GO, CONNECTED, LOST, GO, CONNECTED, REFUSED, GO, CONNECTED, LOST)
    done = [(CONNECT,), (SEND,), (DROP, WAIT), (CONNECT,), (SEND,), (DROP, REPLAY)]
    assert story(*events) == [*done, *done[:3], (CONNECT,), (SEND,), ENDS_BADLY]


@pytest.mark.parametrize("how", [UNREACHABLE, LOST])
def test_where_it_cannot_be_replaced_the_server_that_closed_it_was_dying(how):
    assert story(GO, CONNECTED, STALE, how)[-1] == (DROP, REPLAY)
    assert story(GO, CONNECTED, STALE, how, replays=False)[-1] == ENDS_BADLY
    assert story(GO, CONNECTED, STALE, how, GO, UNREACHABLE)[-1] == (DROP, WAIT)


@pytest.mark.parametrize("before", [(), (GO,), (GO, CONNECTED), (GO, CONNECTED, BEGUN)])
def test_who_leaves_ends_it_wherever_it_is(before):
    assert story(*before, LEFT)[-1] == ((DROP, END) if before else (END,))


@pytest.mark.parametrize("state", ExchangeState)
@pytest.mark.parametrize("event", ExchangeEvent)
@pytest.mark.parametrize("replays", [True, False])
def test_what_the_table_does_not_have_is_refused_and_changes_nothing(state, event, replays):
    life = ExchangeLife()
    life.state = state
    possible = dict.fromkeys(EXCHANGE_TABLE[state])
    if state in {SENT, ExchangeState.BEGUN}:
        possible[LOST] = None  # it may be judged to have failed
    if event in possible:
        life.handle(event, replays=replays)
    else:
        with pytest.raises(IllegalExchangeEvent):
            life.handle(event, replays=replays)
        assert life.state is state


def test_the_one_row_that_ends_it_ends_with_that():
    rows = itertools.chain.from_iterable(table.values() for table in EXCHANGE_TABLE.values())
    for state, commands in rows:
        assert commands.count(END) == (state is OVER)
        assert END not in commands[:-1]


class AnyLife(RuleBasedStateMachine):
    """The world of one request, in which all happens that can: its shell, a queue, a server, a client."""

    @initialize(replays=booleans())
    def begin(self, replays):
        self.life, self.replays = ExchangeLife(), replays
        self.connection = ""  # or "opening", "open"
        self.is_kept = False  # the connection was used before
        self.is_queued, self.is_with_server, self.client_has_some = True, False, False
        self.sent = self.told = self.ended = self.replayed = self.refused = 0

    def happens(self, event, *, kept=False):
        for do in self.life.handle(event, replays=self.replays):
            self.carry_out(do, kept=kept)

    def carry_out(self, do, *, kept):
        assert not self.ended  # nothing follows
        match do:
            case ExchangeDo.CONNECT | ExchangeDo.RECONNECT:
                assert not self.connection
                self.is_kept = kept and do is CONNECT
                self.connection = "open" if self.is_kept else "opening"
                if self.is_kept:
                    self.happens(CONNECTED)
            case ExchangeDo.SEND:
                assert self.connection == "open"
                assert not any((self.is_queued, self.is_with_server, self.client_has_some, self.told))
                self.is_with_server = True
                self.sent += 1
            case ExchangeDo.DROP:
                self.connection, self.is_with_server = "", False
            case ExchangeDo.WAIT | ExchangeDo.REPLAY:
                assert not self.connection
                assert not self.client_has_some
                self.is_queued = True
                self.replayed += do is REPLAY
            case ExchangeDo.TELL:
                self.told += 1
            case ExchangeDo.END:
                self.ended += 1

    def can(self, what):
        return hasattr(self, "life") and not self.ended and what(self)

    queued = precondition(lambda self: self.can(lambda it: it.is_queued))
    opening = precondition(lambda self: self.can(lambda it: it.connection == "opening"))
    with_server = precondition(lambda self: self.can(lambda it: it.is_with_server))
    under_way = precondition(lambda self: self.can(lambda it: it.connection))
    not_over = precondition(lambda self: self.can(lambda _: True))

    @queued
    @rule(kept=booleans())
    def goes(self, kept):
        self.is_queued = False
        self.happens(GO, kept=kept)

    @opening
    @rule(how=sampled_from([CONNECTED, UNREACHABLE]))
    def connects_or_not(self, how):
        self.connection = "open" if how is CONNECTED else ""
        self.happens(how)

    @with_server
    @rule()
    def breaks(self):
        is_stale = self.is_kept and not self.client_has_some
        self.connection, self.is_with_server = "", False
        self.happens(STALE if is_stale else LOST)

    @with_server
    @rule()
    def answer_begins(self):
        if not self.client_has_some:
            self.client_has_some = True
            self.happens(BEGUN)

    @with_server
    @rule()
    def is_answered(self):
        self.connection, self.is_with_server = "", False
        self.happens(ANSWERED)

    @with_server
    @rule()
    def is_refused(self):
        if not self.client_has_some and self.refused < MOST_REFUSALS:
            self.refused += 1
            self.happens(REFUSED)

    @under_way
    @rule()
    def server_is_taken_away(self):
        self.happens(LOST)

    @not_over
    @rule(how=sampled_from([FAILED, LEFT]))
    def is_given_up(self, how):
        self.is_queued = False
        self.happens(how)

    @precondition(lambda self: hasattr(self, "life") and self.ended)
    @rule(replays=booleans())
    def another_comes(self, replays):
        self.begin(replays)

    @invariant()
    def it_is_in_one_place(self):
        """In the queue, with its connection, or over: never nowhere, never in two of them."""
        if hasattr(self, "life"):
            assert self.is_queued + bool(self.connection) + self.ended == 1
            assert self.is_queued == (self.life.state is HELD)
            assert bool(self.ended) == (self.life.state is OVER)

    @invariant()
    def it_is_replayed_and_told_once_at_most(self):
        if hasattr(self, "life"):
            assert self.replayed == self.life.was_replayed <= self.replays
            assert self.told <= 1
            assert self.sent <= 2 + 2 * (
                self.replayed + self.refused
            )  # of which a kept connection may have swallowed half

    def teardown(self):
        """From wherever it is: if it is let go, connected and answered, it ends."""
        if not hasattr(self, "life"):
            return
        for _ in range(3):
            if self.is_queued:
                self.goes(kept=False)
            elif self.connection == "opening":
                self.connects_or_not(CONNECTED)
            elif self.is_with_server:
                self.is_answered()
        assert self.ended == 1


AnyLife.TestCase.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAnyLife = AnyLife.TestCase
