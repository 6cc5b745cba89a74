"""Loads profile files, ``config.yaml`` and ``--set`` as layers, and collects all mistakes with positions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import ConfigError, NotFound, PermissionDenied
from ..options.file_options import is_of_the_hub
from .definition import PARAMETER_PATTERN
from .field_kinds import ENV_PATTERN, Invalid, nearest, read_json, size
from .fields import (
    BY_KEY,
    DEVICE_PATTERN,
    MEMORY,
    PARAMETERS,
    SECTIONS,
    known_spelling,
    names_under,
    nearest_key,
)
from .layers import (
    FieldReader,
    Layer,
    LayerBuilder,
    add_args,
    add_draft,
    add_entries,
    add_path,
    add_repository,
)
from .misplaced import meant_in, place_of_key, section_in_comment, without_blank
from .model_source import DRAFT, PROJECTOR
from .peer import Peer
from .served_profile import ServedProfile
from .settings import SETTINGS_NAME, SETTINGS_ONLY, SHARED_SECTIONS, OwnSections
from .yaml_nodes import (
    MAX_BYTES,
    Broken,
    Document,
    Mark,
    Problem,
    Scalar,
    Table,
    TableEntry,
    YamlNode,
    is_null,
    kind_name,
    parse_yaml,
    plain_value,
)


def load_file(path: Path, name: str) -> Layer:
    """Raises where the file cannot be read at all; every mistake in it is in ``problems``."""
    return load(read_bytes(path), name, str(path))


def read_bytes(path: Path) -> bytes:
    """The file, or the beginning of one that is too long.  Raises ``NotFound``, ``PermissionDenied`` …"""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except PermissionError:
        raise PermissionDenied(f"The file {path} may not be read.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def load(data: bytes, name: str, file: str, elsewhere: tuple[str, ...] = ()) -> Layer:
    """
    The profile ``name`` as ``data`` says it; ``file`` is what messages call it.  The sections ``elsewhere``
    are read by the caller.
    """
    try:
        document = parse_yaml(data)
    except Broken as broken:
        return Layer(name, file, {}, problems=(_explained(Problem(file, broken.mark, broken.message), data),))
    return _layer(document, data, name, file, elsewhere)


def _layer(document: Document, data: bytes, name: str, file: str, elsewhere: tuple[str, ...]) -> Layer:
    builder = LayerBuilder(name, file)
    for key, mark, mistake in document.mistakes:
        builder.problem(mark, key, mistake)
    if isinstance(document.root, Table):
        _mapping(builder, document.root, "", elsewhere)
    elif document.root is None or is_null(document.root):
        problem = "the file says nothing; a profile needs at least 'extends' or 'model'"
        builder.problem(Mark(1, 1), "", problem)
    else:
        found = f"{kind_name(document.root)}{without_blank(document.root)}"
        builder.problem(document.root.mark, "", f"must be a mapping of keys to values, not {found}")
    layer = builder.done()
    return replace(layer, problems=tuple(_explained(problem, data) for problem in layer.problems))


def _explained(problem: Problem, data: bytes) -> Problem:
    """A nested line whose section is still a comment is the usual reason."""
    if problem.key and not problem.message.startswith(("belongs under ", "no such key")):
        return problem
    section = section_in_comment(data.decode("utf-8-sig", "replace"), problem.mark.line)
    why = "(the line above is still a comment; take its '#' away)"
    return replace(problem, message=f"belongs under {section}: {why}") if section else problem


def _mapping(builder: LayerBuilder, table: Table, prefix: str, elsewhere: tuple[str, ...] = ()) -> None:
    for entry in table.entries:
        key = known_spelling(f"{prefix}.{entry.key}" if prefix else entry.key)
        if key in elsewhere:
            continue
        if key in SETTINGS_ONLY:
            builder.problem(entry.mark, key, f"belongs in {SETTINGS_NAME}")
        elif key not in SECTIONS and key not in BY_KEY:
            near = nearest(entry.key.replace("_", "-"), elsewhere) or nearest_key(prefix, entry.key)
            place = "" if near in elsewhere else place_of_key(prefix, entry.key)
            builder.problem(entry.mark, key, place or "no such key", "" if place else near)
        elif is_null(entry.value):
            builder.clear(key)
        else:
            _value(builder, key, entry)


def _value(builder: LayerBuilder, key: str, entry: TableEntry) -> None:
    if key == "args":
        add_args(builder, entry.value)
    elif key in SHORT_FORMS and isinstance(entry.value, Scalar):
        SHORT_FORMS[key](builder, entry.value, entry.mark)
    elif key in BY_KEY:
        builder.read(key, entry.value, entry.mark)
    elif not isinstance(entry.value, Table):
        free = {
            "server": "option names",
            "env": "variable names",
            PARAMETERS: "names of parameters",
            MEMORY: "names of memories, such as RAM and CUDA0,",
        }
        what = f"{free[key]} with values" if key in free else f"keys: {', '.join(names_under(key))}"
        what = f", such as {meant}," if (meant := meant_in(key, entry.value)) else f" ({what}),"
        message = f"must be a mapping{what} not {kind_name(entry.value)}{without_blank(entry.value)}"
        builder.problem(entry.value.mark, key, message)
    elif key == "server":
        add_entries(builder, entry.value.entries)
    elif key in _FREE_VALUES:
        add_free(builder, key, entry.value.entries)
    else:
        _mapping(builder, entry.value, key)


def _model(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    """The word demo, a model at the hub (its address, or ``owner/name:QUANT``), or a path."""
    if node.text == "demo":
        builder.put("model.demo", value=True, mark=mark, written="model")
    elif is_of_the_hub(node.text):
        add_repository(builder, node.text, node.mark, "model")
    else:
        builder.read("model.path", node, mark, "model")


def _repository(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    """``owner/name``, or with the quantisation behind it."""
    if ":" in node.text:
        add_repository(builder, node.text, node.mark, "model.repo")
    else:
        builder.read("model.repo", node, mark)


def _draft(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    """``off``, or what drafts."""
    builder.clear(DRAFT)  # the word says all of it
    if not (_is_off(node) or _is_on(builder, node, DRAFT, "mtp, a file")):
        add_draft(builder, node.text, mark, DRAFT)


def _projector(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    """``off``, or a path."""
    builder.clear(PROJECTOR)
    if _is_off(node):
        builder.put("server.mmproj-auto", value=False, mark=mark, written=PROJECTOR)
    elif not _is_on(builder, node, PROJECTOR, "a file"):
        add_path(builder, node.text, mark, PROJECTOR, PROJECTOR)


def _is_off(node: Scalar) -> bool:
    return node.value is False or node.text in {"off", "none", "no"}


def _is_on(builder: LayerBuilder, node: Scalar, key: str, what: str) -> bool:
    """Such a word does not say which one, and would be taken for a file of that name."""
    is_on = node.value is True or node.text in {"on", "yes"}
    if is_on:
        builder.problem(node.mark, key, f"must be {what}, or off, not {kind_name(node)}")
    return is_on


def _draft_repository(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    """As of the model."""
    add_repository(builder, node.text, mark, f"{DRAFT}.repo", DRAFT)


def _listen(builder: LayerBuilder, node: Scalar, mark: Mark) -> None:
    """``127.0.0.1:9000``, ``[::1]:9000``, a port, or a host."""
    text = node.text.strip()
    found = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[^\s:/]*):)?([0-9]+)|(\[[0-9A-Fa-f:.]+\]|[^\s/]+)", text)
    if found is None:
        what = "an address such as 127.0.0.1:9000, or host and port"
        return builder.problem(node.mark, "listen", f"must be {what}, not {kind_name(node)}")
    for key, part in (("listen.host", found[1] or found[3]), ("listen.port", found[2])):
        if part:
            builder.read(key, Scalar(part, part.strip("[]"), node.mark), mark, "listen")
    return None


SHORT_FORMS: dict[str, Callable[[LayerBuilder, Scalar, Mark], None]] = {
    "model": _model,
    "listen": _listen,
    "model.repo": _repository,
    DRAFT: _draft,
    f"{DRAFT}.repo": _draft_repository,
    PROJECTOR: _projector,
    "gateway": lambda builder, node, mark: builder.read("gateway.mode", node, mark, "gateway"),
    "engine.ready": lambda builder, node, mark: builder.read("engine.ready.path", node, mark, "engine.ready"),
}
"""Sections of which one word may say all."""


def add_free(builder: LayerBuilder, section: str, entries: Iterable[TableEntry]) -> None:
    """Environment variables, or parameters of requests; null takes an inherited one back."""
    pattern, what, read = _FREE_VALUES[section]
    for entry in entries:
        key = f"{section}.{entry.key}"
        if not re.fullmatch(pattern, entry.key):
            builder.problem(entry.mark, key, f"is no name for {what}")
        elif is_null(entry.value):
            builder.clear(key)
        else:
            builder.read(key, entry.value, entry.mark, read=read)


def _read_variable(node: YamlNode) -> str:
    """Numbers and truth values are taken as they are written."""
    if not isinstance(node, Scalar) or "\0" in node.text:
        raise Invalid(f"must be a text, not {kind_name(node)}")
    return node.text


_FREE_VALUES: dict[str, tuple[str, str, FieldReader]] = {
    "env": (ENV_PATTERN, "an environment variable", _read_variable),
    PARAMETERS: (PARAMETER_PATTERN, "a parameter", read_json),
    MEMORY: (DEVICE_PATTERN, "a memory (RAM, CUDA0, Vulkan0, MTL0 …)", size().read),
}


@dataclass(frozen=True, slots=True)
class UserSettings:
    """
    ``layer`` is None where there is no file; its problems are those of the whole file.  ``leave_bytes`` is by
    the name of the memory.
    """

    layer: Layer | None = None
    serve: tuple[ServedProfile, ...] = ()
    leave_bytes: Mapping[str, int] = field(default_factory=dict)
    models_dir: Path | None = None
    peers: tuple[Peer, ...] = ()

    def served(self, name: str) -> ServedProfile | None:
        """The entry of ``serve`` for this profile; None if it is not served."""
        return next((each for each in self.serve if each.profile == name), None)


def read_settings(file: Path) -> UserSettings:
    """What the file says, if it is there.  Raises as ``read_bytes`` does for one that cannot be read."""
    try:
        data = read_bytes(file)
    except NotFound:
        return UserSettings()
    return settings_from(data, str(file))


def settings_from(data: bytes, file: str) -> UserSettings:
    """As `read_settings`, from the file's content; messages call it ``file``."""
    try:
        document = parse_yaml(data)
    except Broken as broken:
        return UserSettings(
            Layer(SETTINGS_NAME, file, {}, problems=(Problem(file, broken.mark, broken.message),))
        )
    root = document.root
    if root is None or is_null(root):
        return UserSettings(Layer(SETTINGS_NAME, file, {}))
    layer = _layer(document, data, SETTINGS_NAME, file, SETTINGS_ONLY)
    strangers = [
        Problem(layer.file, Mark(value.origin.line, value.origin.column), "belongs in a profile", key)
        for key, value in layer.values.items()
        if key.partition(".")[0] not in SHARED_SECTIONS
    ]
    own = OwnSections(file)
    own.read(root)
    layer = replace(layer, problems=(*layer.problems, *strangers, *own.problems))
    return UserSettings(layer, tuple(own.serve), own.leave_bytes, own.models_dir, tuple(own.peers))


