"""What a tuning keeps of itself: nothing is measured twice, and a torn line costs one trial."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace

import pytest

from supervisor.errors import AlreadyRunning, SupervisorError
from supervisor.measure.measurement import Workload
from supervisor.paths import Paths
from supervisor.tune.search_values import Trial, TrialResult
from supervisor.tune.tuning_journal import MOST_FILES, Deaths, TuningJournal, opened_journal, tuning_file

SLOW = (("server.ubatch-size", "64"),)
FAST = (("server.ubatch-size", "2048"),)
TRIAL = Trial(0, FAST, 2, "larger")
RESULT = TrialResult((1.5, 1.25), 9.0, rates=((512.0, 64.5), (510.0, 0.0)))


@pytest.fixture
def file(tmp_path):
    return tuning_file(Paths.under(tmp_path), "mine", ["b11434", "chat"])


def reopened(file):
    with opened_journal(file) as journal:
        return journal


DIED = Trial(1, (), 1, "dies", stop_above=7.5), TrialResult((), 2.0, "no memory", short_of="GPU")


def test_what_has_ended_is_known_again_as_it_was_and_in_its_order(file):
    with opened_journal(file) as journal:
        assert journal.kept == []
        journal.decided(Workload(128, 16), 12.5)
        journal.begin(TRIAL)
        journal.end(TRIAL, RESULT)
        journal.end(*DIED)
        journal.end(TRIAL, RESULT)
    again = reopened(file)
    assert (again.workload, again.look_seconds, again.trials) == (Workload(128, 16), 12.5, 3)
    assert again.kept == [(TRIAL, RESULT), DIED, (TRIAL, RESULT)]
    assert again.kept_seconds == 20.0
    assert again.result_of(TRIAL) is None, "to be measured, as the search asks for it although it knows these"


def test_turns_are_known_once_each_and_only_from_the_proof_that_they_belong_to(file):
    with opened_journal(file) as journal:
        for number, candidate in enumerate(((), FAST, FAST, SLOW, ())):
            journal.end(turn(candidate), TrialResult((1.0,), float(number)))
    again = reopened(file)
    assert again.kept == []
    assert [again.has_turn(each) for each in ((), FAST, SLOW)] == [True, True, True]
    assert again.result_of(turn(FAST)).took_seconds == 1.0, "the one before it was of another proof"
    assert again.result_of(turn(FAST)).took_seconds == 2.0
    assert not again.has_turn(FAST)
    assert again.result_of(turn(FAST)) is None
    assert again.result_of(turn(())) is None, "those behind what was asked for in vain are forgotten, too"


def turn(candidate):
    return Trial(9, candidate, 2, "in turns", reloads=True)


def test_a_trial_of_an_older_version_says_less(file):
    with opened_journal(file) as journal:
        journal.end(*DIED)
    text = file.read_text()
    file.write_text(text.replace(', "stop_above": 7.5', ""))
    assert text != file.read_text()
    assert reopened(file).kept == [(replace(DIED[0], stop_above=None), DIED[1])]


def test_a_torn_line_is_dropped_wherever_the_power_went(file):
    with opened_journal(file) as journal:
        journal.end(TRIAL, RESULT)
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(last, len(whole)):
        file.write_bytes(whole[:length])
        assert reopened(file).kept == []
        with opened_journal(file) as journal:
            journal.end(TRIAL, RESULT)
        assert reopened(file).kept == [(TRIAL, RESULT)]
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
    assert again.kept == [(TRIAL, RESULT)]


@pytest.mark.parametrize(
    "changed",
    [
        {"costs": [float("nan")]},
        {"costs": [0.0]},
        {"costs": [-1.5]},
        {"costs": [1e308]},
        {"costs": []},
        {"took_seconds": -3},
        {"rates": [[1.0]]},
        {"ended": {"number": 0, "candidate": {}, "runs": 0, "reloads": False, "why": ""}},
    ],
    ids=str,
)
def test_a_line_that_the_search_cannot_calculate_with_is_dropped(file, changed):
    with opened_journal(file) as journal:
        journal.end(TRIAL, RESULT)
        journal.end(*DIED)
    head, ended, died = map(json.loads, file.read_text().splitlines())
    file.write_text("".join(f"{json.dumps(each)}\n" for each in (head, ended | changed, died)))
    assert reopened(file).kept == [DIED]


@pytest.mark.parametrize(
    "changed", [{"look_seconds": 0}, {"workload": {"prompt_tokens": 0, "answer_tokens": 8}}]
)
def test_work_that_nobody_can_measure_is_decided_anew(file, changed):
    with opened_journal(file) as journal:
        journal.decided(Workload(128, 16), 12.5)
    head, decided = map(json.loads, file.read_text().splitlines())
    file.write_text("".join(f"{json.dumps(each)}\n" for each in (head, decided | changed)))
    assert reopened(file).workload is None


def test_what_a_newer_version_adds_is_not_read(file):
    with opened_journal(file) as journal:
        journal.end(TRIAL, RESULT)
    head, ended = map(json.loads, file.read_text().splitlines())
    ended["ended"]["mood"] = ended["heat"] = "new"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in (head, {"paused": 3}, ended)))
    assert reopened(file).kept == [(TRIAL, RESULT)]


def test_restart_begins_anew(file):
    with opened_journal(file) as journal:
        journal.end(TRIAL, RESULT)
    with opened_journal(file, restart=True) as journal:
        assert journal.kept == []


def test_a_profile_keeps_the_newest_files_and_those_that_are_in_use(tmp_path):
    paths = Paths.under(tmp_path)
    files = [tuning_file(paths, "mine", [number]) for number in range(MOST_FILES + 3)]
    other = tuning_file(paths, "mine-too", [])
    for number, each in enumerate((other, *files)):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text('{"schema": 1}\n')
        os.utime(each, (number, number))
    with opened_journal(files[0]):  # the oldest is in use
        reopened(newest := tuning_file(paths, "mine", ["now"]))
    left = set(newest.parent.glob("*.ndjson"))
    assert left == {other, files[0], *files[1 - MOST_FILES :], newest}
    assert {each.stem for each in newest.parent.glob("*.lock")} == {files[0].stem, newest.stem}


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_only_its_user_may_read_it(file):
    reopened(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


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
