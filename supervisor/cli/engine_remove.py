"""``engine remove``: what is neither in use nor the last resort goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from ..engine import shelf
from ..engine.installed import Install, installed, key_of
from ..engine.means import Means
from ..engine.official.runtime import prune
from ..errors import NotFound, SupervisorError, UsageError
from ..paths import Paths
from ..plan.types import LaunchPlan
from ..prepare import means_of
from ..progress import Silent
from ..update.subject import running_plan
from .engine_tables import chosen_tags
from .output import size


@click.command()
@click.argument("tag", required=False)
@click.option("--flavour", metavar="NAME", help="Only this flavour of it.")
@click.option("--unused", is_flag=True, help="All but what is chosen or runs, and the last two that work.")
def remove(tag: str | None, flavour: str | None, unused: bool) -> None:
    """Remove installed builds: a TAG, or all that is --unused."""
    if (tag is None) is not unused:
        raise UsageError("Either a TAG or --unused.", hint="goss-supervisor engine ls")
    paths = Paths.from_environment()
    here, running = installed(paths.engines), running_plan(paths)
    if tag is not None:
        going = _named(here, tag, flavour, running)
    else:
        going = _unused(here, means_of(paths, Silent()), running)
    for install in going:
        freed = shelf.size_bytes(install)
        shelf.remove(install)
        click.echo(f"removed {_name(install)}: {size(freed)}")
    prune(paths.cache / "downloads")
    if not going:
        click.echo("nothing to remove", err=True)


def _unused(here: Sequence[Install], means: Means, running: LaunchPlan | None) -> tuple[Install, ...]:
    """What turned out bad does not count among the last two that work."""
    in_use = {*chosen_tags(means).values(), *([_key(running)] if running else [])}
    judged = [
        replace(
            each, problem=each.problem or means.chosen.bad(key_of(each.repository, each.tag, each.flavour))
        )
        for each in here
    ]
    return shelf.spare(judged, in_use=in_use)


def _named(
    here: Sequence[Install], tag: str, flavour: str | None, running: LaunchPlan | None
) -> tuple[Install, ...]:
    """Raises NotFound, and SupervisorError for what runs or is the only build that works."""
    going = tuple(each for each in here if each.tag == tag and flavour in {None, each.flavour})
    if not going:
        raise NotFound(
            f"{tag}{f' ({flavour})' if flavour else ''} is not installed.", hint="goss-supervisor engine ls"
        )
    for each in going:
        if running is not None and key_of(each.repository, each.tag, each.flavour) == _key(running):
            raise SupervisorError(
                f"{_name(each)} runs now ({running.profile}).", hint="goss-supervisor engine use TAG, restart"
            )
    works = [each for each in here if not each.problem]
    if works and all(each in going for each in works):
        raise SupervisorError(
            f"{_name(works[0])} is the only build that works here.",
            hint="goss-supervisor engine install, then remove this one",
        )
    return going


def _key(plan: LaunchPlan) -> str:
    return key_of(plan.repository, plan.build, plan.flavour)


def _name(install: Install) -> str:
    return f"{install.repository} {install.tag} ({install.flavour})"
