"""The log takes everything, keeps what it promises, and never stands in the server's way."""

from __future__ import annotations

import contextlib
import re
import shutil
import stat
import sys
from pathlib import Path

import pytest

from supervisor.server import output_log
from supervisor.server.output_log import RING_BYTES, OutputLog

FULL = Path("/dev/full")
posix = pytest.mark.skipif(
    sys.platform == "win32", reason="modes, and folders of open files that can be removed"
)
needs_full_device = pytest.mark.skipif(
    sys.platform == "win32" or not FULL.exists(),
    reason="no /dev/full, or one of Wine's that takes everything",
)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(tmp_path, clock):
    return OutputLog(
        tmp_path / "logs", "llama-server", limit_bytes=1000, files=3, wall_clock=lambda: 0.25, clock=clock
    )


def test_each_line_has_its_time_and_its_own_bytes(log):
    log.feed(b"one\ntw")
    log.feed(b"o \xff\xfe\n")
    assert log.path.read_bytes() == b"1970-01-01T00:00:00.250Z one\n1970-01-01T00:00:00.250Z two \xff\xfe\n"


def test_the_last_line_counts_without_an_end(log):
    log.feed(b"first\nSegmentation fault")
    assert log.tail(5) == ["first"]
    log.end_run()
    assert log.tail(5) == ["first", "Segmentation fault"]
    assert log.path.read_bytes().endswith(b"Segmentation fault\n")


def test_tail_is_text_whatever_the_server_wrote(log):
    log.feed(b"\xc3( \xff\n")
    assert log.tail(1) == ["\ufffd( \ufffd"]


@posix
def test_only_its_owner_may_read_it(log):
    log.feed(b"x\n")
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700


def test_while_somebody_reads_it_on_windows_it_grows_and_nothing_is_lost(log, clock, monkeypatch):
    log.feed(b"".join(b"line %03d of a long story\n" % number for number in range(15)))
    with contextlib.ExitStack() as reading:
        if sys.platform == "win32":
            reading.enter_context(log.path.open("rb"))
        else:
            patched = reading.enter_context(monkeypatch.context())
            patched.setattr(output_log, "may_be_moved", lambda _: False)
        for number in range(15, 40):
            clock.now += 1
            log.feed(b"line %03d of a long story\n" % number)
    assert log.error is None
    assert [int(n) for n in re.findall(rb"line (\d+)", log.path.read_bytes())] == [*range(40)]
    clock.now += 60
    log.feed(b"after\n")
    assert sorted(file.name for file in log.path.parent.iterdir()) == [log.path.name, f"{log.path.name}.1"]


def test_it_is_rotated_and_the_oldest_part_goes(log):
    for number in range(200):
        log.feed(b"line %03d of a long story\n" % number)
    log.end_run()
    parts = [log.path.with_name(log.path.name + suffix) for suffix in (".2", ".1", "")]
    assert sorted(log.path.parent.iterdir()) == sorted(parts)
    assert all(0 < part.stat().st_size <= 1000 for part in parts)
    numbers = [int(n) for part in parts for n in re.findall(rb"line (\d+)", part.read_bytes())]
    assert numbers == list(range(numbers[0], 200))


def test_the_run_before_is_kept_whole_and_the_one_before_that_is_gone(log):
    for run in (b"first", b"second", b"third"):
        log.begin_run()
        log.feed(run + b"\n")
    assert log.path.read_bytes().endswith(b"third\n")
    assert log.path.with_name(f"{log.path.stem}.previous.log").read_bytes().endswith(b"second\n")
    assert len(list(log.path.parent.iterdir())) == 2


def test_a_new_run_forgets_the_lines_of_the_one_before(log):
    log.feed(b"old\n")
    log.begin_run()
    assert log.tail(10) == []


@needs_full_device
def test_a_full_disk_drops_counts_and_recovers(log, clock):
    log.path.parent.mkdir()
    log.path.symlink_to(FULL)
    log.feed(b"lost\n")
    log.feed(b"lost too\n")
    assert "No space left" in (log.error or "")
    assert log.dropped_bytes == sum(len("1970-01-01T00:00:00.250Z ") + n for n in (5, 9))
    assert log.tail(2) == ["lost", "lost too"]
    log.path.unlink()
    log.feed(b"too early to try again\n")
    assert not log.path.exists()
    clock.now += 6
    log.feed(b"kept\n")
    assert log.path.read_bytes().endswith(b"kept\n")
    assert log.error is None


@posix
def test_a_deleted_folder_comes_back(log):
    log.feed(b"before\n")
    shutil.rmtree(log.path.parent)
    log.feed(b"after\n")
    assert log.path.read_bytes().endswith(b" after\n")


def test_a_folder_that_cannot_be_made_is_an_error_to_show_not_to_raise(tmp_path):
    (tmp_path / "logs").write_text("a file is in the way")
    log = OutputLog(tmp_path / "logs", "server")
    log.begin_run()
    log.feed(b"x\n")
    log.end_run()
    assert log.error
    assert log.dropped_bytes > 0
    assert log.tail(1) == ["x"]


def test_secrets_reach_neither_file_nor_listener(log):
    heard = []
    log.listen(heard.append)
    log.begin_run(["sk-abc", "sk-abcdef", ""])
    log.feed(b"key sk-abcdef and sk-abc")
    log.feed(b"!\n")
    assert heard == ["key [redacted] and [redacted]!"]
    assert b"sk-" not in log.path.read_bytes()
    assert log.tail(1) == heard


@pytest.mark.parametrize(
    ("chunk", "counts"),
    [
        (b'127.0.0.1 - "GET /health HTTP/1.0" 503 -\n', False),
        (b'"GET /health HTTP/1.0" 503\r\n"GET /up HTTP/1.0" 200\r\n', False),
        (b'"GET /health HTTP/1.0" 503\nloading shard 2\n', True),
        (b'"GET /health HTTP/1.0" 503\n 10 %', True),
        (b"\r 20 %", True),
        (b'"POST /health HTTP/1.0" 200\n', True),
    ],
)
def test_what_a_server_says_of_our_own_probes_is_no_progress(log, chunk, counts):
    log.begin_run(probed=["/health", "/up"])
    log.feed(chunk)
    assert (log.bytes_seen > 0) is counts
    log.end_run()
    assert "GET" not in "".join(log.tail(9))
    assert log.path.read_bytes().count(b"Z ") == chunk.count(b"\n") + (not chunk.endswith(b"\n"))


def test_a_listener_hears_until_it_has_enough(log):
    heard = []
    enough = log.listen(heard.append)
    log.feed(b"one\n")
    enough()
    log.feed(b"two\n")
    assert heard == ["one"]


@pytest.mark.parametrize("chunk", [b"\n" * 65536, b"x" * 65536, b"short\n" * 10000])
def test_memory_is_bounded_in_any_flood(tmp_path, chunk):
    log = OutputLog(tmp_path, "server", limit_bytes=100_000, files=2)
    for _ in range(20):
        log.feed(chunk)
    kept = log._ring
    assert sum(len(line) + 64 for line in kept) <= RING_BYTES
    assert sum(sys.getsizeof(line) for line in kept) <= 2 * RING_BYTES
    assert log.bytes_seen == 20 * len(chunk)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000 + 20 * 65536 * 30
