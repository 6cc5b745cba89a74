"""The table, told as stories, and held against random lives."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.plan.launch import LaunchPlan
from supervisor.profile.definition import Restart, Stop
from supervisor.server.diagnosis import WORKER_LOST, Diagnosis
from supervisor.server.lifecycle import Lifecycle
from supervisor.server.lifecycle_table import (
    ARMS,
    LEAVING,
    LOADING,
    TABLE,
    UNDER_WAY,
    Do,
    Drained,
    Event,
    Exited,
    IllegalEvent,
    PreflightDone,
    Reload,
    RestAsked,
    Serving,
    SleepAsked,
    Start,
    State,
    StopAsked,
    TimerElapsed,
    Unresponsive,
    WakeAsked,
    WorkersBack,
)
from supervisor.server.outcome import LifecycleCommand, Outcome
from supervisor.server.restart_budget import GONE_SECONDS, SHORT_AGAIN_SECONDS

CRASH = Diagnosis("crash", "it crashed", "", retryable=True)
HOPELESS = Diagnosis("argument", "a bad argument", "fix the profile", retryable=False)
GONE = Diagnosis("exit", "exit code 0", "", retryable=True)
A = LaunchPlan(
    profile="a",
    argv=("a",),
    env={},
    host="127.0.0.1",
    port=1,
    build="b1",
    flavour="cpu",
    engine="",
    model="m",
    digest="a",
)
B = replace(A, profile="b", argv=("b",), digest="b")
A_BEHIND, B_BEHIND = (replace(each, behind_gateway=True, drain_seconds=100.0) for each in (A, B))


def stop_bound(plan: LaunchPlan) -> float:
    """The longest that a stop may take, in seconds: the sum of the ladder's rungs."""
    return plan.stop.grace_seconds + plan.stop.insist_seconds + GONE_SECONDS


def drain_bound(plan: LaunchPlan) -> float:
    """The longest that anything may be drained for, in seconds."""
    return plan.drain_seconds


class Story:
    """Feeds inputs to a lifecycle at a given time and remembers what it commanded."""

    def __init__(self):
        self.life = Lifecycle(jitter=lambda: 0.0)
        self.now = 0.0
        self.last: list[LifecycleCommand] = []
        self.armed: LifecycleCommand | None = None
        self.outcomes: dict[int, Outcome] = {}

    def after(self, happened, *, later: float = 0.0):
        self.now += later
        self.last = self.life.handle(happened, self.now)
        self.armed = next((command for command in self.last if command.do in ARMS), self.armed)
        for outcome in self.life.decided():
            assert outcome.id not in self.outcomes or not outcome.id, "decided twice"
            self.outcomes[outcome.id] = outcome
        return [command.do for command in self.last]

    def start(self, plan=A):
        return self.after(Start(plan))

    def clear(self):
        return self.after(PreflightDone(self.life.launch, None))

    def serving(self, degraded=""):
        return self.after(Serving(self.life.launch, degraded))

    def exited(self, diagnosis=CRASH, later: float = 0.0):
        return self.after(Exited(self.life.launch, diagnosis), later=later)

    def timer(self):
        armed = self.armed
        return self.after(TimerElapsed(armed.launch, armed.serial), later=armed.seconds)

    def drained(self):
        return self.after(Drained(self.life.launch))

    def asleep(self, plan=A_BEHIND):
        self.up(plan)
        self.after(SleepAsked())
        self.drained()
        self.exited(GONE)
        return self

    def up(self, plan=A):
        self.start(plan)
        self.clear()
        self.serving()
        return self


def test_a_start_runs_the_preflight_then_spawns_then_watches_until_ready():
    story = Story()
    assert story.start() == [Do.CHECK_LAUNCH]
    assert story.clear() == [Do.SPAWN, Do.WATCH_START]
    assert story.serving() == [Do.ARM_STABLE, Do.WATCH_LIFE, Do.SETTLE]
    assert story.life.state is State.READY
    assert story.life.outcome.result == "ready"


def test_a_server_on_the_wrong_device_is_degraded_and_says_why():
    story = Story()
    story.start()
    story.clear()
    story.serving("running on the CPU")
    assert (story.life.state, story.life.outcome.result, story.life.why) == (
        State.DEGRADED,
        "degraded",
        "running on the CPU",
    )


SHORT = Diagnosis("gpu-memory", "The GPU has not enough free memory.", "", retryable=True)
LESS = replace(A, argv=("a", "less"), digest="less", adjustment="n-cpu-moe 32", adjusts="a")
ADJUSTABLE = replace(A, adjusted=LESS)


def test_a_load_that_fails_for_memory_is_tried_once_with_less():
    story = Story()
    story.start(ADJUSTABLE)
    story.clear()
    assert story.exited(SHORT) == [Do.CHECK_LAUNCH]
    assert (story.life.state, story.life.plan.digest) == (State.PREPARING, "less")
    story.clear()
    story.serving()
    assert (story.life.outcome.result, story.life.restarts) == ("ready", 0)
    assert story.life.why == "with n-cpu-moe 32, for without it the load failed for memory"


def test_what_fails_for_memory_with_less_too_stays_down():
    story = Story()
    story.start(ADJUSTABLE)
    story.clear()
    story.exited(SHORT)
    story.clear()
    assert story.exited(SHORT) == [Do.SETTLE]
    assert (story.life.state, story.life.plan.digest) == (State.FAILED, "less")


@pytest.mark.parametrize("diagnosis", [CRASH, HOPELESS])
def test_less_memory_is_no_answer_to_another_failure(diagnosis):
    story = Story()
    story.start(ADJUSTABLE)
    story.clear()
    story.exited(diagnosis)
    assert story.life.plan is ADJUSTABLE


def again(story):
    """The same plan serves again, after its backoff."""
    story.timer()
    story.clear()
    story.serving()


def test_the_second_request_that_runs_out_of_gpu_memory_within_an_hour_leads_to_the_smaller_plan():
    story = Story().up(ADJUSTABLE)
    assert story.exited(SHORT) == [Do.ARM_BACKOFF]
    assert story.life.plan is ADJUSTABLE
    again(story)
    assert story.exited(SHORT, later=SHORT_AGAIN_SECONDS - 10) == [Do.CHECK_LAUNCH]
    assert (story.life.state, story.life.plan.digest) == (State.PREPARING, "less")
    story.clear()
    story.serving()
    assert story.life.why == "with n-cpu-moe 32, for without it requests ran out of GPU memory"
    assert (story.life.restarts, story.life.failure, story.life.proven) == (2, SHORT, story.life.plan)


