"""
Provides the two real engines for the tests: ``python tests/engines.py FOLDER``, as bin/test does.

Each is made once, by the program's own code, below FOLDER.  Prints shell assignments on stdout and
progress on stderr; ends with 1 where one of them could not be had.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.engine.choose import acquire
from supervisor.errors import SupervisorError
from supervisor.paths import Paths
from supervisor.prepare.prepare import install_context
from supervisor.profile.definition import Engine, ValueSource

NEWS_SECONDS = 10.0

# source of the engine, and the variable that names the first word of its command
WANTED: tuple[tuple[ValueSource, str], ...] = (
    ("embedded", "GOSS_TEST_EMBEDDED_PYTHON"),
    ("build", "GOSS_TEST_LLAMA_SERVER"),
)


def say(text: str) -> None:
    print(f"test: {text}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Lines:
    """Progress as a line for each step, and one now and then while it goes on."""

    text: str = ""
    said_at: float = field(default_factory=time.monotonic)

    def step(self, text: str) -> None:
        self.text = text
        self.said_at = time.monotonic()
        say(text)

    def update(self, fraction: float | None, detail: str = "") -> None:
        if time.monotonic() - self.said_at >= NEWS_SECONDS:
            self.said_at = time.monotonic()
            share = "" if fraction is None else f" {fraction:.0%}"
            say(f"{self.text}{share} {detail}".rstrip())


def main(folder: Path) -> int:
    status = 0
    for source, variable in WANTED:
        try:
            context = install_context(Paths.under(folder), Lines())
            build = acquire(Engine(source=source), wants_gpu=False, context=context)
        except SupervisorError as error:
            say(f"no engine of source {source}: {error} {error.hint}".rstrip())
            status = 1
        else:
            print(f"export {variable}={shlex.quote(build.command[0])}")
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
