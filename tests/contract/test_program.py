"""The program as a shell meets it: words that are no command, readers that leave, people who do."""

from __future__ import annotations

import io
import subprocess
import sys

import click
import pytest

from supervisor.cli.common import confirmed
from supervisor.cli.output import waiting_for_the_daemon

PATIENCE = 60.0
PROGRAM = (sys.executable, "-I", "-m", "supervisor")


def test_a_reader_that_has_gone_is_no_failure():
    words = (*PROGRAM, "profile", "schema")  # more than a pipe holds
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"{\n"
        started.stdout.close()
        assert started.wait(PATIENCE) == 0
        assert started.stderr is not None
        assert started.stderr.read() == b""


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("strat", "No such command 'strat'. Did you mean 'start'?"),
        ("modle", "No such command 'modle'. Did you mean 'model'?"),
        ("xyzzy", "No such command 'xyzzy'."),
    ],
)
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(word, said):
    done = subprocess.run((*PROGRAM, word), capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_who_leaves_while_the_daemon_works_hears_that_it_goes_on(capsys):
    with pytest.raises(KeyboardInterrupt), waiting_for_the_daemon("waiting"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "The daemon goes on with it: goss-supervisor status\n"


def test_who_leaves_at_a_question_leaves_a_line_that_is_ended(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())  # at its end: as Ctrl+D
    with pytest.raises(click.Abort):
        confirmed("Go on?")
    assert capsys.readouterr().err == "Go on? [Y/n]: \n"