def test_it_is_the_same_for_one_that_runs_on_and_answers_no_request_any_more():
    story = Story().up(ADJUSTABLE)
    for digest in ("a", "less"):
        story.after(Unresponsive(story.life.launch, SHORT))
        story.exited(GONE)
        if story.life.state is State.BACKOFF:
            story.timer()
        assert story.life.plan.digest == digest
        story.clear()
        story.serving()


def test_requests_that_run_out_of_gpu_memory_more_than_an_hour_apart_change_no_plan():
    story = Story().up(ADJUSTABLE)
    for _ in range(3):
        assert story.exited(SHORT, later=SHORT_AGAIN_SECONDS + 1) == [Do.ARM_BACKOFF]
        again(story)
    assert story.life.plan is ADJUSTABLE


@pytest.mark.parametrize("diagnosis", [CRASH, replace(SHORT, kind="memory")])
def test_what_else_goes_wrong_while_it_serves_changes_no_plan(diagnosis):
    """RAM may be short because of any program, and experts on the CPU need more of it."""
    story = Story().up(ADJUSTABLE)
    for each in (SHORT, diagnosis, diagnosis):
        assert story.exited(each) == [Do.ARM_BACKOFF]
        again(story)
    assert story.life.plan is ADJUSTABLE


def test_a_person_who_starts_it_begins_anew():
    story = Story().up(ADJUSTABLE)
    story.exited(SHORT)
    story.after(Start(ADJUSTABLE))
    story.clear()
    story.serving()
    assert story.exited(SHORT) == [Do.ARM_BACKOFF]


def test_what_happened_to_another_plan_says_nothing_of_this_one():
    story = Story().up(replace(ADJUSTABLE, digest="before"))
    story.exited(SHORT)
    again(story)
    story.after(SleepAsked())
    story.drained()
    story.exited(GONE)
    story.after(Reload(ADJUSTABLE))
    story.after(WakeAsked())
    story.clear()
    story.serving()
    assert story.exited(SHORT) == [Do.ARM_BACKOFF]


@pytest.mark.parametrize(
    ("plan", "state"),
    [
        (A, State.BACKOFF),  # nothing smaller is known, or it is not for us to choose
        (replace(ADJUSTABLE, restart=Restart(max_restarts=1)), State.FAILED),
        (replace(ADJUSTABLE, restart=Restart(policy="never")), State.FAILED),
    ],
)
def test_the_smaller_plan_is_a_restart_like_any_other(plan, state):
    story = Story().up(plan)
    story.exited(SHORT)
    if story.life.state is State.BACKOFF:
        again(story)
        story.exited(SHORT)
    assert (story.life.state, story.life.plan) == (state, plan)


def test_a_smaller_plan_that_runs_out_too_goes_on_within_its_budget():
    story = Story().up(ADJUSTABLE)
    story.exited(SHORT)
    again(story)
    for _ in range(A.restart.max_restarts - 1):
        story.exited(SHORT)
        if story.life.state is State.BACKOFF:
            story.timer()
        story.clear()
        story.serving()
        assert story.life.plan.digest == "less"
    story.exited(SHORT)
    assert story.life.state is State.FAILED


def test_a_switch_tries_with_less_before_it_goes_back():
    story = Story().up(B)
    story.start(ADJUSTABLE)
    story.exited(GONE)
    story.clear()
    story.exited(SHORT)
    assert story.life.plan.digest == "less"
    story.clear()
    story.exited(SHORT)
    assert story.life.plan is B


LOST = Diagnosis(WORKER_LOST, "The worker w:50052 is gone.", "look there", retryable=True)
SMALLER = replace(A_BEHIND, argv=("a", "small"), digest="small")
POOLED = replace(A_BEHIND, argv=("a", "--rpc"), digest="pooled", workers=("w:50052",))
SHRINKS = replace(POOLED, without_workers=SMALLER)


def lost_before(story, diagnosis=LOST):
    return story.after(PreflightDone(story.life.launch, diagnosis))


def shrunk(plan=SHRINKS):
    """Served by the smaller plan, since the worker went while it served."""
    story = Story().up(plan)
    story.exited(LOST)
    story.timer()
    lost_before(story)
    story.clear()
    story.serving()
    return story


def test_a_lost_worker_costs_nothing_of_the_budget_however_often_it_goes():
    story = Story().up(POOLED)
    for _ in range(3 * POOLED.restart.max_restarts):
        assert story.exited(LOST) == [Do.ARM_BACKOFF]
        story.timer()
        story.clear()
        story.serving()
    assert (story.life.state, story.life.restarts) == (State.READY, 0)
    for _ in range(POOLED.restart.max_restarts):  # all of it is left for crashes
        story.exited(CRASH)
        story.timer()
        story.clear()
        story.serving()
    assert story.life.state is State.READY


def test_a_worker_that_was_never_there_does_not_end_a_start_either():
    story = Story()
    story.start(POOLED)
    for _ in range(3 * POOLED.restart.max_restarts):
        story.clear()
        story.exited(LOST)
        story.timer()
    assert story.life.state is State.PREPARING


def test_a_worker_that_goes_again_and_again_is_tried_ever_more_slowly():
    story = Story().up(POOLED)
    waits = []
    for _ in range(3):
        story.exited(LOST)
        waits.append(story.last[0].seconds)
        story.timer()
        story.clear()
        story.serving()
    assert waits == [1.0, 2.0, 4.0]


def test_a_server_whose_worker_is_seen_to_go_is_killed_at_once_and_comes_back():
    """It could only wait for ever, or abort at the next question."""
    story = Story().up(POOLED)
    assert story.after(Unresponsive(story.life.launch, LOST)) == [Do.KILL, Do.ARM_GONE]
    assert story.life.why == LOST.message
    assert story.exited(CRASH) == [Do.ARM_BACKOFF]
    assert (story.life.failure, story.life.restarts) == (LOST, 0)


def test_a_server_that_hung_for_a_worker_is_the_workers_failure():
    hung = Diagnosis("hung", "it hangs", retryable=True)
    story = Story().up(POOLED)
    assert story.after(Unresponsive(story.life.launch, hung)) == [Do.TERM, Do.ARM_GRACE]
    assert story.exited(LOST) == [Do.ARM_BACKOFF]
    assert (story.life.failure, story.life.restarts) == (LOST, 0)


def test_a_stop_is_a_stop_although_its_worker_goes_meanwhile():
    story = Story().up(POOLED)
    story.after(StopAsked())
    story.after(Unresponsive(story.life.launch, LOST))
    assert story.exited(LOST) == [Do.SETTLE]
    assert story.life.state is State.STOPPED


