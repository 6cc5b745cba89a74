"""Late, busy or dead: told by evidence, never by a clock alone."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from supervisor.profile.definition import Health
from supervisor.server.health import Evidence, HealthVerdict, Watch, Watcher

POLICY = Health(
    start_timeout_seconds=300, start_limit_seconds=3600, hang_timeout_seconds=60, busy_timeout_seconds=900
)
IDLE = Evidence(100, 5.0)


def watch(evidence=IDLE):
    return Watch(POLICY, evidence, now=0.0)


def test_loading_may_take_long_as_long_as_something_happens():
    judge = watch()
    for minute in range(1, 60):
        assert judge.loading(Evidence(100 + minute, 5.0), minute * 60.0) is HealthVerdict.WAITING


def test_loading_without_progress_is_given_up_after_the_start_timeout():
    judge = watch()
    assert judge.loading(IDLE, 299.0) is HealthVerdict.WAITING
    assert judge.loading(IDLE, 301.0) is HealthVerdict.DEAD


def test_loading_has_a_limit_whatever_happens():
    judge = watch()
    assert judge.loading(Evidence(10**9, 10**6), 3601.0) is HealthVerdict.DEAD


def test_the_start_deadline_counts_from_the_last_progress():
    judge = watch()
    judge.loading(Evidence(100, 50.0), 290.0)
    assert judge.loading(Evidence(100, 50.0), 580.0) is HealthVerdict.WAITING
    assert judge.loading(Evidence(100, 50.0), 591.0) is HealthVerdict.DEAD


def test_an_answer_is_all_that_counts_for_a_server_that_serves():
    judge = watch()
    assert judge.serving(IDLE, 10_000.0, answered=True) is HealthVerdict.FINE


def test_silence_with_cpu_time_is_busy_and_not_dead():
    judge = watch()
    for step in range(1, 60):
        verdict = judge.serving(Evidence(100, 5.0 + step * 10), step * 15.0, answered=False)
        assert verdict in {HealthVerdict.BUSY, HealthVerdict.WAITING}


def test_silence_without_progress_is_a_hang():
    judge = watch()
    assert judge.serving(IDLE, 59.0, answered=False) is HealthVerdict.WAITING
    assert judge.serving(IDLE, 61.0, answered=False) is HealthVerdict.DEAD


def test_a_spinning_hang_is_dead_in_the_end():
    judge = watch()
    verdicts = [
        judge.serving(Evidence(100, 5.0 + at), float(at), answered=False) for at in range(10, 920, 10)
    ]
    assert verdicts[-1] is HealthVerdict.DEAD
    assert HealthVerdict.DEAD not in verdicts[:80]


def test_a_process_that_only_wakes_to_sleep_again_makes_no_progress():
    judge = watch()
    for step in range(1, 7):
        verdict = judge.serving(Evidence(100, 5.0 + step * 0.01), step * 10.5, answered=False)
    assert verdict is HealthVerdict.DEAD


@given(st.lists(st.tuples(st.floats(0.1, 100), st.booleans(), st.booleans()), max_size=60))
def test_a_server_that_answers_often_enough_is_never_killed(steps):
    judge, now, cpu, silent = watch(), 0.0, 5.0, 0.0
    for seconds, works, answers in steps:
        now += seconds
        cpu += seconds if works else 0.0
        silent = 0.0 if answers else silent + seconds
        verdict = judge.serving(Evidence(100, cpu), now, answered=answers)
        if silent <= POLICY.hang_timeout_seconds:
            assert verdict is not HealthVerdict.DEAD


def test_a_time_in_which_nobody_looked_counts_for_nothing():
    """A container was paused, or we could not probe: the judgement starts over, with all the time there is."""
    judge = watch()
    judge.serving(IDLE, 10.0, answered=True)
    assert judge.was_held_up(4000.0, expected_seconds=15.0)
    judge.start_over(IDLE, 4000.0)
    assert judge.serving(IDLE, 4000.0, answered=False) is HealthVerdict.WAITING
    assert judge.serving(IDLE, 4059.0, answered=False) is HealthVerdict.WAITING
    assert judge.serving(IDLE, 4061.0, answered=False) is HealthVerdict.DEAD


def test_a_load_that_was_paused_has_its_whole_limit():
    judge = watch()
    judge.loading(Evidence(200, 5.0), 100.0)
    judge.start_over(Evidence(200, 5.0), 5000.0)
    assert judge.loading(Evidence(300, 5.0), 5200.0) is HealthVerdict.WAITING
    assert judge.loading(Evidence(400, 5.0), 5000.0 + 3501.0) is HealthVerdict.DEAD


def test_a_probe_that_took_as_long_as_it_may_was_not_held_up():
    judge = watch()
    judge.serving(IDLE, 10.0, answered=True)
    assert not judge.was_held_up(25.5, expected_seconds=15.0)


def test_a_watcher_that_is_stopped_just_as_it_is_asked_to_look_ends():
    """Else it would go on, and doubt a server that is not there any more."""
    watcher = Watcher(None, None, None, None, serves=None, doubts=None, is_dead=None)

    async def run():
        pause = asyncio.create_task(watcher._pause(60.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        watcher.look()
        pause.cancel()
        await asyncio.wait({pause})
        return pause.cancelled()

    assert asyncio.run(run())


def test_a_server_that_answers_probes_and_does_nothing_for_its_requests_is_stuck():
    """Its worker hangs.  What our probes cost is no work."""
    judge = watch()
    assert not judge.is_stuck(IDLE, 59.0, at_work=True)
    assert judge.is_stuck(Evidence(100, 5.1), 61.0, at_work=True)


def test_a_server_that_has_nothing_to_do_is_never_stuck():
    judge = watch()
    assert not judge.is_stuck(IDLE, 3600.0, at_work=False)
    assert not judge.is_stuck(IDLE, 3659.0, at_work=True)  # its request is new


def test_a_server_whose_workers_do_nearly_all_is_not_stuck():
    """A token now and then takes some milliseconds here."""
    judge = watch()
    for second in range(1, 600):
        assert not judge.is_stuck(Evidence(100, 5.0 + 0.004 * second), float(second), at_work=True)


def test_a_time_in_which_nobody_looked_makes_nobody_stuck():
    judge = watch()
    judge.start_over(IDLE, 3600.0)
    assert not judge.is_stuck(IDLE, 3601.0, at_work=True)
