"""The program: a group of commands, each imported only when it is called."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import click

from .. import __version__
from ..daemon.journal import ERROR, for_stderr
from ..errors import EXIT_INTERRUPTED, EXIT_OK, PermissionDenied, SupervisorError, similar_names
from ..home.places import HELPER_VARIABLE
from ..paths import settle_user_home
from . import COMPLETING

# A command by its module, or ``module:attribute`` where that is called otherwise, and its line in the help.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Start here": {
        "run": ("chat", "Start a profile if it is not running, and chat with it."),
        "start": ("start", "Start a profile's server and supervise it."),
        "status": ("status", "Show what is running, since when, and why."),
        "stop": ("control_commands", "Stop the daemon and all its servers, or one server."),
        "search": ("search", "Find models on the Hugging Face hub that fit this machine."),
        "client-config": ("client_config", "Print the settings for Cline, Codex, openai and others."),
    },
    "Use the model": {
        "chat": ("chat", "Chat with the running model."),
        "ask": ("ask", "Ask the running model one question."),
        "open": ("about:open_", "Open the page that shows what runs."),
    },
    "Models": {
        "ls": ("model", "List the models on this machine."),
        "pull": ("model:pull_command", "Download a model, or a profile's model."),
        "show": ("model", "Show a model's architecture, layers, context and sizes."),
        "rm": ("model:remove_command", "Delete a downloaded model."),
        "model": ("model", "List, download, show, verify and remove models."),
    },
    "Running servers": {
        "restart": ("control_commands", "Restart a server with its profile as it is now."),
        "switch": (
            "control_commands",
            "Run another profile in place of the main one.",
        ),
        "reload": ("control_commands", "Read the profile again; restart only if something changed."),
        "upgrade-daemon": (
            "control_commands",
            "Bring the running daemon to this version; models stay loaded.",
        ),
        "load": ("control_commands", "Load a profile next to the running ones."),
        "unload": ("control_commands", "Unload a server; the next request loads it again."),
        "ps": ("status", "Show each server in one line."),
        "top": ("top", "Watch servers, requests and logs in this terminal."),
        "logs": ("logs", "Show what a server printed."),
        "requests": (
            "requests",
            "Show the last requests: how long each took, and how it ended.",
        ),
        "events": ("events", "Show what happened: starts, deaths, switches, evictions, updates."),
        "history": ("events:history", "Show each run of a model: load time, memory, speed, its end."),
        "usage": ("usage", "Show what each key has used of each model, by day."),
    },
    "Measure": {
        "bench": ("bench", "Measure how fast a profile is on this machine."),
    },
    "Set up": {
        "detect": ("detect", "Show what this computer is, and which profile fits it."),
        "doctor": ("doctor", "Check this machine and this home, and say what to do."),
        "init": ("init", "Write a profile of your own for this machine, with comments."),
        "profile": ("profile", "List, show, make and check profiles."),
        "tune": ("tune", "Find a profile's fastest settings for this machine, by measuring."),
        "plan": ("plan", "Show whether a profile fits, and its command line."),
        "serve": ("serve", "List, add and remove the profiles that config.yaml serves."),
        "key": ("key", "Make, list, limit and remove the keys of clients."),
        "worker": ("worker", "Lend this computer's memory to a llama-server on another one."),
        "engine": ("engine", "Find, install, choose, update and remove llama.cpp builds."),
        "service": ("service", "Run as a service of systemd, launchd or the Task Scheduler."),
        "completion": ("completion", "Print the completion script of a shell."),
        "help": ("about:help_", "Show the help of a command."),
        "version": ("about", "Show the version."),
    },
}
COMMANDS = {name: about for group in GROUPS.values() for name, about in group.items()}


_ELSEWHERE = {
    **dict.fromkeys(("list", "models"), "ls"),
    **dict.fromkeys(("remove", "delete"), "rm"),
    **dict.fromkeys(("down", "kill"), "stop"),
    "download": "pull",
    "up": "start",
}
"""What other programs call them."""


class LazyGroup(click.Group):
    """Knows its commands by name and one line; a module is imported for its own command only."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found = importlib.import_module(f".{module}", __package__)
        command: click.Command = getattr(found, attribute or cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0].lower()
        near = [] if args[0] in COMMANDS else [_ELSEWHERE.get(word, ""), *similar_names(word, COMMANDS)]
        near = [each for each in near if each]
        if near:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command.  A reader that hangs up (``| head``) is no failure, as it is for click."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if not _hung_up(error):
                raise
            _give_up(sys.stdout)
            return EXIT_OK

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, commands in GROUPS.items():
            with formatter.section(title):
                width = max(map(len, COMMANDS))  # the same in all groups
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="GOSS_SUPERVISOR_HOME puts all files under one folder.",
)
@click.version_option(__version__, prog_name="goss-supervisor")
def program() -> None:
    """Keep a local LLM running: supervise llama-server from a YAML profile."""
    settle_user_home(os.environ)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every error becomes text on stderr and an exit code here."""
    code = _run(argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        if not _hung_up(error):
            code = code or _failed(_plain(error))
    try:
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)
    return code


def _hung_up(error: OSError, platform: str = sys.platform) -> bool:
    """Whether the reader of a pipe has gone, which Python calls an invalid argument on Windows."""
    of_windows = platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or of_windows


def _give_up(stream: IO[str]) -> None:
    """What cannot be written is dropped, or Python would complain at exit and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(argv: Sequence[str] | None) -> int:
    if sys.platform == "win32" and HELPER_VARIABLE in os.environ:
        signal.signal(signal.SIGBREAK, signal.default_int_handler)  # what the daemon can send there
    if COMPLETING in os.environ:
        importlib.import_module(".completion", __package__)  # our own ways with shells
    try:
        result = program.main(args=argv, prog_name="goss-supervisor", standalone_mode=False)
    except SupervisorError as error:
        return _failed(error)
    except OSError as error:  # a file that cannot be read or written, wherever that was
        return _failed(_plain(error))
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    return result if isinstance(result, int) else 0


def _failed(error: SupervisorError) -> int:
    """For people on stderr; a daemon that runs us as its helper reads JSON on stdout."""
    if HELPER_VARIABLE in os.environ:
        click.echo(json.dumps({"error": str(error), "hint": error.hint, "exit_code": error.exit_code}))
    with suppress(OSError):  # stderr on a full disk: the exit code is left
        say_error(error)
    return error.exit_code


def say_error(error: SupervisorError) -> None:
    """What is wrong, and what to do next."""
    click.echo(for_stderr(f"error: {error}", ERROR), err=True)
    if error.hint:
        click.echo(for_stderr(f"hint: {error.hint}", ERROR), err=True)


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _plain(error: OSError) -> SupervisorError:
    kind = PermissionDenied if isinstance(error, PermissionError) else SupervisorError
    if error.filename is None and error.errno in _DISK_FULL:
        return kind(f"The output cannot be written: {error.strerror}.")
    return kind(f"{error.filename or 'The system'}: {error.strerror or error}.")
