"""``engine``: list, install, select, update and remove builds of llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, replace

import click

from ..engine import inventory
from ..engine.catalogue.catalogue import number
from ..engine.install_context import InstallContext
from ..engine.inventory import Install, installed, key_of
from ..engine.official.install import prune
from ..errors import EXIT_OK, NotFound, StartFailed, SupervisorError, UsageError
from ..home.event_log import record_event
from ..home.places import moved_workers_file
from ..measure.comparison import Comparison, indented
from ..measure.session import Waiting
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..prepare.prepare import install_context
from ..progress import Progress, Silent
from ..update.update_check import UpdateCheck, look, record, with_workers
from ..update.update_target import UpdateTarget, servers_of, target_of, update_target_of
from ..update.updater import Updater, UpdateResult
from .common import json_option, profile_option
from .engine_tables import available, chosen_tags, ls, path, survey
from .output import StderrProgress, echo_json, size, table, waiting


@click.group
def engine() -> None:
    """Find, install, choose, update and remove llama.cpp builds."""


for _command in (ls, survey, available, path):
    engine.add_command(_command)

_profile_option = profile_option(
    "Use the engine of this profile. Default: that of the running one, else what config.yaml says."
)


def _tag(_: click.Context, __: click.Parameter, tag: str | None) -> str | None:
    if tag is not None and number(tag) is None:
        raise click.BadParameter(f"{tag} is not a llama.cpp tag; one looks like b11429.")
    return tag


_tag_argument = click.argument("tag", callback=_tag)
_maybe_tag_argument = click.argument("tag", required=False, callback=_tag)


@engine.command("install")
@_maybe_tag_argument
@click.option(
    "--flavour", metavar="NAME", help="Flavour: cpu, vulkan, cuda, cuda-12.8 …; by default the best one."
)
@_profile_option
@json_option
def install(tag: str | None, flavour: str | None, profile: str | None, as_json: bool) -> int:
    """
    Download a release and test it here.

    Without a TAG, install the channel's newest release and choose it.
    """
    target = target_of(Paths.from_environment(), profile)
    if flavour is not None:
        target = replace(target, engine=replace(target.engine, flavour=flavour), profile=None)
    with _updater(target) as updater:
        if tag is not None:
            return _show(updater.install(tag), as_json=as_json)
        found = look(target, updater.context)
        newest = found.available or found.current
        if newest is None:
            raise SupervisorError(f"There is no release to install: {found.note}.")
        return _show(updater.use(newest, force=False), as_json=as_json)


@engine.command("use")
@_tag_argument
@click.option("--force", is_flag=True, help="Choose it even if it is marked bad.")
@_profile_option
@json_option
def use(tag: str, force: bool, profile: str | None, as_json: bool) -> int:
    """
    Choose a release for the channel, from the next start on.

    If it is not installed, it is downloaded and tested first.
    """
    with _updater(target_of(Paths.from_environment(), profile)) as updater:
        return _show(updater.use(tag, force=force), as_json=as_json)


@engine.command("rollback")
@_profile_option
@json_option
def rollback(profile: str | None, as_json: bool) -> int:
    """
    Go back to the channel's previous build.

    Running servers are switched to it one by one.
    """
    with _updater(update_target_of(Paths.from_environment(), profile)) as updater:
        return _show(updater.rollback(), as_json=as_json)


@engine.command("update")
@click.option("--check", is_flag=True, help="Only report whether there is a newer build.")
@click.option("--quiet", is_flag=True, help="Print nothing; status shows the result.")
@_profile_option
@json_option
def update(check: bool, quiet: bool, profile: str | None, as_json: bool) -> int:
    """
    Update to the channel's newest build; go back if it is worse.

    The new build is tested while the old one keeps running.  Then the main server switches to it, and back if
    it does not become ready, or generates less than 90 % of the tokens per second.  The other servers of the
    channel follow one by one, and those that are idle are measured too; if one fails or is slower, all go
    back.
    """
    try:
        return _update(profile, check=check, quiet=quiet, as_json=as_json)
    except SupervisorError as error:
        if not quiet:
            raise
        if as_json:
            click.echo(json.dumps({"error": str(error), "hint": error.hint, "exit_code": error.exit_code}))
        return error.exit_code  # nobody watches; it is recorded for those who look later


def _update(profile: str | None, *, check: bool, quiet: bool, as_json: bool) -> int:
    target = update_target_of(Paths.from_environment(), profile)
    with _updater(target, quiet=quiet) as updater:
        found = _looked(target, updater.context)
        if not check and found.available is None and moved_workers_file(updater.context.paths).exists():
            updater.recover()
        if check or found.available is None:
            return _show_check(found, quiet=quiet, as_json=as_json)
        updater.context.progress.step(found.sentence)
        result = _taken(found, found.available, updater)
    return _show(result, quiet=quiet, as_json=as_json)


def _looked(target: UpdateTarget, context: InstallContext) -> UpdateCheck:
    """Recorded, also where nobody could tell."""
    try:
        found = with_workers(look(target, context), target)
    except SupervisorError as error:
        record(UpdateCheck(problem=str(error)), context.paths)
        raise
    record(found, context.paths)
    return found


def _taken(found: UpdateCheck, tag: str, updater: Updater) -> UpdateResult:
    """Recorded, also if it fails."""
    try:
        result = updater.update(tag)
    except SupervisorError as error:
        note = f"{tag} was not taken: {str(error).splitlines()[0]}"
        record(replace(found, note=note), updater.context.paths)
        raise
    note = f"{tag} was taken back: {result.why}" if result.why else ""
    record(replace(found, current=result.tag, available=None, note=note), updater.context.paths)
    return result


def _show_check(found: UpdateCheck, *, quiet: bool, as_json: bool) -> int:
    if as_json:
        echo_json(**asdict(found))
    elif not quiet:
        hint = "; goss-supervisor engine update" if found.available else ""
        click.echo(f"{found.sentence}{hint}")
    return EXIT_OK


def _show(result: UpdateResult, *, as_json: bool, quiet: bool = False) -> int:
    """Raises StartFailed for a build that was taken back."""
    why = f": {result.why}" if result.why else ""
    record_event(Paths.from_environment(), "update", f"engine: {result.text}{why}", build=result.tag)
    if as_json:
        echo_json(**asdict(result))
    each = _each_server(result)
    if result.why and not quiet:
        raise StartFailed(
            f"{result.text}: {result.why}{indented(result.log)}{each}",
            hint="goss-supervisor engine ls shows what is marked bad; engine use TAG --force takes it anyway",
        )
    if not (as_json or quiet):
        click.echo(f"{result.text}{each}")
    return StartFailed.exit_code if result.why else EXIT_OK


def _each_server(result: UpdateResult) -> str:
    """What became of each, below the sentence; empty for a single one, of which that says it."""
    rows = [(each.profile, each.build, each.result, each.why) for each in result.servers]
    return f"\n\n{table(('server', 'build', 'result', 'why'), rows)}" if len(rows) > 1 else ""


@contextmanager
def _updater(target: UpdateTarget, *, quiet: bool = False) -> Iterator[Updater]:
    paths = Paths.from_environment()
    shown: AbstractContextManager[Progress] = nullcontext(Silent()) if quiet else closing(StderrProgress())
    with shown as progress:
        wait: Waiting = (lambda _: nullcontext(progress)) if quiet else waiting
        yield Updater(target, install_context(paths, progress), Comparison(paths, progress, wait))


@engine.command("remove")
@click.argument("tag", required=False)
@click.option("--flavour", metavar="NAME", help="Remove only this flavour.")
@click.option(
    "--unused", is_flag=True, help="Remove all builds except those in use and the last two that work."
)
def remove(tag: str | None, flavour: str | None, unused: bool) -> None:
    """Remove installed builds: one TAG, or all --unused ones."""
    if (tag is None) is not unused:
        raise UsageError("Either a TAG or --unused.", hint="goss-supervisor engine ls")
    paths = Paths.from_environment()
    here, running = installed(paths.engines), [each.plan for each in servers_of(paths)]
    if tag is not None:
        going = _named(here, tag, flavour, running)
    else:
        going = _unused(here, install_context(paths, Silent()), running)
    for install in going:
        freed = inventory.size_bytes(install)
        inventory.remove(install)
        click.echo(f"removed {install.name}: {size(freed)}")
    prune(paths.cache / "downloads")
    if not going:
        click.echo("nothing to remove", err=True)


def _unused(
    here: Sequence[Install], context: InstallContext, running: Sequence[LaunchPlan]
) -> tuple[Install, ...]:
    """What turned out bad does not count among the last two that work."""
    in_use = {*chosen_tags(context).values(), *map(_key, running)}
    judged = [replace(each, problem=each.problem or context.chosen.bad(each.key)) for each in here]
    return inventory.spare(judged, in_use=in_use)


def _named(
    here: Sequence[Install], tag: str, flavour: str | None, running: Sequence[LaunchPlan]
) -> tuple[Install, ...]:
    """Raises NotFound, and SupervisorError for what runs or is the only build that works."""
    going = tuple(each for each in here if each.tag == tag and flavour in {None, each.flavour})
    if not going:
        what = f"{tag} ({flavour})" if flavour else tag
        raise NotFound(f"{what} is not installed.", hint="goss-supervisor engine ls")
    for each in going:
        if users := [plan.profile for plan in running if each.key == _key(plan)]:
            hint = "goss-supervisor engine use TAG, restart"
            raise SupervisorError(f"{each.name} runs now ({', '.join(users)}).", hint=hint)
    works = [each for each in here if not each.problem]
    if works and all(each in going for each in works):
        raise SupervisorError(
            f"{works[0].name} is the only build that works here.",
            hint="goss-supervisor engine install, then remove this one",
        )
    return going


def _key(plan: LaunchPlan) -> str:
    return key_of(plan.repository, plan.build, plan.flavour)