def test_a_switch_to_a_model_whose_worker_is_gone_goes_back():
    story = Story().up(B_BEHIND)
    story.start(POOLED)
    story.drained()
    story.exited(GONE)
    assert story.life.has_another
    assert lost_before(story) == [Do.CHECK_LAUNCH]
    assert (story.life.plan, story.life.has_another) == (B_BEHIND, False)


def test_without_its_worker_the_smaller_plan_serves_degraded_and_says_why():
    story = Story().up(SHRINKS)
    story.exited(LOST)
    story.timer()
    assert story.life.has_another
    assert lost_before(story) == [Do.CHECK_LAUNCH]
    assert (story.life.plan, story.life.whole) == (SMALLER, SHRINKS)
    story.clear()
    assert story.serving() == [Do.ARM_STABLE, Do.WATCH_LIFE, Do.SETTLE]
    assert (story.life.state, story.life.outcome.result) == (State.DEGRADED, "degraded")
    assert story.life.why == "without its workers: The worker w:50052 is gone."


def test_when_its_workers_are_back_the_whole_plan_comes_back_after_the_answers():
    story = shrunk()
    assert story.after(WorkersBack(story.life.launch)) == [Do.DRAIN, Do.ARM_DRAIN]
    story.drained()
    assert story.exited(GONE) == [Do.CHECK_LAUNCH]
    story.clear()
    story.serving()
    assert (story.life.state, story.life.plan, story.life.whole) == (State.READY, SHRINKS, None)
    assert story.after(WorkersBack(story.life.launch)) == []  # a late look changes nothing


def test_a_worker_that_goes_again_on_the_way_back_leads_to_the_smaller_plan_again():
    story = shrunk()
    story.after(WorkersBack(story.life.launch))
    story.drained()
    story.exited(GONE)
    lost_before(story)
    assert (story.life.plan, story.life.whole) == (SMALLER, SHRINKS)


def test_the_smaller_plan_that_crashes_comes_back_smaller_and_still_waits_for_the_workers():
    story = shrunk()
    story.exited(CRASH)
    story.timer()
    story.clear()
    story.serving()
    assert (story.life.state, story.life.plan, story.life.restarts) == (State.DEGRADED, SMALLER, 1)
    assert story.after(WorkersBack(story.life.launch)) == [Do.DRAIN, Do.ARM_DRAIN]


def test_what_slept_without_its_workers_wakes_whole():
    story = shrunk()
    story.after(SleepAsked())
    story.drained()
    story.exited(GONE)
    assert (story.life.state, story.life.plan) == (State.SLEEPING, SHRINKS)


def test_a_failed_switch_away_from_the_smaller_plan_goes_back_to_the_whole():
    story = shrunk()
    story.start(B_BEHIND)
    story.drained()
    story.exited(GONE)
    lost_before(story, HOPELESS)
    assert story.life.plan is SHRINKS


def test_a_reload_of_the_same_profile_leaves_the_smaller_plan_alone():
    story = shrunk()
    renewed = replace(SHRINKS, description="new")
    assert story.after(Reload(renewed, 7)) == []
    assert (story.outcomes[7].result, story.life.plan, story.life.whole) == ("unchanged", SMALLER, renewed)


def test_a_trial_is_measured_whole_or_not_at_all():
    story = Story()
    story.start(replace(SHRINKS, is_trial=True, restart=Restart(policy="never")))
    assert lost_before(story) == [Do.SETTLE]
    assert story.life.state is State.FAILED


def test_a_bad_preflight_is_a_failure_before_anything_is_spawned():
    story = Story()
    story.start()
    assert story.after(PreflightDone(1, HOPELESS)) == [Do.SETTLE]
    assert story.life.state is State.FAILED
    assert story.life.outcome.hint == "fix the profile"


def test_a_crash_is_followed_by_a_backoff_that_doubles_and_a_new_launch():
    story = Story().up()
    waits = []
    for _ in range(4):
        story.exited()
        waits.append(story.last[0].seconds)
        story.timer()
        story.clear()
        story.serving()
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert story.life.launch == 5
    assert story.life.restarts == 4


def test_the_backoff_starts_anew_after_a_stable_time():
    story = Story().up()
    for _ in range(2):
        story.exited()
        story.timer()
        story.clear()
        story.serving()
    story.timer()  # stable
    story.exited()
    assert story.last[0].seconds == 1.0


def test_the_budget_ends_in_failed_and_only_a_person_helps():
    story = Story().up()
    for _ in range(A.restart.max_restarts):
        story.exited()
        story.timer()
        story.clear()
        story.serving()
    assert story.exited() == [Do.SETTLE]
    assert story.life.state is State.FAILED
    assert story.start() == [Do.CHECK_LAUNCH]


def test_a_shortage_of_ours_neither_counts_nor_ends_what_has_served():
    """The daemon has no descriptor for a launch: nothing is known against the plan."""
    short = Diagnosis("spawn", "Too many files are open", retryable=True, is_ours=True)
    story = Story().up()
    story.exited()
    for _ in range(3 * A.restart.max_restarts):
        story.timer()
        story.after(PreflightDone(story.life.launch, short))
        assert story.life.state is State.BACKOFF
    story.timer()
    story.clear()
    assert story.serving()
    never = Story()
    never.start()
    while never.life.state is not State.FAILED:  # a start that has never worked ends, and says why
        never.after(PreflightDone(never.life.launch, short))
        if never.life.state is State.BACKOFF:
            never.timer()
    assert never.life.outcome.why == short.message


def test_old_restarts_do_not_count_against_the_budget():
    story = Story().up()
    for _ in range(A.restart.max_restarts * 2):
        assert story.exited(later=A.restart.window_seconds) == [Do.ARM_BACKOFF]
        story.timer()
        story.clear()
        story.serving()


def test_a_policy_of_never_is_kept():
    story = Story().up(replace(A, restart=Restart(policy="never")))
    assert story.exited() == [Do.SETTLE]
    assert story.life.state is State.FAILED


def test_a_start_that_cannot_work_is_not_tried_again():
    story = Story()
    story.start()
    story.clear()
    assert story.exited(HOPELESS) == [Do.SETTLE]
    assert story.life.state is State.FAILED


def test_what_has_worked_once_is_tried_again_whatever_the_diagnosis():
    story = Story().up()
    assert story.exited(HOPELESS) == [Do.ARM_BACKOFF]


