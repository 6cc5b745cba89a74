"""
How near the ledger comes to what llama-server says it takes, for models of many architectures in true shape.

    bench/memory_shapes.py /path/to/llama-server [NAME …] [--record FILE] [--write docs/memory.md]

Asks about ten launches of each model (without loading: some 0.7 s for each) and prints the largest errors in
per cent, by architecture.  ``--record`` writes what the engine said, which tests/unit/test_memory_shapes.py
holds the ledger against; ``--write`` puts the table into the document, between its two marks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from supervisor.engine.inspection import features_used
from supervisor.hardware.detection import detect
from supervisor.memory.context import KNOWN

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.memory import LEAST, MIB, Compared, planned, write
from tests.fakes.architectures import launches_of, true_shapes, write_shape
from tests.memory_engine import ask

MARKS = ("<!-- table of bench/memory_shapes.py -->\n", "<!-- end of that table -->\n")


def compare(server: Path, name: str, folder: Path, features: Sequence[str]) -> list[Compared]:
    file, model = folder / f"{name}.gguf", true_shapes()[name].model
    write_shape(file, name)
    found = []
    for options in launches_of(name):
        measured = ask(server, file, options.split()).get("RAM")
        if measured is None:
            print(f"{name}: the engine itself fails with {options}", file=sys.stderr)
            continue
        ours = planned(model, options.split(), features, whole_batch=False)
        mine = (ours.weights.bytes, ours.context.bytes, ours.compute.bytes)
        theirs = (measured.weights_bytes, measured.context_bytes, measured.compute_bytes)
        found.append(Compared(options, (*mine, sum(mine)), (*theirs, sum(theirs))))
    file.unlink()
    return found


def record(name: str, compared: Sequence[Compared]) -> Iterator[str]:
    for each in compared:
        weights, context, compute, _ = (figure // MIB for figure in each.theirs)
        yield f"{name} | {each.options} | {weights}+{context}+{compute}"


def table(found: dict[str, list[Compared]]) -> Iterator[str]:
    yield "| architecture | models | launches | weights | context | compute | all |"
    yield "|---|---|---|---|---|---|---|"
    by_architecture: dict[str, list[str]] = {}
    for name in found:
        by_architecture.setdefault(true_shapes()[name].architecture, []).append(name)
    for architecture, names in by_architecture.items():
        compared = [each for name in names for each in found[name]]
        errors = [span(compared, column) for column in range(4)]
        yield f"| {architecture} | {', '.join(names)} | {len(compared)} | {' | '.join(errors)} |"


def span(compared: Sequence[Compared], column: int) -> str:
    """The largest error under and over, without one that is below the engine's rounding to MiB."""
    errors = [error for each in compared if (error := _error(each, column)) is not None]
    if not errors:
        return "none"
    under, over = min(0.0, *errors), max(0.0, *errors)
    return f"{under:.1f} to {over:+.1f} %"


def _error(each: Compared, column: int) -> float | None:
    off = abs(each.ours[column] - each.theirs[column])
    if each.theirs[column] < LEAST:
        return None
    return 0.0 if off <= MIB else each.error(column)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("server", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[Compared]] = {}
    with tempfile.TemporaryDirectory() as folder:
        features = features_used([str(arguments.server)], detect(Path(folder)).cpu.features)
        known = [name for name, shape in true_shapes().items() if shape.architecture in KNOWN]
        for name in arguments.names or known:
            found[name] = compare(arguments.server, name, Path(folder), features)
            print(f"{name}: all {span(found[name], 3)}", file=sys.stderr, flush=True)
    lines = list(table(found))
    print("\n".join(lines))
    if arguments.record:
        head = (
            "# What llama.cpp b11434 says it takes of models in true shape, in MiB, rounded down:\n"
            "# model | options | weights+context+compute.\n"
            "# Written by bench/memory_shapes.py --record, on a CPU with "
            f"{', '.join(f for f in features if f.startswith(('avx', 'amx')))}.\n"
        )
        said = "\n".join(line for name, each in found.items() for line in record(name, each))
        arguments.record.write_text(f"{head}{said}\n", encoding="utf-8")
    if arguments.write:
        write(arguments.write, lines, MARKS)


if __name__ == "__main__":
    main()
