"""
Why an engine does not see the device that it is for.

llama.cpp leaves a backend whose library does not load out without a word, and goes on with the CPU.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...tool import Outcome, clean_environment, run_tool
from ..broken import BUILD_HINT, remedy

TIMEOUT_SECONDS = 30.0
# the library of a backend, as ggml/src names it
_LIBRARIES = {
    "cuda": "ggml-cuda",
    "rocm": "ggml-hip",
    "vulkan": "ggml-vulkan",
    "metal": "ggml-metal",
    "sycl": "ggml-sycl",
    "opencl": "ggml-opencl",
    "openvino": "ggml-openvino",
}
_SPELLINGS = ("lib{}.so", "{}.dll", "lib{}.dylib")
_COMPLAINT = re.compile(
    r"fail|error|insufficient|not found|no \S* ?devices?\b|unable|cannot|unsupported|not supported|invalid",
    re.IGNORECASE,
)
_NOISE = re.compile(r"^\d+(?:\.\d+){3} [A-Z] +|^\w+Error: ")
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


def why_unseen(command: Sequence[str], family: str) -> str:
    """
    The words of the engine, of the linker, or of nobody; ``family`` as in ``cuda``.

    The engine's come first: with its library loaded, it is the driver that speaks.
    """
    return _complaint(_ask([*command, "--list-devices"])) or _of_library(Path(command[0]), family)


def _of_library(binary: Path, family: str) -> str:
    name = _LIBRARIES.get(family)
    library = _beside(binary, name) if name else None
    if library is None:
        return f"there is no library {name or family} beside it, and it says nothing"
    outcome = _ask([sys.executable, "-I", "-c", _LOAD, str(library)])
    if outcome.returncode == 0:
        return f"{library.name} loads, but its driver shows it none, or this user may not open it"
    if outcome.returncode is None:
        return f"{library.name} did not load within {TIMEOUT_SECONDS:g} s"
    if outcome.returncode < 0:
        return f"{library.name} crashes when it is loaded ({signal.Signals(-outcome.returncode).name})"
    return _with_remedy(_last_line(outcome.stderr))


def _beside(binary: Path, name: str) -> Path | None:
    """In the folder of the binary, or in ``lib`` where ``cmake --install`` puts it."""
    here = binary.resolve().parent
    places = (folder / form.format(name) for folder in (here, here.parent / "lib") for form in _SPELLINGS)
    return next((place for place in places if place.exists()), None)


def _with_remedy(words: str) -> str:
    missing = re.match(r"(\S+\.so[.\d]*): cannot open shared object", words)
    what_to_do = remedy(missing[1]) if missing else BUILD_HINT
    return words if what_to_do == BUILD_HINT else f"{words} ({what_to_do.rstrip('.')})"


def _complaint(outcome: Outcome) -> str:
    lines = (_NOISE.sub("", line.strip()) for line in outcome.stderr.splitlines())
    return next((line for line in lines if _COMPLAINT.search(line)), "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _NOISE.sub("", lines[-1]) if lines else "its library does not load"


def _ask(command: Sequence[str]) -> Outcome:
    """An outcome also for what cannot be started: it ran a moment ago, so that is a word like any other."""
    with tempfile.TemporaryDirectory(prefix="goss-empty-config-") as empty:
        try:
            return run_tool(command, clean_environment(os.environ, Path(empty)), TIMEOUT_SECONDS)
        except OSError as error:
            return Outcome(1, "", str(error))
