"""Resolves a name to a ``Profile``: loads parents, merges layers, and reports all problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from ..errors import ConfigError, NotFound, SupervisorError
from ..options.option_types import OptionValue
from ..options.option_values import words_of
from ..paths import Paths
from . import fields
from .declare import NAME_PATTERN
from .definition import Engine, Placement, Profile
from .layers import Layer, Value
from .load_layers import UserSettings, load_file, overrides_layer, read_settings
from .model_source import contradictions, replaced_models
from .settings import SETTINGS_NAME
from .store import ProfileStore, StoredProfile
from .worker_address import WORKER, Worker, parse_workers
from .yaml_nodes import Mark, Problem

MAX_SHOWN = 50
_EXTENDS_ITSELF = (
    "a profile cannot extend itself; only one that has the name of a shipped profile extends that one"
)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_ENGINE_KEYS = frozenset(
    ("engine.source", "engine.path", "engine.command")
)  # who names one means not the inherited other
_PLACING_OPTIONS = (
    *("gpu-layers", "n-cpu-moe", "cpu-moe", "n-cpu-ffn"),
    *("override-tensor", "tensor-split", "split-mode", "main-gpu"),
)
PLACING = frozenset(f"server.{option}" for option in _PLACING_OPTIONS)
# The repositories that hold one model each; of a split model the first part is named.
_KNOWN_FILES = {
    "ggml-org/gpt-oss-20b-GGUF": "gpt-oss-20b-mxfp4.gguf",
    "ggml-org/gpt-oss-120b-GGUF": "gpt-oss-120b-mxfp4-00001-of-00003.gguf",
}


def resolve(name: str, store: ProfileStore, overrides: Mapping[str, str] = _NOTHING) -> Profile:
    """With all that it extends and ``--set``.  Raises NotFound, and ConfigError with every problem."""
    return resolve_layer(load_file(store.find(name).path, name), store, overrides)


def resolver(name: str, store: ProfileStore) -> Callable[[Mapping[str, str]], Profile]:
    """`resolve` for one set of overrides after another; files are read once, so later edits do not count."""
    files = _ReadOnce(store)
    layer = load_file(store.find(name).path, name)
    return lambda overrides: _resolved(layer, files, overrides)


def resolve_each(
    stored: Iterable[StoredProfile], store: ProfileStore
) -> Iterator[tuple[StoredProfile, Profile | SupervisorError]]:
    """Each profile, or what is wrong with it.  A file that many profiles extend is read once."""
    files = _ReadOnce(store)
    for each in stored:
        try:
            yield each, _resolved(files.layer(each.path, each.name), files)
        except SupervisorError as error:
            yield each, error


def resolve_layer(layer: Layer, store: ProfileStore, overrides: Mapping[str, str] = _NOTHING) -> Profile:
    """As `resolve`, for a file that was loaded already, in the store or elsewhere."""
    return _resolved(layer, _ReadOnce(store), overrides)


class _ReadOnce:
    """The files of a store and ``config.yaml`` as they were when they were first asked for."""

    def __init__(self, store: ProfileStore) -> None:
        self._store = store
        self.layer = cache(load_file)
        self.shipped = cache(store.find_shipped)

    def find(self, name: str) -> StoredProfile:
        """The stored profile of this name.  Raises as the store does."""
        return self._listed.get(name) or self._store.find(name)

    @cached_property
    def settings(self) -> UserSettings:
        return read_settings(self._store.settings)

    @cached_property
    def _listed(self) -> Mapping[str, StoredProfile]:
        return {each.name: each for each in self._store.list()}


def _resolved(layer: Layer, files: _ReadOnce, overrides: Mapping[str, str] = _NOTHING) -> Profile:
    lineage, problems = _lineage(layer, files)
    settings = files.settings
    over = [overrides_layer(layer.name, overrides)] if overrides else []
    layers = [*over, *lineage, *([settings.layer] if settings.layer else [])]
    for each in layers:
        problems += each.problems
    merged = _merge(layers)
    _complete(merged)
    problems += _contradictions(merged)
    if problems:
        raise config_error(problems)
    profile = _profile(layer.name, merged, layers, lineage)
    is_helper = layer.name in [each.profile for each in settings.serve[1:]]
    return replace(profile, leave_bytes=settings.leave_bytes, is_helper=is_helper)


def engine_settings(store: ProfileStore) -> Engine:
    """What ``config.yaml`` says of engines, for commands without a profile.  Raises ``ConfigError``."""
    layer = settings_of(store).layer
    values = {key: value.value for key, value in layer.values.items()} if layer else {}
    return Engine(**fields.attributes("engine", values))


def settings_of(store: ProfileStore) -> UserSettings:
    """The settings of ``config.yaml``, or the defaults.  Raises ``ConfigError`` with every problem."""
    settings = read_settings(store.settings)
    if settings.layer is not None and settings.layer.problems:
        raise config_error(settings.layer.problems)
    return settings


def with_models_dir(paths: Paths) -> Paths:
    """The paths, with the models folder of ``config.yaml``.  Raises ``ConfigError`` with every problem."""
    return replace(paths, models_dir=settings_of(ProfileStore(paths.profiles)).models_dir)


class ProfileProblems(ConfigError):
    """A ConfigError that has each of its problems with its place."""

    def __init__(self, message: str, problems: Sequence[Problem]) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


def config_error(problems: Sequence[Problem]) -> ProfileProblems:
    """One line for each problem; the exit code is 78."""
    lines = [str(problem) for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        lines.append(f"… and {len(problems) - MAX_SHOWN} more")
    return ProfileProblems("\n".join(lines), problems)


def _lineage(layer: Layer, files: _ReadOnce) -> tuple[list[Layer], list[Problem]]:
    """This layer, its parent, and so on; ends at the first that cannot be had."""
    lineage = [layer]
    seen = {layer.file}
    while extends := lineage[-1].values.get("extends"):
        parent = str(extends.value)
        try:
            # A profile that extends its own name means the shipped one that it shadows.
            path = (files.shipped if parent == lineage[-1].name else files.find)(parent).path
        except NotFound as error:
            is_own = parent == lineage[-1].name
            return lineage, [_at(extends, "extends", _EXTENDS_ITSELF if is_own else str(error))]
        if str(path) in seen:
            ring = " → ".join([*(each.name for each in lineage), parent])
            return lineage, [_at(extends, "extends", f"the profiles extend each other in a ring: {ring}")]
        seen.add(str(path))
        lineage.append(files.layer(path, parent))
    return lineage, []


def _merge(layers: Sequence[Layer]) -> dict[str, Value]:
    """Child over parent, key by key; ``layers`` is in that order."""
    merged: dict[str, Value] = {}
    for layer in reversed(layers):
        for key in _replaced(layer):
            merged = {k: v for k, v in merged.items() if k != key and not k.startswith(key + ".")}
        merged.update(layer.values)
    return merged


def _replaced(layer: Layer) -> frozenset[str]:
    """What is taken back; and since path, repository and demo exclude each other, the other model."""
    replaced = layer.cleared | _other_placement(layer)
    if _ENGINE_KEYS & layer.values.keys():
        replaced |= _ENGINE_KEYS
    return replaced | replaced_models(layer.values.keys(), layer.cleared)


def _other_placement(layer: Layer) -> frozenset[str]:
    """Who leaves the placement to somebody means not the inherited options, and the other way round."""
    placement = layer.values.get("placement")
    if placement is not None:
        return frozenset() if placement.value == "pinned" else PLACING
    return frozenset(("placement",)) if PLACING & layer.values.keys() else frozenset()


def _complete(merged: dict[str, Value]) -> None:
    """What one value implies about another that is not given."""
    repo = merged.get("model.repo")
    known = _KNOWN_FILES.get(str(repo.value)) if repo else None
    if repo and known and "model.quant" not in merged:
        merged.setdefault("model.file", Value(known, repo.origin))
    if path := merged.get("engine.path"):
        merged.setdefault("engine.source", Value("path", path.origin))
    if command := merged.get("engine.command"):
        merged.setdefault("engine.source", Value("command", command.origin))
    if (rpc := merged.get("server.rpc")) and _is_of_settings(merged.get("workers")):
        with suppress(ValueError):  # `_contradictions` tells of it
            addresses = parse_workers(",".join(words_of(cast("OptionValue", rpc.value))))
            merged["workers"] = Value(tuple(map(Worker, addresses)), rpc.origin)


def _is_of_settings(value: Value | None) -> bool:
    """Whether it is what config.yaml says for all profiles, or nothing: a profile's own word goes before."""
    return value is None or value.origin.profile == SETTINGS_NAME


