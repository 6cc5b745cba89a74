"""
The results of ``bench``, and their history: one file each, under an id like ``demo-3``.

The id is the profile's name and a number.  The samples are kept as they were taken; medians and intervals
are computed when a result is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..decoding import decode
from ..errors import NotFound, SupervisorError
from ..files import JsonFile, write_json
from ..hardware.hardware import Hardware
from ..locks import waiting_lock
from ..plan.launch import LaunchPlan
from ..progress import Silent
from .measurement import Measured, Workload
from .reported import ReportedSpeed

MOST_RESULTS = 200  # a file has some 10 kB
_ID = re.compile(r"(?P<profile>.+)-(?P<number>[1-9]\d*)")
_FREE = re.compile(r" \(\d+ MiB, \d+ MiB free\)$")  # another figure each time; see `Build.devices`
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class BenchRow:
    """``scenario`` is why the workload was measured: ``chat``, or ``own`` for one of the command line's."""

    scenario: str
    measured: Measured


@dataclass(frozen=True, slots=True)
class BenchResult:
    """
    What one profile gave on one machine.  Holds no secrets.

    ``at`` is an ISO date and time with its zone.  ``fingerprint`` has the GPUs with their drivers, and
    ``devices`` has what the engine saw, empty where it is the CPU alone and in results of older versions.
    ``id`` is not in the file: the file's name is the id.
    """

    profile: str
    at: str
    machine: str
    fingerprint: str
    plan: str  # its digest
    build: str
    flavour: str
    model: str
    argv: tuple[str, ...]
    rows: tuple[BenchRow, ...]
    limits: tuple[str, ...] = ()  # what held the machine back in all runs alike, in words
    reported: tuple[ReportedSpeed, ...] = ()
    devices: tuple[str, ...] = ()
    id: str = ""

    @property
    def scenarios(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.scenario for row in self.rows))


def result_of(
    plan: LaunchPlan,
    hardware: Hardware,
    rows: Iterable[BenchRow],
    at: str,
    *,
    limits: tuple[str, ...] = (),
    reported: tuple[ReportedSpeed, ...] = (),
) -> BenchResult:
    """Not kept yet.  The secrets of a plan are in its environment, never in its arguments."""
    return BenchResult(
        profile=plan.profile,
        at=at,
        machine=machine_words(hardware),
        fingerprint=hardware.fingerprint,
        plan=plan.digest,
        build=plan.build,
        flavour=plan.flavour,
        model=plan.model,
        argv=plan.argv,
        rows=tuple(rows),
        limits=limits,
        reported=reported,
        devices=tuple(_FREE.sub("", each) for each in plan.devices),
    )


def machine_words(hardware: Hardware) -> str:
    """``Ryzen 7 9700X, 64 GiB, Radeon RX 9070 (16 GiB), linux x86_64``."""
    ram = f"{hardware.ram_bytes / _GIB:.0f} GiB" if hardware.ram_bytes else "unknown RAM"
    gpus = [gpu.name or gpu.device_id or gpu.vendor for gpu in hardware.gpus]
    own = [((gpu.memory_bytes or 0) - gpu.shared_bytes) / _GIB for gpu in hardware.gpus]
    cards = [f"{name} ({size:.0f} GiB)" if size >= 1 else name for name, size in zip(gpus, own, strict=True)]
    return ", ".join(
        (hardware.cpu.name or "unknown CPU", ram, *cards, f"{hardware.os} {hardware.arch}".strip())
    )


