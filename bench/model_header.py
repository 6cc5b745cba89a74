"""
What it costs to know a model: the header of gpt-oss-120b, first and from the cache.

    bench/model_header.py

Writes a file of the model's true size that takes 9 MB on disk.  Prints medians with their aims, and the same
by the gguf package where it can be imported, as a ratio within this one run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from supervisor.model.open import open_model

RUNS, RUNS_OF_GGUF = 9, 3
MEMORY = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
OURS = "from supervisor.model.open import open_model; from pathlib import Path\n"
ROOT = str(Path(__file__).parent.parent)
WRITE = (
    f"import sys; sys.path.insert(0, {ROOT!r})\n"
    "from tests.fakes.shapes import write_sparse; from pathlib import Path\n"
)
THEIRS = "from gguf import GGUFReader\n"


def median_seconds(runs: int, work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def peak_bytes(program: str) -> int:
    """Of a child that runs it, which on Linux is never less than that of this process when it forked."""
    return int(run(program + MEMORY)) * (1 if sys.platform == "darwin" else 1024)


def show(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<44}{value:>9.1f} {unit:<4} aim: {aim}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, cache = Path(folder) / "120b.gguf", Path(folder) / "cache"
        run(f"{WRITE}write_sparse(Path({str(file)!r}), '120b')")
        peak = peak_bytes(f"{OURS}open_model(Path({str(file)!r}))")
        first = median_seconds(RUNS, lambda: open_model(file))
        open_model(file, cache)
        cached = median_seconds(RUNS, lambda: open_model(file, cache))
        show("first read", first * 1e3, "ms", "250 ms")
        show("read from the cache", cached * 1e3, "ms", "5 ms")
        show("memory, whole process", peak / 2**20, "MiB", "30 MiB")
        if find_spec("gguf") is None:
            print("the gguf package is not installed: nothing to compare with")
        else:
            compare(file, first, cached)


def compare(file: Path, first: float, cached: float) -> None:
    """With the gguf package."""
    peak = peak_bytes(f"{THEIRS}GGUFReader({str(file)!r})")
    from gguf import GGUFReader  # noqa: PLC0415 - it may not be there

    theirs = median_seconds(RUNS_OF_GGUF, lambda: GGUFReader(file))
    show("gguf package, read", theirs * 1e3, "ms", "-")
    show("gguf package, memory, whole process", peak / 2**20, "MiB", "-")
    show("gguf package / first read", theirs / first, "x", "-")
    show("gguf package / read from the cache", theirs / cached, "x", "-")


if __name__ == "__main__":
    main()
