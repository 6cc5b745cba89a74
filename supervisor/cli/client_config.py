"""``client-config``: what to paste into the programs that use the model."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from typing import Any

import click

from ..clients.client_endpoint import (
    KEY_ENV,
    Endpoint,
    Recipe,
    endpoint_of_offer,
    endpoint_of_plan,
    endpoint_of_profile,
)
from ..clients.recipes import CLIENTS, NAMES, find_client
from ..daemon import client as daemon
from ..daemon.places import keys_file
from ..errors import EXIT_OK, NotRunning, SupervisorError, UsageError
from ..gateway.door.keys import KeyFile
from ..paths import Paths
from ..plan.types import LaunchPlan
from ..plan.wire import from_json
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from ..server.address import address_for_others
from ..usual import usual_profile
from .common import complete_profiles, json_option
from .output import table


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in NAMES if name.startswith(incomplete)]


@click.command("client-config")
@click.argument("client", required=False, shell_complete=_complete)
@click.option(
    "--profile", "-p", metavar="NAME", shell_complete=complete_profiles, help="Not the one that runs."
)
@click.option("--key", "key_env", metavar="VARIABLE", help="The environment variable that holds the key.")
@json_option
def client_config(client: str | None, profile: str | None, key_env: str | None, as_json: bool) -> int:
    """
    Print what to paste into CLIENT; without one, list the clients.

    The address is that of the server that runs, else of the profile that would start.  A key is never
    printed, only the name of the variable that holds it (GOSS_API_KEY; --key none for no key).
    """
    if client is None:
        return _list(as_json=as_json)
    found = find_client(client)
    variable = _checked(key_env)
    target = _target(Paths.from_environment(), profile)
    if variable is not None:
        target = replace(target, key_env=variable or None)
    recipe = found.recipe(target)
    if target.is_everywhere:
        recipe = replace(recipe, steps=(*recipe.steps, _note(target)))
    if as_json:
        click.echo(json.dumps(_document(found.name, target, recipe)))
    else:
        _show(recipe)
    return EXIT_OK


def _list(*, as_json: bool) -> int:
    listed = [{"name": client.name, "title": client.title} for client in CLIENTS]
    if as_json:
        click.echo(json.dumps({"schema": 1, "clients": listed}))
    else:
        click.echo(table(("name", "what it is"), [list(each.values()) for each in listed]))
    return EXIT_OK


def _document(name: str, target: Endpoint, recipe: Recipe) -> dict[str, Any]:
    told = {"url": target.url, "model": target.model, "key_env": target.key_env}
    return {"schema": 1, "client": name, **told, "context_tokens": target.context_tokens, **asdict(recipe)}


def _show(recipe: Recipe) -> None:
    """What is to be pasted on stdout, and where it goes on stderr."""
    for file in recipe.files:
        click.echo(f"{file.path}:", err=True)
        click.echo(file.text, nl=False)
    for step in recipe.steps:
        click.echo(f"note: {step}", err=True)


def _target(paths: Paths, profile: str | None) -> Endpoint:
    """Of what runs; of a profile, behind the door that runs if it is offered there."""
    has_keys = bool(KeyFile(keys_file(paths)).keys())
    url, plan = _running(paths)
    running = endpoint_of_plan(plan, url, has_keys=has_keys) if plan and url else None
    if plan and running and profile in {None, plan.profile}:
        return running
    name = profile or usual_profile(paths).name
    resolved = resolve(name, ProfileStore(paths.profiles))
    if plan and plan.door and running and any(offer.profile == name for offer in plan.door.offers):
        return endpoint_of_offer(resolved, running)
    return endpoint_of_profile(resolved, has_keys=has_keys)


def _checked(key_env: str | None) -> str | None:
    """
    The variable; "" for none wanted, None where nothing was said.

    Raises UsageError for what is no variable's name.  It is not repeated: it may be a key.
    """
    if key_env is None:
        return None
    if key_env == "none":
        return ""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_env):
        raise UsageError(
            "--key wants the name of the environment variable that holds the key, not the key.",
            hint=f"--key {KEY_ENV}",
        )
    return key_env


def _running(paths: Paths) -> tuple[str | None, LaunchPlan | None]:
    """Raises SupervisorError for a plan of another version's daemon."""
    try:
        running = daemon.ask(paths, {"op": "running"})
        return running["url"], from_json(running["plan"]) if running["plan"] else None
    except NotRunning:
        return None, None
    except (ValueError, KeyError, TypeError) as error:
        raise SupervisorError(
            f"What the daemon runs cannot be read: {error}.",
            hint="It is of another version: goss-supervisor stop, then start it again.",
        ) from None


def _note(target: Endpoint) -> str:
    """A door that is open to the network has another address there."""
    lan = address_for_others()
    there = (
        re.sub(r"//(\[[^\]]*\]|[^:/]+)", f"//{lan}", target.url, count=1) if lan else "this machine's address"
    )
    return f"From other machines: {there}, in place of {target.url}."
