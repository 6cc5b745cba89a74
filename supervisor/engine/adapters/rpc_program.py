"""``ggml-rpc-server`` of a build of llama.cpp, as a build: where it is, and what options it has."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from ...errors import NoSuitableEngine
from ...options.help import Capabilities, HelpOption
from ...tool import run_engine
from ..build import Build
from ..inspection import TIMEOUT_SECONDS, cannot_start, digest, does_not_answer

NAMES: Final = ("ggml-rpc-server", "rpc-server")  # since b9824, and before
_OPTION: Final = re.compile(r"^\s+(-\w), (--[\w-]+)( \S+)?\s{2,}(.*)$", re.MULTILINE)
_NO_RPC: Final = (
    "llama.cpp's releases have it, and so has a build that is compiled here: --set engine.source=release or "
    "build. For a build of your own: --set engine.source=path --set engine.path=/path/to/llama-server."
)


def find_program(build: Build) -> Path | None:
    """It lies next to llama-server, where the build has it."""
    server = Path(build.command[0])
    folders = dict.fromkeys((server.parent, server.resolve().parent))
    suffix = ".exe" if sys.platform == "win32" else ""
    candidates = (folder / f"{name}{suffix}" for folder in folders for name in NAMES)
    return next((each for each in candidates if each.is_file()), None) if len(build.command) == 1 else None


def build_of(build: Build, variables: Mapping[str, str]) -> Build:
    """
    The same build with the RPC server as its program.  Raises NoSuitableEngine for one without it, as
    Homebrew's and the embedded one are, and as `inspect` does for one that does not run.
    """
    if build.source == "none":
        return replace(build, command=(NAMES[0],))
    program = find_program(build)
    if program is None:
        again = f"It was compiled without it: goss-supervisor engine remove {build.tag}, then start it again."
        raise NoSuitableEngine(
            f"{build.command[0]} ({build.tag}) comes without {NAMES[0]}, so it can lend no memory.",
            hint=again if build.source == "build" else _NO_RPC,
        )
    try:
        outcome = run_engine([str(program), "--help"], TIMEOUT_SECONDS, variables)
    except OSError as error:
        raise cannot_start(program, error) from error
    if outcome.returncode != 0:
        raise does_not_answer(program, "--help", outcome, TIMEOUT_SECONDS)
    options = tuple(
        HelpOption((short, long), takes_value=bool(value), summary=about)
        for short, long, value, about in _OPTION.findall(outcome.stderr + outcome.stdout)
    )
    known = build.capabilities
    return replace(
        build,
        command=(str(program),),
        digest=digest((program,)),
        capabilities=Capabilities(known.build, known.commit, known.version, options),
    )
