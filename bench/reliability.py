"""
Injects every fault of tests/faults/, one after the other, and says what was promised and what was seen.

    bench/reliability.py [--only WORDS] [--write docs/reliability.md] [ENGINE]

Each fault has a home of its own; those of a section that happen while clients ask share one as long as all is
well.  The engine is the real llama-server with the demo model, or the scripted one where a real one cannot be
made to show it.  Takes some six minutes on two cores; as root it also fills disks (tmpfs).  Ends with 1 where
something was seen that was not promised.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.e2e.conftest import BUILT
from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.faults.ground import Ground
from tests.faults.page import put, versions

MARKS = ("<!-- table of bench/reliability.py -->\n", "<!-- end of table -->\n")
NOT = "**not as promised:** "


@dataclass(frozen=True, slots=True)
class Seen:
    """``recovered`` is in seconds, None where nothing had to."""

    fault: Fault
    what: str
    recovered: float | None
    seconds: float


class Runner:
    """Of one fault after the other."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._shared: Ground | None = None
        self._section = ""

    def run(self, faults: Sequence[Fault]) -> Iterator[Seen]:
        for fault in faults:
            ground, began = self._ground(fault), time.monotonic()
            ground.took = None
            try:
                what = fault.check(ground)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what was seen
                what = f"{NOT}{type(error).__name__}: {ground.plain(str(error))}"
                self._shared = None
            yield Seen(fault, what, ground.took, time.monotonic() - began)
        self._stack.close()

    def _ground(self, fault: Fault) -> Ground:
        if fault.inject and self._shared and self._section == fault.section:
            return self._shared
        self._section = fault.section  # what one took away, such as a socket, is missed after a kill only
        self._stack.close()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="goss-faults-"))
        ground = self._stack.enter_context(Ground.fresh(Path(folder)))
        self._shared = None
        if fault.inject:
            ground.small_disk()
            self._shared = ground
        return ground


def table(seen: Sequence[Seen], before: str) -> str:
    """All faults in their order: with what was seen now, else with the row of the table of ``before``."""
    known = _rows(before)
    known |= {(each.fault.section, each.fault.name): _row(each) for each in seen}
    wrong = sum(NOT in row for row in known.values())
    parts = [f"{versions()}: {len(known)} faults, {len(known) - wrong} as promised.\n"]
    for section, some in groupby(FAULTS, key=lambda each: each.section):
        parts.append(f"\n### {section}\n\n| fault | how it is injected | promised | seen | well after |\n")
        parts.append("|---|---|---|---|---|\n")
        parts += [known[key] for each in some if (key := (section, each.name)) in known]
    return "".join(parts)


def _rows(text: str) -> dict[tuple[str, str], str]:
    """By section and name; of faults that are still there."""
    names = {(each.section, each.name) for each in FAULTS}
    found, section = {}, ""
    for line in text.partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines(keepends=True):
        section = line.removeprefix("### ").strip() if line.startswith("### ") else section
        if (key := (section, line[2:].partition(" | ")[0])) in names:
            found[key] = line
    return found


def _row(each: Seen) -> str:
    after = "" if each.recovered is None else f"{each.recovered:.1f} s"
    words = (each.fault.name, each.fault.how, each.fault.promise, each.what)
    cells = [word.replace("|", "\\|").replace("\n", " ") for word in words]
    return f"| {' | '.join([*cells, after])} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", nargs="?", default=os.environ.get(BUILT), help=f"default: {BUILT}")
    parser.add_argument("--only", default="", help="those whose section or name has these words")
    parser.add_argument("--write", type=Path, help="put what was seen into the table of this page")
    options = parser.parse_args()
    if not options.engine:
        parser.error(f"name a llama-server, or set {BUILT}")
    os.environ[BUILT] = options.engine
    faults = [
        each
        for each in FAULTS
        if options.only in f"{each.section}: {each.name}" and (os.geteuid() == 0 or not each.needs_root)
    ]
    seen = []
    for each in Runner().run(faults):
        seen.append(each)
        print(f"{each.seconds:6.1f} s  {each.fault.section}: {each.fault.name}: {each.what}", flush=True)
    if options.write:
        put(options.write, MARKS, table(seen, options.write.read_text(encoding="utf-8")))
    wrong = [each for each in seen if each.what.startswith(NOT)]
    print(f"{len(seen)} faults, {len(seen) - len(wrong)} as promised")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
