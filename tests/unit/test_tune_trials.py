"""Trials carried out with a session and a measurement that are told what to do."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from random import Random

import pytest

from supervisor.errors import ConfigError, DoesNotFit, NetworkError, NotRunning, StartFailed, Superseded
from supervisor.measure.measurement import Sample, Target
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.tune.goals import GOALS, LOOK, run_seconds
from supervisor.tune.search_values import Found, Trial, TrialResult
from supervisor.tune.settings_search import SettingsSearch
from supervisor.tune.space import LAYERS
from supervisor.tune.trials import LaunchFailure, TrialRunner, TuningStep, carried_out
from supervisor.tune.tuning_journal import Deaths, opened_journal, tuning_file

from .test_settings_search import SPACE, everything_fits, layered

CHAT = GOALS["chat"]
FAST = (("server.ubatch-size", "2048"),)


def sample(cost=2.0, disturbed=()):
    """A chat of which the prompt and the answer take ``cost`` together."""
    return Sample(2 * 512 / cost, 2 * 256 / cost, 0.1, cost, disturbed=disturbed)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self):
        return self.now


@dataclass
class Session:
    """What it is told to raise, it raises at the next launch."""

    launched: list = field(default_factory=list)
    fails: Exception | None = None
    disturbances: list = field(default_factory=list)
    stopped: int = 0
    waited: int = 0
    is_over: bool = False

    def run(self, plan, *, fresh=False):
        self.launched.append((plan.digest, fresh))
        if self.fails:
            raise self.fails
        return Target("http://127.0.0.1:1", "", plan.profile)

    def disturbed(self):
        return self.disturbances.pop(0) if self.disturbances else ()

    def wait_until_quiet(self):
        self.waited += 1
        if self.is_over:
            raise Superseded("goss-supervisor is being stopped.")

    def stop(self):
        self.stopped += 1


class Guard:
    """Finds trouble as soon as it looks, where it is told so."""

    def __init__(self, trouble=""):
        self.trouble = trouble
        self.guarded = 0

    @contextmanager
    def __call__(self, stop):
        self.guarded += 1
        if self.trouble:
            stop()
        yield self


class Bench:
    """A runner with everything around it."""

    def __init__(self, folder):
        self.session, self.guard, self.clock = Session(), Guard(), Clock()
        self.samples, self.asked = [], []
        self.failure = LaunchFailure()
        self.deaths = Deaths(Paths.under(folder), "this machine")
        self.runner = TrialRunner(
            plan=self.plan,
            session=self.session,
            measure=self.measure,
            goal=CHAT,
            usual_seconds=2.0,
            deaths=self.deaths,
            failure=lambda profile: self.failure,
            stop=self.session.stop,
            guard=self.guard,
            clock=self.clock,
        )

    def plan(self, overrides):
        if "server.no-such" in overrides:
            raise ConfigError("--set: server.no-such: no such option\n--set: and more")
        digest = repr(sorted(overrides.items()))
        return LaunchPlan("mine", (), {}, "127.0.0.1", 0, "b1", "cpu", "", "", digest)

    def measure(self, target, workload, seed, limit):
        self.asked.append((workload, seed))
        if workload == LOOK:
            return sample()
        self.clock.now += 1.0
        found = self.samples.pop(0) if self.samples else sample()
        if isinstance(found, Exception):
            raise found
        return found

    def run(self, candidate=FAST, runs=2, **more):
        return self.runner.run(Trial(1, candidate, runs, "why", **more))

    @property
    def measured(self):
        return [workload for workload, _ in self.asked if workload != LOOK]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_it_measures_as_often_as_asked_after_one_answer_that_does_not_count(bench):
    bench.samples = [sample(2.0), sample(4.0)]
    result = bench.run()
    assert result.costs == pytest.approx((2.0, 4.0))
    assert result.rates == ((512.0, 256.0), (256.0, 128.0))
    assert (result.died, result.took_seconds) == ("", 2.0)
    assert bench.asked == [(LOOK, 0), (CHAT.workload, 1), (CHAT.workload, 2)], "the same prompts for all"


def test_what_runs_already_is_not_loaded_or_warmed_again_unless_the_search_wants_it_fresh(bench):
    bench.run(runs=1)
    bench.run(runs=1)
    bench.run(runs=1, reloads=True)
    assert [fresh for _, fresh in bench.session.launched] == [False, False, True]
    assert [workload == LOOK for workload, _ in bench.asked] == [True, False, False, True, False]


def test_it_stops_when_it_can_no_longer_win(bench):
    bench.samples = [sample(2.0), sample(9.0), sample(2.0)]
    assert bench.run(runs=3, stop_above=4.0).costs == pytest.approx((2.0, 9.0))


def test_a_run_that_is_far_too_slow_is_broken_off_and_costs_at_least_that(bench):
    limit = run_seconds(CHAT, 3 * 4.0)

    def too_slow(target, workload, seed, allowed):
        if workload != LOOK:
            assert allowed == limit
            bench.clock.now += allowed
            raise NetworkError("The measurement did not end.")
        return sample()

    bench.runner.measure = too_slow
    result = bench.run(stop_above=4.0)
    assert result.costs == (12.0,)
    assert result.died == ""
    assert bench.deaths.of(repr(sorted(FAST))) == "", "slow is not dead"


def test_one_that_hangs_where_nothing_is_known_yet_has_died(bench):
    def hangs(target, workload, seed, allowed):
        bench.clock.now += allowed
        raise NetworkError("The measurement did not end within 60 s.")

    bench.runner.measure = hangs
    assert bench.run().died == "The measurement did not end within 60 s"
    assert bench.deaths.of(repr(sorted(FAST))) == "", "it serves still, as far as the daemon knows"


def test_memory_that_others_have_now_says_nothing_about_later_tunings(bench):
    bench.session.fails = DoesNotFit("mine does not fit beside big, which is pinned.")
    bench.failure = LaunchFailure("assertion", "An earlier launch died.")
    assert bench.run().died == "mine does not fit beside big, which is pinned"
    assert bench.deaths.of(repr(sorted(FAST))) == ""


def test_a_launch_that_fails_is_a_result_and_is_never_tried_again(bench):
    bench.session.fails = StartFailed("mine did not become ready: The GPU has not enough free memory.")
    bench.failure = LaunchFailure("gpu-memory", "The GPU has not enough free memory.")
    died = bench.run()
    assert (died.costs, died.died, died.short_of) == ((), "The GPU has not enough free memory", "GPU")
    bench.session.fails = None
    again = bench.run()
    assert (again.died, again.took_seconds) == ("The GPU has not enough free memory", 0.0)
    assert len(bench.session.launched) == 1


def test_one_that_dies_while_it_is_measured_is_told_with_the_daemons_diagnosis(bench):
    bench.samples = [sample(), NetworkError("127.0.0.1 broke off the measurement: reset.")]
    bench.failure = LaunchFailure("assertion", "llama-server found itself in an impossible state: n > 0.")
    died = bench.run(stop_above=50.0)
    assert (died.costs, died.died) == ((), "llama-server found itself in an impossible state: n > 0")
    bench.run(candidate=())
    assert bench.asked[-3][0] == LOOK, "what comes after it is loaded and warmed"


def test_a_candidate_that_cannot_be_planned_is_a_result(bench):
    died = bench.run(candidate=(("server.no-such", "1"),))
    assert died.died == "--set: server.no-such: no such option"
    assert bench.session.launched == []


def test_memory_that_runs_out_stops_the_server_and_is_no_verdict_for_later_tunings(bench):
    bench.guard.trouble = "only 0.3 GiB of this machine's 16.0 GiB of RAM were left"
    bench.session.fails = StartFailed("stopped")
    died = bench.run()
    assert died.died == "stopped: only 0.3 GiB of this machine's 16.0 GiB of RAM were left"
    assert died.short_of == "RAM"
    assert bench.session.stopped == 1
    assert bench.deaths.of(repr(sorted(FAST))) == ""


def test_the_users_own_setting_is_never_stopped(bench):
    bench.guard.trouble = "the system began to swap"
    assert bench.run(candidate=()).died == ""
    assert (bench.guard.guarded, bench.session.stopped) == (0, 0)


@pytest.mark.parametrize("error", [Superseded("by a stop"), NotRunning("gone")])
def test_who_takes_the_server_away_ends_the_tuning(bench, error):
    bench.session.fails = error
    with pytest.raises(type(error)):
        bench.run()
    assert bench.deaths.of(repr(sorted(FAST))) == ""


def test_a_server_that_was_stopped_under_a_measurement_did_not_die(bench):
    bench.samples = [NetworkError("Connection refused.")]
    bench.session.is_over = True
    with pytest.raises(Superseded):
        bench.run(stop_above=50.0)


def test_a_run_that_was_disturbed_is_measured_again_and_not_for_ever(bench):
    bench.samples = [sample(9.0, ("a compiler",)), sample(2.0)]
    bench.session.disturbances = [(), ()]
    assert bench.run(runs=1).costs == pytest.approx((2.0,))
    assert bench.runner.notes == []
    assert bench.session.waited == 1
    bench.samples = [sample(cost) for cost in (9.0, 8.0, 7.0)]
    bench.session.disturbances = [(), *([("2 requests of others",)] * 3)]
    assert bench.run(runs=1).costs == pytest.approx((7.0,))
    assert bench.runner.notes == ["2 requests of others"]
    bench.samples = [sample(9.0, ("a compiler",)), sample(2.0), sample(9.0, ("a compiler",)), sample(3.0)]
    assert bench.run(runs=1).costs == pytest.approx((9.0,)), "it goes on and on, so it harms all alike"
    assert bench.run(runs=2).costs == pytest.approx((2.0, 3.0)), "it had ended, and was waited for again"


# --- the loop


class Search:
    """Asks for these candidates, one after the other, and finds the cheapest."""

    def __init__(self, *candidates):
        self.left, self.told = list(candidates), []

    def ask(self):
        if len(self.told) < len(self.left):
            return Trial(len(self.told), self.left[len(self.told)], 1, "next")
        best = min(self.told, key=lambda told: told[1].costs or (1e9,))[0].candidate
        return Found(best, (), 1.5, 1.4, 1.6, "measured")

    def tell(self, trial, result):
        self.told.append((trial, result))


CANDIDATES = ((), FAST, (("server.threads", "4"),))


def costs_of(trial):
    return TrialResult((5.0 - len(str(trial.candidate)) / 100,), 3.0)


def test_the_loop_says_what_begins_and_what_has_ended_and_ends_with_what_was_found(tmp_path):
    with opened_journal(tuning_file(Paths.under(tmp_path), "mine", [])) as journal:
        *steps, found = carried_out(Search(*CANDIDATES), journal, costs_of)
    assert [(step.trial.number, step.result is None) for step in steps] == [
        (number, begins) for number in range(3) for begins in (True, False)
    ]
    assert isinstance(found, Found)
    assert found.best == FAST


@pytest.mark.parametrize("broken_off_at", range(6))
def test_broken_off_at_any_step_it_goes_on_and_measures_nothing_twice(tmp_path, broken_off_at):
    file = tuning_file(Paths.under(tmp_path), "mine", [])
    ran = []

    def run(trial):
        ran.append(trial.candidate)
        return costs_of(trial)

    with opened_journal(file) as journal:
        steps = carried_out(Search(*CANDIDATES), journal, run)
        for _ in range(broken_off_at):
            next(steps)
    with opened_journal(file) as journal:
        *steps, found = carried_out(Search(*CANDIDATES), journal, run)
    assert ran == list(CANDIDATES)
    assert found.best == FAST
    kept = [step.trial.candidate for step in steps if isinstance(step, TuningStep) and step.is_kept]
    assert kept == list(CANDIDATES[: broken_off_at // 2])


def tuned(file, budget, *, steps=None, fits=everything_fits):
    """What a search on a machine with noise found, if it was not broken off, and how much it measured."""
    measured = 0

    def run(trial):
        nonlocal measured
        measured += 1
        random = Random(trial.number)  # a trial that is carried out again comes out as before
        values = {axis.key: SPACE.value(trial.candidate, axis.key) for axis in SPACE.axes}
        costs = tuple(layered(values) * math.exp(random.gauss(0, 0.05)) for _ in range(trial.runs))
        return TrialResult(costs, 5.0 + sum(costs))

    with opened_journal(file) as journal:
        seconds = max(budget, journal.kept_seconds)
        search = SettingsSearch(SPACE, ((),), fits, seconds, has_turn=journal.has_turn)
        *_, last = islice(carried_out(search, journal, run, fits), steps)
    return last, measured


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    file = tuning_file(Paths.under(tmp_path_factory.mktemp("tuned")), "mine", [])
    found, measured = tuned(file, 1000.0)
    assert measured > 20
    assert found.ratio_low > 2
    return file.read_bytes(), found


@pytest.mark.parametrize("budget", [60.0, 500.0, 1000.0])
def test_what_was_measured_counts_whatever_the_budget_is_now(tmp_path, finished, budget):
    content, before = finished
    file = tmp_path / "mine.ndjson"
    file.write_bytes(content)
    found, measured = tuned(file, budget)
    assert (found.best, found.why, measured) == (before.best, before.why, 0)
    assert found.ratio == pytest.approx(before.ratio, rel=0.02)


def test_a_larger_budget_goes_on_from_what_was_measured(tmp_path, finished):
    content, before = finished
    file = tmp_path / "mine.ndjson"
    file.write_bytes(content)
    found, measured = tuned(file, 1500.0)
    assert 0 < measured < content.count(b'"ended"')
    assert found.ratio > 0.95 * before.ratio


def test_what_does_not_fit_any_more_is_not_told(tmp_path, finished):
    content, before = finished
    file = tmp_path / "mine.ndjson"
    file.write_bytes(content)
    found, _ = tuned(file, 1000.0, fits=lambda each: dict(each).get(LAYERS) != "24")
    assert dict(before.best)[LAYERS] == "24"
    assert dict(found.best).get(LAYERS) != "24"


@pytest.mark.parametrize("steps", [1, 2, 31, 60, -2, -7])
def test_a_search_that_is_broken_off_finds_what_it_would_have_found_and_measures_nothing_twice(
    tmp_path, finished, steps
):
    content, before = finished
    trials = content.count(b'"ended"')
    file = tmp_path / "mine.ndjson"
    tuned(file, 1000.0, steps=steps % (2 * trials))  # of which each begins and ends; the last are turns
    kept = file.read_bytes().count(b'"ended"')
    found, measured = tuned(file, 1000.0)
    assert (found, measured) == (before, trials - kept)
