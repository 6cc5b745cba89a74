"""
How near the ledger comes to what llama.cpp measures itself, for gpt-oss-20b and 120b in true shape.

    bench/memory.py /path/to/llama-server [/path/to/llama-fit-params] [--write docs/memory.md]

Asks each program about 180 launches (without loading: some 0.7 s for each) and prints the errors in per cent,
by column; ``--write`` puts the table into the document, between its two marks.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from supervisor.engine.inspection import features_used
from supervisor.hardware.detection import detect
from supervisor.memory.accounts import Account, Pool
from supervisor.memory.engine_figures import Taken
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import settings_of
from supervisor.model.metadata import Model
from supervisor.model.open import open_model
from supervisor.options.parse import parse_arguments

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.fakes.shapes import SHAPES, Size, write_sparse
from tests.memory_engine import ask

CONTEXTS = (4096, 16384, 32768, 65536, 131072)
UBATCHES = (512, 2048, 4096)
CACHES = ("f16", "q8_0", "q4_0")
BESIDE = ("-np 1", "-np 4", "-np 4 -kvu", "--no-repack", "--swa-full")
MIB = 1024**2
LEAST = 8 * MIB  # the engine rounds to MiB: per cents of less than this say nothing
MARKS = ("<!-- table of bench/memory.py -->\n", "<!-- end of table -->\n")
COLUMNS = ("weights", "context", "compute", "all")


@dataclass(frozen=True, slots=True)
class Compared:
    """Bytes, in the order of COLUMNS."""

    options: str
    ours: tuple[int, ...]
    theirs: tuple[int, ...]

    def error(self, column: int) -> float | None:
        """Per cent; positive where we plan more than it is."""
        theirs = self.theirs[column]
        return None if theirs < LEAST else 100 * (self.ours[column] - theirs) / theirs


def grid() -> Iterator[str]:
    for context, ubatch, cache in itertools.product(CONTEXTS, UBATCHES, CACHES):
        yield f"-c {context} -ub {ubatch} -b {ubatch} -fa on -ctk {cache} -ctv {cache}"
    for context, ubatch, beside in itertools.product(CONTEXTS[::2], UBATCHES, BESIDE):
        yield f"-c {context} -ub {ubatch} -b {ubatch} {beside}"


def planned(model: Model, words: Sequence[str], features: Sequence[str], *, whole_batch: bool) -> Account:
    options = dict(parse_arguments(words).options)
    if whole_batch:  # llama-fit-params has one slot where nothing else is said, and logits of every token
        options.setdefault("parallel", 1)
    settings = settings_of(options, None, model)
    if whole_batch:
        settings = replace(settings, outputs=settings.ubatch)
    ledger = account(model, settings, [Pool("RAM", None, None)], cpu_features=features, flavour="cpu")
    return ledger.accounts[-1]


def compare(program: Path, file: Path, model: Model, options: str, features: Sequence[str]) -> Compared:
    words = options.split()
    measured = ask(program, file, words).get("RAM", Taken())
    if measured == Taken():
        raise SystemExit(f"{program} says nothing of its memory for {options}")
    ours = planned(model, words, features_used([str(program)], features), whole_batch=_is_tool(program))
    mine = (ours.weights.bytes, ours.context.bytes, ours.compute.bytes)
    theirs = (measured.weights_bytes, measured.context_bytes, measured.compute_bytes)
    return Compared(options, (*mine, sum(mine)), (*theirs, sum(theirs)))


def run(program: Path, files: Mapping[Size, Path], features: Sequence[str]) -> list[Compared]:
    models = {file: open_model(file) for file in files.values()}
    launches = [options for options in grid() if not (_is_tool(program) and "-kvu" in options)]
    return [
        compare(program, file, model, options, features)
        for file, model in models.items()
        for options in launches
    ]


def _is_tool(program: Path) -> bool:
    """Whether it is llama-fit-params, which lacks the server's own options."""
    return "fit-params" in program.name


def table(found: Mapping[str, Sequence[Compared]]) -> Iterator[str]:
    yield "| program | column | launches | mean error | largest over | largest under | aim |"
    yield "|---|---|---|---|---|---|---|"
    for program, compared in found.items():
        for column, name in enumerate(COLUMNS):
            errors = [error for each in compared if (error := each.error(column)) is not None]
            mean = sum(map(abs, errors)) / len(errors)
            aim = {"weights": "1 %", "context": "1 %", "compute": "15 %", "all": "2 % under"}[name]
            over, under = max([*errors, 0.0]), min([*errors, 0.0])
            cells = (program, name, len(errors), f"{mean:.2f} %", f"{over:.2f} %", f"{under:.2f} %", aim)
            yield "| " + " | ".join(map(str, cells)) + " |"


def write(document: Path, lines: Sequence[str], marks: tuple[str, str] = MARKS) -> None:
    """Put them between these marks of the document."""
    text = document.read_text(encoding="utf-8")
    before, rest = text.split(marks[0])
    _, after = rest.split(marks[1])
    document.write_text(f"{before}{marks[0]}\n{chr(10).join(lines)}\n\n{marks[1]}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("programs", nargs="+", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = {size: Path(folder) / f"{size}.gguf" for size in SHAPES}
        for size, file in files.items():
            write_sparse(file, size)
        features = detect(Path(folder)).cpu.features
        found = {program.name: run(program, files, features) for program in arguments.programs}
    lines = list(table(found))
    print("\n".join(lines))
    if arguments.write:
        write(arguments.write, lines)


if __name__ == "__main__":
    main()
