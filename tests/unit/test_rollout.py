"""An update of several servers: which it moves, in which order, and what it takes back, as stories."""

from __future__ import annotations

import pytest

from supervisor.engine.catalogue.releases import REPOSITORY
from supervisor.errors import NotRunning, StartFailed, Superseded, SupervisorError
from supervisor.measure.comparison import ComparisonVerdict
from supervisor.plan.launch import LaunchPlan
from supervisor.profile.definition import Engine
from supervisor.update.rollout import carry_out, roll_out
from supervisor.update.update_target import FleetServer, to_compare

NIGHTLY = Engine(channel="nightly")


def server(name, build="b1", state="ready", engine=NIGHTLY, *, repository=REPOSITORY, main=False):
    plan = LaunchPlan(name, (), {}, "", 0, build, "cpu", "", "", f"{name}-{build}", repository=repository)
    return FleetServer("default" if main else name, state, plan, engine, is_main=main)


ONE, TWO, THREE = server("one", main=True), server("two"), server("three")
FLEET = (ONE, TWO, THREE)


def names(servers):
    return [each.plan.profile for each in servers]


def whys(rollout):
    return {each.profile: (each.result, each.why) for each in rollout.others}


class Story:
    """A mover that writes down what it is asked; ``verdicts`` are by profile: a reason, or an error to raise."""

    def __init__(self, idle=(), **verdicts):
        self.idle, self.verdicts = idle, verdicts
        self.did: list[str] = []

    def is_idle(self, server):
        return server.plan.profile in self.idle

    def compare(self, server):
        return self._judged("compare", server)

    def relocate(self, server):
        return self._judged("move", server)

    def _judged(self, what, server):
        verdict = self._said(what, server)
        if isinstance(verdict, BaseException):
            raise verdict
        return ComparisonVerdict(verdict, figures="" if verdict or what == "move" else "as fast")

    def back(self, server):
        return self._said("back", server, "back_")

    def rest(self, server):
        return self._said("rest", server)

    def keep(self):
        self.did.append("keep")

    def _said(self, what, server, key=""):
        self.did.append(f"{what} {server.plan.profile}")
        return self.verdicts.get(f"{key}{server.plan.profile}", "")


def told(fleet=FLEET, first="one", *, compares=True, **verdicts):
    """What was done, in order, and what became of each."""
    story = Story(**verdicts)
    rollout = roll_out(fleet, "nightly", "b2", first=first)
    end = carry_out(rollout, "b2", story, compares=compares)
    return story.did, {each.profile: (each.result, each.build, each.why) for each in end.servers}, end


def test_one_is_compared_the_others_follow_and_only_then_it_is_kept():
    did, servers, end = told()
    assert did == ["compare one", "move two", "move three", "keep"]
    assert servers["one"] == ("compared", "b2", "as fast")
    assert servers["three"] == ("moved", "b2", "")
    assert (end.failed, end.verdict.figures) == (None, "as fast")


def test_another_one_that_nobody_uses_is_compared_too_and_where_it_is_slower_all_go_back():
    did, servers, _ = told(idle={"three"})
    assert did == ["compare one", "move two", "compare three", "keep"]
    assert servers["three"] == ("compared", "b2", "as fast")
    did, servers, end = told(idle={"three"}, three="68 % of the 45.9")
    assert did[-2:] == ["back two", "back one"]
    assert (servers["three"], end.failed) == (("taken back", "b1", "68 % of the 45.9"), THREE)


def test_a_build_that_is_worse_on_the_first_reaches_no_other():
    did, servers, end = told(one="68 % of the 45.9")
    assert did == ["compare one"]
    assert servers["one"] == ("taken back", "b1", "68 % of the 45.9")
    assert servers["two"] == ("unchanged", "b1", "its turn had not come")
    assert end.failed is ONE


def test_a_build_that_fails_another_is_taken_back_from_all():
    did, servers, end = told(three="it ended before it was ready")
    assert did == ["compare one", "move two", "move three", "back two", "back one"]
    assert {result for result, build, _ in servers.values()} == {"taken back"}
    assert {build for _, build, _ in servers.values()} == {"b1"}
    assert (end.failed, end.verdict.worse) == (THREE, "it ended before it was ready")


def test_one_that_neither_build_can_start_is_the_builds_fault_and_tried_with_the_old_one_again():
    did, servers, end = told(two=StartFailed("two did not become ready."), back_two="no memory")
    assert did == ["compare one", "move two", "back two", "back one"]
    assert servers["two"][2] == "two did not become ready; it is down: no memory"
    assert servers["three"][0] == "unchanged"
    assert end.failed is TWO


