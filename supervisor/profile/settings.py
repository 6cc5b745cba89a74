"""What only ``config.yaml`` says: what is served, peers, where models are, how much memory is not ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .declare import Origin
from .field_kinds import FilePath, Invalid, nearest, size
from .fields import PEER_FIELDS, SERVE_FIELDS, Field
from .peer import Peer, name_of_host, url_problem
from .served_profile import ServedProfile
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
SETTINGS_ONLY = ("serve", "peers", "memory", "models-dir")
"""Its sections that no profile has."""
SHARED_SECTIONS = ("engine", "gateway", "workers", "without-worker")
"""Its sections and keys that hold for every profile that does not say otherwise."""
_KEYS = {each.key.removeprefix("serve."): each for each in SERVE_FIELDS}
_PEER_KEYS = {each.key.removeprefix("peers."): each for each in PEER_FIELDS}
_WORDS = {"profile": "profile", "url": "address"}
MEMORY_PATTERN = r"RAM|[A-Z][A-Za-z]*[0-9]+"
_MEMORIES = ("RAM", "CUDA0", "ROCm0", "Vulkan0", "MTL0", "SYCL0")


class OwnSections:
    """Collects what the sections say that no profile has, and what is wrong with it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.serve: list[ServedProfile] = []
        self.peers: list[Peer] = []
        self.leave_bytes: dict[str, int] = {}
        self.models_dir: Path | None = None
        self.problems: list[Problem] = []

    def read(self, root: YamlNode) -> None:
        for entry in root.entries if isinstance(root, Table) else ():
            if entry.key == "serve" and not is_null(entry.value):
                self._serve(entry.value)
            elif entry.key == "peers" and not is_null(entry.value):
                self._peers(entry.value)
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
        for item in self._items(node, "serve", "profiles"):
            served = self._served(item)
            if served is None:
                continue
            before = next((each for each in self.serve if each.profile == served.profile), None)
            if before is None:
                self.serve.append(served)
            else:
                where = f"on line {before.origin.line}" if before.origin else "before"
                self._problem(item.mark, "serve", f"{served.profile} is served twice: {where} already")

    def _items(self, node: YamlNode, key: str, what: str) -> tuple[YamlNode, ...]:
        if isinstance(node, Items):
            return node.items
        such = f", such as {key}: [{node.text}]" if isinstance(node, Scalar) else ""
        self._problem(node.mark, key, f"must be a list of {what}{such}, not {kind_name(node)}")
        return ()

    def _served(self, item: YamlNode) -> ServedProfile | None:
        """None for what names no profile."""
        values = self._entry(item, "serve", "profile", "a profile, by name or as a mapping", _KEYS)
        if "profile" not in values:
            return None
        mark = item.mark
        return ServedProfile(**values, origin=Origin(SETTINGS_NAME, self._file, mark.line, mark.column))

    def _peers(self, node: YamlNode) -> None:
        for item in self._items(node, "peers", "addresses"):
            values = self._entry(item, "peers", "url", "an address, by itself or in a mapping", _PEER_KEYS)
            if "url" not in values:
                continue
            peer = Peer(**values)
            problem = url_problem(peer.url)
            named = peer if problem or peer.name else replace(peer, name=name_of_host(peer))
            if problem:
                self._problem(item.mark, "peers.url", f"must be {problem}")
            elif not named.name:
                self._problem(item.mark, "peers.name", f"is missing: {peer.host} makes no name")
            elif named.name.casefold() in {each.name.casefold() for each in self.peers}:
                two = f"two peers are called {named.name}; give one another name"
                self._problem(item.mark, "peers.name", two)
            elif peer.ca_file and not peer.has_tls:
                self._problem(item.mark, "peers.ca-file", "is for https addresses, and this one is http")
            else:
                self.peers.append(named)

    def _entry(
        self, item: YamlNode, section: str, main: str, what: str, keys: Mapping[str, Field]
    ) -> dict[str, Any]:
        """The values of one item of a list by attribute; it may be its ``main`` key alone."""
        if isinstance(item, Items):
            self._problem(item.mark, section, f"must be {what}, not a list")
            return {}
        entries = item.entries if isinstance(item, Table) else (TableEntry(main, item.mark, item),)
        if isinstance(item, Table) and main not in {entry.key for entry in entries}:
            self._problem(item.mark, f"{section}.{main}", f"is missing: which {_WORDS[main]}?")
        read = (self._value(each, section, main, keys) for each in entries)
        return dict(filter(None, read))

    def _value(
        self, entry: TableEntry, section: str, main: str, keys: Mapping[str, Field]
    ) -> tuple[str, object] | None:
        """The attribute and its value."""
        found = keys.get(entry.key.replace("_", "-"))
        if found is None:
            self._problem(
                entry.mark, f"{section}.{entry.key}", "no such key", nearest(entry.key, tuple(keys))
            )
            return None
        if is_null(entry.value) and entry.key != main:
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
