"""The workers of a launch: asked before it, remembered for when they are away, and used only where needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from ..decoding import decode
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..engine.worker_probe import WorkerDevice, WorkerFound, WorkerTrouble, greet, probe
from ..errors import NetworkError, NoSuitableEngine, SupervisorError
from ..files import JsonFile
from ..home.places import workers_file
from ..memory.fitting import LEAST_CONTEXT_TOKENS, Fitted, FittedLaunch
from ..memory.worker_memory import RPC, Remote
from ..paths import Paths
from ..profile.definition import Profile
from ..profile.resolve import PLACING, settings_of
from ..profile.settings import SETTINGS_NAME
from ..profile.store import ProfileStore
from ..profile.worker_address import Worker

_MIB = 1024**2
_MOST = 100  # the one that was seen longest ago goes first
FitHere = Callable[[Profile, Build, "AskedWorkers"], "Fitted | None"]


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """As it was when it last answered; ``seen`` is a day: 2026-11-30."""

    devices: tuple[WorkerDevice, ...]
    protocol: str
    seen: str


@dataclass(frozen=True, slots=True)
class AskedWorkers:
    """
    ``remotes`` in the order of ``--rpc``.  ``all_free`` says that each has just answered, so the engine may
    be asked about them.  ``connect_seconds`` is how long each connection took, by address.
    """

    remotes: tuple[Remote, ...] = ()
    all_free: bool = True
    connect_seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """As ``--list-devices`` prints them."""
        memories = [(each.address, *memory) for each in self.remotes for memory in each.memories]
        return tuple(
            f"RPC{number}: {address} ({(total or 0) // _MIB} MiB, {(free or 0) // _MIB} MiB free)"
            for number, (address, free, total) in enumerate(memories)
        )


NO_WORKERS = AskedWorkers()


def fit_with_workers(
    profile: Profile, build: Build, paths: Paths, fit_here: FitHere, *, in_use: Collection[str], may_ask: bool
) -> FittedLaunch:
    """
    Ask the profile's workers, and decide what of the model goes to them.

    Those of config.yaml are left alone by a model that fits on this computer.  ``in_use`` are the addresses
    that servers of this daemon use now: a worker serves one at a time, so these are not asked.  Without
    ``may_ask`` none is counted.  Raises an error that names each worker that cannot be used.
    """
    alone = replace(profile, workers=(), server=_without(profile, {RPC}))
    if not (profile.workers and renderer_for(profile).reads_models):
        return FittedLaunch(profile, build, fit_here(profile, build, NO_WORKERS))
    if not may_ask:
        note = "its workers are not counted: they are asked from this computer only"
        return FittedLaunch(alone, build, fit_here(alone, build, NO_WORKERS), (note,))
    if profile.origins["workers"].profile == SETTINGS_NAME:
        fitted = fit_here(alone, build, NO_WORKERS)
        if fitted and fitted.verdict.allowed and not fitted.verdict.paged_bytes:
            return FittedLaunch(alone, build, fitted)
    asked = ask_workers(profile.workers, build, paths, profile.env, in_use=in_use)
    placed = profile if "placement" in profile.origins else replace(profile, placement=_placement(profile))
    seen = replace(build, devices=(*build.devices, *asked.devices))
    fitted = fit_here(placed, seen, asked)
    if fitted and not fitted.workers and RPC not in profile.server:
        note = "no worker is used: all of it goes to this computer's own memory"
        return FittedLaunch(alone, build, fitted, (note,))
    used = fitted.workers if fitted else tuple(each.address for each in asked.remotes)
    idle = [str(each.address) for each in profile.workers if str(each.address) not in used]
    notes = (_link(used, asked), *(f"the worker {each} is not used: the others have room" for each in idle))
    smaller, lacks = None, ""
    if profile.without_worker == "smaller":
        smaller = _smaller(alone, build, fit_here)
        lacks = (
            "" if smaller else "without-worker: smaller: it does not fit on this computer alone, so it waits"
        )
    warnings = (*asked.warnings, *filter(None, [lacks]))
    return FittedLaunch(placed, seen, fitted, notes, warnings, smaller)


def _link(used: Sequence[str], asked: AskedWorkers) -> str:
    """What the network costs: no figure but the one that was measured just now."""
    took = {name: f" (connecting took {took * 1000:.1f} ms)" for name, took in asked.connect_seconds.items()}
    where = " and ".join(f"{name}{took.get(name, '')}" for name in used)
    return f"each token crosses the network to {where}: workers add memory, not speed"


def _placement(profile: Profile) -> Any:  # noqa: ANN401 - a `Placement`
    """llama.cpp's own fitting would fill a worker as if it were a card here."""
    return "auto" if profile.placement == "engine" else profile.placement


def _without(profile: Profile, names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in profile.server.items() if name not in names}


def _smaller(alone: Profile, build: Build, fit_here: FitHere) -> FittedLaunch | None:
    """On this computer alone, with a smaller context where that helps; None where nothing fits."""
    placing = {key.removeprefix("server.") for key in PLACING} | {"device"}
    server = {"fit-ctx": LEAST_CONTEXT_TOKENS, **_without(alone, placing)}
    fitted = fit_here(replace(alone, server=server, placement="auto"), build, NO_WORKERS)
    if fitted is None or not fitted.verdict.allowed:
        return None
    kept = {name: value for name, value in server.items() if name not in {"fit-ctx", *fitted.changes}}
    return FittedLaunch(replace(alone, server=kept, placement="auto"), build, fitted)


