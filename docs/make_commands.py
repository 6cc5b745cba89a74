"""Writes docs/commands.md from the commands of supervisor/cli/: python docs/make_commands.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from supervisor.cli.app import COMMANDS, program

PAGE = Path(__file__).parent / "commands.md"
HEAD = """\
# Every command

Generated from the commands themselves by `docs/make_commands.py`; a test fails when this page is stale.
`--help` prints the same for each command. `goss-supervisor completion bash|zsh|fish` prints a completion
script.

Results are on stdout, messages and progress on stderr. `--json` puts one object with a `schema` number on
stdout, or one line for each event with --follow or --watch, and nothing else. Without a terminal, no command
asks questions.

Exit codes: 0 ok · 1 other failure, or degraded · 2 usage · 3 not running · 4 already running · 5 not found ·
6 no suitable engine · 7 does not fit · 8 network · 9 verification failed · 10 start failed · 11 permission ·
12 superseded by a later request · 78 configuration · 130 interrupted.

| command | what |
|---|---|
"""


def page() -> str:
    """The whole page: a table of all commands, then a section for each."""
    context = click.Context(program)
    rows = [f"| [`{name}`](#{name}) | {about} |\n" for name, (_, about) in COMMANDS.items()]
    sections: list[str] = []
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        sections += _section(name, command, "##")
    return "".join((HEAD, *rows, *sections))


def _section(path: str, command: click.Command, level: str) -> Iterator[str]:
    yield f"\n{level} {path}\n\n```console\n$ {_usage(path, command)}\n```\n\n{_about(command)}\n"
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if options:
        yield "\n| option | meaning |\n|---|---|\n"
        yield from (f"| `{_escaped(_spelling(each))}` | {_escaped(each.help or '')} |\n" for each in options)
    if isinstance(command, click.Group):
        for name in sorted(name for name, each in command.commands.items() if not each.hidden):
            yield from _section(f"{path} {name}", command.commands[name], "###")


def _usage(path: str, command: click.Command) -> str:
    words = ["goss-supervisor", *path.split()]
    if any(isinstance(each, click.Option) for each in command.params):
        words.append("[OPTIONS]")
    words += [_argument(each) for each in command.params if isinstance(each, click.Argument)]
    return " ".join([*words, *(["COMMAND"] if isinstance(command, click.Group) else [])])


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper().replace("_", "-")
    if name.startswith("[") or argument.required:
        return name if name.startswith("[") or argument.nargs == 1 else f"{name}..."
    return f"[{name}]..." if argument.nargs == -1 else f"[{name}]"


def _about(command: click.Command) -> str:
    """What ``--help`` says, a line for each paragraph."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _spelling(option: click.Option) -> str:
    """``--profile NAME, -p``; the long one first."""
    long, *others = sorted(option.opts, key=len, reverse=True)
    if not option.is_flag:
        long = f"{long} {_value(option)}"
    return ", ".join((long, *others, *option.secondary_opts))


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.metavar or option.type.name.upper()


def _escaped(text: str) -> str:
    """For a table's cell."""
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
