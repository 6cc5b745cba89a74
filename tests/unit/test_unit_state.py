"""What `systemctl show` says, and what that means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.service.systemctl import PROPERTIES, Shown, shown


def told(**values):
    return shown("\n".join(f"{name}={value}" for name, value in values.items()))


@pytest.mark.parametrize(
    ("words", "pid", "is_running", "is_ready"),
    [
        ("active (running)", 12, True, True),
        ("reloading (reload)", 12, True, True),
        ("starting: activating (start)", 12, True, False),
        ("starting: activating (start-pre)", 0, True, False),
        ("down, to be tried again: activating (auto-restart)", 0, False, False),
        ("down, to be tried again: activating (auto-restart-queued)", 0, False, False),
        ("deactivating (stop-sigterm)", 12, True, False),
        ("inactive (dead)", 0, False, False),
        ("failed (failed)", 0, False, False),
    ],
)
def test_between_two_tries_it_does_not_run_and_a_start_is_not_ready(words, pid, is_running, is_ready):
    active, sub = words.rpartition(": ")[2].rstrip(")").split(" (")
    unit = told(ActiveState=active, SubState=sub, MainPID=pid)
    assert (unit.state, unit.pid) == (words, pid or None)
    assert (unit.is_running, unit.is_ready) == (is_running, is_ready)


def test_the_last_words_are_those_of_one_that_runs():
    words = {"StatusText": "demo: failed (port 8080 is taken)", "Result": "exit-code", "ExecMainStatus": "1"}
    assert told(ActiveState="active", SubState="running", **words).detail == words["StatusText"]
    for active, sub in (("activating", "auto-restart"), ("failed", "failed")):
        assert told(ActiveState=active, SubState=sub, **words).detail == "ended with exit-code 1"
    assert told(ActiveState="inactive", Result="success").detail == ""


def test_a_unit_without_a_file_is_known_as_long_as_anything_is_left_of_it():
    assert not told(LoadState="not-found", ActiveState="inactive").is_known
    assert told(LoadState="not-found", ActiveState="active").is_known
    assert told(LoadState="not-found", ActiveState="failed").is_known
    assert told(LoadState="loaded", ActiveState="inactive").is_known
    assert not Shown().is_known


@given(values=st.dictionaries(st.sampled_from(sorted({*PROPERTIES} - {"MainPID"})), st.text("abc =\t-")))
def test_no_words_are_too_strange_to_be_read(values):
    unit = told(**values)
    assert unit.status == values.get("StatusText", "")
    assert unit.is_ready <= unit.is_running
