"""A log that is followed: each line once, from the end of a long one, anew when the file is another one."""

from __future__ import annotations

from supervisor.gateway.pages.log_follow import MOST_BYTES, read_on


def test_each_line_is_read_once_when_it_is_whole(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"one\r\ntwo\nthr")
    first = read_on(log, None)
    assert (first.lines, first.reset) == (["one", "two"], True)
    assert read_on(log, first.place).lines == []
    with log.open("ab") as file:
        file.write(b"ee\nfour \xff\n")
    more = read_on(log, first.place)
    assert (more.lines, more.reset) == (["three", "four �"], False)


def test_of_a_long_one_the_end_is_read_from_a_whole_line_on(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"{number} {'x' * 90}\n" for number in range(10_000)))
    piece = read_on(log, None)
    assert piece.lines[0].split()[1] == "x" * 90
    assert piece.lines[-1].startswith("9999 ")
    assert sum(map(len, piece.lines)) <= MOST_BYTES


def test_who_writes_more_than_anybody_reads_is_followed_by_the_last(tmp_path):
    log = tmp_path / "log"
    log.write_text("begin\n")
    place = read_on(log, None).place
    with log.open("a") as file:
        file.write("y\n" * MOST_BYTES)
    piece = read_on(log, place)
    assert (piece.reset, piece.lines[-1]) == (True, "y")
    assert len(piece.lines) <= MOST_BYTES / 2


def test_a_new_file_begins_anew(tmp_path):
    log = tmp_path / "log"
    log.write_text("old\n")
    place = read_on(log, None).place
    log.rename(tmp_path / "log.1")
    gone = read_on(log, place)
    assert (gone.lines, gone.reset, gone.place) == ([], True, None)
    log.write_text("new\n")
    piece = read_on(log, place)
    assert (piece.lines, piece.reset) == (["new"], True)


def test_a_file_that_became_shorter_begins_anew(tmp_path):
    log = tmp_path / "log"
    log.write_text("a long line\n")
    place = read_on(log, None).place
    log.write_text("short\n")
    piece = read_on(log, place)
    assert (piece.lines, piece.reset) == (["short"], True)


def test_a_log_that_is_not_there_yet_has_no_lines(tmp_path):
    piece = read_on(tmp_path / "log", None)
    assert (piece.lines, piece.place, piece.reset) == ([], None, False)


def test_a_line_without_an_end_is_not_waited_for_for_ever(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"z" * (MOST_BYTES + 10))
    piece = read_on(log, None)
    assert len(piece.lines) <= 1
    assert piece.place.offset == MOST_BYTES + 10
