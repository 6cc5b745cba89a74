"""
Coverage-guided fuzzing of whatever reads anybody's bytes, with atheris (pip install --group fuzz).

    bench/fuzz.py [TARGET …] [--seconds 60] [--keep .cache/fuzz]

The targets are in tests/fuzz_targets.py; without a name, each has its turn.  Every input that reaches new
code is kept for the next run.  One that breaks a promise, takes more than 10 s or more than 1 GiB is written
next to them, and ends its target: mend the program, and add the input to the target's ``found``.

Exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
MEMORY = Path("/dev/shm")  # a disk in memory, where there is one
LONGEST_BYTES, MOST_SECONDS, MOST_MIB = 1 << 16, 10, 1024


def fuzz_one(name: str, seconds: int, corpus: Path) -> None:
    """Does not return: libFuzzer ends the process, with 0 where nothing was found."""
    import atheris  # noqa: PLC0415 - a tool that only this process needs

    with atheris.instrument_imports(include=["supervisor", "tests.fuzz_targets"]):
        from tests.fuzz_targets import TARGETS, spoiled  # noqa: PLC0415 - instrumented
    target = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.inputs:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
        """Half of the time with what libFuzzer knows, half with what is known of JSON."""
        changed: bytes = spoiled(data, Random(seed)) if seed % 2 else atheris.Mutate(data, most_bytes)
        return changed[:most_bytes]

    def try_one(data: bytes) -> None:
        target.refusal(data)

    logging.disable()  # messages about damaged files
    limits = [f"-max_total_time={seconds}", f"-timeout={MOST_SECONDS}", f"-rss_limit_mb={MOST_MIB}"]
    more = [f"-max_len={LONGEST_BYTES}", f"-artifact_prefix={corpus.parent}/{name}-"]
    atheris.Setup(
        [sys.argv[0], *limits, *more, "-print_final_stats=1", str(corpus)], try_one, custom_mutator=mutate
    )
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", type=Path, default=ROOT / ".cache" / "fuzz", help="folder of the inputs")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.in_this_process:
        fuzz_one(asked.targets[0], asked.seconds, asked.keep / asked.targets[0])
    from tests.fuzz_targets import TARGETS  # noqa: PLC0415 - not before fuzz_one instruments it

    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    broken = []
    for name in asked.targets or TARGETS:
        how = ["--seconds", str(asked.seconds), "--keep", str(asked.keep.absolute()), "--in-this-process"]
        command = [sys.executable, __file__, name, *how]
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            env = os.environ | {"TMPDIR": folder}  # libFuzzer ends its process without cleaning up
            ran = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, env=env
            )
        counts = dict(line[6:].split(":") for line in ran.stderr.splitlines() if line.startswith("stat::"))
        inputs = len(list((asked.keep / name).iterdir()))
        verdict = "BROKEN" if ran.returncode else "ok"
        runs = counts.get("number_of_executed_units", "?").strip()
        print(f"{name:<10} {verdict:<7} {runs:>9} runs  {inputs:>6} inputs kept", flush=True)
        if ran.returncode:
            broken.append(name)
            said = (line for line in ran.stderr.splitlines() if not line.startswith("INFO:"))
            print("\n".join(said)[-6000:], file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
