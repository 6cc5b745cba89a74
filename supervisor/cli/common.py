"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(function: Function) -> Function:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")(function)


def set_option(function: Function) -> Function:
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value once: an option (ctx-size=8192) or a profile key (listen.port=9000).",
    )(function)


def hardware_option(function: Function) -> Function:
    return click.option(
        "--hardware",
        "hardware_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Another computer than this one: a file that detect --json wrote.",
    )(function)


def force_option(function: Function) -> Function:
    return click.option("--force", is_flag=True, help="For once without guardrails: whatever the memory.")(
        function
    )


def confirmed(question: str) -> bool:
    """Yes unless a person says no, on a terminal; one who leaves (Ctrl+C) leaves a line that is ended."""
    try:
        return click.confirm(question, default=True, err=True)
    except click.Abort:
        click.echo(err=True)
        raise


def profile_argument(function: Function) -> Function:
    return click.argument("profile", shell_complete=complete_profiles)(function)


def complete_profiles(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from ..paths import Paths  # noqa: PLC0415 - only when a shell asks for completion
    from ..profile.store import ProfileStore  # noqa: PLC0415

    names = ProfileStore(Paths.from_environment().profiles).names()
    return [name for name in names if name.startswith(incomplete)]


_PATHS = frozenset({"model", "model.path", "engine.path"})


def parse_settings(settings: tuple[str, ...]) -> Mapping[str, str]:
    """
    ``KEY=VALUE`` words as a mapping; a relative path is this shell's, here and at a later restart.

    Raises UsageError for a word without ``=``.
    """
    parsed = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word}: expected KEY=VALUE.", hint="--set ctx-size=8192")
        is_path = key in _PATHS and value != "demo"
        parsed[key.strip()] = str(Path(value).expanduser().absolute()) if is_path else value
    return parsed
