"""
One file's, or ``--set``'s, share of a profile: flat values by dotted key, each with its origin.

llama-server options come by name (``server``), as a raw list (``args``) or as a command line.  Options for
which the profile has its own key go there: ``--port`` is ``listen.port``, ``-m`` is ``model``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from ..errors import UsageError
from ..options.file_options import FILES, is_of_the_hub
from ..options.launch_words import CommandLine, is_variable, option_list
from ..options.meanings import SECRETS, canonical, nearest, understand
from ..options.option_types import OptionValue
from ..options.option_values import OptionKind, option_kind
from ..options.parse import ParsedOptions, normalise, parse_arguments
from .declare import Origin
from .field_kinds import Invalid, read_json
from .fields import BY_KEY
from .misplaced import OWN_KEYS, place_of_key
from .model_source import DraftType
from .yaml_nodes import Items, Mark, Problem, Scalar, Table, TableEntry, YamlNode, is_null, kind_name

FieldReader = Callable[[YamlNode], object]
"""Raises ``Invalid``."""


@dataclass(frozen=True, slots=True)
class Value:
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Layer:
    """``cleared`` are keys and sections that take back what is inherited; ``name`` is the profile's."""

    name: str
    file: str
    values: Mapping[str, Value]
    cleared: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def origin(self) -> Origin:
        return Origin(self.name, self.file)


class LayerBuilder:
    """Collects values and problems while one source is read."""

    def __init__(self, name: str, file: str) -> None:
        self._name, self._file = name, file
        self._values: dict[str, Value] = {}
        self._cleared: set[str] = set()
        self._notes: list[str] = []
        self._problems: list[Problem] = []

    def read(
        self, key: str, node: YamlNode, mark: Mark, written: str = "", read: FieldReader | None = None
    ) -> None:
        """As ``read`` or else the key's own kind reads it; ``written`` is another name that the user gave."""
        try:
            self.put(key, (read or BY_KEY[key].kind.read)(node), mark, written)
        except Invalid as invalid:
            self.problem(node.mark, written or key, invalid.message, invalid.suggestion)

    def put(self, key: str, value: object, mark: Mark, written: str = "") -> None:
        before = self._values.get(key)
        if before is not None:
            where = f"on line {before.origin.line}" if before.origin.line else "before"
            meaning = f" (it means {key})" if written and written != key else ""
            self.problem(mark, written or key, f"is given twice{meaning}: {where} already")
            return
        self._values[key] = Value(value, Origin(self._name, self._file, mark.line, mark.column))

    def clear(self, key: str) -> None:
        self._cleared.add(key)

    def note(self, text: str) -> None:
        self._notes.append(text)

    def problem(self, mark: Mark, key: str, message: str, suggestion: str = "") -> None:
        self._problems.append(Problem(self._file, mark, message, key, suggestion))

    def done(self) -> Layer:
        self._one_model()
        problems = sorted(self._problems, key=lambda problem: (problem.mark.line, problem.mark.column))
        cleared, notes = frozenset(self._cleared), tuple(self._notes)
        return Layer(self._name, self._file, self._values, cleared, notes, tuple(problems))

    def _one_model(self) -> None:
        given = [key for key in ("model.demo", "model.path", "model.repo") if key in self._values]
        for key in given[1:]:
            origin = self._values[key].origin
            message = f"only one model can be meant; {given[0]} is given too"
            self.problem(Mark(origin.line, origin.column), key, message)


_INSTEAD = "write the secret itself; keys of clients are better made with goss-supervisor key add"
_HOME = re.compile(r"^(?:\$HOME|\$\{HOME\}|\$env:USERPROFILE|%USERPROFILE%)(?=[/\\])")
_HUGGING_FACE_URL = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)"
    r"(?:/(?:resolve|blob|raw)/[^/]+/([^?#]+)|/tree/[^/?#]+)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
IS_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def add_entries(builder: LayerBuilder, entries: Sequence[TableEntry]) -> None:
    """The entries of ``server`` by any of their names; null takes back what is inherited."""
    options: dict[str, OptionValue] = {}
    marks = {entry.key: entry.mark for entry in entries}
    for entry in entries:
        if is_null(entry.value):
            _take_back(builder, entry)
            continue
        try:
            options[entry.key] = _option_value(entry)
        except Invalid as invalid:
            builder.problem(entry.value.mark, f"server.{entry.key}", invalid.message)
    _add_options(builder, options, marks)


def _takes_json(key: str) -> bool:
    reading = understand(key)
    return reading is not None and option_kind(reading.option) is OptionKind.JSON


