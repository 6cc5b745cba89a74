"""
``start``: prepare in the foreground, then hand the plan to a daemon or become it.

``--service`` is for launchd and the Task Scheduler, which know neither a journal nor our exit codes: the
daemon logs to its files only, and errors before there is a daemon go to stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from ..daemon.journal import INFO, WARNING, for_stderr
from ..daemon.service_notify import forget_variables, notify_in, with_notify_progress
from ..errors import (
    EXIT_OK,
    AlreadyRunning,
    ConfigError,
    UsageError,
)
from ..home import client
from ..home.background_daemon import DAEMON, background_daemon, ordered
from ..home.places import early_log, make_folders
from ..paths import Paths
from .common import (
    complete_profiles,
    force_option,
    json_option,
    parse_settings,
    profile_option,
    set_option,
    show_default_profile,
)
from .first_run import farewell, is_first, try_address, welcome
from .output import StderrProgress, show_outcome, waiting, waiting_for_the_daemon

if TYPE_CHECKING:
    from ..prepare.prepare import Preparation
    from ..profile.definition import Profile


@click.command()
@click.argument("names", nargs=-1, metavar="[PROFILE]...", shell_complete=complete_profiles)
@profile_option()
@click.option(
    "--detach", "-d", is_flag=True, help="Return when it is ready; it keeps running in the background."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the first download.")
@click.option(
    "--ready-fd",
    type=click.IntRange(min=3),
    metavar="N",
    help="Write a newline to this file descriptor and close it when the model is ready; foreground only.",
)
@click.option(
    "--service",
    "as_service",
    is_flag=True,
    help="For launchd and the Task Scheduler: log only to files, and exit with 0 if the profile is wrong, so "
    "that it stays down.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would run, as plan does.")
@force_option
@set_option
@json_option
def start(
    *,
    names: tuple[str, ...],
    profile: str | None,
    detach: bool,
    yes: bool,
    ready_fd: int | None,
    as_service: bool,
    dry_run: bool,
    force: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> int:
    """
    Start a profile's server and supervise it.

    If you name several profiles, the first is the main one; the others are loaded next to it once it is
    ready, and clients choose by name.  The profiles in config.yaml are served too; without a PROFILE, the
    first of them is the main one.  --set applies to the main one only.

    In the foreground, start shows the log.  Ctrl+C stops the server cleanly; a second Ctrl+C kills it.  If
    you name no profile, the first start shows what it will download, and asks.
    """
    paths = Paths.from_environment()
    if as_service:
        have_a_voice(paths)
    profile, named = _named(names, profile)
    if dry_run:
        from .plan import show_plan  # noqa: PLC0415 - only here

        main = profile or show_default_profile(paths).name
        return show_plan(main, settings, named=named, as_json=as_json)
    if ready_fd is not None:
        _keep_open(ready_fd, detach=detach or as_service)
    refuse_a_second(paths)
    first = is_first(paths)
    is_service = as_service or (not detach and notify_in(os.environ) is not None)
    given, refuse = (
        parse_settings(settings),
        None if is_service else try_address,
    )  # its address may come later
    get = _preparing(paths, profile, given, named, yes=yes, force=force, refuse=refuse)
    if detach:
        return _start_in_background(paths, get, first=first, as_json=as_json)
    with staying_down() if as_service else nullcontext():
        found = get()
    key = key_lines(paths, found, sys.stderr if as_service else sys.stdout)
    if as_service:
        show_lines(key)
    after = ("Next, in another terminal:", *farewell(found.plan, found.listen)) if first else ()
    orders = _orders(
        found, foreground=not as_service, is_service=is_service, ready_fd=ready_fd, farewell=after, last=key
    )
    return _become_the_daemon(orders)


def _preparing(
    paths: Paths,
    profile: str | None,
    settings: Mapping[str, str],
    named: Sequence[str] = (),
    *,
    yes: bool,
    force: bool,
    refuse: Callable[[Profile], None] | None = try_address,
) -> Callable[[], Preparation]:
    """What prepares the profile; before a default one, it shows what will happen, and asks."""
    if profile is None:
        default = show_default_profile(paths)
        welcome(default, settings, paths, yes=yes, force=force)
        profile = default.name
    return partial(prepared, profile, settings, paths, force=force, refuse=refuse, named=named)


def start_detached(
    paths: Paths, profile: str | None, settings: Mapping[str, str], *, yes: bool, force: bool
) -> None:
    """As ``start --detach``, for `run`, which does not say what comes next."""
    get = _preparing(paths, profile, settings, yes=yes, force=force)
    _start_in_background(paths, get, first=False, as_json=False)


def _named(names: Sequence[str], profile: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The main one, which ``--profile`` names, or else the first word; and the others, each once."""
    given = dict.fromkeys([profile, *names] if profile else names)
    return next(iter(given), None), tuple(given)[1:]


def _start_in_background(paths: Paths, get: Callable[[], Preparation], *, first: bool, as_json: bool) -> int:
    forget_variables(os.environ)  # one that waits, waits for another program
    with background_daemon(paths) as daemon:  # it gets itself ready while we prepare
        found = get()
        with shown_at_the_end(key_lines(paths, found, sys.stderr)):
            result = _hand_over(paths, daemon, _orders(found, foreground=False), as_json=as_json)
            offers = found.listen.offers if found.listen else ()
            if loading := [each.profile for each in offers if each.load]:
                click.echo(f"still loading: {', '.join(loading)} (goss-supervisor ps)", err=True)
            show_lines(farewell(found.plan, found.listen) if first else ())
    return result