def ask_workers(
    workers: Sequence[Worker],
    build: Build,
    paths: Paths,
    variables: Mapping[str, str],
    *,
    in_use: Collection[str] = (),
) -> AskedWorkers:
    """All at once; what they say is remembered.  Raises as `fit_with_workers` does."""
    known = known_workers(paths)
    addresses = [each.address for each in workers]
    free = [each for each in addresses if str(each) not in in_use]
    answers = dict(zip(free, at_once(partial(probe, build=build, variables=variables), free), strict=True))
    found = {str(each.address): each for each in answers.values() if isinstance(each, WorkerFound)}
    remember(paths, found.values())
    troubles = [each for each in answers.values() if isinstance(each, WorkerTrouble)]
    fatal = [each for each in troubles if each.kind not in {"away", "busy"} or str(each.address) not in known]
    if fatal:
        raise _error(fatal)
    return AskedWorkers(
        tuple(_remote(str(each), found.get(str(each)) or known.get(str(each))) for each in addresses),
        len(found) == len(addresses),
        {name: each.connect_seconds for name, each in found.items()},
        tuple(
            f"the worker {each} is at a public address, and RPC has neither keys nor encryption"
            for each in addresses
            if each.is_private is False
        )
        + tuple(
            f"the worker {each}. The plan uses what it had on {known[str(each.address)].seen}, and the "
            "server waits for it"
            for each in troubles
        ),
    )


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """
    A worker of config.yaml for `detect`.  ``devices`` are as it said just now or, where ``problem`` or
    ``is_used`` says why it was not asked, when it last did; None where it never did.
    """

    address: str
    problem: str = ""
    is_used: bool = False  # by a server of this computer's daemon
    protocol: str = ""
    connect_seconds: float | None = None
    devices: tuple[WorkerDevice, ...] | None = None


def workers_of_settings(
    paths: Paths, find_build: Callable[[], Build], in_use: Callable[[], Collection[str]]
) -> tuple[WorkerStatus, ...]:
    """
    Those that config.yaml names, asked now.  ``find_build`` gets the engine that asks them; without one, how
    much memory they have is only remembered.  Raises ConfigError for a file with mistakes.
    """
    layer = settings_of(ProfileStore(paths.profiles)).layer
    workers = layer.values["workers"].value if layer and "workers" in layer.values else ()
    assert isinstance(workers, tuple)
    if not workers:
        return ()
    build = None
    with suppress(SupervisorError):
        build = find_build()
    look = partial(_status, build=build, known=known_workers(paths), in_use=in_use())
    return tuple(at_once(look, workers))


def _status(
    worker: Worker, *, build: Build | None, known: Mapping[str, KnownWorker], in_use: Collection[str]
) -> WorkerStatus:
    address = str(worker.address)
    before = known.get(address)
    devices, protocol = (before.devices, before.protocol) if before else (None, "")
    if address in in_use:
        return WorkerStatus(address, is_used=True, protocol=protocol, devices=devices)
    has_engine = build is not None and build.source != "none"
    answer = probe(worker.address, build) if build and has_engine else greet(worker.address)
    if isinstance(answer, WorkerTrouble):
        return WorkerStatus(address, answer.why, devices=devices)
    if isinstance(answer, WorkerFound):
        devices = answer.devices
    return WorkerStatus(address, "", False, answer.protocol, answer.connect_seconds, devices)


def at_once(ask: Callable[[Any], Any], of: Sequence[Any]) -> list[Any]:
    """The answers in the order of the questions, which are asked side by side: some wait for seconds."""
    if not of:
        return []
    with ThreadPoolExecutor(len(of)) as pool:
        return list(pool.map(ask, of))


def _remote(address: str, known: WorkerFound | KnownWorker | None) -> Remote:
    if known is None:
        return Remote(address, ((None, None),))
    return Remote(address, tuple((each.free_bytes, each.total_bytes) for each in known.devices))


def _error(troubles: Sequence[WorkerTrouble]) -> SupervisorError:
    kind = NoSuitableEngine if {each.kind for each in troubles} <= {"no-rpc", "protocol"} else NetworkError
    said = "; ".join(f"the worker {each}" for each in troubles)
    hints = dict.fromkeys(each.hint for each in troubles)
    return kind(
        f"{said[0].upper()}{said[1:]}.",
        hint=" ".join([*hints, "To start without workers: --set 'workers=[]'"]),
    )


def known_workers(paths: Paths) -> Mapping[str, KnownWorker]:
    """By address, all that ever answered here; empty where nothing can be read."""
    return _file(paths).known()


def remember(paths: Paths, found: Collection[WorkerFound]) -> None:
    """What cannot be written is only missing the next time that one is away."""
    today = time.strftime("%Y-%m-%d")
    seen = {str(each.address): KnownWorker(each.devices, each.protocol, today) for each in found}
    if seen:
        with suppress(SupervisorError):
            _file(paths).update(lambda kept: dict(list({**kept, **seen}.items())[-_MOST:]))


def _file(paths: Paths) -> JsonFile[dict[str, KnownWorker]]:
    return JsonFile(workers_file(paths), _parse, _render, {})


def _render(workers: Mapping[str, KnownWorker]) -> dict[str, Any]:
    return {"workers": {address: asdict(each) for address, each in workers.items()}}


def _parse(document: dict[str, Any]) -> dict[str, KnownWorker]:
    return {address: decode(KnownWorker, each) for address, each in document["workers"].items()}
