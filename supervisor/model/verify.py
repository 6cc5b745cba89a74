"""Whether a model's files are what the hub has: their SHA-256 against the one kept when they came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..download.transfer import digest_of
from ..errors import NotFound, SupervisorError, VerificationFailed
from ..progress import Progress
from .digests import keep_digest, known_digest
from .hub import Hub
from .local_models import OURS, Shelved


@dataclass(frozen=True, slots=True)
class Checked:
    """One file: what it has, and what it should have."""

    path: Path
    sha256: str
    expected: str

    @property
    def ok(self) -> bool:
        return self.sha256 == self.expected


def verify(model: Shelved, hub: Callable[[], Hub], progress: Progress) -> tuple[Checked, ...]:
    """
    Every file read and compared; the hub is asked only where no digest was kept.

    Raises NotFound for a model that is not whole, SupervisorError where nobody knows what it should be, and
    NetworkError where only the hub knows.
    """
    if model.missing:
        names = ", ".join(part.name for part in model.missing)
        raise NotFound(f"{model.name} is incomplete: no {names}.", hint=model.how_to_complete)
    expected: Mapping[Path, str] = {part: known_digest(part) for part in model.parts}
    if not all(expected.values()):
        expected = _asked(model, hub)
    return tuple(Checked(part, _read(part, progress), expected[part]) for part in model.parts)


def _read(part: Path, progress: Progress) -> str:
    progress.step(f"verifying {part.name}")
    try:
        size = part.stat().st_size
        return digest_of(
            part, lambda done: progress.update(done / size, f"{done / 10**9:.1f} of {size / 10**9:.1f} GB")
        )
    except OSError as error:  # a disk that is dying among the reasons
        raise VerificationFailed(f"{part} cannot be read: {error.strerror or error}.") from error


def _asked(model: Shelved, hub: Callable[[], Hub]) -> Mapping[Path, str]:
    repo, _, file = model.name.rpartition(":")
    if not repo:
        raise SupervisorError(
            f"Nobody knows what {model.name} should be: no digest was kept, and its repository is not known.",
            hint="goss-supervisor model show reads its header, and finds out whether all of it is there.",
        )
    told = {each.path: each.sha256 for each in hub().files(repo)}
    folder = file.rpartition("/")[0]
    expected = {part: told.get(f"{folder}/{part.name}".lstrip("/"), "") for part in model.parts}
    if unknown := [part.name for part, sha256 in expected.items() if not sha256]:
        raise NotFound(f"{repo} at the hub has no {', '.join(unknown)}, or does not say what it should be.")
    if model.where == OURS:
        for part, sha256 in expected.items():
            keep_digest(part, sha256)
    return expected