def _keep_open(ready_fd: int, *, detach: bool) -> None:
    """Let the daemon have it, which this process becomes.  Raises UsageError where that cannot be."""
    if detach or os.name == "nt":
        raise UsageError("--ready-fd is for a start in the foreground, and not for Windows.")
    try:
        os.set_inheritable(ready_fd, True)
    except OSError as error:
        raise UsageError(f"--ready-fd {ready_fd} cannot be used: {error.strerror}.") from error


def _orders(
    found: Preparation,
    *,
    foreground: bool,
    is_service: bool = False,
    ready_fd: int | None = None,
    farewell: Sequence[str] = (),
    last: Sequence[str] = (),
) -> bytes:
    """In the foreground ``farewell`` is shown once it is ready, and ``last`` then or once that failed."""
    from ..plan.plan_json import listen_to_json, to_json  # noqa: PLC0415 - the daemon is spawned before that

    listen = listen_to_json(found.listen) if found.listen else None
    orders = {
        "foreground": foreground,
        "is_service": is_service,
        "ready_fd": ready_fd,
        "farewell": farewell,
        "last": last,
    }
    return json.dumps({**orders, "plan": to_json(found.plan), "listen": listen}).encode()


def prepared(
    profile: str,
    settings: Mapping[str, str],
    paths: Paths,
    *,
    force: bool = False,
    refuse: Callable[[Profile], None] | None = None,
    named: Sequence[str] | None = (),
    evicts: bool = True,
) -> Preparation:
    """With all that it needs on disk; says what a person should know.  Of the rest see `prepare`."""
    from ..prepare.prepare import prepare  # noqa: PLC0415 - YAML and all the rest: only when it is needed

    with closing(StderrProgress()) as progress:  # what went wrong begins a line of its own
        notifying = with_notify_progress(progress, os.environ)
        preparation = prepare(
            profile, settings, paths, notifying, force=force, refuse=refuse, named=named, evicts=evicts
        )
    click.echo(f"engine: {_short(preparation.plan.engine)}", err=True)
    for note in preparation.notes:
        click.echo(f"note: {note}", err=True)
    for warning in preparation.warnings:
        click.echo(for_stderr(f"warning: {warning}", WARNING), err=True)
    return preparation


def _short(engine: str) -> str:
    """Why this engine was chosen; why none of the others, `engine survey` says."""
    from ..engine.local_engines import PASSED  # noqa: PLC0415 - loaded by then

    reason, _, passed = engine.partition(PASSED)
    return f"{reason}; why not another: goss-supervisor engine survey" if passed else reason


def key_lines(
    paths: Paths, found: Preparation, shown_on: TextIO | None, *, first_only: bool = False
) -> list[str]:
    """What a person is to know of the key, at the end; see `first_key` and `keys_in_use`."""
    from .key import first_key, keys_in_use  # noqa: PLC0415 - as in `_orders`

    first = first_key(paths, found.plan, found.listen, shown_on)
    return first or ([] if first_only else keys_in_use(paths, found.listen))


def show_lines(lines: Iterable[str]) -> None:
    for line in lines:
        priority = WARNING if line.startswith("warning: ") else INFO
        click.echo(for_stderr(line, priority), err=True)


@contextmanager
def shown_at_the_end(lines: Iterable[str]) -> Iterator[None]:
    """However it ends: a key that was made is not seen again."""
    try:
        yield
    finally:
        show_lines(lines)


def refuse_a_second(paths: Paths) -> None:
    """
    Say early what the daemon's lock would say late.  Waits for one that is just ending.  Raises
    AlreadyRunning, naming what runs.
    """
    status = client.settled_status(paths, waiting)
    if status is None:
        return
    server, daemon = status["server"], status["daemon"]
    held = server.get("held_by")
    by = f", and {held['owner']} holds it: {held['why']}" if held else ""
    runs = f"{server['profile']} is {server['state']}{by}"
    ends = daemon.get("operation")
    raise AlreadyRunning(
        f"A daemon is already running here (pid {daemon['pid']}): {runs}.",
        hint=f"{'Try again when it has ended' if ends else 'goss-supervisor switch PROFILE'}, or "
        "goss-supervisor stop",
    )


if sys.platform == "win32":

    def _become_the_daemon(orders: bytes) -> int:
        """
        Exec there would leave the terminal to the shell.

        Ctrl+C reaches the daemon too, which leaves in good order; `run` would kill it at the first one.
        """
        import signal  # noqa: PLC0415 - as in `_orders`

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return subprocess.run(DAEMON, input=orders, check=False).returncode

else:
    import signal

    from ..daemon.orders import give_orders

    def _become_the_daemon(orders: bytes) -> NoReturn:
        """
        The same process goes on, without all that preparing needed.

        A Ctrl+C waits until the daemon listens to it: its imports would show it as a traceback.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        give_orders(orders)
        os.execv(sys.executable, DAEMON)  # noqa: S606 - no shell is what is wanted


def _hand_over(paths: Paths, daemon: subprocess.Popen[bytes], orders: bytes, *, as_json: bool) -> int:
    """Give the daemon its orders; it reports the start's outcome on its stdout."""
    with waiting_for_the_daemon("waiting until it is ready; goss-supervisor logs -f shows more") as progress:
        message = ordered(paths, daemon, orders, progress.step)
    return show_outcome(message, as_json=as_json)


@contextmanager
def staying_down() -> Iterator[None]:
    """
    A wrong profile ends the program with 0, for it stays wrong.

    launchd restarts everything that fails, for ever.
    """
    try:
        yield
    except ConfigError as error:
        error.exit_code = EXIT_OK
        raise


def have_a_voice(paths: Paths) -> None:
    """Under pythonw.exe there is neither stdout nor stderr; then a file takes both."""
    if sys.stderr is None:
        make_folders(paths)
        sys.stdout = sys.stderr = early_log(paths).open("w", encoding="utf-8", buffering=1)