@dataclass(frozen=True, slots=True)
class BenchHistory:
    """The folder of the results; it need not exist."""

    folder: Path

    def all(self) -> tuple[list[BenchResult], list[str]]:
        """The oldest first; and a sentence for each file that was skipped."""
        found, skipped = [], []
        for path in self.folder.glob("*.json"):
            try:
                result = self._file(path).read()
            except SupervisorError as error:
                skipped.append(str(error))
            else:
                found += [replace(result, id=path.stem)] if result else []
        return sorted(found, key=lambda each: (each.at, _number(each.id))), sorted(skipped)

    def ids(self) -> list[str]:
        """Of all files, read or not: for completion."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def keep(self, result: BenchResult) -> BenchResult:
        """
        With its id.  The oldest results beyond `MOST_RESULTS` are removed.

        Raises PermissionDenied or SupervisorError where it cannot be written.
        """
        with waiting_lock(self.folder / "bench.lock", "waiting for another bench to end", Silent()):
            numbers = [_number(each) for each in self.ids() if _profile(each) == result.profile]
            kept = replace(result, id=f"{result.profile}-{max(numbers, default=0) + 1}")
            document = asdict(kept)
            del document["id"]
            write_json(self.folder / f"{kept.id}.json", document)
            for old in self.all()[0][:-MOST_RESULTS]:
                self._path(old.id).unlink(missing_ok=True)
        return kept

    def find(self, name: str) -> BenchResult:
        """The result of this id, else the last one of this profile.  Raises NotFound, and ConfigError."""
        if name in self.ids():
            result = self._file(self._path(name)).read()
            if result is not None:
                return replace(result, id=name)
        results, _ = self.all()
        of_profile = [each for each in results if each.profile == name]
        if not of_profile:
            raise NotFound(
                f"No result is called {name}, and no profile of this name was measured here.",
                hint=f"goss-supervisor bench ls, or measure a profile: goss-supervisor bench {name}",
            )
        return of_profile[-1]

    def remove(self, *ids: str) -> None:
        """All of them, damaged ones too, or none.  Raises NotFound."""
        known = self.ids()
        for each in ids:
            if each not in known:
                raise NotFound(f"No result is called {each}.", hint="goss-supervisor bench ls")
        for each in ids:
            self._path(each).unlink(missing_ok=True)

    def _path(self, id_: str) -> Path:
        return self.folder / f"{id_}.json"

    def _file(self, path: Path) -> JsonFile[BenchResult | None]:
        remedy = f"Or remove it: goss-supervisor bench rm {path.stem}"
        return JsonFile(path, _result, _unused, None, remedy=remedy)


def _result(document: dict[str, Any]) -> BenchResult:
    """Raises NOT_OURS."""
    return decode(BenchResult, document, {"at": (_is_time, "a time such as 2026-11-30T21:15:00+00:00")})


def _is_time(text: str) -> bool:
    """One that this machine's clock can show."""
    try:
        datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return False
    return True


def _unused(result: BenchResult | None) -> dict[str, Any]:
    return asdict(result) if result else {}


def _number(id_: str) -> int:
    found = _ID.fullmatch(id_)
    return int(found["number"]) if found else 0


def _profile(id_: str) -> str:
    found = _ID.fullmatch(id_)
    return found["profile"] if found else ""


# --- two results


@dataclass(frozen=True, slots=True)
class MatchedRows:
    """The rows of two results that measured the same; and what only one of them measured."""

    both: tuple[tuple[BenchRow, BenchRow], ...]
    only_first: tuple[BenchRow, ...]
    only_second: tuple[BenchRow, ...]


def matched(first: BenchResult, second: BenchResult) -> MatchedRows:
    """Rows of the same workload."""
    ours = {_asked(row.measured.workload): row for row in first.rows}
    theirs = {_asked(row.measured.workload): row for row in second.rows}
    return MatchedRows(
        tuple((row, theirs[key]) for key, row in ours.items() if key in theirs),
        tuple(row for key, row in ours.items() if key not in theirs),
        tuple(row for key, row in theirs.items() if key not in ours),
    )


def _asked(workload: Workload) -> Workload:
    """How many tokens a text has depends on the model's vocabulary."""
    return replace(workload, prompt_tokens=0) if workload.text else workload


def differences(first: BenchResult, second: BenchResult) -> list[str]:
    """What may explain a difference in speed, a clause each: ``the build: b11434 cpu, b11440 cpu``."""
    pairs = {
        "machine": (first.machine, second.machine),
        "GPUs or their drivers": (first.fingerprint, second.fingerprint),
        "profile": (first.profile, second.profile),
        "model": (first.model, second.model),
        "build": (f"{first.build} {first.flavour}", f"{second.build} {second.flavour}"),
    }
    found = [f"{what}: {one}; {other}" for what, (one, other) in pairs.items() if one != other]
    return found + options_changed(first.argv, second.argv)


def options_changed(first: tuple[str, ...], second: tuple[str, ...]) -> list[str]:
    """Of two command lines: the options that are not the same in both."""
    ours, theirs = _options(first), _options(second)
    return [
        f"{name}: {ours.get(name, 'not set')}; {theirs.get(name, 'not set')}"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name) and name not in _PLACES
    ]


_PLACES = {"--host", "--port", "--alias", "--model", "-m"}  # they change nothing about the speed, or are told


def _options(argv: tuple[str, ...]) -> dict[str, str]:
    """Each option with its values; a negative number is a value."""
    found: dict[str, str] = {}
    name = ""
    for word in argv[1:]:
        if word.startswith("-") and not word[1:2].isdigit():
            name = word
            found[name] = "on"
        elif name:
            found[name] = word if found[name] == "on" else f"{found[name]} {word}"
    return found
