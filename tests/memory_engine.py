"""Asks a real llama-server, or llama-fit-params, what a launch takes: half a second, nothing is loaded."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from supervisor.memory.engine_figures import Taken, read_table

DEADLINE_SECONDS = 60.0
AFTER_THE_TABLE = ("projected to use", "fitting params", "Host ")


def ask(program: Path, model: Path, options: Sequence[str]) -> Mapping[str, Taken]:
    """The first table that the engine prints, by name of the pool; empty where it printed none."""
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
    try:
        told = read_table(_until_measured(process))
    finally:
        alarm.cancel()
        process.kill()
        process.communicate()
    return by_pool(told.buffers) if told else {}


def by_pool(buffers: Mapping[str, Taken]) -> Mapping[str, Taken]:
    """What has no device is in the RAM: Host, CPU_REPACK, AMX."""
    pools: dict[str, Taken] = {}
    for name, taken in buffers.items():
        pool = "RAM" if name.startswith(("Host", "CPU", "AMX")) or name.endswith("_Host") else name
        pools[pool] = pools.get(pool, Taken()) + taken
    return pools


def _until_measured(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    seen = False
    for line in process.stdout:
        seen = seen or "memory breakdown" in line
        yield line
        if seen and "breakdown" not in line and any(words in line for words in AFTER_THE_TABLE):
            return
