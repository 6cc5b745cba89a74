"""The first key: made where others can reach the gateway, and nobody has given it a key."""

from __future__ import annotations

import sys

import click

from ..daemon.journal import WARNING, for_stderr
from ..gateway.auth.keys import KeyFile
from ..gateway.door.rules import rules_of
from ..home.places import keys_file
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen
from ..server.address import address_for_others, is_any, url_of

NAME = "default"


def first_key(paths: Paths, plan: LaunchPlan, listen: Listen | None) -> None:
    """
    Make it and show it on stderr, once.

    Where stderr is no terminal, nothing is made: what is shown there may be kept for good, in a log.
    Raises what `KeyFile.add` raises.
    """
    if listen is None or listen.keys or rules_of(listen).needs_key != "always":
        return
    file = KeyFile(keys_file(paths))
    if file.keys():
        return
    if not sys.stderr.isatty():
        warning = (
            f"warning: {url_of(plan, listen)} asks for a key, and there is none yet: "
            f"goss-supervisor key add {NAME} makes one and shows it once"
        )
        click.echo(for_stderr(warning, WARNING), err=True)
        return
    _show(plan, listen, file.add(NAME, "inference"))


def _show(plan: LaunchPlan, listen: Listen, secret: str) -> None:
    key = f"key      {secret}  (shown this once; goss-supervisor key add NAME makes another)"
    lines = (*_addresses(plan, listen), key)
    rule = "-" * max(map(len, lines))
    click.echo("\n".join((rule, *lines, rule)), err=True)


def _addresses(plan: LaunchPlan, listen: Listen) -> list[str]:
    """The key is for others, who know this machine by another address where we listen on all of its own."""
    here = f"address  {url_of(plan, listen)}/v1"
    if not is_any(listen.host):
        return [here]
    others = address_for_others() or "THE-ADDRESS-OF-THIS-COMPUTER"
    return [f"{here} on this computer", f"address  {url_of(plan, listen, others)}/v1 on others"]