def test_the_stop_ladder_is_term_grace_term_insist_kill_and_says_when_even_that_fails():
    story = Story().up()
    assert story.after(StopAsked()) == [Do.DRAIN, Do.ARM_DRAIN]
    assert story.drained() == [Do.TERM, Do.ARM_GRACE]
    assert story.timer() == [Do.TERM, Do.ARM_INSIST]
    assert story.timer() == [Do.KILL, Do.ARM_GONE]
    assert story.timer() == [Do.SETTLE, Do.KILL, Do.ARM_GONE]
    assert story.life.outcome.result == "failed"
    assert "alive" in story.life.outcome.why
    assert story.now == stop_bound(A)


def test_nothing_is_spawned_beside_a_server_that_outlived_its_kill():
    story = Story().up()
    story.after(StopAsked(now=True))
    story.timer()
    assert story.start(B) == []
    assert story.exited() == [Do.CHECK_LAUNCH]
    assert story.life.plan is B


def test_whatever_exit_follows_our_own_signal_is_a_stop_and_no_crash():
    story = Story().up()
    story.after(StopAsked())
    assert story.exited() == [Do.SETTLE]
    assert (story.life.state, story.life.restarts, story.life.outcome.result) == (State.STOPPED, 0, "stopped")


def test_a_second_impatient_stop_kills_at_once_and_a_third_changes_nothing():
    story = Story().up()
    story.after(StopAsked())
    assert story.after(StopAsked(now=True)) == [Do.KILL, Do.ARM_GONE]
    assert story.after(StopAsked(now=True)) == []


def test_asking_again_does_not_make_a_stop_any_longer():
    story = Story().up()
    story.after(StopAsked())
    story.drained()
    grace = story.last[-1]
    story.after(StopAsked(), later=5)
    story.after(Start(B), later=4)
    assert story.after(TimerElapsed(grace.launch, grace.serial), later=1) == [Do.TERM, Do.ARM_INSIST]


def test_a_switch_stops_the_old_one_first():
    story = Story().up()
    assert story.start(B) == [Do.DRAIN, Do.ARM_DRAIN]
    assert story.life.why == "making way for b"
    assert story.drained() == [Do.TERM, Do.ARM_GRACE]
    assert story.exited(GONE) == [Do.CHECK_LAUNCH]
    assert story.life.plan is B


@pytest.mark.parametrize("again", [A, replace(A, digest="a2")])
def test_a_restart_makes_way_for_nobody_else(again):
    story = Story().up()
    story.start(again)
    assert (story.life.state, story.life.why) == (State.DRAINING, "restarting")


def test_a_switch_that_fails_goes_back_once_to_the_plan_that_worked():
    story = Story().up()
    story.start(B)
    story.exited(GONE)
    story.clear()
    assert story.exited(HOPELESS) == [Do.CHECK_LAUNCH]
    assert story.life.plan is A
    story.clear()
    story.serving()
    outcome = story.life.outcome
    assert (outcome.result, outcome.why, outcome.profile) == ("rolled back", "a bad argument", "a")
    assert story.exited() == [Do.ARM_BACKOFF]


@pytest.mark.parametrize("detours", [0, 1])
def test_a_switch_from_what_sleeps_goes_back_to_that_asleep(detours):
    """Its memory may be another model's by now; whoever asks for it loads it, as before."""
    story = Story().asleep(A_BEHIND)
    for detour in range(detours):
        story.start(replace(B, digest=f"b{detour}"))
    story.start(B)
    assert story.life.fallback is None, "it takes no memory"
    story.clear()
    assert story.exited(HOPELESS) == [Do.SETTLE]
    assert (story.life.state, story.life.plan) == (State.SLEEPING, A_BEHIND)
    assert (story.life.outcome.result, story.life.outcome.why) == ("rolled back", "a bad argument")
    story.after(WakeAsked(9))
    story.clear()
    assert story.exited() == [Do.ARM_BACKOFF], "its own failures are its own"
    story.timer()
    story.clear()
    story.serving()
    assert result(story, 9) == "ready"


def test_what_has_slept_once_and_serves_again_runs_again_after_a_failed_switch():
    story = Story().asleep(A_BEHIND)
    story.up(B)
    story.start(A)
    assert story.life.fallback is B
    story.exited(GONE)
    story.clear()
    assert story.exited(HOPELESS) == [Do.CHECK_LAUNCH]
    assert story.life.plan is B


def test_a_rollback_that_fails_too_is_an_ordinary_failure():
    story = Story().up()
    story.start(B)
    story.exited(GONE)
    story.clear()
    story.exited(CRASH)
    story.clear()
    assert story.exited(HOPELESS) == [Do.SETTLE]
    assert story.life.state is State.FAILED
    assert story.life.outcome.why == "it crashed Then: a bad argument"


def test_a_restart_of_the_same_plan_has_nothing_to_go_back_to():
    story = Story().up()
    story.start(A)
    story.exited(GONE)
    story.clear()
    assert story.exited(HOPELESS) == [Do.SETTLE]


def test_a_hung_server_is_stopped_and_then_restarted():
    story = Story().up()
    assert story.after(Unresponsive(1, CRASH)) == [Do.TERM, Do.ARM_GRACE]
    assert story.exited(GONE) == [Do.ARM_BACKOFF]
    assert story.life.failure is CRASH


# --- draining


def test_a_switch_waits_for_the_streams_under_way_and_only_then_asks_the_server_to_leave():
    story = Story().up(A_BEHIND)
    story.start(B_BEHIND)
    assert (story.life.state, story.last[-1].seconds) == (State.DRAINING, 100.0)
    story.now += 60  # the two streams end
    assert story.drained() == [Do.TERM, Do.ARM_GRACE]
    assert story.exited(GONE) == [Do.CHECK_LAUNCH]
    assert story.life.plan is B_BEHIND


def test_a_stream_that_does_not_end_keeps_a_switch_waiting_no_longer_than_the_profile_says():
    story = Story().up(A_BEHIND)
    story.start(B_BEHIND)
    assert story.timer() == [Do.TERM, Do.ARM_GRACE]
    assert story.now == 100.0


def test_a_stop_drains_for_its_grace_only():
    story = Story().up(A_BEHIND)
    story.after(StopAsked())
    assert story.last[-1].seconds == A.stop.grace_seconds
    assert story.timer() == [Do.TERM, Do.ARM_GRACE]


def test_without_a_gateway_nobody_knows_of_requests_and_nothing_is_drained():
    story = Story().up(A)
    story.after(StopAsked())
    assert story.last[-1].seconds == 0.0


def test_a_stop_in_the_middle_of_a_patient_switch_is_as_quick_as_any_stop():
    story = Story().up(A_BEHIND)
    story.start(B_BEHIND)
    assert story.after(StopAsked(), later=20) == [Do.ARM_DRAIN]
    assert story.last[-1].seconds == A.stop.grace_seconds
    story.timer()
    assert story.exited(GONE) == [Do.SETTLE]
    assert story.life.outcome.result == "stopped"


