"""Splitting into lines loses nothing and does not depend on how the pipe cut its chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.server.output_log import LineSplitter

LIMIT = 8
chunks = st.lists(st.text(alphabet="ab\n\r", max_size=40).map(str.encode))


def split(parts):
    splitter = LineSplitter(LIMIT)
    lines = [line for part in parts for line in splitter.feed(part)]
    return lines + splitter.flush()


@given(chunks)
def test_it_does_not_matter_how_the_pipe_cut_it(parts):
    assert split(parts) == split([b"".join(parts)])


@given(chunks)
def test_no_line_is_longer_than_the_limit(parts):
    assert all(len(line) <= LIMIT for line in split(parts))


@given(st.lists(st.text(alphabet="ab\n", max_size=40).map(str.encode)))
def test_nothing_is_lost(parts):
    assert b"".join(split(parts)) == b"".join(parts).replace(b"\n", b"")


@given(st.lists(st.text(alphabet="ab", max_size=LIMIT).map(str.encode)))
def test_short_lines_come_out_as_they_went_in(lines):
    splitter = LineSplitter(LIMIT)
    assert splitter.feed(b"".join(line + b"\n" for line in lines)) == lines
    assert splitter.flush() == []


def test_a_windows_line_end_is_one_line_end():
    assert split([b"one\r", b"\ntwo\r\n"]) == [b"one", b"two"]
