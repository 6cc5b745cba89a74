"""``profile``: list, show, make, edit, check and import profiles."""

from __future__ import annotations

import codecs
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..errors import EXIT_OK, ConfigError, SupervisorError, UsageError
from ..paths import Paths
from ..prepare.profile_listen import unservable
from ..profile.definition import Profile
from ..profile.drafts import Draft, create, digest_of, new_profile, save_text
from ..profile.importer import import_command
from ..profile.jsonschema import schema_text, settings_schema_text
from ..profile.load_layers import read_bytes
from ..profile.resolve import check_profiles, resolve, resolve_each
from ..profile.store import ProfileStore, StoredProfile
from ..profile.yaml_text import YamlLine, redacted, render, rows_of_profile
from .common import complete_profiles, confirmed, json_option, or_default, verbose_option
from .init import DEFAULT_NAME, write_starter
from .output import echo_json, echo_list, table


@click.group
def profile() -> None:
    """List, show, make and check profiles."""


def _store() -> ProfileStore:
    return ProfileStore(Paths.from_environment().profiles)


_name_argument = click.argument("name", shell_complete=complete_profiles)
_name_or_default = click.argument("name", required=False, shell_complete=complete_profiles)


@profile.command("ls")
@json_option
def ls(*, as_json: bool) -> None:
    """
    List all profiles.

    A profile of your own replaces a shipped one of the same name.
    """
    store = _store()
    listed = [_listed(stored, found) for stored, found in resolve_each(store.list(), store)]
    echo_list("profiles", listed, ("name", "origin", "description"), _row, as_json=as_json)
    for stray in store.strays():
        click.echo(f"{stray} is not a profile: name it like my-profile.yaml", err=True)


def _listed(stored: StoredProfile, found: Profile | SupervisorError) -> dict[str, Any]:
    return {
        "name": stored.name,
        "path": str(stored.path),
        "shipped": stored.shipped,
        "shadows": str(stored.shadows) if stored.shadows else None,
        "description": "" if isinstance(found, SupervisorError) else found.description,
        "problem": str(found) if isinstance(found, SupervisorError) else None,
    }


def _row(listed: Mapping[str, Any]) -> tuple[str, ...]:
    yours = "yours, shadows a shipped one" if listed["shadows"] else "yours"
    broken = f"(broken: goss-supervisor profile check {listed['name']})" if listed["problem"] else ""
    return listed["name"], "shipped" if listed["shipped"] else yours, listed["description"] or broken


@profile.command("show")
@_name_or_default
@click.option("--text", "as_text", is_flag=True, help="Print the file as it is written.")
@verbose_option
@json_option
def show(name: str | None, *, as_text: bool, verbose: bool, as_json: bool) -> None:
    """
    Print a profile's values, and where each one comes from.

    It includes the values of profiles that it extends; -v adds every default.  Without a NAME, show the
    profile that start would choose.
    """
    name = or_default(name, Paths.from_environment())
    if as_text:
        return _show_text(_store().find(name), as_json=as_json)
    resolved = resolve(name, _store())
    if as_json:
        click.echo(json.dumps({"schema": 1, "profile": _as_json(resolved)}, default=str))
        return None
    for depth, origin in enumerate(resolved.lineage):
        click.echo(f"# {'extends ' if depth else ''}{origin.profile}: {origin.file}")
    for note in resolved.notes:
        click.echo(f"# {note}")
    click.echo(render(rows_of_profile(resolved, defaults=verbose)), nl=False)
    if not verbose:
        click.echo("# -v shows the defaults too")
    return None


