"""What an installation of an engine needs, and the release that each channel has selected."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import SupervisorError
from ..files import JsonFile, read_json, write_json
from ..hardware.hardware import Hardware
from ..paths import Paths
from ..profile.definition import Engine
from ..progress import Progress
from .catalogue.catalogue import Catalogue
from .catalogue.github import GitHubAccess


@dataclass(frozen=True, slots=True)
class InstallContext:
    """
    Where engines are, for which machine, and who gets the progress.

    ``hardware`` and ``demo`` (a model that proves that an engine answers) are asked for only where they
    decide: both cost time.  ``elsewhere`` says that the hardware is not this machine's: what is installed
    here is not there.  ``variables`` are those of the profile: with them an engine may see other devices.
    """

    paths: Paths
    progress: Progress
    hardware: Callable[[], Hardware]
    demo: Callable[[], Path]
    elsewhere: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.paths.state / "engines.json")

    @property
    def failures(self) -> ReleaseFailure:
        return ReleaseFailure(self.paths.cache / "release-failure.json")

    def catalogue(self, engine: Engine) -> Catalogue:
        return Catalogue(self.access(engine), self.paths.cache)

    def access(self, engine: Engine) -> GitHubAccess:
        return GitHubAccess.of(engine.mirror, engine.proxy, os.environ)


_ASKED_AGAIN_SECONDS = 15 * 60.0


@dataclass(frozen=True, slots=True)
class ReleaseFailure:
    """
    Why no release could be had lately, in a file that may be deleted at any time.

    With another engine at hand, a start that would fail the same way does not wait for the network again.
    """

    file: Path
    clock: Callable[[], float] = time.time

    def recent(self) -> str:
        """What went wrong in the last quarter of an hour; "" for nothing."""
        kept = read_json(self.file, lambda fields: (float(fields["seconds"]), str(fields["error"])))
        if kept is None or not 0 <= self.clock() - kept[0] < _ASKED_AGAIN_SECONDS:
            return ""
        return kept[1]

    def remember(self, error: str) -> None:
        with contextlib.suppress(SupervisorError):  # then the next start asks again
            write_json(self.file, {"seconds": self.clock(), "error": error})

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)


KEPT = 10  # choices for each channel


@dataclass(frozen=True, slots=True)
class Choices:
    """``tags`` by channel, newest choice first, none twice; ``bad`` is why, by key (``installed.key_of``)."""

    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bad: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    ``Choices`` in a file, changed by one process at a time.

    A file that cannot be read holds nothing: then channels have their defaults.
    Changes raise PermissionDenied or SupervisorError where it cannot be written.
    """

    file: Path

    def tags(self, channel: str) -> tuple[str, ...]:
        """The newest choice first; empty where none was made."""
        return self._json.known().tags.get(channel, ())

    def choose(self, channel: str, tag: str) -> None:
        def change(kept: Choices) -> Choices:
            earlier = (each for each in kept.tags.get(channel, ()) if each != tag)
            return replace(kept, tags={**kept.tags, channel: (tag, *earlier)[:KEPT]})

        self._json.update(change)

    def back(self, channel: str) -> str | None:
        """Undo the newest choice; the one that holds now, or None (and no change) where there is no other."""

        def change(kept: Choices) -> Choices:
            tags = kept.tags.get(channel, ())
            return replace(kept, tags={**kept.tags, channel: tags[1:]}) if len(tags) > 1 else kept

        before, after = self._json.update(change)
        return None if after == before else after.tags[channel][0]

    def mark_bad(self, key: str, reason: str) -> None:
        self._json.update(lambda kept: replace(kept, bad={**kept.bad, key: reason}))

    def forgive(self, key: str) -> None:
        def change(kept: Choices) -> Choices:
            return replace(kept, bad={each: why for each, why in kept.bad.items() if each != key})

        self._json.update(change)

    def bad(self, key: str) -> str:
        """Why a build is bad; "" for one that is not."""
        return self._json.known().bad.get(key, "")

    @property
    def _json(self) -> JsonFile[Choices]:
        return JsonFile(self.file, _parse, asdict, Choices(), durable=True)


def _parse(document: dict[str, Any]) -> Choices:
    tags = {str(channel): tuple(map(str, each)) for channel, each in document["tags"].items()}
    return Choices(tags, {str(key): str(reason) for key, reason in document["bad"].items()})
