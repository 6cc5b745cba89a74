"""``client-config``: what to paste into the programs that use the model."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import click

from ..clients.client_endpoint import (
    KEY_ENV,
    ClientEndpoint,
    Recipe,
    endpoint_of_offer,
    endpoint_of_plan,
    endpoint_of_profile,
)
from ..clients.recipes import CLIENTS, NAMES, find_client
from ..errors import UsageError
from ..gateway.auth.keys import KeyFile
from ..home.places import keys_file
from ..paths import Paths
from ..plan.listen import address_for_others
from ..prepare.default_profile import default_profile
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from ..update.update_target import running
from .common import completer, json_option, profile_option
from .output import echo_json, echo_list


@click.command("client-config")
@click.argument("client", required=False, shell_complete=completer(lambda: NAMES))
@profile_option("Use this profile instead of the running one.")
@click.option("--key", "key_env", metavar="VARIABLE", help="Environment variable that holds the key.")
@json_option
def client_config(client: str | None, profile: str | None, key_env: str | None, as_json: bool) -> None:
    """
    Print the settings to paste into CLIENT; without one, list the clients.

    The address is that of the running server, else of the profile that start would choose.  A key is never
    printed, only the name of the variable that holds it (GOSS_API_KEY; --key none if no key is needed).
    """
    if client is None:
        listed = [{"name": each.name, "title": each.title} for each in CLIENTS]
        echo_list("clients", listed, ("name", "what it is"), lambda each: [*each.values()], as_json=as_json)
        return
    found = find_client(client)
    variable = _checked(key_env)
    target = _target(Paths.from_environment(), profile)
    if variable is not None:
        target = replace(target, key_env=variable or None)
    recipe = found.recipe(target)
    if target.is_everywhere:
        recipe = replace(recipe, steps=(*recipe.steps, _note(target)))
    if as_json:
        fields = {name: getattr(target, name) for name in ("url", "model", "key_env", "context_tokens")}
        echo_json(client=found.name, **fields, **asdict(recipe))
    else:
        _show(recipe)


def _show(recipe: Recipe) -> None:
    """What is to be pasted on stdout, and where it goes on stderr."""
    for file in recipe.files:
        click.echo(f"{file.path}:", err=True)
        click.echo(file.text, nl=False)
    for step in recipe.steps:
        click.echo(f"note: {step}", err=True)


def _target(paths: Paths, profile: str | None) -> ClientEndpoint:
    """Of what runs; of a profile, at the address that is open if it is offered there."""
    has_keys = bool(KeyFile(keys_file(paths)).keys())
    url, plan, listen = running(paths)
    target = endpoint_of_plan(plan, listen, url, has_keys=has_keys) if plan and url else None
    if plan and target and profile in {None, plan.profile}:
        return target
    name = profile or default_profile(paths).name
    resolved = resolve(name, ProfileStore(paths.profiles))
    if listen and target and any(offer.profile == name for offer in listen.offers):
        return endpoint_of_offer(resolved, target)
    return endpoint_of_profile(resolved, has_keys=has_keys)


def _checked(key_env: str | None) -> str | None:
    """The variable; "" for none wanted.  Raises UsageError, which does not repeat what may be a key."""
    if key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_env):
        problem = "--key takes the name of the environment variable that holds the key, not the key."
        raise UsageError(problem, hint=f"--key {KEY_ENV}")
    return "" if key_env == "none" else key_env


def _note(target: ClientEndpoint) -> str:
    """What is open to the network has another address there."""
    there = "this machine's address"
    if lan := address_for_others():
        there = re.sub(r"//(\[[^\]]*\]|[^:/]+)", f"//{lan}", target.url, count=1)
    return f"From other machines: {there}, in place of {target.url}."
