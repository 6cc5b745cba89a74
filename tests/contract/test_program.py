"""The program as a shell meets it: words that are no command, readers that leave, people who do."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from supervisor import __version__
from supervisor.cli import about, app
from supervisor.cli.app import COMMANDS, GROUPS
from supervisor.cli.common import confirmed
from supervisor.cli.output import waiting_for_the_daemon
from supervisor.errors import NotRunning, SupervisorError, UsageError

PATIENCE = 60.0
PROGRAM = (sys.executable, "-I", "-m", "supervisor")


def test_a_reader_that_has_gone_is_no_failure():
    words = (*PROGRAM, "profile", "schema")  # more than a pipe holds
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline().rstrip() == b"{"
        started.stdout.close()
        assert started.wait(PATIENCE) == 0
        assert started.stderr is not None
        assert started.stderr.read() == b""


@pytest.mark.parametrize(
    ("error", "platform", "hung_up"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "linux", True),
        (OSError(errno.EINVAL, "Invalid argument"), "win32", True),
        (OSError(errno.EINVAL, "Invalid argument", "a:b"), "win32", False),
        (OSError(errno.EINVAL, "Invalid argument"), "linux", False),
        (OSError(errno.ENOSPC, "No space left on device"), "win32", False),
    ],
)
def test_a_reader_that_has_gone_is_told_from_other_failures(error, platform, hung_up):
    assert app._hung_up(error, platform) is hung_up


@pytest.mark.skipif(
    sys.platform == "win32" or not os.path.exists("/dev/full"),
    reason="no /dev/full, or one of Wine's that takes everything",
)
@pytest.mark.parametrize("words", [["profile", "ls"], ["profile", "schema"], ["--help"]])
def test_a_disk_that_is_full_is_told_with_a_failure(words):
    with open("/dev/full", "wb") as full:
        done = subprocess.run((*PROGRAM, *words), stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE)
        silent = subprocess.run((*PROGRAM, "profile", "show", "nosuch"), stderr=full, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr == b"error: The output cannot be written: No space left on device.\n"
    assert silent.returncode == 5


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("list", "Did you mean 'ls'?"),
        ("info", "No such command 'info'.\n"),
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


def said_by(*words, code=0):
    done = subprocess.run((*PROGRAM, *words), capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert done.returncode == code, done.stderr
    return done


def test_the_help_begins_with_the_six_commands_that_matter_first():
    lines = said_by("--help").stdout.splitlines()
    begin = lines.index("Start here:")
    assert [line.split()[0] for line in lines[begin + 1 : begin + 7]] == [*GROUPS["Start here"]]
    assert lines[begin + 7] == ""
    assert said_by("help").stdout == said_by("--help").stdout


def test_help_shows_that_of_any_command_and_names_a_word_that_is_none():
    assert said_by("help", "key", "add").stdout == said_by("key", "add", "--help").stdout
    assert "There is no command key nothing." in said_by("help", "key", "nothing", code=2).stderr


def test_the_version_is_a_command_too():
    assert said_by("version").stdout == f"goss-supervisor {__version__}\n"
    assert json.loads(said_by("version", "--json").stdout) == {"schema": 1, "version": __version__}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_had_and_has_help(command):
    context = click.Context(about.help_)
    found = app.program.get_command(context, command)
    assert found is not None
    assert found.help


GROUPS_OF_COMMANDS = [
    name
    for name in COMMANDS
    if isinstance(app.program.get_command(click.Context(about.help_), name), click.Group)
]


@pytest.mark.parametrize("group", GROUPS_OF_COMMANDS)
def test_the_list_of_a_group_has_whole_sentences(group):
    """click shortens the first sentence of a command to one line, and marks that with three dots."""
    shown = CliRunner().invoke(app.program, [group, "--help"], terminal_width=80).output
    listed = shown.partition("Commands:\n")[2].splitlines()
    assert len(listed) > 1
    assert [line for line in listed if line.endswith("...")] == []


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("url", "opens", "error"),
    [
        ("http://127.0.0.1:1/", True, None),
        ("http://127.0.0.1:1/", False, SupervisorError),
        ("unix:///run/x.sock", True, UsageError),
    ],
)
def test_the_page_is_opened_and_its_address_printed_without_the_code(monkeypatch, url, opens, error, chat):
    opened, asked = [], []
    answer = {"url": url, "code": "once"}
    monkeypatch.setattr(about.client, "ask", lambda _, request: asked.append(request["op"]) or answer)
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or opens)
    result = CliRunner().invoke(about.open_, ["--chat"] if chat else [])
    assert type(result.exception) is (error or type(None))
    assert asked == ["running" if chat else "code"]
    address = url if chat else f"{url}#code=once"
    assert (result.stdout == f"{url}\n") == (opened == [address]) == url.startswith("http")
    if error is SupervisorError:  # where there is no browser a person needs it
        assert address in result.exception.hint
        assert ("works once, for a minute" in result.exception.hint) is not chat


def test_without_a_server_there_is_nothing_to_open(monkeypatch):
    monkeypatch.setattr(about.client, "ask", lambda *_: {"url": None})
    assert isinstance(CliRunner().invoke(about.open_, ["--chat"]).exception, NotRunning)


def test_a_ctrl_c_before_the_commands_are_imported_is_no_traceback():
    interrupted = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'supervisor.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from supervisor.__main__ import main; sys.exit(main())"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", interrupted], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "\ninterrupted\n")
