"""Makes a profile from a launch of llama-server, in whatever text people have it, or from a hub's name."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from ..errors import UsageError
from ..options.file_options import FILES, WRITTEN, from_home, map_paths, paths_in
from ..options.launch_words import CommandLine
from .definition import Profile
from .jsonschema import FIRST_LINE
from .launch_texts import read_launch
from .layers import Layer, LayerBuilder, Value, add_command_line
from .load_layers import load
from .model_source import ModelSource
from .resolve import resolve_each, resolve_layer
from .store import ProfileStore
from .yaml_nodes import Mark
from .yaml_text import render, rows_of_values

MODEL_PATHS = {
    "model.path": "model",
    "model.draft.path": "spec-draft-model",
    "model.projector.path": "mmproj",
}
"""Keys that name a file, and the options that are kept there."""
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")
# How Hugging Face and LM Studio keep a file, and the models that this program has profiles for.
_REPOSITORIES = (
    (r"models--([\w.-]+?)--([\w.-]+)[/\\]snapshots[/\\]", r"\1/\2"),
    (r"lm-?studio[/\\](?:hub[/\\])?models[/\\]([\w.-]+)[/\\]([\w.-]+)[/\\]", r"\1/\2"),
    (r"\bgpt-oss-(20|120)b\b", r"ggml-org/gpt-oss-\1b-GGUF"),
)


@dataclass(frozen=True, slots=True)
class Imported:
    """
    ``text`` is a profile that loads; ``name`` is made from the model's where none was given, with a number if
    there is a profile of that name already.

    ``notes`` are what was translated or left out; ``files`` are sentences about the files that it names.
    """

    name: str
    text: str
    notes: tuple[str, ...]
    files: tuple[str, ...] = ()


def import_command(
    text: str,
    store: ProfileStore,
    name: str = "",
    *,
    folders: Sequence[Path] = (),
    models: Path | None = None,
) -> Imported:
    """
    ``folders`` are where a relative path may start, ``models`` is the models folder. Nothing is run.

    Raises ``ConfigError`` for options that make no sense, ``UsageError`` for a text without a server.
    """
    command = read_launch(text)
    builder = LayerBuilder("", "command line")
    add_command_line(builder, command, Mark())
    layer = builder.done()
    if not (layer.values or layer.problems):
        raise UsageError(
            "\n".join(("Nothing of this launch can be stored.", *layer.notes)),
            hint="Write the values in place of the variables.",
        )
    resolve_layer(layer, store)
    if command.folder:
        folders = [*(folder / from_home(command.folder) for folder in folders), *folders]
    layer = _with_whole_paths(layer, folders)
    name = name or _free_name(_name_from(layer), store)
    notes = (*layer.notes, *_advice(command, layer))
    profile = _profile_text(layer, notes)
    resolve_layer(load(profile.encode(), name, "the imported profile"), store)  # what is written can be read
    return Imported(name, profile, notes, tuple(_files(name, layer, folders, models)))


_OF_THE_HUB = re.compile(
    r"(?:https?://)?(?:(?:www\.)?huggingface\.co/|hf\.co/)?(\w[\w.-]*/\w[\w.-]*?)/?(?::([\w.-]+|[\w./-]+\.gguf))?",
    re.ASCII | re.IGNORECASE,
)


def source_of(word: str) -> ModelSource | None:
    """What ``OWNER/REPO`` means, with ``:QUANT`` or ``:FILE.gguf``, as Ollama takes it; None for others."""
    found = _OF_THE_HUB.fullmatch(word)
    if found is None or found[1].endswith(".gguf"):  # that is a path
        return None
    repo, which = found[1], found[2]
    if which and which.endswith(".gguf"):
        return ModelSource(repo=repo, file=which)
    return ModelSource(repo=repo, quant=which)


def profile_with(source: ModelSource, store: ProfileStore) -> str | None:
    """The first of the user's own profiles that has just this model."""
    own = [each for each in store.list() if not each.shipped]
    for stored, profile in resolve_each(own, store):
        if isinstance(profile, Profile) and _same(profile.model, source):
            return stored.name
    return None


def _same(one: ModelSource, other: ModelSource) -> bool:
    first, second = ((each.repo, each.file, each.quant) for each in (one, other))
    return [(word or "").lower() for word in first] == [(word or "").lower() for word in second]


