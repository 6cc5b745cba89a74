"""``model``: list, pull, inspect, verify and remove models."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..disk import ensure_reachable
from ..errors import NotFound, SupervisorError, UsageError, VerificationFailed
from ..home.event_log import record_event
from ..model.hub import REPOSITORY, Hub
from ..model.local_models import OURS, LocalModel, VerifiedFile, find, list_models, remove, verify
from ..model.locate import parts_of
from ..model.metadata import Model, formats, shares
from ..model.open import open_model
from ..model.pull import Pulled, pull
from ..model.remote import hub_model
from ..paths import Paths
from ..prepare.hub_choice import with_hub_files
from ..prepare.model_at_hand import companion_paths, get_model, path_of
from ..profile.definition import Profile
from ..profile.resolve import resolve, with_models_dir
from ..profile.store import ProfileStore
from ..update.update_target import servers_of
from .common import complete_profiles, completer, json_option
from .output import StderrProgress, echo_json, echo_list, size, table, waiting


def _paths() -> Paths:
    """Raises NotFound where the models folder leads to a disk that is not there."""
    paths = with_models_dir(Paths.from_environment())
    ensure_reachable(paths.models, "The models folder")
    return paths


def _names() -> list[str]:
    """None where they cannot be had: a shell that completes a word shows no errors."""
    with suppress(SupervisorError):
        return [each.name for each in list_models(_paths().models, os.environ)]
    return []


complete_models = completer(_names)


def _profile_called(name: str, paths: Paths) -> Profile | None:
    """With the files its quantisation means, which the hub may be asked for; None where there is none."""
    store = ProfileStore(paths.profiles)
    return with_hub_files(resolve(name, store), paths) if name in store.names() else None


def _named(what: str, paths: Paths) -> str:
    """REPO:FILE, or the path, of the model that the profile of this name has; else the word itself."""
    profile = _profile_called(what, paths)
    if profile is None:
        return what
    source = profile.model
    if source.repo:
        return f"{source.repo}:{source.file}" if source.file else source.repo
    return str(path_of(profile, paths))


_name_argument = click.argument("name", shell_complete=complete_models)


@click.group
def model() -> None:
    """List, download, show, verify and remove models."""


@model.command("ls")
@json_option
def ls(as_json: bool) -> None:
    """
    List the models on this machine.

    It includes the caches of Hugging Face and llama.cpp.
    """
    paths = _paths()
    running = {file for each in servers_of(paths) for file in each.plan.model_files}
    listed = [_listed(each, running) for each in list_models(paths.models, os.environ)]
    echo_list("models", listed, ("name", "size", "parts", "where", "note"), _row, as_json=as_json)


def _listed(found: LocalModel, running: Collection[str]) -> dict[str, Any]:
    return {
        "name": found.name,
        "where": found.where,
        "path": str(found.path),
        "size_bytes": found.size_bytes,
        "parts": len(found.parts),
        "missing": [part.name for part in found.missing],
        "running": str(found.path) in running,
    }


def _row(listed: Mapping[str, Any]) -> list[str]:
    parts, missing = listed["parts"], len(listed["missing"])
    notes = ["runs now"] if listed["running"] else []
    if missing:
        notes.append("incomplete" if parts == 1 else f"incomplete: {parts - missing} of {parts} parts")
    return [listed["name"], size(listed["size_bytes"]), str(parts), listed["where"], "; ".join(notes)]


@model.command("show")
@click.argument("what", metavar="NAME|PATH|REPO[:FILE]|PROFILE", shell_complete=complete_models)
@json_option
def show(what: str, as_json: bool) -> None:
    """
    Show a model's architecture, layers, context and sizes.

    It reads only the file's header; of a model that is not here, it downloads no more than that.
    """
    found = _opened(what, _paths())
    if as_json:
        echo_json(**_document(found))
    else:
        click.echo("\n".join(_lines(found)))


def _opened(what: str, paths: Paths) -> Model:
    """A file, a model that is here, that of a profile, or one of the hub: in this order."""
    headers = paths.cache / "headers"
    if Path(what).is_file() or Path(what).is_absolute():
        return open_model(Path(what), headers)
    try:
        return open_model(_found(what, paths).path, headers)
    except (NotFound, UsageError):
        named = _named(what, paths)
        if Path(named).is_absolute():
            return open_model(Path(named), headers)
        repo, _, file = named.partition(":")
        if not REPOSITORY.fullmatch(repo):
            raise
        with waiting(f"asking the Hugging Face hub for {repo}"):
            return hub_model(repo, file or None, Hub.of(os.environ), headers)


def _document(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "architecture": model.architecture,
        "layers": model.layers,
        "experts": model.experts,
        "experts_used": model.experts_used,
        "context_length": model.context_length,
        "sliding_window": model.sliding_window,
        "embedding_length": model.embedding_length,
        "key_length": model.key_length,
        "value_length": model.value_length,
        "vocabulary_size": model.vocabulary_size,
        "file_type": model.file_type,
        "size_bytes": model.size_bytes,
        "weights_bytes": model.weights_bytes,
        "heads": model.heads(0),
        "heads_kv": model.heads_kv(0),
        "shares": dict(shares(model)),
        "formats": dict(formats(model)),
        "parts": [{"name": part.name, "size_bytes": part.size_bytes} for part in model.parts],
    }


def _lines(model: Model) -> Iterator[str]:
    yield f"name          {model.name or 'unknown'}"
    yield f"architecture  {model.architecture}"
    yield f"layers        {_known(model.layers)}"
    if model.experts:
        yield f"experts       {model.experts} in a layer, {_known(model.experts_used)} used by a token"
    window = f", a window of {model.sliding_window} in some layers" if model.sliding_window else ""
    yield f"context       {_known(model.context_length)} tokens{window}"
    heads = f"{_known(model.heads(0))} heads, {_known(model.heads_kv(0))} of them with keys and values"
    yield f"attention     {heads} of {_known(model.key_length)}"
    yield f"embedding     {_known(model.embedding_length)}"
    yield f"vocabulary    {_known(model.vocabulary_size)} tokens"
    yield f"formats       {', '.join(f'{name} {size(each)}' for name, each in formats(model).items())}"
    yield ""
    rows = [(name, size(each), _share(each, model.weights_bytes)) for name, each in shares(model).items()]
    yield table(("part", "size", "share"), [*rows, ("all weights", size(model.weights_bytes), "")])
    yield ""
    yield table(("file", "size"), [(part.name, size(part.size_bytes)) for part in model.parts])


def _known(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _share(part: int | None, whole: int | None) -> str:
    return "-" if part is None or not whole else f"{part / whole:.1%}"


@model.command("pull")
@click.argument("what", metavar="REPO[:FILE]|PROFILE", shell_complete=complete_profiles)
@json_option
def pull_command(what: str, as_json: bool) -> None:
    """
    Download a model, or a PROFILE's model, and verify it.

    It comes from the Hugging Face hub, with all its parts.  FILE is a file, or the part of its name that
    identifies it: gpt-oss-20b-mxfp4, Q4_K_M.  A model that is here already, or in another program's cache, is
    not downloaded; an interrupted download continues.
    """
    with closing(StderrProgress()) as progress:
        found = _pulled(what, _paths(), progress)
    if as_json:
        parts = [str(part) for part in found.parts]
        echo_json(path=parts[0], parts=parts, size_bytes=found.size_bytes, downloaded=found.downloaded)
        return
    done = "downloaded" if found.downloaded else "already here"
    click.echo(f"{done}: {found.path} ({size(found.size_bytes)})")


def _pulled(what: str, paths: Paths, progress: StderrProgress) -> Pulled:
    """Raises NotFound for a profile whose model is a file that is not there."""
    profile = _profile_called(what, paths)
    if profile is None or (profile.model.repo and not profile.model.file):
        repo, _, file = (what if profile is None else profile.model.repo or "").partition(":")
        found = pull(repo, file or None, paths.models, os.environ, progress)
        if found.downloaded:
            first = found.parts[0].name
            record_event(paths, "download", f"downloaded {first} of {repo}", repo=repo, file=first)
        return found
    was_there = all(file.exists() for file in _files_of(profile, paths))
    get_model(profile, paths, progress)
    path = path_of(profile, paths)
    if not path.exists():
        problem = (
            f"{what} takes its model from {path}, which does not exist, "
            "and names no repository to download it from."
        )
        raise NotFound(
            problem, hint=f"Put the file there, or set model.repo: goss-supervisor profile edit {what}"
        )
    return Pulled(parts_of(path), downloaded=not was_there)


def _files_of(profile: Profile, paths: Paths) -> Iterator[Path]:
    """All parts of its model, and of the draft and the projector that are downloaded with it."""
    for path in (path_of(profile, paths), *companion_paths(profile)):
        yield from parts_of(path)


@model.command("path")
@_name_argument
def path_command(name: str) -> None:
    """Print the path of a model's file, or of the first of its parts."""
    found = _found(name, _paths())
    if found.missing:
        raise NotFound(f"{found.name} is incomplete.", hint=found.how_to_complete)
    click.echo(str(found.path))


