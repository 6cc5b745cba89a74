"""
Chooses the engine for a profile, and explains why not the others.

``source: auto`` is the official release for this machine.  If there is none, it is another installed engine,
then llama-server on PATH, then the embedded engine where it suits, then one compiled here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..errors import NetworkError, NoSuitableEngine, NotFound, SupervisorError
from ..profile.definition import Engine
from .build import Build
from .install_context import InstallContext
from .inventory import Install
from .local_engines import ASKED, OFFERS, LocalEngines, because, promised
from .pypi import compile as compiled
from .pypi import embedded
from .pypi.compile import FLAVOURS, flavour_for
from .released import Released
from .suitability import WantedEngine, wanted_number, why_not_embedded


def acquire(engine: Engine, *, wants_gpu: bool, means: InstallContext, tag: str | None = None) -> Build:
    """
    The engine for a profile, installed first where its source says so, which may take minutes.

    ``tag`` is a release to take in place of the channel's, as an update tries it.
    Raises NoSuitableEngine naming what was tried and why not, ConfigError for a source that lacks its
    path, and what a download or an installation raises.
    """
    ground = _ground(engine, means, tag or engine.channel, wants_gpu=wants_gpu)
    if tag is not None:
        return Released(engine, ground).acquire(tag)
    match engine.source:
        case "path":
            return ground.at_path(engine.path)
        case "system":
            return ground.on_path()
        case "build":
            return ground.of_install(_compile(engine, ground), ASKED)
        case "embedded":
            ground.check_embedded()
            return ground.of_install(_embed(ground), ASKED)
        case "release":
            return Released(engine, ground).acquire()
        case "auto":
            return _automatic(engine, ground)


def find(engine: Engine, *, wants_gpu: bool, means: InstallContext) -> Build:
    """
    The same from what is at hand, for a plan: nothing is installed, and no network asked.

    Without an engine it is the pinned build's known options, and ``reason`` says what is missing.
    Raises as ``acquire`` does for an engine that was named and does not run, or is of another number.
    """
    ground = _ground(engine, means, engine.channel, wants_gpu=wants_gpu)
    match engine.source:
        case "path" | "system" if means.elsewhere:
            return promised(f"engine.source is {engine.source}, which is looked for on that machine")
        case "path" | "system":
            try:
                return ground.at_path(engine.path) if engine.source == "path" else ground.on_path()
            except NotFound as error:
                return promised(str(error))
        case "build":
            return _find_compiled(engine, ground)
        case "embedded":
            ground.check_embedded()
            if not means.elsewhere and (made := embedded.present(means.paths.engines)):
                return ground.of_install(made, ASKED)
            return promised(f"{embedded.REPOSITORY} {embedded.TAG} is not installed yet, start does that")
        case "release" | "auto":
            return _find_released(engine, ground)


def _automatic(engine: Engine, ground: LocalEngines) -> Build:
    """Each step that is taken because another failed is said, in one line."""
    try:
        return Released(engine, ground).acquire()
    except SupervisorError as error:
        refused = error
    found, passed = ground.at_hand()
    tried = (f"official release: {_in_line(refused)}", *passed)
    if found is not None:
        return replace(found, reason=because(found.reason, tried[:1]))
    if not isinstance(refused, (NetworkError, NoSuitableEngine)):
        raise refused  # a wrong digest or a full disk is for a person to look at
    return _made_here(engine, ground, refused.hint, tried)


def _made_here(engine: Engine, ground: LocalEngines, hint: str, tried: tuple[str, ...]) -> Build:
    """The last resorts, for a machine that reaches neither GitHub nor a mirror."""
    embed = f"embedded {embedded.TAG}", why_not_embedded(ground.wanted, embedded.NUMBER), _embed
    suits = not ground.wanted.gpu or ground.suiting(FLAVOURS)
    none = f"nothing that can be compiled ({', '.join(FLAVOURS)}) suits this machine and the profile"
    build = "build", "" if suits else none, partial(_compile, engine)
    hints = [hint]
    for name, unfit, install in (embed, build):
        if unfit:
            tried = (*tried, f"{name}: {unfit}")
            continue
        ground.means.progress.step(f"engine: {name} instead, since {'; '.join(tried)}")
        try:
            return ground.of_install(install(ground), because("nothing better is at hand", tried))
        except SupervisorError as error:
            tried = (*tried, f"{name}: {_in_line(error)}")
            hints.append(error.hint)
    lines = "".join(f"\n  {line}" for line in tried)
    raise NoSuitableEngine(
        f"No engine can run this profile:{lines}", hint=" ".join(filter(None, hints)) or OFFERS
    )


def _in_line(error: SupervisorError) -> str:
    lines = filter(None, (line.strip() for line in str(error).splitlines()))
    return "; ".join(lines).replace(":;", ":").rstrip(".")


def _find_released(engine: Engine, ground: LocalEngines) -> Build:
    build, passed = Released(engine, ground).find()
    if build is None and engine.source != "release":
        build, more = ground.at_hand()
        passed = (*passed, *more)
    return build or promised(because("No engine is at hand", passed))


def _find_compiled(engine: Engine, ground: LocalEngines) -> Build:
    try:
        flavour = flavour_for(engine.flavour, wants_gpu=ground.wanted.gpu)
    except NoSuitableEngine as error:
        return promised(str(error))
    number = _number(ground)
    made = compiled.present(ground.means.paths.engines, number, flavour)
    if made and not ground.means.elsewhere:
        return ground.of_install(made, ASKED)
    return promised(f"llama.cpp b{number} ({flavour}) is not compiled yet, start does that")


def _compile(engine: Engine, ground: LocalEngines) -> Install:
    flavour = flavour_for(engine.flavour, wants_gpu=ground.wanted.gpu)
    return compiled.install(ground.means.paths.engines, _number(ground), flavour, ground.means.progress)


def _embed(ground: LocalEngines) -> Install:
    return embedded.install(ground.means.paths.engines, ground.means.progress)


def _ground(engine: Engine, means: InstallContext, channel: str | None, *, wants_gpu: bool) -> LocalEngines:
    return LocalEngines(means, WantedEngine(engine.flavour, wanted_number(channel), wants_gpu))


def _number(ground: LocalEngines) -> int:
    return ground.wanted.number or compiled.NUMBER