def import_repository(source: ModelSource, store: ProfileStore) -> Imported:
    """A profile with this model and nothing else.  Does not ask the hub."""
    repo = _stem(source.repo or "")
    word = _stem(source.file) if source.file else "-".join(filter(None, (repo, source.quant)))
    name = _free_name(_as_name(word), store)
    given = {"repo": source.repo, "file": source.file, "quant": source.quant}
    rows = rows_of_values({f"model.{key}": value for key, value in given.items() if value})
    return Imported(name, f"{FIRST_LINE}{render(rows)}", ())


def _free_name(name: str, store: ProfileStore) -> str:
    taken = store.names()
    return next(each for n in itertools.count(1) if (each := name if n == 1 else f"{name}-{n}") not in taken)


def _name_from(layer: Layer) -> str:
    """gpt-oss-120b-mxfp4 from …/gpt-oss-120b-mxfp4-00001-of-00003.gguf."""
    model = layer.values.get("model.file") or layer.values.get("model.path") or layer.values.get("model.repo")
    if model is None:
        return "imported"
    return _as_name(_stem(str(model.value)))


def _stem(path: str) -> str:
    return _SPLIT.sub("", re.sub(r"(\.gguf|-gguf)$", "", PureWindowsPath(path).name.lower()))


def _as_name(word: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-._") or "imported"


def _advice(command: CommandLine, layer: Layer) -> list[str]:
    advice = []
    if len(PureWindowsPath(command.program).parts) > 1:
        just_that = "engine: {source: path, path: …} would take just that one"
        advice.append(f"the program was {command.program}; {just_that}")
    if not any(key.startswith("model.") for key in layer.values):
        advice.append("no model was named; the profile needs one, or extends one that has")
    if command.variables and (model := layer.values.get("model.path")):
        advice.append(f"{model.value} has a variable in it, which is not replaced; write the path itself")
    return advice


def _profile_text(layer: Layer, notes: tuple[str, ...]) -> str:
    comments = "".join(f"# {line}\n" for note in notes for line in note.splitlines())
    rows = rows_of_values({key: value.value for key, value in layer.values.items()})
    return f"{FIRST_LINE}# Imported from a llama-server command line.\n{comments}{render(rows)}"


def _file_values(layer: Layer) -> Iterator[tuple[str, str, Value]]:
    """The key, the option's name and the value of all that names a file."""
    for key, name in (*MODEL_PATHS.items(), *((f"server.{name}", name) for name in FILES)):
        if key in layer.values:
            yield key, name, layer.values[key]


def _with_whole_paths(layer: Layer, folders: Sequence[Path]) -> Layer:
    """A relative path becomes a whole one if the file is there: the profile does not know these folders."""
    values = dict(layer.values)
    for key, name, value in _file_values(layer):
        if key in MODEL_PATHS:
            values[key] = replace(value, value=Path(_whole(str(value.value), folders)))
        elif isinstance(value.value, str | tuple):
            changed = map_paths(name, value.value, lambda path: _whole(path, folders))
            values[key] = replace(value, value=changed)
    return replace(layer, values=values)


def _whole(path: str, folders: Sequence[Path]) -> str:
    if _is_whole(path):
        return path
    there = (folder / path for folder in folders if os.path.exists(folder / path))  # noqa: PTH110
    return next((str(each.absolute()) for each in there), path)


def _is_whole(path: str) -> bool:
    return path.startswith("~") or Path(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _files(name: str, layer: Layer, folders: Sequence[Path], models: Path | None) -> Iterator[str]:
    """Whether they are there, and what to do about those that are not."""
    if repo := layer.values.get("model.repo"):
        yield f"the first start downloads the model from {repo.value} at the hub, unless it is here already"
    for key, option, value in _file_values(layer):
        if option in WRITTEN or not isinstance(value.value, str | tuple | Path):
            continue
        given = str(value.value) if isinstance(value.value, Path) else value.value
        for path in paths_in(option, given):
            found = from_home(path) if _is_whole(path) else (models / path if models else Path(path))
            if os.path.exists(found):  # noqa: PTH110 - Path's own may raise
                yield f"{key}: {found} is there"
            else:
                places = [] if _is_whole(path) else [*folders, *filter(None, [models])]
                looked = " and ".join(str(place) for place in dict.fromkeys(places))
                where = f" (looked in {looked})" if looked else ""
                yield f"{key}: {path} is not there{where}; {_remedy(name, key, path)}"


def _remedy(name: str, key: str, path: str) -> str:
    edit = f"goss-supervisor profile edit {name}"
    if key == "model.path":
        for pattern, repo in _REPOSITORIES:
            if found := re.search(pattern, path, re.IGNORECASE):
                named = found.expand(repo)
                return f"it is {named} at the hub: write model: {{repo: {named}}} with {edit}"
    return f"put it there, or correct the path with {edit}"
