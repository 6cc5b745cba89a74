"""``serve``: what config.yaml says is served, and changes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from ..errors import ConfigError, NotFound, NotRunning, UsageError
from ..home import client
from ..paths import Paths
from ..prepare.profile_listen import why_unservable
from ..profile.field_kinds import Invalid
from ..profile.fields import SERVE_FIELDS
from ..profile.jsonschema import SETTINGS_FILE_NAME, SETTINGS_FIRST_LINE, settings_schema_text
from ..profile.load_layers import read_bytes
from ..profile.resolve import resolve, settings_of
from ..profile.serve_edit import with_pinned, with_served, without_served
from ..profile.served_profile import ServedProfile
from ..profile.store import ProfileStore, keep_current, write_atomically
from ..profile.yaml_nodes import Mark, Scalar, plain_value
from ..progress import duration
from .common import complete_profiles, completer, json_option
from .output import echo_json, echo_list

_HEADERS = ("profile", "state", "load", "pinned", "priority", "idle-unload", "why")


def _store() -> ProfileStore:
    return ProfileStore(Paths.from_environment().profiles)


def _served_names() -> list[str]:
    return [each.profile for each in settings_of(_store()).serve]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def serve(context: click.Context, *, as_json: bool) -> None:
    """
    List, add and remove the profiles that config.yaml serves.

    start without a PROFILE runs the first.  After a change, reload tells a running daemon.
    """
    if context.invoked_subcommand is None:
        _list(as_json=as_json)
    elif as_json:
        raise UsageError("--json is only for the list.")


def _list(*, as_json: bool) -> None:
    store = _store()
    running = _running()
    listed = [_listed(each, running, store) for each in settings_of(store).serve]
    if not listed and not as_json:
        nothing = "config.yaml serves nothing yet: goss-supervisor serve add PROFILE; start runs a server"
        click.echo(nothing, err=True)
        return
    echo_list("serve", listed, _HEADERS, _row, as_json=as_json)
    if changed := _not_taken(listed, running):
        click.echo(f"The running daemon does not serve {', '.join(changed)} yet: {_RELOAD}", err=True)


def _running() -> Mapping[str, Mapping[str, Any]] | None:
    """What the daemon serves, by profile; None where there is no daemon, or one of an older version."""
    try:
        status = client.ask(Paths.from_environment(), {"op": "status"})["status"]
    except NotRunning:
        return None
    return {each["profile"]: each for each in status["served"]} if "served" in status else None


def _listed(
    served: ServedProfile, running: Mapping[str, Mapping[str, Any]] | None, store: ProfileStore
) -> dict[str, Any]:
    """``state`` is null without a daemon, and where it has not been told of this one."""
    known = (running or {}).get(served.profile, {})
    return {
        "profile": served.profile,
        "load": served.load,
        "pinned": served.pinned,
        "priority": served.priority,
        "idle_unload_seconds": served.idle_unload_seconds,
        "state": known.get("state"),
        "why": known.get("trouble") or why_unservable(served.profile, store),
    }


def _row(listed: Mapping[str, Any]) -> tuple[str, ...]:
    idle = listed["idle_unload_seconds"]
    return (
        listed["profile"],
        listed["state"] or "-",
        "-" if listed["load"] is None else _yes(listed["load"]),
        _yes(listed["pinned"]),
        str(listed["priority"]),
        "-" if idle is None else duration(idle) if idle else "off",
        listed["why"],
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _not_taken(listed: list[dict[str, Any]], running: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    if running is None:
        return []
    return [each["profile"] for each in listed if each["profile"] not in running and not each["why"]]


_RELOAD = "goss-supervisor reload"


def _read_idle(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    kind = next(each.kind for each in SERVE_FIELDS if each.attribute == "idle_unload_seconds")
    try:
        value = kind.read(Scalar(plain_value(text), text, Mark()))
    except Invalid as invalid:
        raise click.BadParameter(invalid.message) from None
    assert isinstance(value, int | float)
    return float(value)


@serve.command
@click.argument("names", nargs=-1, required=True, metavar="NAME", shell_complete=complete_profiles)
@click.option("--pinned", is_flag=True, help="Never unload it to make room for another.")
@click.option(
    "--priority",
    type=click.IntRange(-1000, 1000),
    default=0,
    metavar="N",
    help="Models with a lower number are unloaded first when another one needs room.",
)
@click.option("--load/--no-load", default=None, help="Load it at a start, or only at the first request.")
@click.option(
    "--idle-unload",
    metavar="TIME",
    callback=_read_idle,
    help="Unload it after this time without a request, or off.",
)
@json_option
def add(
    *,
    names: tuple[str, ...],
    pinned: bool,
    priority: int,
    load: bool | None,
    idle_unload: float | None,
    as_json: bool,
) -> None:
    """Add profiles to the end of the list in config.yaml."""
    store = _store()
    for name in names:
        resolve(name, store)

    def added(text: str, file: str) -> str:
        for name in names:
            text = with_served(text, file, ServedProfile(name, load, pinned, priority, idle_unload))
        return text

    _change(added)
    _say(f"{_are(names)} served now.", as_json=as_json)


def _say(what: str, *, as_json: bool) -> None:
    text = f"{what} {_how_it_begins()}"
    if as_json:
        echo_json(text=text, serve=[each.profile for each in settings_of(_store()).serve])
    else:
        click.echo(text)


def _are(names: tuple[str, ...]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


@serve.command
@click.argument("names", nargs=-1, required=True, metavar="NAME", shell_complete=completer(_served_names))
@json_option
def rm(names: tuple[str, ...], *, as_json: bool) -> None:
    """Take profiles out of the list in config.yaml; keep their files."""

    def removed(text: str, file: str) -> str:
        for name in names:
            text = without_served(text, file, name)
        return text

    _change(removed)
    _say(f"{_are(names)} no longer served.", as_json=as_json)
    running = _running() or {}
    for name in names:
        if running.get(name, {}).get("state") not in {None, "unloaded", "loading"}:
            click.echo(f"It keeps running until you stop it: goss-supervisor stop {name}", err=True)


@serve.command
@click.argument("name", shell_complete=complete_profiles)
@click.option("--off", is_flag=True, help="Let it be unloaded again.")
@json_option
def pin(name: str, *, off: bool, as_json: bool) -> None:
    """
    Keep a loaded model: it is never unloaded to make room for another.

    The running daemon does this right away.  If config.yaml serves the profile, the pin is written there, so
    that it outlasts a restart.
    """
    is_listed = name in _served_names()
    if is_listed:
        _change(lambda text, file: with_pinned(text, file, name, pinned=not off))
    try:
        client.ask(Paths.from_environment(), {"op": "pin", "server": name, "pinned": not off})
    except (NotRunning, NotFound):
        if not is_listed:
            raise
    what = f"{name} is {'no longer pinned' if off else 'pinned'}"
    lasts = "" if is_listed else f", until the daemon ends or reloads: config.yaml does not serve {name}"
    if as_json:
        echo_json(profile=name, pinned=not off, in_config=is_listed)
    else:
        click.echo(f"{what}{lasts}.")


def _how_it_begins() -> str:
    if _running() is None:
        return "The next start uses this: goss-supervisor start"
    return f"To apply this to the running daemon: {_RELOAD}"


def _change(change: Callable[[str, str], str]) -> None:
    """The file has the new text, or stays as it is.  The schema is next to it if its text names that."""
    file = _store().settings
    try:
        text = read_bytes(file).decode("utf-8-sig")
    except NotFound:
        text = SETTINGS_FIRST_LINE
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8; save it as UTF-8.") from None
    write_atomically(file, change(text, str(file)))
    if SETTINGS_FIRST_LINE in text:
        keep_current(file.with_name(SETTINGS_FILE_NAME), settings_schema_text())