def test_a_stop_near_the_end_of_a_switch_does_not_make_the_drain_any_longer():
    story = Story().up(A_BEHIND)
    story.start(B_BEHIND)
    story.after(StopAsked(), later=97)
    assert story.last[-1].seconds == pytest.approx(3)
    story.after(StopAsked(), later=2)
    assert story.last[-1].seconds == pytest.approx(1)


def test_a_start_in_the_middle_of_a_drain_for_a_stop_runs_that_plan():
    story = Story().up(A_BEHIND)
    story.after(StopAsked())
    assert story.start(B_BEHIND) == []
    story.drained()
    assert story.exited(GONE) == [Do.CHECK_LAUNCH]
    assert story.life.plan is B_BEHIND


def test_who_insists_on_a_stop_does_not_wait_for_requests():
    story = Story().up(A_BEHIND)
    story.after(StopAsked())
    assert story.after(StopAsked(now=True)) == [Do.KILL, Do.ARM_GONE]
    assert story.exited(GONE) == [Do.SETTLE]
    assert story.life.state is State.STOPPED


@pytest.mark.parametrize(
    ("asked", "todo", "state"),
    [
        (Start(B_BEHIND), [Do.CHECK_LAUNCH], State.PREPARING),
        (StopAsked(), [Do.SETTLE], State.STOPPED),
        (SleepAsked(), [Do.SETTLE], State.SLEEPING),
    ],
)
def test_a_crash_while_draining_only_makes_it_quicker(asked, todo, state):
    story = Story().up(A_BEHIND)
    story.after(asked)
    assert story.exited(CRASH) == todo
    assert (story.life.state, story.life.restarts) == (state, 0)


def test_a_hang_while_draining_ends_the_drain_and_is_not_restarted():
    story = Story().up(A_BEHIND)
    story.after(StopAsked())
    assert story.after(Unresponsive(1, CRASH)) == [Do.TERM, Do.ARM_GRACE]
    assert story.exited(GONE) == [Do.SETTLE]
    assert (story.life.state, story.life.failure) == (State.STOPPED, CRASH)


def test_a_switch_that_fails_after_a_drain_goes_back_to_what_was_drained():
    story = Story().up(A_BEHIND)
    story.start(B_BEHIND)
    story.drained()
    story.exited(GONE)
    story.clear()
    story.exited(HOPELESS)
    assert story.life.plan is A_BEHIND


def test_a_drain_that_ends_twice_ends_once():
    story = Story().up(A_BEHIND)
    story.start(B_BEHIND)
    story.drained()
    assert story.drained() == []
    assert story.life.state is State.STOPPING


def test_what_is_under_way_while_it_loads_is_nothing_so_a_load_is_not_drained():
    story = Story()
    story.start(A_BEHIND)
    story.clear()
    assert story.start(B_BEHIND) == [Do.TERM, Do.ARM_GRACE]


# --- sleeping


def test_a_server_that_nobody_wants_sleeps_without_a_process_and_says_what_wakes_it():
    story = Story().up(A_BEHIND)
    assert story.after(SleepAsked()) == [Do.DRAIN, Do.ARM_DRAIN]
    assert story.drained() == [Do.TERM, Do.ARM_GRACE]
    assert story.exited(GONE) == [Do.SETTLE]
    assert (story.life.state, story.life.plan) == (State.SLEEPING, A_BEHIND)
    assert (story.life.outcome.result, story.life.why) == ("asleep", "the next request loads it")


def test_without_a_gateway_it_says_that_no_request_wakes_it():
    story = Story().asleep(A)
    assert story.life.outcome.hint == "goss-supervisor load"


def test_who_wakes_it_gets_a_launch_of_the_same_plan():
    story = Story().asleep()
    assert story.after(WakeAsked()) == [Do.CHECK_LAUNCH]
    assert story.clear() == [Do.SPAWN, Do.WATCH_START]
    story.serving()
    assert (story.life.state, story.life.plan, story.life.restarts) == (State.READY, A_BEHIND, 0)


def test_a_second_who_wakes_it_starts_no_second_server():
    story = Story().asleep()
    story.after(WakeAsked())
    assert story.after(WakeAsked()) == []
    story.clear()
    assert story.after(WakeAsked()) == []


def test_a_crash_on_waking_is_retried_within_the_budget_then_failed():
    story = Story().asleep()
    story.after(WakeAsked())
    for _ in range(A.restart.max_restarts):
        story.clear()
        assert story.exited(CRASH) == [Do.ARM_BACKOFF]
        story.timer()
    story.clear()
    assert story.exited(CRASH) == [Do.SETTLE]
    assert story.life.state is State.FAILED


def test_a_model_that_cannot_load_any_more_is_failed_and_nothing_else_is_run_for_it():
    story = Story().up(B_BEHIND)
    story.start(A_BEHIND)
    story.drained()
    story.after(SleepAsked())
    story.exited(GONE)
    assert story.life.plan is A_BEHIND
    story.after(WakeAsked())
    story.clear()
    assert story.exited(HOPELESS) == [Do.SETTLE]
    assert (story.life.state, story.life.plan) == (State.FAILED, A_BEHIND)


def test_a_wake_on_its_way_to_sleep_makes_it_a_restart():
    story = Story().up(A_BEHIND)
    story.after(SleepAsked())
    story.drained()
    assert story.after(WakeAsked()) == []
    assert story.exited(GONE) == [Do.CHECK_LAUNCH]
    assert story.life.plan is A_BEHIND


def test_a_start_on_its_way_to_sleep_wins():
    story = Story().up(A_BEHIND)
    story.after(SleepAsked())
    assert story.start(B_BEHIND) == []
    story.drained()
    assert story.exited(GONE) == [Do.CHECK_LAUNCH]
    assert story.life.plan is B_BEHIND


@pytest.mark.parametrize("first", [SleepAsked(), StopAsked()])
def test_a_stop_and_a_sleep_are_a_stop_whichever_came_first(first):
    story = Story().up(A_BEHIND)
    story.after(first)
    story.after(StopAsked() if first == SleepAsked() else SleepAsked())
    story.drained()
    story.exited(GONE)
    assert story.life.state is State.STOPPED


def test_a_sleep_in_the_middle_of_a_switch_sleeps_with_the_new_plan():
    story = Story().up(A_BEHIND)
    story.start(B_BEHIND)
    story.after(SleepAsked())
    story.drained()
    assert story.exited(GONE) == [Do.SETTLE]
    assert (story.life.state, story.life.plan) == (State.SLEEPING, B_BEHIND)


