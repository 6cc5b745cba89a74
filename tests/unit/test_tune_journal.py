"""What a tuning keeps of itself: nothing is measured twice, and a torn line costs one trial."""

from __future__ import annotations

import json

import pytest

from supervisor.errors import AlreadyRunning, SupervisorError
from supervisor.measure.measurement import Workload
from supervisor.paths import Paths
from supervisor.tune.search_values import Trial, TrialResult
from supervisor.tune.tuning_journal import Deaths, TuningJournal, opened_journal, tuning_file

FAST = (("server.ubatch-size", "2048"),)
TRIAL = Trial(0, FAST, 2, "larger")
RESULT = TrialResult((1.5, 1.25), 9.0, rates=((512.0, 64.5), (510.0, 0.0)))


@pytest.fixture
def file(tmp_path):
    return tuning_file(Paths.under(tmp_path), "mine", ["b11434", "chat"])


def reopened(file):
    with opened_journal(file) as journal:
        return journal


def test_what_has_ended_is_known_again_once_for_each_time(file):
    with opened_journal(file) as journal:
        assert journal.result_of(TRIAL) is None
        journal.decided(Workload(128, 16), 12.5)
        journal.begin(TRIAL)
        journal.end(TRIAL, RESULT)
        journal.end(Trial(1, (), 1, "dies"), TrialResult((), 2.0, "no memory", short_of="GPU"))
    again = reopened(file)
    assert (again.workload, again.look_seconds, again.trials) == (Workload(128, 16), 12.5, 2)
    assert again.result_of(TRIAL) == RESULT
    assert again.result_of(TRIAL) is None, "to be measured anew, as the search asks for it again"
    assert again.result_of(Trial(7, (), 1, "dies")) == TrialResult((), 2.0, "no memory", short_of="GPU")


def test_fewer_or_more_runs_and_a_fresh_load_are_other_trials(file):
    with opened_journal(file) as journal:
        journal.end(TRIAL, RESULT)
    again = reopened(file)
    assert again.result_of(Trial(0, FAST, 3, "more")) is None
    assert again.result_of(Trial(0, FAST, 2, "fresh", reloads=True)) is None


def test_a_torn_line_is_dropped_wherever_the_power_went(file):
    with opened_journal(file) as journal:
        journal.end(TRIAL, RESULT)
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(last, len(whole)):
        file.write_bytes(whole[:length])
        assert reopened(file).result_of(TRIAL) is None
        with opened_journal(file) as journal:
            journal.end(TRIAL, RESULT)
        assert reopened(file).result_of(TRIAL) == RESULT
    for length in range(last):
        file.write_bytes(whole[:length])
        assert reopened(file).trials == 0


def test_a_block_that_a_disk_lost_costs_its_line_only(file):
    with opened_journal(file) as journal:
        journal.end(Trial(0, (), 1, "start"), RESULT)
        journal.end(TRIAL, RESULT)
    head, first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(head + b"\0" * (len(first) - 1) + b"\n" + second)
    again = reopened(file)
    assert again.result_of(TRIAL) == RESULT
    assert again.result_of(Trial(0, (), 1, "start")) is None


def test_restart_begins_anew(file):
    with opened_journal(file) as journal:
        journal.end(TRIAL, RESULT)
    with opened_journal(file, restart=True) as journal:
        assert journal.result_of(TRIAL) is None


def test_only_one_process_at_a_time(file):
    with opened_journal(file), pytest.raises(AlreadyRunning, match="running already"), opened_journal(file):
        pass


def test_a_file_of_another_version_is_left_alone(file):
    file.parent.mkdir(parents=True)
    file.write_text('{"schema": 99}\n{"ended": "otherwise"}\n')
    with pytest.raises(SupervisorError, match="another version") as refused:
        reopened(file)
    assert "--restart" in refused.value.hint
    assert "otherwise" in file.read_text()


def begun(file, boot):
    with file.open("a") as lines:
        row = {"number": 0, "candidate": dict(FAST), "runs": 2, "reloads": False, "why": ""}
        lines.write(json.dumps({"begun": row, "boot": boot}) + "\n")


def test_a_trial_during_which_the_computer_went_down_twice_has_died_but_not_one_that_was_killed(file):
    with opened_journal(file) as journal:
        for _ in range(5):
            journal.begin(TRIAL)  # killed each time, in this boot
    assert reopened(file).result_of(TRIAL) is None
    begun(file, "an earlier boot")
    assert reopened(file).result_of(TRIAL) is None
    begun(file, "and one before")
    died = reopened(file).result_of(TRIAL)
    assert died is not None
    assert "went down" in died.died
    assert reopened(file).result_of(Trial(0, (), 2, "another")) is None


def test_other_conditions_have_another_file(tmp_path):
    paths = Paths.under(tmp_path)
    names = {
        tuning_file(paths, "mine", [build, goal]) for build in ("b1", "b2") for goal in ("chat", "agent")
    }
    assert len(names) == 4
    assert all(name.name.startswith("mine-") for name in names)


def test_what_died_is_known_in_later_tunings_on_the_same_machine(tmp_path):
    paths = Paths.under(tmp_path)
    Deaths(paths, "one card").keep("digest", "The GPU has not enough free memory")
    assert Deaths(paths, "one card").of("digest") == "The GPU has not enough free memory"
    assert Deaths(paths, "one card").of("other") == ""
    assert Deaths(paths, "two cards").of("digest") == ""


def test_a_full_disk_is_told(file, monkeypatch):
    journal = TuningJournal(file)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SupervisorError, match="No space left"):
        journal.end(TRIAL, RESULT)
