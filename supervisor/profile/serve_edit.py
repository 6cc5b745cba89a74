"""
Adds and removes entries of ``serve`` in the text of ``config.yaml``; all else stays as people wrote it.

Only the text around the entry changes.  What comes out is read again, and refused if it says anything else
than what was meant, so that an unusual way to write the list costs a message and never the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import yaml

from ..errors import ConfigError, NotFound, UsageError
from .field_kinds import nearest
from .fields import SERVE_FIELDS
from .load_layers import settings_from
from .served_profile import ServedProfile
from .yaml_nodes import PARSER, write_value

_EMPTY = re.compile(r"\s*(#.*)?")


def with_served(text: str, file: str, served: ServedProfile) -> str:
    """Raises UsageError where it is served already, and ConfigError for a text that cannot be changed so."""
    text = _ended(text)
    before = _served(text, file)
    for each in before:
        if each.profile == served.profile:
            raise UsageError(
                f"{each.profile} is served already: {each.origin}",
                hint=f"Change it there, or goss-supervisor serve rm {each.profile} first.",
            )
    return _checked(_inserted(text, _entry(served)), file, [*before, served], f"  - {_entry(served)}")


def without_served(text: str, file: str, name: str) -> str:
    """Raises NotFound where it is not served, and ConfigError for a text that cannot be changed so."""
    text = _ended(text)
    before = _served(text, file)
    index = _index(before, name)
    after = [each for each in before if each.profile != name]
    return _checked(_removed(text, index), file, after, "")


def with_pinned(text: str, file: str, name: str, *, pinned: bool) -> str:
    """Whether the entry of this profile is pinned; raises as `without_served` does."""
    text = _ended(text)
    before = _served(text, file)
    index = _index(before, name)
    after = [replace(each, pinned=pinned) if each.profile == name else each for each in before]
    return _checked(_pinned(text, index, pinned=pinned), file, after, _entry(after[index]))


def _served(text: str, file: str) -> tuple[ServedProfile, ...]:
    settings = settings_from(text.encode(), file)
    assert settings.layer is not None
    if settings.layer.problems:
        raise ConfigError("\n".join(map(str, settings.layer.problems)))
    return settings.serve


def _index(served: Sequence[ServedProfile], name: str) -> int:
    names = tuple(each.profile for each in served)
    if name not in names:
        near = nearest(name, names)
        question = f" Did you mean {near}?" if near else ""
        raise NotFound(f"config.yaml does not serve {name}.{question}", hint="goss-supervisor serve")
    return names.index(name)


def _checked(text: str | None, file: str, meant: Sequence[ServedProfile], entry: str) -> str:
    """The text, if it says what is meant."""
    if text is not None:
        found = settings_from(text.encode(), file)
        plain = [replace(each, origin=None) for each in found.serve]
        is_sound = found.layer is not None and not found.layer.problems
        if is_sound and plain == [replace(each, origin=None) for each in meant]:
            return text
    what = f"Write it there: {entry.strip()}" if entry else "Take it out there."
    raise ConfigError(f"{file}: serve is written in a way that this command cannot change.", hint=what)


def _entry(served: ServedProfile) -> str:
    """``big``, or ``{profile: big, pinned: true}``."""
    said = [
        f"{each.key.removeprefix('serve.')}: {each.kind.write(value)}"
        for each in SERVE_FIELDS
        if (value := getattr(served, each.attribute)) != each.default
    ]
    return write_value(served.profile) if len(said) == 1 else "{" + ", ".join(said) + "}"


def _inserted(text: str, entry: str) -> str | None:
    """With this entry at the end of the list; None where the text has another form."""
    key, value = _section(text)
    if key is None:
        return f"{text}serve:\n  - {entry}\n"
    if isinstance(value, yaml.SequenceNode) and value.flow_style:
        comma = ", " if value.value else ""
        at = value.value[-1].end_mark.index if value.value else value.start_mark.index + 1
        return f"{text[:at]}{comma}{entry}{text[at:]}"
    if isinstance(value, yaml.SequenceNode):
        indent = " " * value.start_mark.column
        return _with_line(text, _last_line(text, value.value[-1]), f"{indent}- {entry}")
    if value is not None and value.start_mark.index == value.end_mark.index:  # serve: with nothing behind it
        return _with_line(text, key.start_mark.line, f"{' ' * key.start_mark.column}  - {entry}")
    return None


def _removed(text: str, index: int) -> str | None:
    key, value = _section(text)
    if key is None or not isinstance(value, yaml.SequenceNode):
        return None
    items = value.value
    if value.flow_style:
        has_next = index + 1 < len(items)
        start = items[index - 1].end_mark.index if index and not has_next else items[index].start_mark.index
        end = items[index + 1].start_mark.index if has_next else items[index].end_mark.index
        return text[:start] + text[end:]
    lines = text.splitlines(keepends=True)
    first, last = items[index].start_mark.line, _last_line(text, items[index])
    if len(items) == 1:
        at = key.start_mark.line
        lines[at] = re.sub(r"^(\s*[\"']?serve[\"']?\s*:)", r"\1 []", lines[at])
    return "".join([*lines[:first], *lines[last + 1 :]])


def _pinned(text: str, index: int, *, pinned: bool) -> str | None:
    _, value = _section(text)
    if not isinstance(value, yaml.SequenceNode):
        return None
    item, said = value.value[index], f"pinned: {write_value(pinned)}"
    if isinstance(item, yaml.ScalarNode):
        start, end = item.start_mark.index, item.end_mark.index
        return f"{text[:start]}{{profile: {text[start:end]}, {said}}}{text[end:]}"
    if not isinstance(item, yaml.MappingNode):
        return None
    for key, now in item.value:
        if key.value == "pinned":
            return f"{text[: now.start_mark.index]}{write_value(pinned)}{text[now.end_mark.index :]}"
    if item.flow_style:
        end = item.value[-1][1].end_mark.index
        return f"{text[:end]}, {said}{text[end:]}"
    first = item.value[0]
    return _with_line(text, _last_line(text, first[1]), f"{' ' * item.start_mark.column}{said}")


def _section(text: str) -> tuple[yaml.Node | None, yaml.Node | None]:
    """The nodes of ``serve`` and of what is behind it; a flow mapping at the top is not looked into."""
    root = yaml.compose(text, Loader=PARSER)
    if isinstance(root, yaml.MappingNode) and not root.flow_style:
        for key, value in root.value:
            if key.value == "serve":
                return key, value
    return None, None


def _last_line(text: str, node: yaml.Node) -> int:
    """The last line with something of it.  A block ends where the next one begins, behind all comments."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return int(node.end_mark.line)
    lines, last = text.splitlines(), node.end_mark.line - 1
    while last > node.start_mark.line and _EMPTY.fullmatch(lines[last]):
        last -= 1
    return int(last)


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def _with_line(text: str, after: int, line: str) -> str:
    lines = text.splitlines()
    end = "\r\n" if "\r\n" in text else "\n"
    return "".join(f"{each}{end}" for each in [*lines[: after + 1], line, *lines[after + 1 :]])
