"""
``key``: the keys of the gateway's clients, and the first one.

``start`` makes a first key where other machines can reach the gateway and no key exists yet.
"""

from __future__ import annotations

from typing import TextIO, get_args

import click

from ..errors import SupervisorError
from ..gateway.auth.guard import rules_of
from ..gateway.auth.keys import KeyFile, KeyScope
from ..home.places import keys_file
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, address_for_others, is_any, url_of
from .common import completer, json_option
from .output import echo_json, echo_list


@click.group
def key() -> None:
    """Make, list and remove the keys of clients."""


def _file() -> KeyFile:
    return KeyFile(keys_file(Paths.from_environment()))


def _names() -> list[str]:
    keys = _file().keys()
    return [each.name for each in keys]


_name_argument = click.argument("name", shell_complete=completer(_names))


@key.command("add")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(get_args(KeyScope)),
    default="inference",
    show_default=True,
    help="inference: ask models; admin: everything that the address serves.",
)
@json_option
def add(name: str, scope: KeyScope, *, as_json: bool) -> None:
    """Make a key and print it, once."""
    file = _file()
    first = not file.keys()
    secret = file.add(name, scope)
    if as_json:
        echo_json(name=name, scope=scope, key=secret)
    else:
        click.echo(secret)
    click.echo(
        f"The key {name} ({scope}) is shown this once: only its hash is kept. "
        "Clients send it as Authorization: Bearer KEY, or as X-Api-Key: KEY.",
        err=True,
    )
    if first:
        click.echo("From now on 127.0.0.1 asks for a key, too, until the last one is removed.", err=True)


@key.command("ls")
@json_option
def ls(*, as_json: bool) -> None:
    """List the keys: name, scope and when each was made."""
    keys, headers = _file().keys(), ("name", "scope", "created")
    listed = [{name: getattr(each, name) for name in headers} for each in keys]
    echo_list("keys", listed, headers, lambda each: list(each.values()), as_json=as_json)


@key.command("rm")
@_name_argument
def rm(name: str) -> None:
    """Remove a key; within a second it is no longer accepted."""
    file = _file()
    file.remove(name)
    click.echo(f"removed {name}")
    if not file.keys():
        click.echo(
            "That was the last one. On 127.0.0.1 no key is asked for any more; on any other address nobody "
            "comes in until there is a key, unless the profile gives one.",
            err=True,
        )


@key.command("show")
@_name_argument
def show(name: str) -> None:
    """Show what is known about a key, but not the key itself."""
    found = _file().find(name)
    raise SupervisorError(
        f"The key {name} ({found.scope}) was shown once, when it was made on {found.created}; "
        "only its hash is kept.",
        hint=f"goss-supervisor key add OTHER-NAME, then goss-supervisor key rm {name}",
    )


NAME = "default"
_MOST_NAMED = 3


def first_key(paths: Paths, plan: LaunchPlan, listen: Listen | None, shown_on: TextIO | None) -> list[str]:
    """
    Make it if it is needed; what ``shown_on`` is to show of it, once.

    Where that is no terminal, nothing is made: what is shown there may be kept for good, in a log.
    Raises what `KeyFile.add` raises.
    """
    file = KeyFile(keys_file(paths))
    if listen is None or listen.keys or rules_of(listen).needs_key != "always" or file.keys():
        return []
    if shown_on is None or not shown_on.isatty():
        none = f"warning: {url_of(plan, listen)} asks for a key, and there is none yet"
        return [f"{none}: goss-supervisor key add {NAME} makes one and shows it once"]
    secret = file.add(NAME, "inference")
    key = f"key      {secret}  (shown this once; goss-supervisor key add NAME makes another)"
    lines = (*_addresses(plan, listen), key)
    rule = "-" * max(map(len, lines))
    return [rule, *lines, rule]


def keys_in_use(paths: Paths, listen: Listen | None) -> list[str]:
    """A line where clients need one of the keys that are there; on loopback they do because of those."""
    if listen is None or listen.keys or rules_of(listen).needs_key == "never":
        return []
    keys = KeyFile(keys_file(paths)).keys()
    if not keys:
        return []
    names = [each.name for each in keys]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    known = f"{', '.join(names[:_MOST_NAMED])}{more}"
    home = rules_of(listen).needs_key == "once there is one"
    why = (
        f"clients need a key here too, since there is one: {known}" if home else f"clients need one: {known}"
    )
    return [f"key      {why}; goss-supervisor key add NAME makes another"]


def _addresses(plan: LaunchPlan, listen: Listen) -> list[str]:
    """The key is for others, who know this machine by another address where we listen on all of its own."""
    here = f"address  {url_of(plan, listen)}/v1"
    if not is_any(listen.host):
        return [here]
    others = address_for_others() or "THE-ADDRESS-OF-THIS-COMPUTER"
    return [f"{here} on this computer", f"address  {url_of(plan, listen, others)}/v1 on others"]