def _show_text(stored: StoredProfile, *, as_json: bool) -> None:
    """With secrets: it is the user's own file."""
    data = read_bytes(stored.path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{stored.path} is not UTF-8; save it as UTF-8.") from None
    if as_json:
        about = {"path": str(stored.path), "digest": digest_of(data), "is_shipped": stored.shipped}
        echo_json(name=stored.name, text=text, **about)
    else:
        click.echo(text, nl=False)


def _as_json(resolved: Profile) -> dict[str, Any]:
    """``values`` are all that holds, as ``show -v`` has them; ``origin`` is null for a default."""
    plain = asdict(redacted(resolved))
    plain["lineage"] = [str(origin) for origin in resolved.lineage]
    plain["origins"] = {key: str(origin) for key, origin in resolved.origins.items()}
    plain["values"] = [_value(row, resolved) for row in rows_of_profile(resolved)]
    return plain


def _value(row: YamlLine, resolved: Profile) -> dict[str, Any]:
    origin = resolved.origins.get("model.demo" if row.key == "model" else row.key)
    return {"key": row.key, "value": row.text, "origin": asdict(origin) if origin else None}


@profile.command("path")
@_name_argument
def path(name: str) -> None:
    """Print the path of a profile's file."""
    click.echo(_store().find(name).path)


@profile.command("new")
@click.argument("name", default=DEFAULT_NAME)
@click.option("--from", "other", shell_complete=complete_profiles, help="Profile to extend.")
@json_option
def new(name: str, other: str | None, *, as_json: bool) -> None:
    """
    Make a profile of your own, NAME or "mine".

    It extends the profile that --from names.  Without --from it is made for this machine, as init does.  To
    make one from a llama-server command line, use profile import.
    """
    if other is None:
        if as_json:
            raise UsageError("--json needs --from.")
        return write_starter(name)
    made = new_profile(name, other, _store())
    if as_json:
        return echo_json(name=name, path=str(made))
    return click.echo(made)


@profile.command("edit")
@_name_argument
def edit(name: str) -> None:
    """Edit a profile in $VISUAL or $EDITOR; check it, then save it."""
    paths = Paths.from_environment()
    draft = Draft.begin(name, _store(), paths.state / "drafts")
    if draft.continued:
        click.echo(f"going on with the draft {draft.path}; delete it to begin anew", err=True)
    saved, again = None, True
    while again:
        _open_editor(draft.path)
        try:
            saved, again = draft.finish(), False
        except ConfigError as error:
            again = _wants_to_go_on(name, draft.path, error)
    click.echo(saved or "nothing was changed", err=not saved)


def _open_editor(path: Path) -> None:
    try:
        click.edit(editor=_editor(), filename=str(path))
    except click.ClickException as error:
        kept = f"{error.message}. The text is kept in {path}"
        hint = "$env:EDITOR = 'notepad'" if sys.platform == "win32" else "export EDITOR=nano"
        raise SupervisorError(kept, hint=hint) from None


def _editor(platform: str = sys.platform) -> str | None:
    """
    $VISUAL or $EDITOR; None lets click choose.  Click reads it as a POSIX shell does, but a backslash on
    Windows is part of a path.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    return named.replace("\\", "\\\\") if named and platform == "win32" else named or None


def _wants_to_go_on(name: str, draft: Path, error: ConfigError) -> bool:
    """Asks on a terminal, and throws the draft away on a no; elsewhere the error goes up."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = f"{error}\nNothing was saved; the text is kept in {draft}"
        raise ConfigError(message, hint=f"goss-supervisor profile edit {name}") from None
    click.echo(error, err=True)
    if confirmed("Edit again? (no: throw the changes away)"):
        return True
    draft.unlink(missing_ok=True)
    return False


@profile.command("check")
@click.argument("files", nargs=-1, metavar="[FILE|NAME]...", shell_complete=complete_profiles)
@click.option(
    "--stdin", "reads_stdin", is_flag=True, help="Check the text on standard input as this profile."
)
@click.option("--plan", "plans", is_flag=True, help="Also check whether it could be started, as plan does.")
@json_option
def check(files: tuple[str, ...], *, reads_stdin: bool, plans: bool, as_json: bool) -> int:
    """
    Check profiles by file or name, or all of them and config.yaml.

    It reports all mistakes at once, each with file, line and column.  --stdin, --plan and --json are for
    editors, and for one NAME.
    """
    if reads_stdin or plans or as_json:
        if len(files) != 1:
            raise UsageError("--stdin, --plan and --json need one NAME.", hint="goss-supervisor profile ls")
        text = sys.stdin.buffer.read() if reads_stdin else read_bytes(_store().find(files[0]).path)
        return _check_text(files[0], text, plans=plans, as_json=as_json)
    store = _store()
    checked = check_profiles(files, store)
    problems = (*checked.problems, *(() if files else unservable(store)))
    for warning in checked.warnings:
        click.echo(warning, err=True)
    if checked.sound:
        click.echo(table(("profile", "result"), [(name, "ok") for name in checked.sound]))
    if problems:
        raise ConfigError("\n".join(problems))
    return EXIT_OK


def _check_text(name: str, text: bytes, *, plans: bool, as_json: bool) -> int:
    from ..prepare.profile_check import check_text  # noqa: PLC0415 - it brings all that a plan needs
    from .plan import plan_document  # noqa: PLC0415 - as above

    checked = check_text(name, text, Paths.from_environment(), plans=plans)
    if as_json:
        plan = plan_document(checked.plan) if checked.plan else None
        echo_json(name=name, problems=[asdict(each) for each in checked.problems], plan=plan)
        return EXIT_OK  # the problems are what was asked for
    for each in checked.problems:
        place = f"{name}:{each.line}:{each.column}" if each.line else name
        click.echo(f"{place}: {each.severity}: {each.message}")
    return EXIT_OK if checked.is_sound else ConfigError.exit_code


@profile.command("save")
@_name_argument
@click.option("--based-on", required=True, metavar="SHA256", help="Digest of the text that was changed.")
@json_option
def save(name: str, *, based_on: str, as_json: bool) -> None:
    """
    Save the text on standard input as the profile NAME, for editors.

    It is saved only if it is right, and if the file still has the digest of --based-on, which profile show
    --text --json prints.  The old text is kept as NAME.yaml~.
    """
    data, store = sys.stdin.buffer.read(), _store()
    saved = save_text(name, data, based_on, store)
    path = store.find(name).path
    if as_json:
        echo_json(name=name, path=str(path), digest=digest_of(read_bytes(path)), changed=saved is not None)
    else:
        click.echo(saved or "nothing was changed", err=not saved)


@profile.command("schema")
@click.option("--config", "of_config", is_flag=True, help="Print the schema of config.yaml instead.")
def schema(*, of_config: bool) -> None:
    """Print the JSON Schema of profiles, for editors."""
    click.echo(settings_schema_text() if of_config else schema_text(), nl=False)


_AS_IT_STANDS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@profile.command("import", context_settings=_AS_IT_STANDS)
@click.option("--name", default="", help="Name of the profile. Default: made from the model's name.")
@click.argument("command_line", nargs=-1, metavar="[COMMAND LINE | FILE | -]", type=click.UNPROCESSED)
def import_(name: str, command_line: tuple[str, ...]) -> None:
    """
    Make a profile from a llama-server command, script or unit.

    Give the command as it is or in quotes, or a file: a script, a systemd unit, a compose file and so on.
    Without an argument it asks for a paste; '-' reads stdin.  Nothing in it is run.
    """
    store, paths = _store(), Paths.from_environment()
    name, words = _name_behind(name, command_line)
    text, folders = _launch_text(words)
    imported = import_command(text, store, name, folders=folders, models=paths.models)
    saved = create(imported.name, imported.text, store)
    for line in (*imported.notes, *imported.files):
        click.echo(line, err=True)
    click.echo(saved)


def _name_behind(name: str, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """``FILE --name NAME`` is typed as often as the other order; llama-server has no --name."""
    match words:
        case (text, "--name", behind):
            return behind, (text,)
        case (text, behind) if behind.startswith("--name="):
            return behind.removeprefix("--name="), (text,)
    return name, words


def _launch_text(words: tuple[str, ...]) -> tuple[str, list[Path]]:
    """The text, and the folders where its relative paths may start."""
    here = [Path.cwd()]
    if not words or words == ("-",):
        if sys.stdin.isatty():
            end = "Ctrl+Z and Enter" if sys.platform == "win32" else "Ctrl+D"
            click.echo(f"Paste what starts llama-server, then press {end} on a line of its own:", err=True)
        text = _decoded(sys.stdin.buffer.read())
        if not text.strip():
            raise UsageError(
                "There is no command line to import.",
                hint="goss-supervisor profile import 'llama-server -m …'",
            )
        return text, here
    file = Path(words[0])
    if len(words) == 1 and not re.search(r"\s", words[0]):
        if os.path.isfile(file):  # noqa: PTH113
            return _decoded(read_bytes(file)), [*here, file.absolute().parent]
        if re.search(r"[/\\.]", words[0]) and not re.search(r"llama(-server)?(\.exe)?$", words[0]):
            raise UsageError(
                f"There is no file {words[0]} here, and it is no command line.",
                hint="goss-supervisor profile import 'llama-server -m …'",
            )
    return words[0] if len(words) == 1 else shlex.join(words), here


def _decoded(text: bytes) -> str:
    """PowerShell's ``>`` and Notepad's Unicode write UTF-16, with a mark in front."""
    is_utf16 = text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return text.decode("utf-16" if is_utf16 else "utf-8-sig", "replace")
