"""
YAML text to nodes with positions, without YAML's traps, and plain values back to text.

PyYAML's scanner and event parser are used (libyaml's where it was built in); composing is done here, because
PyYAML's composer keeps the last of two equal keys, follows YAML 1.1 and builds tags.  Aliases share one node
and are never expanded, so no document can grow while it is read.  Plain scalars follow the core schema of
YAML 1.2 (chapter 10.3.2): in YAML 1.1, which PyYAML knows, ``on`` and ``no`` are truth values and ``1:30`` is
ninety.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml


@dataclass(frozen=True, slots=True)
class Mark:
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, typed by the YAML 1.2 core schema; ``text`` is what was written, maybe folded by ``>``."""

    value: bool | int | float | str | None
    text: str
    mark: Mark
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[YamlNode, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class TableEntry:
    key: str
    mark: Mark
    value: YamlNode


@dataclass(frozen=True, slots=True)
class Table:
    entries: tuple[TableEntry, ...]
    mark: Mark


YamlNode = Scalar | Items | Table


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one file; ``key`` is the dotted path (``listen.port``), empty for the file itself."""

    file: str
    mark: Mark
    message: str
    key: str = ""
    suggestion: str = ""

    @property
    def text(self) -> str:
        """Without its place."""
        what = f"{self.key}: {self.message}" if self.key else self.message
        return what + (f" (did you mean {self.suggestion}?)" if self.suggestion else "")

    def __str__(self) -> str:
        where = f"{self.file}:{self.mark.line}:{self.mark.column}" if self.mark.line else self.file
        return f"{where}: {self.text}"


def is_null(node: YamlNode) -> bool:
    return isinstance(node, Scalar) and node.value is None


def kind_name(node: YamlNode) -> str:
    """What a person calls it: ``the text 'abc'``, ``the number 5``, ``a list``, ``a mapping``."""
    match node:
        case Items():
            return "a list"
        case Table():
            return "a mapping"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return f"the truth value {node.text}"
        case Scalar(value=int() | float()):
            return f"the number {node.text[:60]}"
        case Scalar():
            return f"the text {node.text[:60]!r}"


MAX_BYTES = 1024 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 32

PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
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

    root: YamlNode | None
    mistakes: tuple[tuple[str, Mark, str], ...] = ()


def parse_yaml(data: bytes) -> Document:
    """The one document in ``data``.  Raises ``Broken``."""
    text = _decode(data)
    try:
        return _Composer(yaml.parse(text, Loader=PARSER)).document()
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
        where = _end(data[: error.start].decode("utf-8-sig"))
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise Broken(problem, where) from None
    if found := _UNPRINTABLE.search(text):
        where = _end(text[: found.start()])
        raise Broken(f"the control character U+{ord(found[0]):04X} is not allowed in YAML", where)
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
    if unclosed := _unclosed(error, text, mark):
        return unclosed
    lines = text.splitlines()
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    if "\t" in line[: mark.column] and not line[: line.index("\t")].strip():
        where = Mark(mark.line, line.index("\t") + 1)
        return Broken("a tab in the indentation; YAML wants spaces", where)
    if "escape" in problem or "hexdecimal" in problem or "hexadecimal" in problem:
        problem = (
            "in double quotes a backslash begins an escape; write a Windows path without quotes or in single "
            "quotes"
        )
    elif line.startswith(" ") and problem.startswith(("mapping values are not allowed", "did not find exp")):
        problem = "this line is indented, and the line above opens no section; check the blanks before both"
    elif problem.startswith("mapping values are not allowed") and (found := _joined(lines, mark)):
        return found
    elif problem == "did not find expected key":
        problem = "this is no key; quote the whole value before it, with ' in it written twice"
    elif problem.startswith("mapping values are not allowed"):
        problem += "; quote a value that contains ': ', and check the indentation"
    return Broken(problem, mark)


def _unclosed(error: yaml.MarkedYAMLError, text: str, mark: Mark) -> Broken | None:
    """A bracket or a quote that has no end."""
    context, begin = error.context or "", error.context_mark
    if begin is None or not ("flow" in context or "quoted scalar" in context):
        return None
    opener = text[begin.index : begin.index + 1]
    if "quoted scalar" in context:
        is_open = "end of stream" in (error.problem or "") or "document" in (error.problem or "")
        return (
            Broken(f"the quote {opener} that begins here is never closed", _mark(begin)) if is_open else None
        )
    if opener not in {"[", "{"} or "expected ',' or" not in (error.problem or ""):
        return None
    if mark.line == begin.line + 1:
        return Broken(f"a comma or the end of the bracket {opener} is missing before this", mark)
    return Broken(f"the bracket {opener} that begins here is not closed", _mark(begin))


def _joined(lines: Sequence[str], mark: Mark) -> Broken | None:
    """A key with nothing between its colon and its value, in this line or the one before."""
    for number in (mark.line, mark.line - 1):
        line = lines[number - 1] if 0 < number <= len(lines) else ""
        if found := re.fullmatch(r"(\s*)([A-Za-z][\w-]*):([^\s:/\\].*)", line):
            meant = f"{found[2]}: {found[3].strip()}"
            return Broken(f"write a blank behind the colon: {meant}", Mark(number, len(found[1]) + 1))
    return None


class _Composer:
    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, YamlNode] = {}
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
            where = _mark(following.start_mark)
            raise Broken("a second document begins here; a profile is one document", where)
        return Document(node, tuple(self._mistakes))

    def _next(self) -> yaml.Event:
        return next(self._events)

    def _node(self, event: yaml.Event, depth: int) -> YamlNode:
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

    def _alias(self, event: yaml.AliasEvent, mark: Mark) -> YamlNode:
        # An anchor is known only once its node is complete, so that no node can contain itself.
        if event.anchor not in self._anchors:
            raise Broken(f"nothing is anchored as &{event.anchor} before this", mark)
        return self._anchors[event.anchor]

    def _collect(self, event: yaml.NodeEvent, mark: Mark, depth: int) -> YamlNode:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, mark)
        assert isinstance(event, yaml.CollectionStartEvent)
        if event.tag:
            _refuse_tag(event.tag, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(tuple(self._items(depth)), mark)
        return Table(tuple(self._entries(depth)), mark)

    def _items(self, depth: int) -> Iterator[YamlNode]:
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> Iterator[TableEntry]:
        seen: dict[str, Mark] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            mark = _mark(event.start_mark)
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if mistake := _wrong_key(key, seen):
                self._mistakes.append((key.text if isinstance(key, Scalar) else "", mark, mistake))
            elif isinstance(key, Scalar):
                seen[key.text] = mark
                yield TableEntry(key.text, mark, value)


def _wrong_key(key: YamlNode, seen: Mapping[str, Mark]) -> str:
    if not isinstance(key, Scalar):
        return "a key must be a word, not a list or a mapping"
    if not isinstance(key.value, str):
        return f"a key must be a word, not {kind_name(key)}; quote it if that is meant"
    if key.text in seen:
        return f"the key is given twice; the first is on line {seen[key.text].line}"
    return ""


def _scalar(event: yaml.ScalarEvent, mark: Mark) -> Scalar:
    text: str = event.value
    if event.tag and event.tag not in _STR_TAGS:
        _refuse_tag(event.tag, mark)
    plain = event.implicit[0] and not event.tag
    return Scalar(plain_value(text) if plain else text, text, mark, event.style == ">")


def _refuse_tag(tag: str, mark: Mark) -> NoReturn:
    shown = tag.replace("tag:yaml.org,2002:", "!!")
    raise Broken(f"the tag {shown} has no place in a profile", mark)


PlainValue = bool | int | float | str | None

_WORDS: dict[str, PlainValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
# Longer numbers are text: Python refuses to read integers of more than 4300 digits, and nobody means one.
_INTEGER = re.compile(r"(?P<decimal>[-+]?[0-9]{1,30})|0o(?P<octal>[0-7]{1,40})|0x(?P<hex>[0-9a-fA-F]{1,40})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]{1,300}(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

# What may be unquoted in every YAML version, inside a flow list too.
_PLAIN = re.compile(r"[A-Za-z/~_](?:[A-Za-z0-9._/+@=*\\-]|:(?=[A-Za-z0-9\\/])| (?=[A-Za-z0-9(]))*")
_YAML_1_1 = re.compile(r"y|yes|n|no|on|off", re.IGNORECASE)


def plain_value(text: str) -> PlainValue:
    """The value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if found := _INTEGER.fullmatch(text):
        return _integer(found)
    return float(text) if _FLOAT.fullmatch(text) else text


def _integer(found: re.Match[str]) -> int:
    if found["octal"]:
        return int(found["octal"], 8)
    return int(found["hex"], 16) if found["hex"] else int(found["decimal"])


def write_value(value: object) -> str:
    """A scalar, a list or a mapping as YAML on one line, which every YAML version reads back as the same."""
    if isinstance(value, Mapping):
        pairs = (f"{_write_text(key)}: {write_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return repr(value) if isinstance(value, int | float) else _write_text(str(value))


def _write_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and isinstance(plain_value(text), str) and not _YAML_1_1.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)  # a JSON string is a double-quoted YAML scalar …
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)  # … but for DEL, C1, U+2028
