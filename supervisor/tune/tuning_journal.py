"""
What a tuning has measured so far, on disk, so that one that was broken off goes on where it was.

A line of JSON for each trial that began and each that ended, on the disk before anything else happens.  The
last line may be torn (a power cut), and is dropped then.  The file has the name of the profile and a digest
of what the results depend on; anything else has a file of its own.  A profile keeps the last `MOST_FILES`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from glob import escape
from pathlib import Path
from typing import Any

from ..decoding import FieldRules, decode, parse
from ..disk import cannot_write
from ..errors import AlreadyRunning, SupervisorError
from ..files import NOT_OURS, JsonFile
from ..home.identity import ourselves
from ..locks import Lock, held_by
from ..measure.measurement import Workload
from ..paths import Paths
from .search_values import Candidate, Trial, TrialResult

SCHEMA = 1
_MOST_DEATHS = 200
_TWICE = 2
_DIGEST = "[0-9a-f]" * 16
_TRIAL = tuple(each.name for each in fields(Trial))  # a newer version may write more
_RESULT = tuple(each.name for each in fields(TrialResult))
# Of what somebody changed by hand, and of a damaged block: what the search could not calculate with.
_ABOVE_0 = (bool, "above 0")
_RULES: FieldRules = {
    "costs": (all, "above 0"),
    **dict.fromkeys(("look_seconds", "prompt_tokens", "answer_tokens", "clients", "runs"), _ABOVE_0),
}
MOST_FILES = 8
"""Of a profile: what it was tuned for with another goal, build or machine, and may be again."""


def tuning_file(paths: Paths, profile: str, depends_on: Sequence[object]) -> Path:
    """Where the tuning of a profile is kept that depends on these values, which have a lasting ``repr``."""
    digest = hashlib.sha256(repr(list(depends_on)).encode("utf-8", "surrogateescape")).hexdigest()
    return paths.state / "tune" / f"{profile}-{digest[:16]}.ndjson"


def result_file(paths: Paths, profile: str) -> Path:
    """What the last tuning of this profile said at its end, as ``tune --json`` prints it."""
    return paths.state / "tune" / "results" / f"{profile}.json"


def kept_trials(file: Path) -> int:
    """How many have ended, by a look at the file."""
    try:
        return file.read_bytes().count(b'{"ended": ')
    except OSError:
        return 0


@contextmanager
def opened_journal(file: Path, *, restart: bool = False) -> Iterator[TuningJournal]:
    """
    The journal with all that is in the file; ``restart`` begins an empty one.

    Raises AlreadyRunning where another process has it open, PermissionDenied or SupervisorError.
    """
    lock = Lock.acquire(file.with_suffix(".lock"), {"pid": os.getpid()})
    if lock is None:
        pid = (held_by(file.with_suffix(".lock")) or {}).get("pid", "unknown")
        raise AlreadyRunning(f"The same tuning is running already (pid {pid}).")
    try:
        if restart:
            file.unlink(missing_ok=True)
        journal = TuningJournal(file)
        _forget_oldest(file)
        yield journal
    finally:
        lock.release()


def _forget_oldest(file: Path) -> None:
    """Remove all but the newest of its profile, unless they are in use."""
    profile = file.stem.rpartition("-")[0]
    others = [each for each in file.parent.glob(f"{escape(profile)}-{_DIGEST}.ndjson") if each != file]
    with suppress(OSError, SupervisorError):  # a folder that is read only is told by what writes there
        for each in sorted(others, key=lambda other: other.stat().st_mtime)[: 1 - MOST_FILES]:
            if lock := Lock.acquire(each.with_suffix(".lock"), {"pid": os.getpid()}):
                each.unlink()
                if sys.platform == "win32":
                    lock.release()  # nobody can remove an open file
                lock.path.unlink()
                lock.release()


@dataclass(frozen=True, slots=True)
class _Decided:
    """A line of the journal: what a run measures."""

    workload: Workload
    look_seconds: float


class TuningJournal:
    """
    ``workload`` is what a run measures, once that was decided; ``trials`` is the number that ended.  Those of
    an earlier process are ``kept``, in their order; the turns of its proof are not: see `result_of`.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.workload: Workload | None = None
        self.look_seconds: float | None = None  # the cost by the first look
        self.trials = 0
        self._boot = ourselves().boot_id
        self.kept: list[tuple[Trial, TrialResult]] = []
        self._turns: deque[tuple[Candidate, TrialResult]] = deque()
        self._unfinished: dict[Candidate, set[str]] = defaultdict(set)  # by the boots in which they began
        for line in self._lines():
            with suppress(*NOT_OURS):  # a disk that lost a block of it
                self._take(line)

    def decided(self, workload: Workload, look_seconds: float) -> None:
        self.workload, self.look_seconds = workload, look_seconds
        self._append({"workload": asdict(workload), "look_seconds": look_seconds})

    def result_of(self, trial: Trial) -> TrialResult | None:
        """
        Of a turn in an earlier process, each result once; None where it has to be measured.  Turns before
        the one that is asked for belong to another proof, and are forgotten: a pair is measured together.

        A trial during which the computer went down twice has died: a driver that hangs takes it along.
        """
        while trial.reloads and self._turns:
            candidate, kept = self._turns.popleft()
            if candidate == trial.candidate:
                return kept
        if len(self._unfinished[trial.candidate] - {self._boot}) >= _TWICE:
            return TrialResult((), 0.0, "the computer went down during this trial, twice")
        return None

    def has_turn(self, candidate: Candidate) -> bool:
        """Whether `result_of` has one for it."""
        return any(each == candidate for each, _ in self._turns)

    @property
    def kept_seconds(self) -> float:
        """That all that is ``kept`` has taken."""
        return sum(result.took_seconds for _, result in self.kept)

    def begin(self, trial: Trial) -> None:
        self._append({"begun": _row(trial), "boot": self._boot})

    def end(self, trial: Trial, result: TrialResult) -> None:
        self.trials += 1
        self._append({"ended": _row(trial), **asdict(result)})

    def _take(self, line: Mapping[str, Any]) -> None:
        if "workload" in line:
            found = decode(_Decided, {name: line[name] for name in ("workload", "look_seconds")}, _RULES)
            self.workload, self.look_seconds = found.workload, found.look_seconds
        elif "begun" in line:
            self._unfinished[_candidate(line["begun"])].add(str(line["boot"]))
        elif "ended" in line:
            trial = _trial(line["ended"])
            result = decode(TrialResult, {name: line[name] for name in _RESULT}, _RULES)
            if not (result.costs or result.died):
                raise ValueError("it neither ran nor died")
            if trial.reloads:
                self._turns.append((trial.candidate, result))
            else:
                self.kept.append((trial, result))
            self._unfinished.pop(trial.candidate, None)
            self.trials += 1

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        """Without the torn end, which is cut off so that the next line does not become a part of it."""
        try:
            content = self.file.read_bytes()
        except FileNotFoundError:
            self._append({"schema": SCHEMA})
            return
        except OSError as error:
            raise SupervisorError(f"{self.file} cannot be read: {error.strerror}.") from None
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            try:
                os.truncate(self.file, len(whole))
            except OSError as error:
                raise cannot_write(self.file, error) from error
        lines = list(_parsed(whole))
        if not lines:
            self._append({"schema": SCHEMA})
        elif lines[0].get("schema") != SCHEMA:
            raise SupervisorError(
                f"{self.file} was written by another version of goss-supervisor.",
                hint="tune --restart begins anew.",
            )
        yield from lines[1:]

    def _append(self, row: Mapping[str, Any]) -> None:
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self.file, "ab", opener=_private) as file:
                file.write(json.dumps(row).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.file, error) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _parsed(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        with suppress(ValueError):  # as above
            yield parse(line)


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "candidate": dict(trial.candidate),
        "runs": trial.runs,
        "reloads": trial.reloads,
        "why": trial.why,
        "stop_above": trial.stop_above,
    }