def _contradictions(merged: Mapping[str, Value]) -> list[Problem]:
    """Values that are each right and cannot be together."""
    problems = []
    for small, big in _ORDERED:
        limit = _value(merged, big)
        if small in merged and limit is not None and merged[small].value > limit:
            most = f"must not be more than {big}, which is {fields.BY_KEY[big].kind.write(limit)}"
            problems.append(_at(merged[small], small, most))
    source = merged.get("engine.source")
    is_command = source is not None and source.value == "command"
    problems += [_at(merged[key], key, why) for key, why in contradictions(merged)]
    problems += _mixed_placement(merged)
    problems += _workers_by_hand(merged)
    problems += _of_a_worker(merged) if "lend.listen" in merged else []
    problems += _of_a_command(merged) if is_command else _not_of_a_command(merged)
    path = merged.get("engine.path")
    if source and source.value == "path" and path is None:
        problems.append(_at(source, "engine.source", "engine.path is missing; 'path' needs it"))
    if source and source.value != "path" and path:
        problems.append(_at(path, "engine.path", f"is not used with source: {source.value}"))
    return problems


def _of_a_worker(merged: Mapping[str, Value]) -> list[Problem]:
    """Its address is checked where names are resolved."""
    why = "is not for a worker (lend.listen), which lends its memory and serves no model"
    problems = [
        _at(value, key, why)
        for key, value in merged.items()
        if key.startswith(("model.", "server.", "engine.command"))
    ]
    mode = merged.get("gateway.mode")
    if mode is not None and mode.value == "off":
        problems.append(_at(mode, "gateway", f"{why}; its gateway tells others what it is"))
    return problems


