"""Usage across restarts: the file, what may be wrong with it, and the daemon that writes it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest

from supervisor.errors import ConfigError, PermissionDenied, SupervisorError
from supervisor.gateway.telemetry import usage_file
from supervisor.gateway.telemetry.usage_file import UsageFile, UsageKeeper
from supervisor.gateway.telemetry.usage_tally import UsagePlace, UsageSums, UsageTally, day_of

from ..fakes.asked import a_chat
from ..fakes.launching import BOUND_SECONDS, until

DAY = "2026-11-30"
SUMS = UsageSums(2, 1, 1, 1000, 900, 64, 3.5)
CHAT = a_chat(prompt_tokens=100, cached_tokens=0, output_tokens=10)


def place(day=DAY, key="laptop", model="demo"):
    return UsagePlace(day, key, model)


def read(file, since="0000", until="9999", by=("day", "key", "model")):
    return file.read(since, until, by)


@pytest.fixture
def file(tmp_path):
    return UsageFile(tmp_path / "state # 100%" / "usage.sqlite")


# --- the file


def test_figures_are_added_to_those_that_are_there(file):
    assert (read(file), file.tokens_on(DAY)) == ({}, {})
    assert file.add({place(): SUMS, place(key=""): SUMS}, DAY) == {"laptop": 1064, "": 1064}
    assert file.add({place(): SUMS, place("2026-11-29"): SUMS}, DAY) == {"laptop": 2128, "": 1064}
    twice = UsageSums(4, 2, 2, 2000, 1800, 128, 7.0)
    assert read(file) == {place("2026-11-29"): SUMS, place(key=""): SUMS, place(): twice}
    assert file.tokens_on(DAY) == {"laptop": 2128, "": 1064}


def test_figures_are_added_up_by_what_one_asks_for(file):
    file.add({place(): SUMS, place(model="other"): SUMS, place("2026-12-01"): SUMS}, DAY)
    assert read(file, by=("key",)) == {
        UsagePlace("", "laptop", ""): UsageSums(6, 3, 3, 3000, 2700, 192, 10.5)
    }
    assert list(read(file, by=("model", "day"))) == [
        UsagePlace("2026-11-30", "", "demo"),
        UsagePlace("2026-12-01", "", "demo"),
        UsagePlace("2026-11-30", "", "other"),
    ]
    assert list(read(file, "2026-12-01", "2026-12-01", ("day",))) == [UsagePlace("2026-12-01", "", "")]


def test_days_are_dropped_when_there_are_too_many_with_use_whatever_the_clock_says(file, monkeypatch):
    monkeypatch.setattr(usage_file, "KEPT_DAYS", 3)
    for day in ("2026-01-01", "2026-11-28", "2026-11-30", "2099-01-01", "2026-11-29"):
        file.add({place(day): SUMS}, DAY)
    assert [each.day for each in read(file, by=("day",))] == ["2026-11-29", "2026-11-30", "2099-01-01"]


def test_names_are_bounded_over_many_writes(file):
    for number in range(3):
        file.add({place(key=f"k{number}-{each}"): SUMS for each in range(600)}, DAY)
    found = read(file)
    assert len(found) == 1001
    assert sum(sums.requests for sums in found.values()) == 3600


def test_a_file_of_a_newer_version_is_left_alone(file):
    file.add({place(): SUMS}, DAY)
    with sqlite3.connect(file.path) as newer:
        newer.execute("PRAGMA user_version = 2")
    newer.close()
    before = file.path.read_bytes()
    for use in (lambda: file.add({place(): SUMS}, DAY), lambda: read(file), lambda: file.tokens_on(DAY)):
        with pytest.raises(ConfigError, match="newer goss-supervisor") as error:
            use()
        assert error.value.hint
    assert file.path.read_bytes() == before


def of_another_shape(path):
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE usage")
        other.execute("CREATE TABLE usage (a)")
    other.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database, but long enough to be taken for one" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096),
        lambda path: path.write_bytes(path.read_bytes().replace(b"WITHOUT ROWID", b"WITHOUT ROWI\x8f")),
        of_another_shape,
    ],
)
def test_a_damaged_file_is_put_aside_and_a_new_one_begins(file, damage, caplog):
    file.add({place(): SUMS}, DAY)
    damage(file.path)
    before = file.path.read_bytes()
    with pytest.raises(ConfigError, match="is damaged"):
        read(file)
    assert file.add({place(): SUMS}, DAY) == {"laptop": 1064}
    assert read(file) == {place(): SUMS}
    (aside,) = file.damaged()
    assert aside.read_bytes() == before
    assert aside.name in caplog.text


def test_a_disk_that_damages_each_file_does_not_get_more_and_more_of_them(file, monkeypatch):
    monkeypatch.setattr(usage_file, "_MOST_ASIDE", 2)
    for _ in range(2):
        file.add({place(): SUMS}, DAY)
        file.path.write_bytes(b"x" * 4096)
    file.add({place(): SUMS}, DAY)
    file.path.write_bytes(b"x" * 4096)
    with pytest.raises(SupervisorError, match="so were 2 before it") as error:
        file.add({place(): SUMS}, DAY)
    assert "Check the disk" in error.value.hint
    assert len(file.damaged()) == 2


def test_an_empty_file_is_a_new_one(file):
    file.path.parent.mkdir()
    file.path.touch()
    assert read(file) == {}
    file.add({place(): SUMS}, DAY)
    assert read(file) == {place(): SUMS}


def test_a_full_disk_is_said_and_changes_nothing(file, monkeypatch):
    file.add({place(): SUMS}, DAY)
    connect = sqlite3.connect

    def full(*words, **more):
        made = connect(*words, **more)
        made.execute("PRAGMA max_page_count = 1")  # as few as there are: SQLite says that the disk is full
        return made

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(SupervisorError, match="are free there") as error:
        file.add({place(model="x" * 20_000): SUMS}, DAY)
    assert "Free some space" in error.value.hint
    monkeypatch.undo()
    assert read(file) == {place(): SUMS}
    assert not file.damaged()


@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may"
)
def test_a_folder_that_may_not_be_written_is_said(file):
    file.path.parent.mkdir()
    file.path.parent.chmod(0o500)
    with pytest.raises(PermissionDenied):
        file.add({place(): SUMS}, DAY)


def test_a_folder_in_place_of_the_file_is_said(file):
    file.path.mkdir(parents=True)
    with pytest.raises(PermissionDenied):
        file.add({place(): SUMS}, DAY)
    with pytest.raises(SupervisorError, match="cannot be used"):
        read(file)


def test_two_who_write_at_once_lose_nothing(file):
    errors = []

    def write():
        try:
            for _ in range(20):
                file.add({place(): SUMS}, DAY)
        except SupervisorError as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert read(file)[place()].requests == 120


KILLED = """
    import os, signal, sqlite3, sys
    made = sqlite3.connect(sys.argv[1], isolation_level=None)
    made.execute("PRAGMA cache_size = 1")
    made.execute("BEGIN IMMEDIATE")
    for number in range(2000):
        made.execute("INSERT INTO usage VALUES (?, 'k', 'm', 1, 0, 0, 1, 1, 1, 1)", (f"d{number}",))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_crash_in_the_middle_of_a_write_leaves_what_was_there_also_without_a_daemon(file):
    file.add({place(): SUMS}, DAY)
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(file.path)])
    assert killed.returncode == -signal.SIGKILL
    assert file.path.with_name("usage.sqlite-journal").stat().st_size, "the write had begun"
    assert read(file) == {place(): SUMS}


