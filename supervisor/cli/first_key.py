"""The first key: made where others can reach the door, and nobody has given it a key."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping

import click

from ..daemon.places import keys_file
from ..gateway.door.keys import KeyFile
from ..gateway.door.rules import rules_of
from ..paths import Paths
from ..plan.types import LaunchPlan
from ..server.address import url_of

NAME = "default"


def first_key(paths: Paths, plan: LaunchPlan) -> None:
    """
    Make it and show it on stderr, once.

    Where stderr ends in a log, nothing is made: nobody could use a key that was never shown, and one that was
    would lie there for good.  Raises what `KeyFile.add` raises.
    """
    if not _is_wanted(plan):
        return
    file = KeyFile(keys_file(paths))
    if file.keys():
        return
    if _is_log(sys.stderr.fileno(), os.environ):
        click.echo(
            f"warning: {url_of(plan)} asks for a key, and there is none yet: "
            f"goss-supervisor key add {NAME} makes one and shows it once",
            err=True,
        )
        return
    _show(url_of(plan), file.add(NAME, "inference"))


def _is_wanted(plan: LaunchPlan) -> bool:
    return plan.door is not None and not plan.door.keys and rules_of(plan.door).needs_key == "always"


def _is_log(descriptor: int, env: Mapping[str, str]) -> bool:
    """Whether what is written there is kept: a file, systemd's journal, or what launchd makes of it."""
    if os.isatty(descriptor):
        return False
    status = os.fstat(descriptor)
    journal = env.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"  # systemd.exec(5)
    # launchd gives its own jobs their label; what was opened from the desktop has "0" or application.…
    label = env.get("XPC_SERVICE_NAME", "0")
    job = sys.platform == "darwin" and label != "0" and not label.startswith("application.")
    return journal or job or stat.S_ISREG(status.st_mode)


def _show(url: str, secret: str) -> None:
    lines = (
        f"address  {url}/v1",
        f"key      {secret}  (shown this once; goss-supervisor key add NAME makes another)",
    )
    rule = "-" * max(map(len, lines))
    click.echo("\n".join((rule, *lines, rule)), err=True)