def _mixed_placement(merged: Mapping[str, Value]) -> list[Problem]:
    placement = merged.get("placement")
    if placement is None or placement.value == "pinned":
        return []
    why = f"cannot be combined with placement: {placement.value}, which decides it"
    hint = "llama.cpp's own fitting is off as soon as one of these is given; " * (placement.value == "engine")
    return [
        _at(merged[key], key, f"{why}; {hint}take it out, or set placement: pinned")
        for key in sorted(PLACING & merged.keys())
    ]


def _workers_by_hand(merged: Mapping[str, Value]) -> list[Problem]:
    rpc, workers = merged.get("server.rpc"), merged.get("workers")
    if rpc is None:
        return []
    try:
        parse_workers(",".join(words_of(cast("OptionValue", rpc.value))))
    except ValueError as error:
        return [_at(rpc, "server.rpc", str(error))]
    if workers is None or workers.origin == rpc.origin:
        return []
    return [_at(rpc, "server.rpc", "workers already names the machines; remove one of the two")]


_OF_A_COMMAND = ("engine.command", "engine.ready.", "engine.upstream-model", "engine.memory.")


def _of_a_command(merged: Mapping[str, Value]) -> list[Problem]:
    command = merged.get("engine.command")
    if command is None:
        source = merged["engine.source"]
        return [_at(source, "engine.source", "engine.command is missing; 'command' needs it")]
    words = command.value
    assert isinstance(words, tuple)
    problems = [
        _at(value, key, "is llama-server's; put the program's own options into engine.command")
        for key, value in merged.items()
        if key.startswith("server.")
    ]
    if (workers := merged.get("workers")) and not _is_of_settings(workers) and workers.value:
        problems.append(_at(workers, "workers", "is for llama-server only, not for a command"))
    if not words or not words[0].strip():
        problems.append(_at(command, "engine.command", "names no program"))
    elif len(words) == 1 and " " in words[0]:
        example = ", ".join(words[0].split()[:3])
        problems.append(_at(command, "engine.command", f"must be a list of words: [{example}, …]"))
    return problems


