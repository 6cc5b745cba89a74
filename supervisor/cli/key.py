"""
``key``: the keys of the gateway's clients, and the first one.

``start`` makes a first key where other machines can reach the gateway and no key exists yet.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any, TextIO, get_args

import click

from ..errors import SupervisorError, UsageError, similar_names
from ..gateway.auth.guard import rules_of
from ..gateway.auth.keys import RATE_WORDS, Key, KeyFile, KeyScope, rate_of
from ..gateway.telemetry.usage_file import UsageFile
from ..gateway.telemetry.usage_tally import UsageSums, day_of
from ..home import client
from ..home.places import keys_file, usage_file
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, address_for_others, is_any, url_of
from ..profile.store import ProfileStore
from .common import Function, completer, json_option
from .output import echo_json, echo_list


@click.group
def key() -> None:
    """Make, list, limit and remove the keys of clients."""


def _file() -> KeyFile:
    return KeyFile(keys_file(Paths.from_environment()))


def _names() -> list[str]:
    keys = _file().keys()
    return [each.name for each in keys]


_name_argument = click.argument("name", shell_complete=completer(_names))


_OPTIONS = (
    click.option("--models", metavar="A,B", help="Only these models; all for no limit."),
    click.option("--rate", metavar="N/min", help="At most this many requests: 60/min; none for no limit."),
    click.option(
        "--tokens-per-day", metavar="N", help="Tokens in and out on a local calendar day; none for no limit."
    ),
    click.option("--expires", metavar="WHEN", help="30d, 12h, or a last day: 2026-12-31; none for no limit."),
)
_EXPIRY_HELP = "30d, 12h, or a last day: 2026-12-31"
_FROM_NOW = re.compile(r"([1-9]\d{0,4})([dh])")


def _limit_options(function: Function) -> Function:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _limits(
    models: str | None, rate: str | None, tokens_per_day: str | None, expires: str | None
) -> dict[str, Any]:
    """Those that were named, as fields of `Key`.  Raises UsageError."""
    limits: dict[str, Any] = {}
    if models is not None:
        names = tuple(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
        if not names:
            raise UsageError("--models names no model.", hint="--models chat,coder, or --models all")
        limits["models"] = () if names == ("all",) else names
    if rate is not None:
        if rate != "none" and rate_of(rate) is None:
            raise UsageError(f"--rate {rate!r} is not a rate.", hint=f"A rate is {RATE_WORDS}.")
        limits["rate"] = None if rate == "none" else rate
    if tokens_per_day is not None:
        if not re.fullmatch(r"none|[1-9]\d{0,14}", tokens_per_day, re.ASCII):
            raise UsageError(
                f"--tokens-per-day {tokens_per_day!r} is not a number of tokens.",
                hint="--tokens-per-day 1000000",
            )
        limits["tokens_per_day"] = None if tokens_per_day == "none" else int(tokens_per_day)
    if expires is not None:
        limits["expires"] = None if expires == "none" else _expiry(expires)
    return limits


def _expiry(text: str) -> str:
    """In UTC; a day counts to its end, here.  Raises UsageError, also for what is over."""
    now = datetime.now().astimezone()
    try:
        if found := _FROM_NOW.fullmatch(text):
            at = now + (timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1])))
        else:
            after = date.fromisoformat(text) + timedelta(days=1)
            at = datetime(after.year, after.month, after.day).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(f"--expires {text!r} is not a time.", hint=_EXPIRY_HELP) from None
    if at <= now:
        raise UsageError(f"--expires {text} is in the past.", hint=_EXPIRY_HELP)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at.timestamp()))


def _check_limits(scope: KeyScope, limits: Mapping[str, Any]) -> None:
    """Raises UsageError for a limit that would not hold; a name that may be misspelt is only said."""
    if scope == "admin" and limits.get("models"):
        raise UsageError(
            "--models is for keys of the scope inference: one of the scope admin may load any model.",
            hint="Leave out --scope admin, or --models.",
        )
    known = ProfileStore(Paths.from_environment().profiles).names() if limits.get("models") else []
    for name in limits.get("models", ()):
        if name not in known:
            near = similar_names(name, known)
            question = f" (did you mean {near[0]}?)" if near else ""
            click.echo(f"note: no profile is called {name}{question}; an alias works too", err=True)


@key.command("add")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(get_args(KeyScope)),
    default="inference",
    show_default=True,
    help="inference: ask models; admin: everything that the address serves.",
)
@_limit_options
@json_option
def add(name: str, scope: KeyScope, *, as_json: bool, **limit_words: str | None) -> None:
    """Make a key and print it, once."""
    file, limits = _file(), _limits(**limit_words)
    _check_limits(scope, limits)
    first = not file.keys()
    secret = file.add(name, scope, limits)
    if as_json:
        echo_json(name=name, scope=scope, key=secret, **limits)
    else:
        click.echo(secret)
    click.echo(
        f"The key {name} ({scope}) is shown only now, since only its hash is kept. "
        "Clients send it as Authorization: Bearer KEY, or as X-Api-Key: KEY.",
        err=True,
    )
    if first:
        click.echo("From now on 127.0.0.1 asks for a key too, until you remove the last one.", err=True)


@key.command("set")
@_name_argument
@_limit_options
def set_(name: str, **limit_words: str | None) -> None:
    """
    Change the limits of a key, within a second.

    A limit that you do not name stays as it is.
    """
    file, limits = _file(), _limits(**limit_words)
    if not limits:
        raise UsageError("key set needs a limit.", hint=f"goss-supervisor key set {name} --rate 60/min")
    _check_limits(file.find(name).scope, limits)
    file.limit(name, limits)
    click.echo(f"{name}: {', '.join(_words(file.find(name))) or 'no limits'}")


def _words(key: Key) -> Iterator[str]:
    """Its limits."""
    if key.models:
        yield f"models {', '.join(key.models)}"
    if key.rate:
        yield f"rate {key.rate}"
    if key.tokens_per_day is not None:
        yield f"{key.tokens_per_day:,} tokens a day"
    if key.expires:
        yield f"expires {key.expires}"


@key.command("ls")
@json_option
def ls(*, as_json: bool) -> None:
    """List the keys with their limits and use of today."""
    keys, used = _file().keys(), _used_today()
    listed = [_listed(each, None if used is None else used.get(each.name, UsageSums())) for each in keys]
    echo_list("keys", listed, _HEADERS, _row, as_json=as_json)


_HEADERS = ("name", "scope", "created", "models", "rate", "tokens today", "expires")


def _used_today() -> Mapping[str, UsageSums] | None:
    """The figures of today by key; None, with a message on stderr, if they cannot be read."""
    paths, today = Paths.from_environment(), day_of(time.time())
    client.have_usage_written(paths)
    try:
        found = UsageFile(usage_file(paths)).read(today, today, ("key",))
    except SupervisorError as error:
        click.echo(f"note: the use of today is unknown: {error} {error.hint}".rstrip(), err=True)
        return None
    return {place.key: sums for place, sums in found.items()}


def _listed(key: Key, used: UsageSums | None) -> dict[str, Any]:
    about = {name: value for name, value in asdict(key).items() if name != "digest"}
    today = {"requests": used.requests, "failed": used.failed, "tokens": used.tokens} if used else None
    return {**about, "has_expired": key.limits.has_expired(time.time()), "today": today}


def _row(key: Mapping[str, Any]) -> list[str]:
    used = f"{key['today']['tokens']:,}" if key["today"] else "-"
    limit = f" of {key['tokens_per_day']:,}" if key["tokens_per_day"] is not None else ""
    expires = f"{key['expires'] or '-'}{' (expired)' if key['has_expired'] else ''}"
    models = ",".join(key["models"]) or "all"
    return [key["name"], key["scope"], key["created"], models, key["rate"] or "-", f"{used}{limit}", expires]


@key.command("rm")
@_name_argument
def rm(name: str) -> None:
    """Remove a key; within a second it is no longer accepted."""
    file = _file()
    file.remove(name)
    click.echo(f"removed {name}")
    if not file.keys():
        click.echo(
            "That was the last key. 127.0.0.1 no longer asks for one; any other address refuses everybody "
            "until there is a new key, unless the profile gives one.",
            err=True,
        )


@key.command("show")
@_name_argument
def show(name: str) -> None:
    """Say how to replace a key: it is not kept, so it cannot be shown again."""
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