def _take_back(builder: LayerBuilder, entry: TableEntry) -> None:
    if name := canonical(entry.key):
        builder.clear(OWN_KEYS.get(name, f"server.{name}"))
    else:
        problem = "llama-server has no such option"
        builder.problem(entry.mark, f"server.{entry.key}", problem, nearest(entry.key))


def _add_options(builder: LayerBuilder, options: dict[str, OptionValue], marks: Mapping[str, Mark]) -> None:
    # All at once, since several old options may be one today: mmap and mlock are load-mode.
    parsed = normalise(options)
    for problem in parsed.problems:
        # of several keys that became one option, the first
        key = problem.option if problem.option in marks else problem.option.partition(" ")[0]
        place = "" if canonical(key) else place_of_key("server", key)
        suggestion = "" if place else problem.suggestion
        builder.problem(marks[key], f"server.{problem.option}", place or problem.message, suggestion)
    _note(builder, parsed)
    written = {canonical(key): key for key in options}
    for name, meaning in parsed.options.items():
        _adopt(builder, name, meaning, marks[written[name]], f"server.{written[name]}")


def add_args(builder: LayerBuilder, node: YamlNode) -> None:
    """``args``: a list of words, or a text as a shell would split it; a whole command line will do."""
    if isinstance(node, Items) and (words := _texts(node)) is not None:
        return add_words(builder, words, node.mark, "args")
    if isinstance(node, Scalar) and isinstance(node.value, str):
        if node.is_folded and (lost := re.search(r"(?:^|\s)#.*", node.text)):
            problem = f"{lost[0].strip()} is lost: YAML folds the lines behind '>' into one; write 'args: |'"
            return builder.problem(node.mark, "args", problem)
        return _add_args_text(builder, node)
    return builder.problem(node.mark, "args", f"must be a text or a list of words, not {kind_name(node)}")


def _add_args_text(builder: LayerBuilder, node: Scalar) -> None:
    try:
        command = option_list(node.text)
    except UsageError as error:
        return builder.problem(node.mark, "args", str(error))
    return add_command_line(builder, command, node.mark, "args")


def add_command_line(builder: LayerBuilder, command: CommandLine, mark: Mark, written: str = "") -> None:
    """Add the options and the environment of a command line; its program is ignored."""
    for note in command.notes:
        builder.note(note)
    for name, value in command.env.items():
        builder.put(f"env.{name}", value, mark, written)
    add_words(builder, command.words, mark, written)


def add_words(builder: LayerBuilder, words: Sequence[str], mark: Mark, written: str = "") -> None:
    """Add the options of a raw option list."""
    parsed = parse_arguments(words)
    for problem in parsed.problems:
        key = f"{written}: {problem.option}" if written else problem.option
        builder.problem(mark, key, problem.message, problem.suggestion)
    _note(builder, parsed)
    for name, value in parsed.options.items():
        if name == "hf-repo" and "hf-file" in parsed.options and ":" in str(value):
            repo, _, quant = str(value).partition(":")
            builder.note(f"the quantisation {quant} is left out, since --hf-file names the file")
            _adopt(builder, name, repo, mark, written)
        else:
            _adopt(builder, name, value, mark, written)


def _note(builder: LayerBuilder, parsed: ParsedOptions) -> None:
    for translation in parsed.translations:
        rendered = " ".join(translation.rendered)
        builder.note(f"{translation.option} is written as {rendered}: {translation.reason}")


def _option_value(entry: TableEntry) -> OptionValue:
    """Raises ``Invalid``."""
    node = entry.value
    if isinstance(node, Scalar) and node.value is not None:
        return node.value
    if isinstance(node, Items) and (texts := _texts(node)) is not None:
        return texts
    if isinstance(node, Table) and _takes_json(entry.key):
        return json.dumps(read_json(node), ensure_ascii=False)
    raise Invalid(f"must be one value or a list of them, not {kind_name(node)}")


def _texts(node: Items) -> tuple[str, ...] | None:
    """None where not all of them are."""
    texts = tuple(item.text for item in node.items if isinstance(item, Scalar) and not is_null(item))
    return texts if len(texts) == len(node.items) else None


