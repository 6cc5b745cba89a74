"""Which releases a channel stood at, and which builds turned out bad: a small record on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..disk import cannot_write
from ..locks import waiting_lock
from ..progress import Silent

KEPT = 10  # choices for each channel
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Choices:
    """``tags`` by channel, newest choice first, none twice; ``bad`` is why, by key (``installed.key_of``)."""

    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bad: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, channel: str, tag: str) -> Choices:
        earlier = (each for each in self.tags.get(channel, ()) if each != tag)
        return self._with_tags(channel, (tag, *earlier)[:KEPT])

    def gone_back(self, channel: str) -> Choices:
        """Without the newest choice, unless it is the only one."""
        tags = self.tags.get(channel, ())
        return self._with_tags(channel, tags[1:]) if len(tags) > 1 else self

    def marked(self, key: str, reason: str) -> Choices:
        return replace(self, bad={**self.bad, key: reason})

    def forgiven(self, key: str) -> Choices:
        return replace(self, bad={each: why for each, why in self.bad.items() if each != key})

    def _with_tags(self, channel: str, tags: tuple[str, ...]) -> Choices:
        return replace(self, tags={**self.tags, channel: tags})


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    ``Choices`` in a file, changed by one process at a time.

    A file that cannot be read holds nothing: then channels stand where they stand by default.
    Changes raise PermissionDenied or SupervisorError where it cannot be written.
    """

    file: Path

    def tags(self, channel: str) -> tuple[str, ...]:
        """The newest choice first; empty where none was made."""
        return self._read().tags.get(channel, ())

    def choose(self, channel: str, tag: str) -> None:
        self._change(lambda choices: choices.chosen(channel, tag))

    def back(self, channel: str) -> str | None:
        """Undo the newest choice; the one that holds now, or None (and no change) where there is no other."""
        before, after = self._change(lambda choices: choices.gone_back(channel))
        return None if after == before else after.tags[channel][0]

    def mark_bad(self, key: str, reason: str) -> None:
        self._change(lambda choices: choices.marked(key, reason))

    def forgive(self, key: str) -> None:
        self._change(lambda choices: choices.forgiven(key))

    def bad(self, key: str) -> str:
        """Why a build is bad; "" for one that is not."""
        return self._read().bad.get(key, "")

    def _change(self, change: Callable[[Choices], Choices]) -> tuple[Choices, Choices]:
        lock = self.file.with_name(f"{self.file.name}.lock")
        with waiting_lock(lock, "waiting for another goss-supervisor", Silent()):
            before = self._read()
            after = change(before)
            if after != before:
                self._write(after)
        return before, after

    def _read(self) -> Choices:
        try:
            kept: Any = json.loads(self.file.read_text("utf-8"))
            tags = {str(channel): tuple(map(str, each)) for channel, each in kept["tags"].items()}
            return Choices(tags, {str(key): str(reason) for key, reason in kept["bad"].items()})
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return Choices()

    def _write(self, choices: Choices) -> None:
        text = json.dumps({"format": FORMAT, "tags": choices.tags, "bad": choices.bad}, indent=2)
        staged = self.file.with_name(f"{self.file.name}.{os.getpid()}.new")
        try:
            staged.write_text(f"{text}\n", "utf-8")
            staged.replace(self.file)
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise cannot_write(self.file, error) from error
