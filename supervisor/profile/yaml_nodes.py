"""
YAML text to nodes with positions, with the traps taken out.

PyYAML's scanner and event parser are used (libyaml's where it was built in); composing is done here,
because PyYAML's composer keeps the last of two equal keys, follows YAML 1.1 and builds tags.
Aliases share one node and are never expanded, so that no document can grow while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from . import scalars
from .nodes import Entry, Items, Mark, Node, Scalar, Table, kind_name

MAX_BYTES = 1024 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 32

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STR_TAGS = ("!", "tag:yaml.org,2002:str")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Broken(Exception):
    """The text cannot be read at all."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.message, self.mark = message, mark


@dataclass(frozen=True, slots=True)
class Document:
    """``root`` is None for an empty text; ``mistakes`` are keys left out: (key, where, what is wrong)."""

    root: Node | None
    mistakes: tuple[tuple[str, Mark, str], ...] = ()


def parse(data: bytes) -> Document:
    """The one document in ``data``.  Raises ``Broken``."""
    text = _decode(data)
    try:
        return _Composer(yaml.parse(text, Loader=_PARSER)).document()
    except yaml.MarkedYAMLError as error:
        raise _reworded(error, text) from None
    except yaml.YAMLError as error:
        raise Broken(f"not readable as YAML: {error}", Mark(1, 1)) from None


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Broken(f"the file is larger than {MAX_BYTES // 1024} KiB; that is no profile", Mark())
    if data.startswith(_UTF16):
        raise Broken("the file is UTF-16; save it as UTF-8", Mark(1, 1))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        raise Broken(
            f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8", _end(before)
        ) from None
    if found := _UNPRINTABLE.search(text):
        where = _end(text[: found.start()])
        raise Broken(f"the control character U+{ord(found[0]):04X} may not stand in YAML", where)
    return text


def _end(text: str) -> Mark:
    """The position just behind ``text``."""
    lines = re.split("\r\n|\r|\n", text)
    return Mark(len(lines), len(lines[-1]) + 1)


def _mark(mark: Any) -> Mark:  # noqa: ANN401 - libyaml's marks are of another class than PyYAML's
    return Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)


def _reworded(error: yaml.MarkedYAMLError, text: str) -> Broken:
    mark = _mark(error.problem_mark or error.context_mark)
    problem = error.problem or error.context or "not readable as YAML"
    lines = text.splitlines()
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    if "\t" in line[: mark.column] and not line[: line.index("\t")].strip():
        return Broken(
            "a tab stands in the indentation; YAML wants spaces", Mark(mark.line, line.index("\t") + 1)
        )
    if "unknown escape character" in problem:
        problem += "; write Windows paths without quotes or in single quotes"
    elif problem.startswith("mapping values are not allowed"):
        problem += "; quote a value that contains ': ', and check the indentation"
    return Broken(problem, mark)


class _Composer:
    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._count = 0
        self._mistakes: list[tuple[str, Mark, str]] = []

    def document(self) -> Document:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Document(None)
        node = self._node(self._next(), 0)
        self._next()  # the document's end
        following = self._next()
        if not isinstance(following, yaml.StreamEndEvent):
            raise Broken(
                "a second document begins here; a profile is one document", _mark(following.start_mark)
            )
        return Document(node, tuple(self._mistakes))

    def _next(self) -> yaml.Event:
        return next(self._events)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        mark = _mark(event.start_mark)
        self._count += 1
        if self._count > MAX_NODES:
            raise Broken(f"more than {MAX_NODES} values; that is no profile", mark)
        if depth > MAX_DEPTH:
            raise Broken(f"nested more than {MAX_DEPTH} deep; that is no profile", mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, mark)
        assert isinstance(event, yaml.NodeEvent)
        node = self._collect(event, mark, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent, mark: Mark) -> Node:
        # An anchor is known only once its node is complete, so that no node can contain itself.
        if event.anchor not in self._anchors:
            raise Broken(f"nothing is anchored as &{event.anchor} before this", mark)
        return self._anchors[event.anchor]

    def _collect(self, event: yaml.NodeEvent, mark: Mark, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, mark)
        assert isinstance(event, yaml.CollectionStartEvent)
        if event.tag:
            _refuse_tag(event.tag, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(tuple(self._items(depth)), mark)
        return Table(tuple(self._entries(depth)), mark)

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> Iterator[Entry]:
        seen: dict[str, Mark] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            mark = _mark(event.start_mark)
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if mistake := _wrong_key(key, seen):
                self._mistakes.append((key.text if isinstance(key, Scalar) else "", mark, mistake))
            elif isinstance(key, Scalar):
                seen[key.text] = mark
                yield Entry(key.text, mark, value)


def _wrong_key(key: Node, seen: Mapping[str, Mark]) -> str:
    if not isinstance(key, Scalar):
        return "a key must be a word, not a list or a mapping"
    if not isinstance(key.value, str):
        return f"a key must be a word, not {kind_name(key)}; quote it if that is meant"
    if key.text in seen:
        return f"the key is given twice; it stands on line {seen[key.text].line} already"
    return ""


def _scalar(event: yaml.ScalarEvent, mark: Mark) -> Scalar:
    text: str = event.value
    if event.tag and event.tag not in _STR_TAGS:
        _refuse_tag(event.tag, mark)
    plain = event.implicit[0] and not event.tag
    return Scalar(scalars.resolve(text) if plain else text, text, mark)


def _refuse_tag(tag: str, mark: Mark) -> NoReturn:
    shown = tag.replace("tag:yaml.org,2002:", "!!")
    raise Broken(f"the tag {shown} has no place in a profile", mark)