def test_sqlite_is_not_imported_before_it_is_used():
    code = "import sys; import supervisor.daemon.__main__; print('sqlite3' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


# --- the daemon's part


class Disk:
    """A file whose work waits, or fails, as a test says."""

    def __init__(self, path):
        self.file, self.error, self.gate = UsageFile(path), None, threading.Event()
        self.calls = []
        self.gate.set()

    def add(self, sums, day):
        self.calls.append("add")
        self.gate.wait(BOUND_SECONDS)
        if self.error:
            raise self.error
        return self.file.add(sums, day)

    def tokens_on(self, day):
        self.calls.append("tokens_on")
        return self.file.tokens_on(day)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "usage.sqlite")


def now_used(**more):
    """A chat that ends now."""
    return replace(CHAT, at=time.time(), seconds=0.0, **more)


def today():
    return day_of(time.time())


def keeper(disk, *, needs_today=False):
    tally = UsageTally()
    return tally, UsageKeeper(disk, tally, lambda: needs_today)


def test_a_restart_goes_on_with_what_was_used_today(disk):
    async def story():
        tally, first = keeper(disk)
        await first.begin()
        tally.note(now_used())
        await first.finish()
        tally, second = keeper(disk, needs_today=True)
        await second.begin()
        assert tally.tokens_on(today(), "laptop") == 110
        tally.note(now_used())
        assert tally.tokens_on(today(), "laptop") == 220
        await second.finish()
        assert disk.file.tokens_on(today()) == {"laptop": 220}

    asyncio.run(story())


def test_a_daemon_that_nobody_asks_anything_touches_no_file(disk):
    async def story():
        _, kept = keeper(disk)
        await kept.begin()
        await kept.write()
        await kept.finish()

    asyncio.run(story())
    assert not disk.calls


def test_each_minute_is_written(disk, monkeypatch):
    monkeypatch.setattr(usage_file, "WRITE_SECONDS", 0.01)

    async def story():
        tally, kept = keeper(disk)
        await kept.begin()
        tally.note(now_used())
        await until(lambda: not tally.unwritten)
        assert disk.file.tokens_on(today()) == {"laptop": 110}
        await kept.finish()

    asyncio.run(story())


def test_what_cannot_be_written_is_kept_said_once_and_written_later(disk, caplog):
    async def story():
        tally, kept = keeper(disk)
        disk.error = SupervisorError("The disk is full.", hint="Free some space.")
        tally.note(now_used())
        with caplog.at_level(logging.WARNING):
            await kept.write()
            await kept.write()
        assert kept.problem == "usage is not kept for now: The disk is full. Free some space."
        assert len(caplog.records) == 1
        assert tally.tokens_on(today(), "laptop") == 110
        disk.error = None
        tally.note(now_used())
        await kept.write()
        assert (kept.problem, tally.unwritten) == ("", 0)
        assert disk.file.tokens_on(today()) == {"laptop": 220}

    asyncio.run(story())


def test_what_is_lost_at_the_end_is_said(disk, caplog):
    async def story():
        tally, kept = keeper(disk)
        disk.error = SupervisorError("The disk is full.")
        tally.note(now_used())
        await kept.finish()

    asyncio.run(story())
    assert (
        "The usage of the last requests (1) may be lost: usage is not kept for now: The disk is full."
        in caplog.text
    )


def test_a_disk_that_hangs_holds_up_neither_the_beginning_nor_the_end(disk, caplog, monkeypatch):
    monkeypatch.setattr(usage_file, "LAST_SECONDS", 0.05)
    disk.gate.clear()

    async def story():
        tally, kept = keeper(disk)
        tally.note(now_used())
        await kept.begin()
        assert tally.tokens_on(today(), "laptop") == 110
        tally.note(now_used())
        await kept.finish()

    asyncio.run(story())
    disk.gate.set()
    assert "may be lost: the disk did not answer in time" in caplog.text
