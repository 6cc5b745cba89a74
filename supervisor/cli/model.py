"""``model``: which models there are; get, look into, check and remove them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from ..errors import EXIT_OK, NotFound, SupervisorError, VerificationFailed
from ..model.hub import Hub
from ..model.pull import pull
from ..model.shelf import OURS, Shelved, find, remove, shelved
from ..model.verify import Checked, verify
from ..paths import Paths
from ..update.subject import running_plan
from .common import json_option
from .model_tables import complete_models, ls, show
from .output import size
from .progress import StderrProgress


@click.group
def model() -> None:
    """List, download, look into, check and remove models."""


for _command in (ls, show):
    model.add_command(_command)

_name_argument = click.argument("name", shell_complete=complete_models)


@model.command("pull")
@click.argument("what", metavar="REPO[:FILE]")
@json_option
def pull_command(what: str, as_json: bool) -> int:
    """
    Download a model from the Hugging Face hub, all its parts, and verify it.

    FILE is a file, or what tells it from the others of the repository: gpt-oss-20b-mxfp4, Q4_K_M.  What is
    here already, in another program's cache too, is not downloaded; what was interrupted goes on.
    """
    repo, _, file = what.partition(":")
    with _progress() as progress:
        found = pull(repo, file or None, Paths.from_environment().models, os.environ, progress)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "schema": 1,
                    "path": str(found.path),
                    "parts": [str(part) for part in found.parts],
                    "size_bytes": found.size_bytes,
                    "downloaded": found.downloaded,
                }
            )
        )
        return EXIT_OK
    said = "downloaded" if found.downloaded else "already here"
    click.echo(f"{said}: {found.path} ({size(found.size_bytes)})")
    return EXIT_OK


@model.command("path")
@_name_argument
def path_command(name: str) -> int:
    """Print a model's file, or the first of its parts: what llama-server is given."""
    found = _found(name)
    if found.missing:
        raise NotFound(f"{found.name} is incomplete.", hint=found.how_to_complete)
    click.echo(str(found.path))
    return EXIT_OK


@model.command("verify")
@_name_argument
@json_option
def verify_command(name: str, as_json: bool) -> int:
    """Read a model and compare its SHA-256 with the hub's, which was kept when it was pulled."""
    found = _found(name)
    with _progress() as progress:
        checked = verify(found, lambda: Hub.of(os.environ), progress)
    if as_json:
        parts = [{"ok": each.ok, **asdict(each), "path": str(each.path)} for each in checked]
        ok = all(each.ok for each in checked)
        click.echo(json.dumps({"schema": 1, "name": found.name, "ok": ok, "parts": parts}))
    wrong = [each for each in checked if not each.ok]
    if wrong:
        raise _damaged(found, wrong)
    if not as_json:
        click.echo(f"{found.name} is what it should be: {size(found.size_bytes)}")
    return EXIT_OK


def _damaged(found: Shelved, wrong: list[Checked]) -> VerificationFailed:
    lines = "".join(f"\n  {each.path}: {each.sha256}, {each.expected} was expected" for each in wrong)
    hint = f"goss-supervisor model rm {found.name}, then model pull {found.name}"
    return VerificationFailed(
        f"{found.name} is not what it should be:{lines}",
        hint=hint if found.where == OURS else "The program whose cache that is must download it again.",
    )


@model.command("rm")
@_name_argument
def remove_command(name: str) -> int:
    """Delete a model that was pulled, or what came of it; other programs' caches are left alone."""
    paths = Paths.from_environment()
    shelf = shelved(paths.models, os.environ)
    try:
        found = find(name, [each for each in shelf if each.where == OURS])
    except NotFound:
        found = find(name, shelf)
    _refuse_running(found, paths)
    click.echo(f"removed {found.name}: {size(remove(found))}")
    return EXIT_OK


def _refuse_running(found: Shelved, paths: Paths) -> None:
    running = running_plan(paths)
    if running is not None and not {str(part) for part in found.parts}.isdisjoint(running.model_files):
        raise SupervisorError(
            f"{found.name} is in use ({running.profile}).",
            hint="goss-supervisor stop, or switch to another profile, then remove it",
        )


def _found(name: str) -> Shelved:
    return find(name, shelved(Paths.from_environment().models, os.environ))


@contextmanager
def _progress() -> Iterator[StderrProgress]:
    progress = StderrProgress()
    try:
        yield progress
    finally:
        progress.close()
