"""What a foreground daemon shows never holds it up."""

from __future__ import annotations

import logging
import os

import pytest

from supervisor.daemon.terminal import Terminal, TerminalHandler


def test_a_line_is_shown_as_it_is():
    reading, writing = os.pipe()
    Terminal(writing).show("hello\udc80")
    assert os.read(reading, 100) == b"hello?\n"


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
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"nobody there")
    Terminal(writing).show("nobody there")
    os.close(writing)
    Terminal(writing).show("not even a descriptor")


def test_our_own_messages_go_the_same_way():
    reading, writing = os.pipe()
    TerminalHandler(Terminal(writing)).emit(
        logging.LogRecord("x", logging.INFO, "", 0, "ready at %s", ("here",), None)
    )
    assert os.read(reading, 100) == b"ready at here\n"