def test_a_load_that_nobody_wants_any_more_is_ended():
    story = Story()
    story.start(A_BEHIND)
    story.clear()
    assert story.after(SleepAsked()) == [Do.TERM, Do.ARM_GRACE]
    assert story.exited(GONE) == [Do.SETTLE]
    assert story.life.state is State.SLEEPING


@pytest.mark.parametrize("crashed", [False, True])
def test_where_nothing_runs_yet_it_sleeps_at_once(crashed):
    story = Story()
    story.start(A_BEHIND)
    if crashed:
        story.clear()
        story.exited(CRASH)
    late = PreflightDone(story.life.launch, None)
    assert story.after(SleepAsked()) == [Do.SETTLE]
    assert story.life.state is State.SLEEPING
    assert story.after(late) == []


def test_a_hung_server_that_was_to_be_restarted_sleeps_if_nobody_wants_it():
    story = Story().up(A_BEHIND)
    story.after(Unresponsive(1, CRASH))
    story.after(SleepAsked())
    assert story.exited(GONE) == [Do.SETTLE]
    assert story.life.state is State.SLEEPING


def test_what_stays_down_is_not_put_to_sleep_and_keeps_its_reason():
    story = Story()
    story.start(A_BEHIND)
    story.clear()
    story.exited(HOPELESS)
    assert story.after(SleepAsked()) == []
    assert (story.life.state, story.life.outcome.result) == (State.FAILED, "failed")
    assert story.after(WakeAsked()) == []


def test_a_plan_that_waits_for_its_first_request_has_no_process():
    story = Story()
    assert story.after(RestAsked(A_BEHIND)) == [Do.SETTLE]
    assert (story.life.state, story.life.outcome.result) == (State.SLEEPING, "asleep")
    assert story.after(WakeAsked()) == [Do.CHECK_LAUNCH]


def test_a_plan_to_rest_disturbs_nothing_that_runs():
    story = Story().up(A_BEHIND)
    assert story.after(RestAsked(B_BEHIND)) == []
    assert (story.life.state, story.life.plan) == (State.READY, A_BEHIND)


def test_a_sleeper_can_be_given_another_plan_without_loading_it():
    story = Story().asleep()
    assert story.after(RestAsked(B_BEHIND)) == [Do.SETTLE]
    assert (story.life.state, story.life.plan) == (State.SLEEPING, B_BEHIND)


def test_a_switch_from_a_sleeper_goes_back_to_it_if_it_fails():
    story = Story().asleep()
    assert story.start(B_BEHIND) == [Do.CHECK_LAUNCH]
    story.clear()
    story.exited(HOPELESS)
    assert story.life.plan is A_BEHIND


def test_a_sleeper_can_be_stopped():
    story = Story().asleep()
    assert story.after(StopAsked()) == [Do.SETTLE]
    assert (story.life.state, story.life.outcome.result) == (State.STOPPED, "stopped")


def test_a_server_that_outlives_its_kill_sleeps_only_once_it_is_gone():
    story = Story().up(A_BEHIND)
    story.after(SleepAsked())
    for _ in range(3):
        story.timer()
    assert story.timer() == [Do.SETTLE, Do.KILL, Do.ARM_GONE]
    assert story.life.outcome.result == "failed"
    assert story.exited(GONE) == [Do.SETTLE]
    assert story.life.outcome.result == "asleep"


# --- whose outcome it is


def result(story, id_):
    return story.outcomes[id_].result if id_ in story.outcomes else None


def test_each_request_gets_the_outcome_of_its_own():
    story = Story()
    story.after(Start(A, 1))
    story.clear()
    story.serving()
    story.after(StopAsked(id=2))
    assert story.outcomes[1] == Outcome("ready", profile="a", digest="a", id=1)
    story.drained()
    story.exited(GONE)
    assert (result(story, 2), story.outcomes[2].id) == ("stopped", 2)


def test_a_start_that_another_start_replaces_is_superseded_at_once_and_says_by_what():
    story = Story()
    story.after(Start(B, 1))
    story.after(Start(A, 2))
    assert story.outcomes[1] == Outcome(
        "superseded", "superseded by a start of a (request 2)", profile="b", digest="b", id=1, by=2
    )
    story.clear()
    story.serving()
    assert result(story, 2) == "ready"


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (StopAsked(id=2), "superseded by a stop (request 2)"),
        (SleepAsked(2), "superseded by an unload (request 2)"),
        (Reload(B, 2), "superseded by a start of b (request 2)"),
        (Start(A, 2), "superseded by a start of a (request 2)"),
    ],
)
def test_whatever_asks_for_something_else_supersedes_a_start(later, words):
    story = Story()
    story.after(Start(A_BEHIND, 1))
    story.after(later)
    assert (story.outcomes[1].why, story.outcomes[1].by) == (words, 2)


def test_a_load_that_is_asked_for_while_it_sleeps_down_supersedes_the_unload():
    story = Story().up(A_BEHIND)
    story.after(SleepAsked(1))
    story.after(WakeAsked(2))
    assert (result(story, 1), result(story, 2)) == ("superseded", None)
    story.drained()
    story.exited(GONE)
    story.clear()
    story.serving()
    assert result(story, 2) == "ready"


def test_who_asks_for_the_same_shares_the_outcome():
    story = Story().up(A_BEHIND)
    story.after(StopAsked(id=1))
    story.after(StopAsked(now=True, id=2))
    story.exited(GONE)
    assert [result(story, id_) for id_ in (1, 2)] == ["stopped", "stopped"]


def test_a_load_while_it_loads_shares_the_outcome_of_the_start():
    story = Story()
    story.after(Start(A_BEHIND, 1))
    story.after(WakeAsked(2))
    story.clear()
    story.serving("running on the CPU")
    assert [result(story, id_) for id_ in (1, 2)] == ["degraded", "degraded"]


def test_where_there_is_nothing_to_do_the_outcome_is_what_is_so():
    story = Story()
    story.after(WakeAsked(1))
    assert result(story, 1) == "stopped"
    story.up(A_BEHIND)
    story.after(WakeAsked(2))
    story.after(RestAsked(B_BEHIND, 3))
    assert [result(story, id_) for id_ in (2, 3)] == ["ready", "ready"]


def test_an_outcome_of_a_rollback_has_the_plan_that_runs():
    story = Story().up(A)
    story.after(Start(B, 7))
    story.drained()
    story.exited(GONE)
    story.clear()
    story.exited(HOPELESS)
    story.clear()
    story.serving()
    assert (result(story, 7), story.outcomes[7].profile, story.outcomes[7].digest) == (
        "rolled back",
        "a",
        "a",
    )


