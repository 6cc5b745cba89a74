"""
Chooses the engine for a profile, and explains why not the others.

``source: auto`` is the official release for this machine.  If there is none, it is another installed engine,
then llama-server on PATH, then the embedded engine where it suits, then one compiled here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from ..disk import ensure_executable
from ..errors import NetworkError, NoSuitableEngine, NotFound, SupervisorError
from ..profile.definition import Engine
from .adapters import command_program
from .build import Build
from .install_context import InstallContext
from .inventory import Install
from .local_engines import ASKED, OFFERS, LocalEngines, because, promised
from .pypi import compile as compiled
from .pypi import embedded
from .pypi.compile import FLAVOURS, flavour_for
from .released import Released
from .suitability import WantedEngine, wanted_number, why_not_embedded


def acquire(
    engine: Engine,
    *,
    wants_gpu: bool,
    context: InstallContext,
    tag: str | None = None,
    model_bytes: int | None = None,
) -> Build:
    """
    The engine for a profile, installed first where its source says so, which may take minutes.

    ``tag`` is a release to take in place of the channel's, as an update tries it.  ``model_bytes`` is the
    size of the model, where it is known: it decides between the cards of a machine.
    Raises NoSuitableEngine naming what was tried and why not, ConfigError for a source that lacks its
    path, and what a download or an installation raises.
    """
    local = _local_engines(engine, context, tag or engine.channel, wants_gpu, model_bytes)
    if tag is not None:
        return Released(engine, local).acquire(tag)
    match engine.source:
        case "command":
            return command_program.build_of(engine)
        case "path":
            return local.at_path(engine.path)
        case "system":
            return local.on_path()
        case "build":
            return local.of_install(_compile(engine, local), ASKED)
        case "embedded":
            local.check_embedded()
            return local.of_install(_embed(local), ASKED)
        case "release":
            return Released(engine, local).acquire()
        case "auto":
            return _automatic(engine, local)


def find(
    engine: Engine, *, wants_gpu: bool, context: InstallContext, model_bytes: int | None = None
) -> Build:
    """
    The same from what is installed, for a plan: without installing anything or using the network.

    Without an engine it is the pinned build's known options, and ``reason`` says what is missing.
    Raises as ``acquire`` does for an engine that was named and does not run, or is of another number.
    """
    local = _local_engines(engine, context, engine.channel, wants_gpu, model_bytes)
    match engine.source:
        case "command":
            return command_program.build_of(engine, at_hand=False)
        case "path" | "system" if context.elsewhere:
            return promised(f"engine.source is {engine.source}, which is looked for on that machine")
        case "path" | "system":
            try:
                return local.at_path(engine.path) if engine.source == "path" else local.on_path()
            except NotFound as error:
                return promised(str(error))
        case "build":
            return _find_compiled(engine, local)
        case "embedded":
            local.check_embedded()
            if not context.elsewhere and (made := embedded.present(context.paths.engines)):
                return local.of_install(made, ASKED)
            return promised(f"{embedded.REPOSITORY} {embedded.TAG} is not installed yet, start does that")
        case "release" | "auto":
            return _find_released(engine, local)


def _automatic(engine: Engine, local: LocalEngines) -> Build:
    """Each fallback is reported in one line."""
    failures = local.context.failures
    if found := _instead(engine, local):
        return found
    try:
        build = Released(engine, local).acquire()
    except SupervisorError as error:
        refused = error
        if isinstance(error, NetworkError):
            failures.remember(_in_line(error))
    else:
        failures.forget()
        return build
    found, passed = local.at_hand()
    tried = (f"official release: {_in_line(refused)}", *passed)
    if found is not None:
        return replace(found, reason=because(found.reason, tried[:1]))
    if not isinstance(refused, (NetworkError, NoSuitableEngine)):
        raise refused  # a wrong digest or a full disk is for a person to look at
    return _made_here(engine, local, refused.hint, tried)


def _instead(engine: Engine, local: LocalEngines) -> Build | None:
    """What is at hand, where the release is not and could not be downloaded a moment ago."""
    lately = local.context.failures.recent()
    if engine.source != "auto" or not lately:
        return None
    released, _, _ = Released(engine, local).find()
    if released is not None and released.source != "none":
        return None
    found, _ = local.at_hand()
    return found and replace(found, reason=because(found.reason, (f"official release: {lately}",)))


def _made_here(engine: Engine, local: LocalEngines, hint: str, tried: tuple[str, ...]) -> Build:
    """The last resorts, for a machine that no release suits, or that reaches neither GitHub nor a mirror."""
    ensure_executable(local.context.paths.engines)
    hints = [hint]
    installs: Mapping[str, Callable[[LocalEngines], Install]] = {
        "embedded": _embed,
        "build": partial(_compile, engine),
    }
    for source, unfit in last_resorts(local).items():
        name, install = f"embedded {embedded.TAG}" if source == "embedded" else source, installs[source]
        if unfit:
            tried = (*tried, f"{name}: {unfit}")
            continue
        local.context.progress.step(f"engine: {name} instead, since {tried[0]}")
        try:
            return local.of_install(install(local), because("nothing better is at hand", tried))
        except SupervisorError as error:
            tried = (*tried, f"{name}: {_in_line(error)}")
            hints.append(error.hint)
    lines = "".join(f"\n  {line}" for line in tried)
    raise NoSuitableEngine(
        f"No engine can run this profile:{lines}", hint=" ".join(filter(None, hints)) or OFFERS
    )


def last_resorts(local: LocalEngines) -> dict[str, str]:
    """By source, in the order in which a start tries them: why it will not do; empty where it may."""
    suits = not local.wanted.gpu or local.suiting(FLAVOURS)
    none = f"nothing that can be compiled ({', '.join(FLAVOURS)}) suits this machine and the profile"
    why = why_not_embedded(local.wanted, embedded.NUMBER) or embedded.why_not_on(local.context.hardware())
    return {"embedded": why, "build": "" if suits else none}


def _in_line(error: SupervisorError) -> str:
    lines = filter(None, (line.strip() for line in str(error).splitlines()))
    return "; ".join(lines).replace(":;", ":").rstrip(".")


def _find_released(engine: Engine, local: LocalEngines) -> Build:
    if found := _instead(engine, local):
        return found
    build, passed, is_final = Released(engine, local).find()
    if build is None and engine.source != "release":
        build, more = local.at_hand()
        passed = (*passed, *more)
        if build is None and is_final:
            return _promised_here(engine, local, passed)
    return build or promised(because("No engine is at hand", passed))


@dataclass(frozen=True, slots=True)
class _Resort:
    """What a start installs or compiles where no release suits; ``source`` is empty where nothing is left."""

    source: str
    tag: str
    flavour: str
    text: str  # a clause, or why nothing is left


def _resort(engine: Engine, local: LocalEngines) -> _Resort:
    unfit = last_resorts(local)
    if not unfit["embedded"]:
        text = f"the embedded engine ({embedded.REPOSITORY} {embedded.TAG}, CPU){_faster(local)}"
        return _Resort("embedded", embedded.TAG, embedded.FLAVOUR, text)
    if not unfit["build"]:
        try:
            elsewhere = local.context.elsewhere  # whose compilers nobody here knows
            flavour = (
                local.suiting(FLAVOURS)[0]
                if elsewhere and local.wanted.gpu
                else flavour_for(engine.flavour, wants_gpu=local.wanted.gpu)
            )
        except NoSuitableEngine as error:
            return _Resort("", "", "", f"build: {str(error).rstrip('.')}")
        number = _number(local)
        return _Resort("build", f"b{number}", flavour, f"llama.cpp b{number} ({flavour}), compiled here")
    return _Resort("", "", "", "; ".join(f"{name}: {why}" for name, why in unfit.items()))


def without_release(engine: Engine, *, wants_gpu: bool, context: InstallContext) -> str:
    """A sentence for a machine that no flavour of a release suits: what a start would take there."""
    found = _resort(engine, _local_engines(engine, context, engine.channel, wants_gpu, None))
    if not found.source:
        return f"Nothing of this release runs here, and nothing else does either: {found.text}."
    return f"Nothing of this release runs here; start takes {found.text}."


def _promised_here(engine: Engine, local: LocalEngines, passed: tuple[str, ...]) -> Build:
    """What a start would install or compile where no release suits; its flavour is known already."""
    found = _resort(engine, local)
    if not found.source:
        return promised(because("No engine can run this profile here", (*passed, found.text)))
    verb = "installs" if found.source == "embedded" else "makes"
    return promised(because(f"start {verb} {found.text}", passed), found.tag, found.flavour)


def _faster(local: LocalEngines) -> str:
    """A clause: what would use the GPU that the embedded engine leaves alone."""
    of = next((each for each in local.suiting(FLAVOURS) if each != "cpu"), "")
    return f"; engine.source build with engine.flavour {of} would use the GPU" if of else embedded.CAVEAT


def _find_compiled(engine: Engine, local: LocalEngines) -> Build:
    try:
        flavour = flavour_for(engine.flavour, wants_gpu=local.wanted.gpu)
    except NoSuitableEngine as error:
        return promised(str(error))
    number = _number(local)
    made = compiled.present(local.context.paths.engines, number, flavour)
    if made and not local.context.elsewhere:
        return local.of_install(made, ASKED)
    return promised(f"llama.cpp b{number} ({flavour}) is not compiled yet, start does that")


def _compile(engine: Engine, local: LocalEngines) -> Install:
    flavour = flavour_for(engine.flavour, wants_gpu=local.wanted.gpu)
    return compiled.install(local.context.paths.engines, _number(local), flavour, local.context.progress)


def _embed(local: LocalEngines) -> Install:
    return embedded.install(local.context.paths.engines, local.context.progress)


def _local_engines(
    engine: Engine, context: InstallContext, channel: str | None, wants_gpu: bool, model_bytes: int | None
) -> LocalEngines:
    return LocalEngines(context, WantedEngine(engine.flavour, wanted_number(channel), wants_gpu, model_bytes))


def _number(local: LocalEngines) -> int:
    return local.wanted.number or compiled.NUMBER