def _trial(row: Mapping[str, Any]) -> Trial:
    """Raises NOT_OURS."""
    known = {name: row[name] for name in _TRIAL if name in row}
    return decode(Trial, {**known, "candidate": _candidate(row)}, _RULES)


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return tuple(sorted((str(key), str(value)) for key, value in row["candidate"].items()))


class Deaths:
    """
    Launches that died in a trial, by the digest of their plan and the machine: none is tried again, in this
    tuning or a later one.  A digest covers the build, the model and all options.
    """

    def __init__(self, paths: Paths, machine: str) -> None:
        self._machine = machine
        self._file: JsonFile[dict[str, str]] = JsonFile(
            paths.state / "tune" / "died.json", _deaths, lambda deaths: {"died": deaths}, {}
        )

    def of(self, digest: str) -> str:
        """The diagnosis; "" where it did not die."""
        return self._file.known().get(self._key(digest), "")

    def keep(self, digest: str, diagnosis: str) -> None:
        """Raises SupervisorError where it cannot be written."""
        found = {self._key(digest): diagnosis}
        self._file.update(lambda kept: dict(list({**kept, **found}.items())[-_MOST_DEATHS:]))

    def _key(self, digest: str) -> str:
        return hashlib.sha256(f"{digest} {self._machine}".encode()).hexdigest()[:32]


def _deaths(document: dict[str, Any]) -> dict[str, str]:
    return {str(key): str(why) for key, why in document["died"].items()}
