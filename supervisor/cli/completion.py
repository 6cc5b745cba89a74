"""``completion``: the script that a shell evaluates."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print the completion script of SHELL.

    For bash: eval "$(goss-supervisor completion bash)" in ~/.bashrc; likewise for zsh.
    For fish: goss-supervisor completion fish > ~/.config/fish/completions/goss-supervisor.fish
    """
    from .app import program  # noqa: PLC0415 - app imports this module by name

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(program, {}, "goss-supervisor", "_GOSS_SUPERVISOR_COMPLETE").source())