def test_one_that_cannot_go_back_is_named_and_the_others_go():
    did, servers, _ = told(three="slow", back_two="the disk is full")
    assert did[-2:] == ["back two", "back one"]
    assert servers["two"] == ("stuck", "b2", "the disk is full")
    assert servers["one"][:2] == ("taken back", "b1")


def test_a_later_request_for_another_server_is_left_alone_and_so_is_what_the_daemon_refuses():
    did, servers, end = told(
        two=Superseded("b2 was not judged: stopped.\nmore"), three=SupervisorError("Held.")
    )
    assert did == ["compare one", "move two", "move three", "keep"]
    assert servers["two"] == ("unchanged", "b1", "b2 was not judged: stopped")
    assert servers["three"] == ("unchanged", "b1", "Held")
    assert end.failed is None


def test_what_was_left_alone_stays_so_when_all_go_back():
    _, servers, _ = told(two=Superseded("stopped."), three="slow")
    assert servers["two"] == ("unchanged", "b1", "stopped")


@pytest.mark.parametrize("error", [Superseded("x"), StartFailed("x"), SupervisorError("x")])
def test_whatever_becomes_of_the_first_is_no_matter_of_the_others(error):
    story = Story(one=error)
    with pytest.raises(type(error)):
        carry_out(roll_out(FLEET, "nightly", "b2", first="one"), "b2", story)
    assert story.did == ["compare one"]


def test_a_daemon_that_goes_away_ends_it_and_nothing_is_kept():
    story = Story(two=NotRunning("gone"))
    with pytest.raises(NotRunning):
        carry_out(roll_out(FLEET, "nightly", "b2", first="one"), "b2", story)
    assert story.did == ["compare one", "move two"]


def test_who_interrupts_it_gets_all_back():
    story = Story(three=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        carry_out(roll_out(FLEET, "nightly", "b2", first="one"), "b2", story)
    assert story.did == ["compare one", "move two", "move three", "back two", "back one"]


def test_one_that_sleeps_gets_its_plan_once_all_are_moved():
    fleet = (ONE, server("two", state="sleeping"), THREE)
    did, servers, _ = told(fleet)
    assert did == ["compare one", "move three", "keep", "rest two"]
    assert servers["two"][0] == "next load"
    did, servers, _ = told(fleet, three="slow")
    assert "rest two" not in did
    assert servers["two"][0] == "unchanged"


def test_a_way_back_measures_nothing():
    did, servers, _ = told(compares=False)
    assert did == ["move one", "move two", "move three", "keep"]
    assert servers["one"][0] == "moved"


def test_what_is_no_matter_of_the_update_is_named_with_its_reason():
    fleet = (
        ONE,
        server("pinned", engine=Engine(channel="b1")),
        server("other", engine=Engine(source="command")),
        server("stable", engine=Engine(channel="stable")),
        server("has", "b2"),
        server("ahead", "b3"),
        server("stopped", state="stopped"),
        server("loads", state="starting"),
    )
    rollout = roll_out(fleet, "nightly", "b2", first="one")
    assert names(rollout.moves) == ["one"]
    assert whys(rollout) == {
        "pinned": ("unchanged", "b1 is pinned (engine.channel): there is no channel to follow"),
        "other": ("unchanged", "engine.source is command: there is no channel to follow"),
        "stable": ("unchanged", "it follows the stable channel"),
        "has": ("unchanged", "it has b2 already"),
        "ahead": ("unchanged", "b3 is newer than b2"),
        "stopped": ("next load", "it is stopped"),
        "loads": ("unchanged", "it is starting now"),
    }


def test_the_first_need_not_serve_and_what_stands_in_for_a_release_goes_whatever_its_number():
    fleet = (server("one", "b9", "backoff", main=True, repository="xllamacpp"), TWO)
    assert names(roll_out(fleet, "nightly", "b2", first="one").moves) == ["one", "two"]
    assert names(roll_out(fleet, "nightly", "b2", first="two").moves) == ["two"]


def test_on_the_way_back_an_older_build_is_taken():
    fleet = (server("one", "b3", main=True), server("two", "b2"))
    assert names(roll_out(fleet, "nightly", "b2").moves) == []
    assert names(roll_out(fleet, "nightly", "b2", back=True).moves) == ["one"]


def test_the_main_server_is_compared_or_the_one_that_is_used_most():
    assert to_compare(FLEET, dict)[0] is ONE
    sleeps = server("one", state="sleeping", main=True)
    chosen, why = to_compare((sleeps, TWO, THREE), lambda: {"three": 7, "two": 2})
    assert (chosen, "most requests" in why) == (THREE, True)
    pinned = server("one", engine=Engine(source="system"), main=True)
    assert to_compare((pinned, TWO), dict)[0] is TWO
    assert to_compare((sleeps,), dict) is None
