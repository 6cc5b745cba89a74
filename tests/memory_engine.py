"""Asks a real llama-server, or llama-fit-params, what a launch takes: half a second, nothing is loaded."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from supervisor.memory.engine_figures import Taken, read_table

DEADLINE_SECONDS = 60.0
AFTER_THE_TABLE = ("projected to use", "fitting params", "Host ")


def ask(program: Path, model: Path, options: Sequence[str]) -> Mapping[str, Taken]:
    """The first table that the engine prints, by name of the pool; empty where it printed none."""
    with _started(program, model, options) as lines:
        told = read_table(_until_measured(lines))
    return by_pool(told.buffers) if told else {}


def ask_about_projector(program: Path, model: Path, options: Sequence[str]) -> int:
    """The bytes of its weights and its compute buffer, rounded to 0.01 MiB; 0 where the engine fails."""
    said = re.compile(r"estimated worst-case memory usage of mmproj is ([0-9.]+) MiB")
    with _started(program, model, options) as lines:
        found = next(filter(None, map(said.search, lines)), None)
    return round(float(found[1]) * 1024**2) if found else 0


@contextmanager
def _started(program: Path, model: Path, options: Sequence[str]) -> Iterator[Iterator[str]]:
    """The lines that it prints, until nobody wants more."""
    own = [] if "fit-params" in program.name else ["--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [program, "-m", model, "-lv", "4", *own, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    alarm = threading.Timer(DEADLINE_SECONDS, process.kill)
    alarm.start()
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
    finally:
        alarm.cancel()
        process.kill()
        process.communicate()


def by_pool(buffers: Mapping[str, Taken]) -> Mapping[str, Taken]:
    """What has no device is in the RAM: Host, CPU_REPACK, AMX."""
    pools: dict[str, Taken] = {}
    for name, taken in buffers.items():
        pool = "RAM" if name.startswith(("Host", "CPU", "AMX")) or name.endswith("_Host") else name
        pools[pool] = pools.get(pool, Taken()) + taken
    return pools


def _until_measured(lines: Iterator[str]) -> Iterator[str]:
    seen = False
    for line in lines:
        seen = seen or "memory breakdown" in line
        yield line
        if seen and "breakdown" not in line and any(words in line for words in AFTER_THE_TABLE):
            return
