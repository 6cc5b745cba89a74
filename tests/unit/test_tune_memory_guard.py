"""A trial is stopped before the machine suffers."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from supervisor.tune.memory_guard import MemoryGuard, MemoryLook, look_at_memory, trouble_of

GIB = 1024**3
WELL = MemoryLook(32 * GIB, 8 * GIB, swapped_bytes=GIB)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (WELL, ""),
        (replace(WELL, available_bytes=GIB), ""),
        (replace(WELL, available_bytes=GIB // 2), "RAM were left"),
        (replace(WELL, swapped_bytes=GIB + 50 * 1024**2), ""),
        (replace(WELL, swapped_bytes=2 * GIB), "began to swap (1.0 GiB)"),
        (replace(WELL, swapped_bytes=None), ""),
        (replace(WELL, group_left_bytes=GIB, group_limit_bytes=8 * GIB), ""),
        (replace(WELL, group_left_bytes=GIB // 8, group_limit_bytes=8 * GIB), "control group"),
    ],
)
def test_what_is_trouble(now, said):
    assert said in trouble_of(WELL, now)
    assert bool(said) == bool(trouble_of(WELL, now))


def test_it_stops_the_server_once_and_says_why():
    looks = iter([WELL, WELL, replace(WELL, available_bytes=0)])
    stopped = threading.Event()
    with MemoryGuard(stopped.set, look=lambda: next(looks), every_seconds=0.001) as guard:
        assert stopped.wait(20)
    assert "RAM were left" in guard.trouble


def test_it_ends_with_the_trial():
    before = threading.active_count()
    with MemoryGuard(lambda: None, look=lambda: WELL, every_seconds=3600) as guard:
        pass
    assert guard.trouble == ""
    assert threading.active_count() == before


def test_this_machine_can_be_looked_at():
    look = look_at_memory()
    assert 0 < look.available_bytes <= look.total_bytes
