"""
Which engine runs a profile, why, and why not the others.

``source: auto`` tries what is installed, then llama-server on PATH, then the embedded engine where it may
serve.  Downloads of llama.cpp's official releases will be one more source, tried before the embedded one.
"""

from __future__ import annotations

from ..errors import NoSuitableEngine, NotFound
from ..options.vocabulary import pinned as pinned_options
from ..paths import Paths
from ..profile.types import Engine
from ..progress import Progress
from . import compile as compiled
from . import embedded
from .build import Build
from .fitness import Wanted, wanted_number
from .ground import ASKED, Ground, because
from .toolchain import flavour_for


def acquire(engine: Engine, *, wants_gpu: bool, paths: Paths, progress: Progress) -> Build:
    """
    The engine for a profile, installed first where its source says so, which may take minutes.

    Raises NoSuitableEngine naming what was tried and why not, ConfigError for a source that lacks its
    path, and what an installation raises.
    """
    ground = _ground(engine, paths, wants_gpu=wants_gpu)
    match engine.source:
        case "path":
            return ground.at_path(engine.path)
        case "system":
            return ground.on_path()
        case "build":
            flavour = flavour_for(engine.flavour, wants_gpu=wants_gpu)
            return ground.of_install(
                compiled.install(paths.engines, _number(ground), flavour, progress), ASKED
            )
        case "embedded":
            ground.check_embedded(tried=())
            return ground.of_install(embedded.install(paths.engines, progress), ASKED)
        case "auto":
            found, passed = ground.at_hand()
            if found is None:
                ground.check_embedded(tried=passed)
                installation = embedded.install(paths.engines, progress)
                found = ground.of_install(installation, because("nothing better is at hand", passed))
            return found


def find(engine: Engine, *, wants_gpu: bool, paths: Paths) -> Build:
    """
    The same from what is at hand, for a plan: nothing is installed.

    Without an engine it is the pinned build's known options, and ``reason`` says what is missing.
    Raises as ``acquire`` does for an engine that was named and does not run, or is of another number.
    """
    ground = _ground(engine, paths, wants_gpu=wants_gpu)
    match engine.source:
        case "path" | "system":
            try:
                return ground.at_path(engine.path) if engine.source == "path" else ground.on_path()
            except NotFound as error:
                return pinned(str(error))
        case "build":
            return _find_compiled(engine, ground)
        case "embedded":
            ground.check_embedded(tried=())
            if made := embedded.present(paths.engines):
                return ground.of_install(made, ASKED)
            return pinned(f"{embedded.REPOSITORY} {embedded.TAG} is not installed yet, start does that")
        case "auto":
            found, passed = ground.at_hand()
            return found or pinned(because(f"No engine is at hand{ground.promise()}", passed))


def pinned(reason: str) -> Build:
    """No engine, but the options that the pinned build is known to have; ``reason`` is what is missing."""
    known = pinned_options()
    tag = f"b{known.build}"
    return Build(
        source="none",
        repository="ggml-org/llama.cpp",
        tag=tag,
        flavour="unknown",
        command=("llama-server",),
        digest="",
        capabilities=known,
        reason=f"{reason.rstrip('.')}: shown with the known options of {tag}.",
    )


def _find_compiled(engine: Engine, ground: Ground) -> Build:
    try:
        flavour = flavour_for(engine.flavour, wants_gpu=ground.wanted.gpu)
    except NoSuitableEngine as error:
        return pinned(str(error))
    number = _number(ground)
    if made := compiled.present(ground.paths.engines, number, flavour):
        return ground.of_install(made, ASKED)
    return pinned(f"llama.cpp b{number} ({flavour}) is not compiled yet, start does that")


def _ground(engine: Engine, paths: Paths, *, wants_gpu: bool) -> Ground:
    return Ground(paths, Wanted(engine.flavour, wanted_number(engine.channel), wants_gpu))


def _number(ground: Ground) -> int:
    return ground.wanted.number or compiled.NUMBER