OVERRIDES_NAME = "--set"
_NOWHERE = Mark()


def overrides_layer(name: str, overrides: Mapping[str, str]) -> Layer:
    """The layer above profile ``name``; ``null`` takes a value back."""
    builder = LayerBuilder(name, OVERRIDES_NAME)
    options = []
    for written, text in overrides.items():
        key = known_spelling(written)
        node = Scalar(plain_value(text), text, _NOWHERE)
        if key in SECTIONS and key not in {*SHORT_FORMS, PARAMETERS}:
            meant = meant_in(key, node).replace(": {", ".").replace(": ", "=").removesuffix("}")
            first = f"{key}.{next(iter(names_under(key)), 'NAME')}"
            builder.problem(_NOWHERE, key, f"name a key of it, such as {meant or first}")
        elif option := _option_name(key):
            options.append(TableEntry(option, _NOWHERE, node))
        else:
            _profile_key(builder, key, node)
    add_entries(builder, options)
    return builder.done()


def _option_name(key: str) -> str:
    if key.startswith("server."):
        return key.removeprefix("server.")
    return "" if "." in key or key in BY_KEY or key in SHORT_FORMS else key


def _profile_key(builder: LayerBuilder, key: str, node: Scalar) -> None:
    section, _, rest = key.partition(".")
    parameter, device = key.removeprefix(f"{PARAMETERS}."), key.removeprefix(f"{MEMORY}.")
    if section == "env" and rest:
        add_free(builder, section, [TableEntry(rest, _NOWHERE, node)])
    elif parameter != key:
        add_free(builder, PARAMETERS, [TableEntry(parameter, _NOWHERE, _collection(node))])
    elif device != key:
        add_free(builder, MEMORY, [TableEntry(device, _NOWHERE, node)])
    elif key not in {*BY_KEY, *SHORT_FORMS, PARAMETERS} or key == "extends":
        builder.problem(_NOWHERE, key, "no such key", _nearest(section, rest))
    elif is_null(node):
        builder.clear(key)
    elif key in SHORT_FORMS:
        SHORT_FORMS[key](builder, node, _NOWHERE)
    elif key == PARAMETERS:
        builder.problem(_NOWHERE, key, f"name the parameter: {PARAMETERS}.temperature=0.7")
    else:
        builder.read(key, _collection(node) if key.startswith(_LISTS) else node, _NOWHERE)


_LISTS = ("gateway.", "engine.command", "workers")


def _collection(node: Scalar) -> YamlNode:
    """A list or a mapping where it is written as one: ``[a, b]``, ``{"enable_thinking": false}``."""
    try:
        found = parse_yaml(node.text.encode()).root if node.text.startswith(("[", "{")) else None
    except Broken:
        return node
    return found or node


def _nearest(section: str, rest: str) -> str:
    prefix = section if section in SECTIONS else nearest_key("", section)
    found = nearest_key(prefix, rest) if prefix else ""
    return f"{prefix}.{found}" if found else ""
