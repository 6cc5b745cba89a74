"""``engine``: which llama.cpp builds there are; get, choose, update and remove them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import click

from ..engine.catalogue.listing import number
from ..engine.means import Means
from ..errors import EXIT_OK, StartFailed, SupervisorError
from ..paths import Paths
from ..prepare import means_of
from ..progress import Progress, Silent
from ..update.contest import Contest, Waiting, indented
from ..update.news import News, look, record
from ..update.subject import Subject, subject_of
from ..update.updater import Result, Updater
from .common import complete_profiles, json_option
from .engine_remove import remove
from .engine_tables import available, ls, path, survey
from .progress import StderrProgress, waiting


@click.group
def engine() -> None:
    """Find, install, choose, update and remove llama.cpp builds."""


for _command in (ls, survey, available, path, remove):
    engine.add_command(_command)

_profile_option = click.option(
    "--profile",
    "-p",
    metavar="NAME",
    shell_complete=complete_profiles,
    help="Whose engine; without it that of the profile that runs, else what config.yaml says.",
)


def _tag(_: click.Context, __: click.Parameter, tag: str | None) -> str | None:
    if tag is not None and number(tag) is None:
        raise click.BadParameter(f"{tag} is no tag of llama.cpp; one looks like b11429.")
    return tag


_tag_argument = click.argument("tag", callback=_tag)
_maybe_tag_argument = click.argument("tag", required=False, callback=_tag)


@engine.command("install")
@_maybe_tag_argument
@click.option("--flavour", metavar="NAME", help="cpu, vulkan, cuda, cuda-12.8 …; without it the best.")
@_profile_option
@json_option
def install(tag: str | None, flavour: str | None, profile: str | None, as_json: bool) -> int:
    """Download a release and prove that it works here; without a TAG the channel's newest, to be used."""
    subject = subject_of(Paths.from_environment(), profile)
    if flavour is not None:
        subject = replace(subject, engine=replace(subject.engine, flavour=flavour), profile=None)
    with _updater(subject) as updater:
        if tag is not None:
            return _show(updater.install(tag), as_json=as_json)
        news = look(subject, updater.means)
        newest = news.available or news.current
        if newest is None:
            raise SupervisorError(f"There is no release to install: {news.note}.")
        return _show(updater.use(newest, force=False), as_json=as_json)


@engine.command("use")
@_tag_argument
@click.option("--force", is_flag=True, help="Take it although it is marked bad.")
@_profile_option
@json_option
def use(tag: str, force: bool, profile: str | None, as_json: bool) -> int:
    """Choose a release for the channel, from the next start on; it is installed if it is not."""
    with _updater(subject_of(Paths.from_environment(), profile)) as updater:
        return _show(updater.use(tag, force=force), as_json=as_json)


@engine.command("rollback")
@_profile_option
@json_option
def rollback(profile: str | None, as_json: bool) -> int:
    """Go back to the build that the channel had before; what runs is switched."""
    with _updater(subject_of(Paths.from_environment(), profile)) as updater:
        return _show(updater.rollback(), as_json=as_json)


@engine.command("update")
@click.option("--check", is_flag=True, help="Only say whether there is a newer one.")
@click.option("--quiet", is_flag=True, help="Say nothing; status shows what was found.")
@_profile_option
@json_option
def update(check: bool, quiet: bool, profile: str | None, as_json: bool) -> int:
    """
    Go to the channel's newest build, and back again if it is worse.

    The new build is proved beside the old one.  Then the server is switched; if it does not become ready,
    or generates less than 90 % of the tokens per second, the old build comes back.
    """
    paths = Paths.from_environment()
    if not quiet:
        return _update(paths, profile, check=check, quiet=False, as_json=as_json)
    try:
        return _update(paths, profile, check=check, quiet=True, as_json=as_json)
    except SupervisorError as error:  # nobody watches; it is recorded for whoever looks later
        if as_json:
            click.echo(json.dumps({"error": str(error), "hint": error.hint, "exit_code": error.exit_code}))
        return error.exit_code


def _update(paths: Paths, profile: str | None, *, check: bool, quiet: bool, as_json: bool) -> int:
    subject = subject_of(paths, profile)
    with _updater(subject, quiet=quiet) as updater:
        news = _looked(subject, updater.means)
        if check or news.available is None:
            return _show_news(news, quiet=quiet, as_json=as_json)
        updater.means.progress.step(news.sentence)
        result = _taken(news, news.available, updater)
    return _show(result, quiet=quiet, as_json=as_json)


def _looked(subject: Subject, means: Means) -> News:
    """Recorded, also where nobody could tell."""
    try:
        news = look(subject, means)
    except SupervisorError as error:
        record(News(problem=str(error)), means.paths)
        raise
    record(news, means.paths)
    return news


def _taken(news: News, tag: str, updater: Updater) -> Result:
    """Recorded, whatever comes of it."""
    try:
        result = updater.update(tag)
    except SupervisorError as error:
        note = f"{tag} was not taken: {str(error).splitlines()[0]}"
        record(replace(news, note=note), updater.means.paths)
        raise
    note = f"{tag} was taken back: {result.why}" if result.why else ""
    record(replace(news, current=result.tag, available=None, note=note), updater.means.paths)
    return result


def _show_news(news: News, *, quiet: bool, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"schema": 1, **asdict(news)}))
    elif not quiet:
        hint = "; goss-supervisor engine update" if news.available else ""
        click.echo(f"{news.sentence}{hint}")
    return EXIT_OK


def _show(result: Result, *, as_json: bool, quiet: bool = False) -> int:
    """Raises StartFailed for a build that was taken back."""
    if as_json:
        click.echo(json.dumps({"schema": 1, **asdict(result)}))
    if result.why and not quiet:
        raise StartFailed(
            f"{result.text}: {result.why}{indented(result.log)}",
            hint="goss-supervisor engine ls shows what is marked bad; engine use TAG --force takes it anyway",
        )
    if not (as_json or quiet):
        click.echo(result.text)
    return StartFailed.exit_code if result.why else EXIT_OK


@contextmanager
def _updater(subject: Subject, *, quiet: bool = False) -> Iterator[Updater]:
    paths = Paths.from_environment()
    if quiet:
        yield _made(subject, paths, Silent(), _unseen)
        return
    progress = StderrProgress()
    try:
        yield _made(subject, paths, progress, waiting)
    finally:
        progress.close()


def _made(subject: Subject, paths: Paths, progress: Progress, wait: Waiting) -> Updater:
    return Updater(subject, means_of(paths, progress), Contest(paths, progress, wait))


@contextmanager
def _unseen(_: str) -> Iterator[Progress]:
    yield Silent()