# --- reloads

RENEWED = replace(A, stop=Stop(grace_seconds=99))  # the same process, other policies


@pytest.mark.parametrize("asleep", [False, True])
def test_a_reload_of_the_same_process_only_takes_over_its_policies(asleep):
    story = Story().asleep(A) if asleep else Story().up(A)
    state = story.life.state
    assert story.after(Reload(RENEWED, 5)) == []
    assert (result(story, 5), story.life.state, story.life.plan) == ("unchanged", state, RENEWED)
    assert story.life.outcome.result == ("asleep" if asleep else "ready")


@pytest.mark.parametrize("is_spawned", [False, True])
def test_a_reload_of_what_loads_already_does_not_load_it_again(is_spawned):
    story = Story()
    story.after(Start(A, 1))
    if is_spawned:
        story.clear()
    launch = story.life.launch
    assert story.after(Reload(RENEWED, 5)) == []
    assert (story.life.launch, story.life.plan) == (launch, RENEWED)
    if not is_spawned:
        story.clear()
    story.serving()
    assert (result(story, 1), result(story, 5)) == ("ready", "ready")


def test_what_a_rollback_loads_is_loaded_anew_for_who_asks_for_it():
    story = Story().up(A)
    story.start(B)
    story.drained()
    story.exited(GONE)
    story.clear()
    story.exited(HOPELESS)
    launch = story.life.launch
    story.after(Reload(A, 9))
    assert story.life.launch == launch + 1


def test_what_sleeps_is_loaded_by_a_reload_that_loads():
    story = Story().asleep()
    assert story.after(Reload(B_BEHIND, 5, loads=True)) == [Do.CHECK_LAUNCH]
    assert (story.life.state, story.life.plan) == (State.PREPARING, B_BEHIND)


def test_a_reload_of_another_process_is_a_start():
    story = Story().up(A)
    assert story.after(Reload(B, 5)) == [Do.DRAIN, Do.ARM_DRAIN]


def test_what_sleeps_goes_on_sleeping_with_the_plan_of_a_reload():
    story = Story().asleep()
    assert story.after(Reload(B_BEHIND, 5)) == [Do.SETTLE]
    assert (result(story, 5), story.life.state, story.life.plan) == ("asleep", State.SLEEPING, B_BEHIND)


def test_a_switch_that_fails_goes_back_to_the_plan_with_the_policies_of_the_reload():
    story = Story().up(A)
    story.after(Reload(RENEWED, 5))
    story.start(B)
    story.drained()
    story.exited(GONE)
    story.clear()
    story.exited(HOPELESS)
    assert story.life.plan is RENEWED


def test_a_stop_during_a_backoff_stays_stopped():
    story = Story().up()
    story.exited()
    backoff = story.last[0]
    assert story.after(StopAsked()) == [Do.SETTLE]
    assert story.after(TimerElapsed(backoff.launch, backoff.serial)) == []
    assert story.life.state is State.STOPPED


@pytest.mark.parametrize(
    "happened",
    [PreflightDone(1, HOPELESS), Serving(1), Unresponsive(1, CRASH), Exited(1, CRASH), TimerElapsed(1, 3)],
)
def test_what_belongs_to_an_earlier_launch_changes_nothing(happened):
    story = Story().up()
    story.exited()
    story.timer()
    story.clear()
    before = story.life.state
    assert story.after(happened) == []
    assert story.life.state is before


def test_an_illegal_event_is_an_error_and_changes_nothing():
    life = Lifecycle(jitter=lambda: 0.0)
    with pytest.raises(IllegalEvent):
        life.handle(Exited(0, CRASH), 0.0)
    assert (life.state, life.launch) == (State.STOPPED, 0)


def test_every_state_can_be_stopped_killed_and_started():
    for state, row in TABLE.items():
        assert {Event.START, Event.STOP, Event.KILL} <= set(row), state


def test_jitter_adds_at_most_a_tenth():
    life = Lifecycle(jitter=lambda: 1.0)
    life.handle(Start(A), 0)
    life.handle(PreflightDone(1, None), 0)
    (command,) = life.handle(Exited(1, CRASH), 0)
    assert command.seconds == pytest.approx(1.1)


@given(st.floats(0, 1), st.integers(1, 200))
def test_a_backoff_never_exceeds_its_limit_by_more_than_the_jitter(jitter, crashes):
    patient = replace(A, restart=Restart(max_restarts=1000))
    life = Lifecycle(jitter=lambda: jitter)
    life.handle(Start(patient), 0)
    for _ in range(crashes):
        life.handle(PreflightDone(life.launch, None), 0)
        (command,) = life.handle(Exited(life.launch, CRASH), 0)
        assert command.seconds <= patient.restart.backoff_limit_seconds * 1.1
        life.handle(TimerElapsed(command.launch, command.serial), 0)


