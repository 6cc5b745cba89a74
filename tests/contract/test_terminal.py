"""What a foreground daemon shows never holds it up."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from supervisor.daemon.journal import ERROR, for_stderr, is_the_journal
from supervisor.daemon.terminal_log import Terminal, TerminalHandler, terminal_on


def test_a_line_is_shown_as_it_is():
    reading, writing = os.pipe()
    Terminal(writing).show("hello\udc80")
    assert os.read(reading, 100) == b"hello?\n"


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows tells nobody whether a pipe is full: the daemon waits"
)
def test_a_reader_that_stands_still_costs_lines_and_no_time():
    reading, writing = os.pipe()
    terminal = Terminal(writing)
    for _ in range(1000):
        terminal.show("x" * 5000)  # far more than any pipe holds: a write that waits would never end
    os.close(writing)
    with open(reading, "rb") as pipe:
        shown = pipe.read()
    assert 0 < len(shown) < 1000 * 4096


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OSError if sys.platform == "win32" else BrokenPipeError):  # there: Invalid argument
        os.write(writing, b"nobody there")
    Terminal(writing).show("nobody there")
    os.close(writing)
    Terminal(writing).show("not even a descriptor")


def test_where_a_stream_was_closed_nothing_is_shown():
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        terminal_on(stream).show("heard")
    terminal_on(None).show("unheard")
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"heard\n"


def test_our_own_messages_go_the_same_way():
    reading, writing = os.pipe()
    TerminalHandler(Terminal(writing)).emit(
        logging.LogRecord("x", logging.INFO, "", 0, "ready at %s", ("here",), None)
    )
    assert os.read(reading, 100) == b"ready at here\n"


# --- the journal


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("0.01.234.567 I srv  load: fine", b"<6>0.01.234.567 I srv  load: fine\n"),
        ("12.01.234.567 W slot: slow", b"<4>12.01.234.567 W slot: slow\n"),
        ("0.01.234.567 E srv: bad", b"<3>0.01.234.567 E srv: bad\n"),
        ("D without a time", b"<7>D without a time\n"),
        ("Error: a sentence", b"<6>Error: a sentence\n"),
        ("<0>not for the server to say", b"<6><0>not for the server to say\n"),
        ("", b"<6>\n"),
    ],
)
def test_a_line_of_the_server_is_as_important_there_as_the_server_says(line, shown):
    reading, writing = os.pipe()
    Terminal(writing, journal=True).show_server(line)
    assert os.read(reading, 200) == shown


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.DEBUG, b"<7>"),
        (logging.INFO, b"<6>"),
        (logging.WARNING, b"<4>"),
        (logging.ERROR, b"<3>"),
        (logging.CRITICAL, b"<3>"),
    ],
)
def test_each_line_of_our_own_messages_has_its_priority_and_no_time(level, shown):
    reading, writing = os.pipe()
    handler = TerminalHandler(Terminal(writing, journal=True))
    handler.emit(logging.LogRecord("x", level, "", 0, "it failed\nhint: try", (), None))
    assert os.read(reading, 100) == shown + b"it failed\n" + shown + b"hint: try\n"


def test_only_the_descriptor_that_leads_to_the_journal_is_it(tmp_path):
    reading, writing = os.pipe()
    here = os.fstat(writing)
    environ = {"JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino}"}
    assert is_the_journal(environ, writing)
    assert not is_the_journal({}, writing)
    with (tmp_path / "log").open("w") as elsewhere:
        assert not is_the_journal(environ, elsewhere.fileno()), "redirected since"
    os.close(reading)
    os.close(writing)
    assert not is_the_journal(environ, writing)


def test_what_is_said_before_there_is_a_daemon_has_its_priority_in_the_journal_alone(monkeypatch):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert for_stderr("error: no\nhint: try", ERROR) == "error: no\nhint: try"
    here = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{here.st_dev}:{here.st_ino}")
    assert for_stderr("error: no\nhint: try", ERROR) == "<3>error: no\n<3>hint: try"
