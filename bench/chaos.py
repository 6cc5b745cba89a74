"""
Faults at random, under clients that check every answer to the letter, with the real llama-server.

    bench/chaos.py --minutes 10 --seed 1 [--json FILE] [--write docs/reliability.md] [ENGINE]

Draws from those of tests/faults/ that can happen while clients ask: kills, stops, switches, loads, evictions,
reloads, garbage, a full disk (root only), a shortage of descriptors, removed folders, freezes.  A seed gives
the same faults in the same order, though not at the same moments.  Ends with 1 where something happened that
must not: an answer that is silently wrong, or cut but clean; a request that hangs for over 60 s; a stranger
that was signalled; a process, socket, lock or temporary file that is left; a model that does not come back.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.e2e.conftest import BUILT
from tests.faults.catalogue import FAULTS
from tests.faults.chaos import run
from tests.faults.page import put, versions

MARKS = ("<!-- figures of bench/chaos.py -->\n", "<!-- end of figures -->\n")
BY = {
    "ConnectionRefusedError": "connections refused while no daemon ran",
    "no answer": "closed without an answer",
    "cut off": "streams that just ended",
}


def figures(found: dict[str, Any], minutes: float) -> str:
    """A table for people."""
    recovery = found["recovery_seconds"]
    broken = ", ".join(f"{count:,} {BY.get(by, by)}" for by, count in found["broken_by"].items())
    rows = {
        "answers to the letter": f"{found['whole']:,}",
        "visibly broken": f"{found['visibly_broken']:,}: {broken}",
        "silently wrong": found["silently_wrong"],
        "cut but clean": found["cut_but_clean"],
        "hung for over 60 s": found["hung_over_60_s"],
        "strangers signalled": len(found["strangers_signalled"]),
        "processes, sockets, locks, temporary files left": len(found["leftovers"]),
        "models that did not come back within 60 s": len(found["troubles"]),
        "all models answer again after": ", ".join(
            f"{value:.1f} s ({name})" for name, value in recovery.items()
        ),
        "growth of the daemon that lived longest": f"{found['grown_bytes_in_it'] / 2**20:.1f} MiB, "
        f"{found['grown_descriptors_in_it']} descriptors in {found['longest_life_seconds']:.0f} s",
    }
    lines = [f"| {name} | {value} |\n" for name, value in rows.items()]
    command = f"`bench/chaos.py --minutes {minutes:g} --seed {found['seed']}`"
    kinds = f"{found['faults']} faults of {found['kinds_of_faults']} kinds"
    head = f"{versions()}: {command}, {kinds}, {found['requests']:,} requests.\n\n"
    return "".join([head, "| | |\n|---|---|\n", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", nargs="?", default=os.environ.get(BUILT), help=f"default: {BUILT}")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="all figures, with each thing that must not be")
    parser.add_argument("--write", type=Path, help="put the table into this page, between its marks")
    options = parser.parse_args()
    if not options.engine:
        parser.error(f"name a llama-server, or set {BUILT}")
    os.environ[BUILT] = options.engine
    faults = [each for each in FAULTS if each.inject and (os.geteuid() == 0 or not each.needs_root)]
    with tempfile.TemporaryDirectory(prefix="goss-chaos-") as folder:
        report = run(
            Path(folder),
            faults,
            seconds=options.minutes * 60,
            seed=options.seed,
            say=lambda line: print(line, flush=True),
        )
    found = report.document()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    table = figures(found, options.minutes)
    print(
        table, *(f"{found[key]}" for key in ("troubles", "leftovers", "strangers_signalled", "false_answers"))
    )
    if options.write:
        put(options.write, MARKS, table)
    return 0 if report.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