def _adopt(builder: LayerBuilder, name: str, value: OptionValue, mark: Mark, written: str) -> None:
    if name in SECRETS and is_variable(str(value)):
        problem = f"nothing replaces {value}; {_INSTEAD}"
        builder.problem(mark, written or f"server.{name}", problem)
    elif special := _SPECIAL.get(name):
        special(builder, str(value), mark, written)
    elif own := OWN_KEYS.get(name):
        builder.read(own, _as_node(value, mark), mark, written)
    elif name in FILES and isinstance(value, str) and IS_ADDRESS.match(value):
        problem = f"{value} is an address and not a file; download it and name its path"
        builder.problem(mark, written or f"server.{name}", problem)
    elif name in FILES and isinstance(value, str):
        builder.put(f"server.{name}", _from_home(value), mark, written)
    else:
        builder.put(f"server.{name}", value, mark, written)


def _as_node(value: OptionValue, mark: Mark) -> Scalar:
    plain = ",".join(value) if isinstance(value, tuple) else value
    return Scalar(plain, str(plain), mark)


def _alias(builder: LayerBuilder, text: str, mark: Mark, written: str) -> None:
    names = [name for name in map(str.strip, text.split(",")) if name]
    if not written.startswith("server."):  # what llama-server takes is no mistake
        for name in names:
            if " " in name:
                builder.note(f"the alias {name!r} is left out: the name of a model has no blank")
        names = [name for name in names if " " not in name]
        if not names:
            return
    builder.read("aliases", Items(tuple(Scalar(name, name, mark) for name in names), mark), mark, written)


def add_path(builder: LayerBuilder, text: str, mark: Mark, written: str, section: str = "model") -> None:
    if IS_ADDRESS.match(text):
        return add_address(builder, text, mark, written, section)
    path = _from_home(text)
    return builder.read(f"{section}.path", Scalar(path, path, mark), mark, written)


def _from_home(path: str) -> str:
    """There is no shell between a profile and the server."""
    path = _HOME.sub("~", path)
    return path.replace("\\", "/") if path.startswith("~\\") else path


def add_repository(
    builder: LayerBuilder, text: str, mark: Mark, written: str, section: str = "model"
) -> None:
    """Add a model of the hub: ``owner/name``, ``owner/name:QUANT`` or its URL."""
    if IS_ADDRESS.match(text):
        return add_address(builder, text, mark, written, section)
    repo, colon, quant = text.partition(":")
    builder.read(f"{section}.repo", Scalar(repo, repo, mark), mark, written)
    if colon:
        builder.read(f"{section}.quant", Scalar(quant, quant, mark), mark, written)
    return None


def add_address(builder: LayerBuilder, text: str, mark: Mark, written: str, section: str = "model") -> None:
    """Add a model that is named by its URL."""
    found = _HUGGING_FACE_URL.fullmatch(text)
    if not found:
        problem = f"only models on Hugging Face are fetched; download {text} and name its path"
        return builder.problem(mark, written or section, problem)
    for key, part in zip((f"{section}.repo", f"{section}.file"), found.groups(), strict=True):
        if part:
            builder.read(key, Scalar(part, part, mark), mark, written)
    return None


def add_draft(builder: LayerBuilder, text: str, mark: Mark, written: str) -> None:
    """Add a draft by its kind, its place at the hub, or its path."""
    if text in get_args(DraftType):
        builder.put("model.draft.type", text, mark, written)
    elif is_of_the_hub(text):
        add_repository(builder, text, mark, written, "model.draft")
    else:
        add_path(builder, text, mark, written, "model.draft")


def _types(builder: LayerBuilder, text: str, mark: Mark, written: str) -> None:
    """Of ``--spec-type`` a draft's kind is a key of the model; those that need no draft stay an option."""
    kinds = [kind.strip() for kind in text.split(",")]
    drafts = [kind.removeprefix("draft-") for kind in kinds if kind.startswith("draft-")]
    if len(drafts) > 1:
        return builder.problem(mark, written or "server.spec-type", "a model can have only one draft")
    if drafts:
        word = Scalar(drafts[0], drafts[0], mark)
        builder.read("model.draft.type", word, mark, written)
    if others := [kind for kind in kinds if not kind.startswith("draft-")]:
        builder.put("server.spec-type", ",".join(others), mark, written)
    return None


_SPECIAL: dict[str, Callable[[LayerBuilder, str, Mark, str], None]] = {
    "alias": _alias,
    "hf-repo": add_repository,
    "model": add_path,
    "model-url": add_address,
    "spec-draft-model": partial(add_path, section="model.draft"),
    "spec-draft-hf": partial(add_repository, section="model.draft"),
    "spec-type": _types,
    "mmproj": partial(add_path, section="model.projector"),
    "mmproj-url": partial(add_address, section="model.projector"),
}