@model.command("verify")
@_name_argument
@json_option
def verify_command(name: str, as_json: bool) -> None:
    """Compare a model's SHA-256 with the one that the hub gave."""
    found = _found(name, _paths())
    with closing(StderrProgress()) as progress:
        checked = verify(found, lambda: Hub.of(os.environ), progress)
    if as_json:
        parts = [{"ok": each.ok, **asdict(each), "path": str(each.path)} for each in checked]
        ok = all(each.ok for each in checked)
        echo_json(name=found.name, ok=ok, parts=parts)
    wrong = [each for each in checked if not each.ok]
    if wrong:
        raise _damaged(found, wrong)
    if not as_json:
        click.echo(f"{found.name} is what it should be: {size(found.size_bytes)}")


def _damaged(found: LocalModel, wrong: list[VerifiedFile]) -> VerificationFailed:
    lines = "".join(f"\n  {each.path}: {each.sha256}, {each.expected} was expected" for each in wrong)
    hint = f"goss-supervisor model rm {found.name}, then model pull {found.name}"
    return VerificationFailed(
        f"{found.name} is not what it should be:{lines}",
        hint=hint if found.where == OURS else "The program that owns this cache must download it again.",
    )


@model.command("rm")
@_name_argument
def remove_command(name: str) -> None:
    """
    Delete a downloaded model, or a partial download.

    It does not touch the caches of other programs.
    """
    paths = _paths()
    models = list_models(paths.models, os.environ)
    try:
        found = find(name, [each for each in models if each.where == OURS])
    except NotFound:
        found = _found(name, paths)
    _refuse_running(found, paths)
    click.echo(f"removed {found.name}: {size(remove(found))}")


def _refuse_running(found: LocalModel, paths: Paths) -> None:
    parts = {str(part) for part in found.parts}
    users = [each.plan.profile for each in servers_of(paths) if not parts.isdisjoint(each.plan.model_files)]
    if users:
        raise SupervisorError(
            f"{found.name} is in use ({', '.join(users)}).",
            hint="goss-supervisor stop, or switch to another profile, then remove it",
        )


def _found(name: str, paths: Paths) -> LocalModel:
    """The model of this name, or of this profile.  Raises NotFound, and UsageError for several."""
    models = list_models(paths.models, os.environ)
    try:
        return find(name, models)
    except NotFound:
        named = _named(name, paths)
        if named == name:
            raise
        path = Path(named)
        if path.is_absolute():
            return next((each for each in models if each.path == path), None) or find(path.name, models)
        return find(named, models)