def _not_of_a_command(merged: Mapping[str, Value]) -> list[Problem]:
    why = "is for source: command only"
    return [_at(value, key, why) for key, value in merged.items() if key.startswith(_OF_A_COMMAND)]


_ORDERED = (
    ("match.ram.min", "match.ram.max"),
    ("restart.backoff", "restart.backoff-limit"),
    ("health.start-timeout", "health.start-limit"),
)


def _value(merged: Mapping[str, Value], key: str) -> Any:  # noqa: ANN401 - any type that the schema has
    return merged[key].value if key in merged else fields.BY_KEY[key].default


def _at(value: Value, key: str, message: str) -> Problem:
    origin = value.origin
    return Problem(origin.file, Mark(origin.line, origin.column), message, key)


def _profile(name: str, merged: dict[str, Value], layers: list[Layer], lineage: list[Layer]) -> Profile:
    values = {key: value.value for key, value in merged.items()}
    records = {name: record(**fields.attributes(name, values)) for name, record in fields.RECORDS.items()}
    records["model"] = replace(records["model"], demo="model.demo" in values)
    parameters = _under(f"{fields.PARAMETERS}.", values)
    records["gateway"] = replace(records["gateway"], set_params=parameters)
    records["engine"] = replace(records["engine"], memory=_under(f"{fields.MEMORY}.", values))
    placement: Placement = "pinned" if PLACING & merged.keys() else "engine"  # for who does not say it
    return Profile(
        name=name,
        server=_under("server.", values),
        env=_under("env.", values),
        lineage=tuple(layer.origin for layer in lineage),
        origins={key: value.origin for key, value in merged.items() if key != "extends"},
        notes=tuple(dict.fromkeys(note for layer in layers for note in layer.notes)),
        **records,
        **{"placement": placement, **fields.attributes("", values)},
    )


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``sound`` are names or files as given; ``problems`` and ``warnings`` are lines."""

    sound: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def check_profiles(given: Sequence[str], store: ProfileStore) -> CheckResult:
    """Files, or profiles by name; all profiles where nothing is given."""
    sound, problems, known = [], dict[str, None](), _ReadOnce(store)
    strays = () if given else store.strays()
    warnings = [f"{stray}: is never found by name; name it like my-profile.yaml" for stray in strays]
    for each in given or store.names():
        try:
            profile = _resolve_given(each, known)
        except SupervisorError as error:
            problems |= dict.fromkeys(str(error).splitlines())  # a broken parent is reported once
        else:
            sound.append(each)
            if not profile.can_start and each != WORKER:  # its address is in the command that starts it
                warnings.append(f"{each}: names no model; it can be extended, not started")
    return CheckResult(tuple(sound), tuple(problems), tuple(warnings))


def _resolve_given(given: str, known: _ReadOnce) -> Profile:
    path = Path(given)
    if re.fullmatch(NAME_PATTERN, given) and not given.endswith((".yaml", ".yml")):
        path = known.find(given).path
    elif not re.fullmatch(NAME_PATTERN + r"\.yaml", path.name) and path.is_file():
        raise ConfigError(f"{given}: the file's name is no profile's; name it like my-profile.yaml")
    return _resolved(known.layer(path, path.stem), known)