class RandomLife(RuleBasedStateMachine):
    """
    Any order of requests, deaths, answers and timers, against a world that spawns and dies as told.

    The rules only make what a real shell could make; the invariants are the promises.
    """

    def __init__(self):
        super().__init__()
        self.life = Lifecycle(jitter=lambda: 0.5)
        self.now = 0.0
        self.child: int | None = None
        self.timer: LifecycleCommand | None = None
        self.local: int | None = None
        self.stop_deadline: float | None = None
        self.spawns: list[float] = []
        self.signalled: set[int] = set()
        self.stopped = False  # a stop is the last thing that counts
        self.past: list = []
        self.asked: list[int] = []
        self.outcomes: list[Outcome] = []

    @initialize()
    def begin(self):
        self.ask(Start, replace(A, stop=Stop(grace_seconds=3, insist_seconds=2)))

    def ask(self, kind, *about):
        self.asked.append(len(self.asked) + 1)
        self.tell(kind(*about, id=self.asked[-1]))

    def tell(self, happened):
        self.past.append(happened)
        if isinstance(happened, (Start, StopAsked)):
            self.stopped = isinstance(happened, StopAsked)
        before, serial = self.life.state, self.life._serial
        commands = self.life.handle(happened, self.now)
        self.outcomes += self.life.decided()
        if self.life._serial != serial:
            self.timer = None
        for command in commands:
            self.obey(command)
        if self.life.state in LEAVING and before not in LEAVING:
            self.stop_deadline = self.now + drain_bound(self.life.plan) + stop_bound(self.life.plan)
        elif self.life.state not in LEAVING or Do.SETTLE in {command.do for command in commands}:
            self.stop_deadline = None
        if self.life.state is State.DRAINING and isinstance(happened, StopAsked) and not happened.now:
            self.stop_deadline = min(self.stop_deadline, self.now + self.retry() + stop_bound(self.life.plan))

    def excuse(self, diagnosis):
        """What a worker causes is not counted."""
        if LOST in (diagnosis, self.life._condemned):
            self.spawns.clear()

    def retry(self):
        """Seconds for which a stop drains."""
        return self.life.plan.stop.grace_seconds if self.life.plan.behind_gateway else 0.0

    def obey(self, command):
        if command.do is Do.CHECK_LAUNCH:
            self.local = command.launch
        elif command.do is Do.SPAWN:
            assert self.child is None, "two live children"
            self.child = command.launch
            self.spawns.append(self.now)
        elif command.do in {Do.TERM, Do.KILL}:
            self.signalled.add(command.launch)
        elif command.do in ARMS:
            self.timer = command

    @rule(plan=st.sampled_from([A, B, A_BEHIND, B_BEHIND, SHRINKS]))
    def person_starts(self, plan):
        self.spawns.clear()
        self.ask(Start, plan)

    @rule(plan=st.sampled_from([A, RENEWED, B_BEHIND, SHRINKS]), loads=st.booleans())
    def a_profile_is_read_again(self, plan, loads):
        sleeps = self.life.state is State.SLEEPING and not loads
        has_it = self.life.wanted is not None and self.life.wanted.digest == plan.digest
        is_coming = self.life.state in LOADING and self.life._rolled_back is None
        if not (sleeps or (has_it and (is_coming or self.life.state in {State.READY, State.DEGRADED}))):
            self.spawns.clear()
            self.stopped = False
        self.ask(partial(Reload, loads=loads), plan)

    @rule(now=st.booleans())
    def person_stops(self, now):
        self.ask(StopAsked, now)

    @rule()
    def nobody_wants_it(self):
        self.ask(SleepAsked)

    @rule()
    def somebody_wants_it(self):
        if self.life.state in LEAVING | {State.SLEEPING}:
            self.spawns.clear()  # what sleeps is loaded as often as it is wanted
        self.ask(WakeAsked)

    @rule(plan=st.sampled_from([A, B_BEHIND]))
    def a_plan_is_to_rest(self, plan):
        self.stopped = self.stopped and self.life.state not in {State.STOPPED, State.FAILED, State.SLEEPING}
        self.ask(RestAsked, plan)

    @rule()
    def the_last_answer_ends(self):
        self.tell(Drained(self.life.launch))

    @precondition(lambda self: self.local is not None)
    @rule(problem=st.sampled_from([None, None, CRASH, HOPELESS, LOST]))
    def ground_is_checked(self, problem):
        launch, self.local = self.local, None
        self.excuse(problem)
        self.tell(PreflightDone(launch, problem))

    @precondition(lambda self: self.child is not None)
    @rule(degraded=st.sampled_from(["", "cpu"]))
    def child_answers(self, degraded):
        self.tell(Serving(self.child, degraded))

    @precondition(lambda self: self.child is not None)
    @rule(diagnosis=st.sampled_from([CRASH, LOST]))
    def child_hangs(self, diagnosis):
        self.tell(Unresponsive(self.child, diagnosis))

    @rule()
    def the_workers_are_back(self):
        self.spawns.clear()  # a move, as a person's
        self.tell(WorkersBack(self.life.launch))

    @precondition(lambda self: self.child is not None)
    @rule(diagnosis=st.sampled_from([CRASH, HOPELESS, LOST]))
    def child_dies(self, diagnosis):
        child, self.child = self.child, None
        self.excuse(diagnosis)
        self.tell(Exited(child, diagnosis))

    @precondition(lambda self: self.timer is not None)
    @rule()
    def time_passes(self):
        timer, self.timer = self.timer, None
        self.now += timer.seconds
        self.tell(TimerElapsed(timer.launch, timer.serial))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def an_old_message_arrives_again(self, data):
        old = data.draw(st.sampled_from(self.past))
        if not hasattr(old, "launch") or old.launch == self.life.launch:
            return
        before = (self.life.state, self.life.launch, self.life.plan)
        assert self.life.handle(old, self.now) == []
        assert (self.life.state, self.life.launch, self.life.plan) == before

    @invariant()
    def every_request_has_one_outcome_or_waits_for_what_is_under_way(self):
        decided = [outcome.id for outcome in self.outcomes]
        assert len(set(decided)) == len(decided), "decided twice"
        waiting = set(self.asked) - set(decided)
        assert {each.id for each in self.life._requests.open} == waiting, "lost"
        assert not waiting or self.life.state in UNDER_WAY, "nothing is under way, and somebody waits"

    @invariant()
    def who_waits_waits_for_one_thing(self):
        asked = [
            each
            for each in self.life._requests.open
            if not isinstance(each, WakeAsked | SleepAsked | RestAsked)
        ]
        things = {each.plan.digest if isinstance(each, Start | Reload) else "a stop" for each in asked}
        assert len(things) <= 1

    @invariant()
    def a_stop_ends_within_its_bound(self):
        if self.stop_deadline is not None:
            assert self.now <= self.stop_deadline

    @invariant()
    def whoever_waits_has_a_timer(self):
        waiting = LEAVING | {State.BACKOFF}
        assert self.life.state not in waiting or self.timer is not None

    @invariant()
    def what_goes_on_without_workers_says_so_and_knows_what_it_should_be(self):
        smaller = self.life.plan is not None and self.life.plan.digest == SMALLER.digest
        assert smaller == (self.life.whole is not None)
        assert not (smaller and self.life.state is State.READY)

    @invariant()
    def who_sleeps_has_a_plan_and_no_process(self):
        if self.life.state is State.SLEEPING:
            assert self.life.whole is None
            assert self.life.plan is not None
            assert self.child is None
            assert self.timer is None

    @invariant()
    def what_drains_has_not_been_signalled(self):
        assert self.life.state is not State.DRAINING or self.child not in self.signalled

    @invariant()
    def a_stop_is_undone_by_a_start_only(self):
        if self.stopped:
            assert self.life.state in LEAVING | {State.STOPPED}

    @invariant()
    def the_budget_is_never_exceeded(self):
        window = [at for at in self.spawns if self.now - at <= A.restart.window_seconds]
        assert len(window) <= A.restart.max_restarts + 2  # the first start, and one rollback

    def teardown(self):
        self.ask(StopAsked)
        for _ in range(5):
            if self.timer is not None and self.life.state in LEAVING:
                self.time_passes()
        assert self.life.outcome.result == ("stopped" if self.child is None else "failed")


RandomLife.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestRandomLives = RandomLife.TestCase
