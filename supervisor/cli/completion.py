"""``completion``: the script that a shell evaluates, with our corrections of click's own."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from . import COMPLETING


class _Bash(BashComplete):
    """It takes words apart at each ``=``: ``--profile=d`` comes as three."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], incomplete


class _WholeWords(ShellComplete):
    """zsh and fish replace the whole word: for ``--profile=d`` they want ``--profile=demo``, not ``demo``."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("-"):
            for item in found:
                item.value = f"{option}={item.value}"
        return found


class _Zsh(_WholeWords, ZshComplete):
    pass


class _Fish(_WholeWords, FishComplete):
    """Help with a comma in it is shown whole."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split -m 1 ","')


for _ours in (_Bash, _Zsh, _Fish):
    add_completion_class(_ours)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print the completion script of SHELL.

    For bash: eval "$(goss-supervisor completion bash)" in ~/.bashrc; likewise for zsh.
    For fish: goss-supervisor completion fish > ~/.config/fish/completions/goss-supervisor.fish
    """
    click.echo(of_shell(shell, click.get_current_context().find_root().command).source())


def of_shell(name: str, program: click.Command) -> ShellComplete:
    """The completion of ``program`` for the shell ``name``: bash, zsh or fish."""
    found = get_completion_class(name)
    assert found is not None
    return found(program, {}, "goss-supervisor", COMPLETING)
