"""Which releases a channel stood at, and which builds turned out bad: a small record on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..files import JsonFile

KEPT = 10  # choices for each channel


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
        return self._json.known().tags.get(channel, ())

    def choose(self, channel: str, tag: str) -> None:
        self._json.update(lambda choices: choices.chosen(channel, tag))

    def back(self, channel: str) -> str | None:
        """Undo the newest choice; the one that holds now, or None (and no change) where there is no other."""
        before, after = self._json.update(lambda choices: choices.gone_back(channel))
        return None if after == before else after.tags[channel][0]

    def mark_bad(self, key: str, reason: str) -> None:
        self._json.update(lambda choices: choices.marked(key, reason))

    def forgive(self, key: str) -> None:
        self._json.update(lambda choices: choices.forgiven(key))

    def bad(self, key: str) -> str:
        """Why a build is bad; "" for one that is not."""
        return self._json.known().bad.get(key, "")

    @property
    def _json(self) -> JsonFile[Choices]:
        return JsonFile(self.file, _parse, asdict, Choices(), durable=True)


def _parse(document: dict[str, Any]) -> Choices:
    tags = {str(channel): tuple(map(str, each)) for channel, each in document["tags"].items()}
    return Choices(tags, {str(key): str(reason) for key, reason in document["bad"].items()})
