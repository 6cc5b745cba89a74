"""What only ``config.yaml`` says: what is served, where models are, and how much memory is not ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .definition import Origin, ServedProfile
from .field_kinds import FilePath, Invalid, nearest, size
from .fields import SERVE_FIELDS
from .yaml_nodes import (
    Items,
    Mark,
    Problem,
    Scalar,
    Table,
    TableEntry,
    YamlNode,
    is_null,
    kind_name,
)

SETTINGS_NAME = "config.yaml"
SETTINGS_ONLY = ("serve", "memory", "models-dir")
"""Its sections that no profile has."""
SHARED_SECTIONS = ("engine", "gateway", "workers", "without-worker")
"""Its sections and keys that hold for every profile that does not say otherwise."""
_KEYS = {each.key.removeprefix("serve."): each for each in SERVE_FIELDS}
MEMORY_PATTERN = r"RAM|[A-Z][A-Za-z]*[0-9]+"
_MEMORIES = ("RAM", "CUDA0", "ROCm0", "Vulkan0", "MTL0", "SYCL0")


class OwnSections:
    """Collects what the sections say that no profile has, and what is wrong with it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.serve: list[ServedProfile] = []
        self.leave_bytes: dict[str, int] = {}
        self.models_dir: Path | None = None
        self.problems: list[Problem] = []

    def read(self, root: YamlNode) -> None:
        for entry in root.entries if isinstance(root, Table) else ():
            if entry.key == "serve" and not is_null(entry.value):
                self._serve(entry.value)
            elif entry.key == "memory" and not is_null(entry.value):
                self._memory(entry.value)
            elif entry.key == "models-dir" and not is_null(entry.value):
                self._models_dir(entry.value)

    def _models_dir(self, node: YamlNode) -> None:
        try:
            self.models_dir = FilePath(absolute=True).read(node)
        except Invalid as invalid:
            self._problem(node.mark, "models-dir", invalid.message)

    def _problem(self, mark: Mark, key: str, message: str, suggestion: str = "") -> None:
        self.problems.append(Problem(self._file, mark, message, key, suggestion))

    def _serve(self, node: YamlNode) -> None:
        if not isinstance(node, Items):
            such = f", such as serve: [{node.text}]" if isinstance(node, Scalar) else ""
            self._problem(node.mark, "serve", f"must be a list of profiles{such}, not {kind_name(node)}")
            return
        for item in node.items:
            served = self._served(item)
            if served is None:
                continue
            before = next((each for each in self.serve if each.profile == served.profile), None)
            if before is None:
                self.serve.append(served)
            else:
                where = f"on line {before.origin.line}" if before.origin else "before"
                self._problem(item.mark, "serve", f"{served.profile} is served twice: {where} already")

    def _served(self, item: YamlNode) -> ServedProfile | None:
        """None for what names no profile."""
        if isinstance(item, Items):
            self._problem(item.mark, "serve", "must be a profile, by name or as a mapping, not a list")
            return None
        mark = item.mark
        entries = item.entries if isinstance(item, Table) else (TableEntry("profile", mark, item),)
        values: dict[str, Any] = dict(filter(None, map(self._value, entries)))
        if isinstance(item, Table) and "profile" not in {entry.key for entry in entries}:
            self._problem(mark, "serve.profile", "is missing: which profile?")
        if "profile" not in values:
            return None
        return ServedProfile(**values, origin=Origin(SETTINGS_NAME, self._file, mark.line, mark.column))

    def _value(self, entry: TableEntry) -> tuple[str, object] | None:
        """The attribute and its value."""
        found = _KEYS.get(entry.key.replace("_", "-"))
        if found is None:
            self._problem(entry.mark, f"serve.{entry.key}", "no such key", nearest(entry.key, tuple(_KEYS)))
            return None
        if is_null(entry.value) and entry.key != "profile":
            return None
        try:
            return found.attribute, found.kind.read(entry.value)
        except Invalid as invalid:
            self._problem(entry.value.mark, found.key, invalid.message, invalid.suggestion)
            return None

    def _memory(self, node: YamlNode) -> None:
        for entry in self._entries(node, "memory", "keys: leave"):
            if entry.key != "leave":
                self._problem(
                    entry.mark, f"memory.{entry.key}", "no such key", nearest(entry.key, ("leave",))
                )
            elif not is_null(entry.value):
                for each in self._entries(entry.value, "memory.leave", "names of memories with sizes"):
                    self._leave(each)

    def _entries(self, node: YamlNode, key: str, what: str) -> tuple[TableEntry, ...]:
        if isinstance(node, Table):
            return node.entries
        self._problem(node.mark, key, f"must be a mapping ({what}), not {kind_name(node)}")
        return ()

    def _leave(self, entry: TableEntry) -> None:
        key = f"memory.leave.{entry.key}"
        if not re.fullmatch(MEMORY_PATTERN, entry.key):
            known = {name.lower(): name for name in _MEMORIES}
            what = "is no name of a memory; they are called as in plan, RAM or CUDA0 for example"
            self._problem(entry.mark, key, what, known.get(entry.key.lower(), ""))
        elif not (isinstance(entry.value, Scalar) and entry.value.value is None):
            try:
                self.leave_bytes[entry.key] = int(size().read(entry.value))
            except Invalid as invalid:
                self._problem(entry.value.mark, key, invalid.message, invalid.suggestion)
