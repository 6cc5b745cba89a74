"""``detect``: what hardware this computer has, and which profile fits it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from ..engine.build import Build
from ..hardware.conditions import Conditions, MemoryModule
from ..hardware.detection import VARIABLE, conditions_of, hardware_of
from ..hardware.hardware import Cpu, Gpu, Hardware, PcieLink
from ..hardware.wire import to_json
from ..measure.reported import reported_for
from ..paths import Paths
from ..prepare.default_profile import rank_here, usual_profile
from ..prepare.machine_checks import held_by_servers
from ..prepare.workers import WorkerStatus, workers_of_settings
from ..profile.definition import Profile
from ..profile.matching import Fit, Ranking, rank_stored
from ..profile.resolve import engine_settings, resolve
from ..profile.store import ProfileStore
from ..progress import Silent
from .common import hardware_option, json_option, verbose_option
from .output import size, table

_HEADERS = ("gpu", "kind", "memory", "of the RAM", "free", "driver", "architecture", "link")


@click.command()
@hardware_option
@verbose_option
@json_option
def detect(*, hardware_file: Path | None, verbose: bool, as_json: bool) -> None:
    """
    Show what this computer is, and which profile fits it.

    The workers that config.yaml names are listed with their memory.  -v adds power settings, memory modules,
    and what to change about them.  Save the output of --json to a
    file for --hardware, here or on another computer.
    """
    paths = Paths.from_environment()
    hardware = hardware_of(paths, hardware_file)
    elsewhere = hardware_file is not None
    store = ProfileStore(paths.profiles)
    ranking = rank_stored(store, hardware) if elsewhere else rank_here(paths, hardware)
    usual = None if elsewhere else usual_profile(paths)
    workers = () if elsewhere else workers_of_settings(paths, partial(_engine, paths), partial(_used, paths))
    if as_json:
        default = usual or ranking.best
        profiles = {
            "default": default and _fit_json(default, hardware, store),
            "best": ranking.best and _fit_json(ranking.best, hardware, store),
            "others": [_fit_json(each, hardware, store) for each in ranking.others],
            "unfit": [dataclasses.asdict(each) for each in ranking.unfit],
        }
        listed = [_worker_json(each) for each in workers]
        click.echo(json.dumps({**to_json(hardware), "profiles": profiles, "workers": listed}))
    else:
        known = verbose and not elsewhere and not os.environ.get(VARIABLE)
        conditions = conditions_of() if known else Conditions()
        more = _more(hardware, conditions) if verbose else ()

        def speed(name: str) -> str:
            return speed_in_words(resolve(name, store), hardware, store)

        profile_lines = _profile_lines(ranking, usual, speed)
        click.echo("\n".join((*_lines(hardware), *more, *_worker_lines(workers), "", *profile_lines)))


def _lines(hardware: Hardware) -> Iterator[str]:
    yield f"system   {_system(hardware)}"
    yield f"cpu      {_cpu(hardware.cpu)}"
    if hardware.cpu.features:
        yield f"         {' '.join(hardware.cpu.features)}"
    yield f"memory   {_memory(hardware)}"
    yield f"disk     {size(hardware.disk_free_bytes)} free"
    if hardware.gpus:
        yield ""
        yield table(_HEADERS, [_gpu_row(gpu) for gpu in hardware.gpus])
    else:
        yield "gpu      none"
    yield from _advice(hardware)
    yield from (f"note: {note}" for note in hardware.notes)


def _engine(paths: Paths) -> Build:
    """The one that profiles have by default, if it is installed."""
    from ..engine.choose import find  # noqa: PLC0415 - only where there are workers
    from ..prepare.prepare import install_context  # noqa: PLC0415 - as above

    context = install_context(paths, Silent())
    return find(engine_settings(ProfileStore(paths.profiles)), wants_gpu=False, context=context)


def _used(paths: Paths) -> set[str]:
    """What the servers of this computer hold, the memories of workers by their addresses."""
    held, stays = held_by_servers(paths, "", evicts=True)
    return {*held, *stays}


def _worker_lines(workers: tuple[WorkerStatus, ...]) -> Iterator[str]:
    """The machines that config.yaml names; what one said before is in brackets."""
    if workers:
        rows = [(each.address, _worker_memory(each), each.protocol or "-", _state(each)) for each in workers]
        yield ""
        yield table(("worker", "memory (free)", "rpc", "state"), rows)


def _worker_memory(worker: WorkerStatus) -> str:
    devices = [f"{size(each.total_bytes)} ({size(each.free_bytes)})" for each in worker.devices or ()]
    said = " + ".join(devices) or "-"
    return f"[{said}]" if devices and worker.connect_seconds is None else said


def _state(worker: WorkerStatus) -> str:
    if worker.is_used:
        return "used by a server of this computer"
    took = worker.connect_seconds
    return worker.problem if took is None else f"connected in {took * 1000:.1f} ms"


def _worker_json(worker: WorkerStatus) -> dict[str, object]:
    """``problem`` is null where it answered, or a server of this computer uses it."""
    document = dataclasses.asdict(worker)
    return {**document, "problem": worker.problem or None, "protocol": worker.protocol or None}


def _more(hardware: Hardware, conditions: Conditions) -> Iterator[str]:
    """What `tune` gives tips about; of another machine only what its record has."""
    from ..tune.tips import machine_tips  # noqa: PLC0415 - for -v only

    if power := _power(conditions):
        yield f"power    {power}"
    if conditions.modules:
        slots = f" in {conditions.slots} slots" if conditions.slots else ""
        yield f"modules  {len(conditions.modules)}{slots}: {', '.join(map(_module, conditions.modules))}"
    yield from (f"tip: {tip.text}" for tip in machine_tips(hardware, conditions))


def _power(conditions: Conditions) -> str:
    source = {True: "on battery", False: "plugged in", None: ""}[conditions.on_battery]
    mode = f"mode {conditions.power_mode}" if conditions.power_mode else ""
    driver = f" ({conditions.scaling_driver})" if conditions.scaling_driver else ""
    governor = f"governor {conditions.governor}{driver}" if conditions.governor else ""
    preference = f"preference {conditions.preference}" if conditions.preference else ""
    return ", ".join(filter(None, (source, mode, governor, preference)))


def _module(module: MemoryModule) -> str:
    speed = f" {module.mega_transfers} MT/s" if module.mega_transfers else ""
    return f"{size(module.size_bytes)}{speed}"


def _system(hardware: Hardware) -> str:
    kernel = hardware.kernel if hardware.kernel != hardware.os_version else ""
    parts = (
        hardware.os_name or hardware.os,
        f"kernel {kernel}" if kernel else "",
        hardware.arch or "unknown architecture",
        f"{hardware.libc} {hardware.libc_version}".strip(),
        hardware.environment,
    )
    return ", ".join(filter(None, parts))


def _cpu(cpu: Cpu) -> str:
    fast = f" ({cpu.performance_cores} fast)" if cpu.performance_cores not in (None, cpu.cores) else ""
    cores = f"{cpu.cores} cores{fast}" if cpu.cores else ""
    threads = f"{cpu.threads} threads" if cpu.threads else ""
    return ", ".join(filter(None, (cpu.name or "unknown", cores, threads)))


def _memory(hardware: Hardware) -> str:
    """Counted once: what graphics share with the system is in the RAM already."""
    if hardware.ram_bytes is None:
        return "unknown"
    free = f" ({size(hardware.available_bytes)} available)" if hardware.available_bytes is not None else ""
    parts = [f"{size(hardware.ram_bytes)} RAM{free}"]
    minor = [f"{size(gpu.memory_bytes)} on {_name(gpu)}" for gpu in hardware.minor]
    uncounted = f", not counting {', '.join(minor)}" if minor else ""
    for gpu in hardware.gpus:
        if gpu in hardware.minor:
            continue
        if own := (gpu.memory_bytes or 0) - gpu.shared_bytes:
            where = "set aside for" if gpu.integrated else "on"
            parts.append(f"{size(own)} {where} {_name(gpu)}")
    total = f"{size(hardware.memory_bytes)} in all: " if len(parts) > 1 else ""
    return f"{total}{', '.join(parts)}{uncounted}"


def _name(gpu: Gpu) -> str:
    return gpu.name or gpu.device_id or gpu.vendor


def _gpu_row(gpu: Gpu) -> tuple[str, ...]:
    kind = {True: "integrated", False: "card", None: "-"}[gpu.integrated]
    shared = size(gpu.shared_bytes) if gpu.shared_bytes else "-"
    driver = gpu.driver or gpu.driver_version or "-"
    return (
        _name(gpu),
        kind,
        size(gpu.memory_bytes),
        shared,
        size(gpu.free_bytes),
        f"{driver}, CUDA {gpu.cuda}" if gpu.cuda else driver,
        gpu.architecture or "-",
        _link(gpu.link),
    )


def _link(link: PcieLink | None) -> str:
    """``x4 2.5 GT/s (card x8 16 GT/s)``: fewer lanes are worth a look; at rest every link is slow."""
    now = _lanes(link.width, link.speed_gts) if link else ""
    best = _lanes(link.max_width, link.max_speed_gts) if link else ""
    return f"{now} (card {best})" if now and best not in ("", now) else now or "-"


def _lanes(width: int | None, speed_gts: float | None) -> str:
    return f"x{width}{f' {speed_gts:g} GT/s' if speed_gts else ''}" if width else ""


def _why(reasons: tuple[str, ...]) -> str:
    """The first two; --json has all."""
    more = f"; and {len(reasons) - 2} more" if len(reasons) > 2 else ""
    return "; ".join(reasons[:2]) + more


def _advice(hardware: Hardware) -> Iterator[str]:
    closed = dict.fromkeys(node.path for gpu in hardware.gpus for node in gpu.nodes if not node.may_open)
    if closed:
        yield f"note: you may not open {', '.join(closed)}, so no engine can use that GPU."
    if any(path.startswith(("/dev/dri/", "/dev/kfd")) for path in closed):
        yield "hint: sudo usermod -aG render,video $USER, then log in again"


def _profile_lines(ranking: Ranking, usual: Fit | None, speed: Callable[[str], str]) -> Iterator[str]:
    """``usual`` is what a bare `start` takes in place of the best one."""
    if ranking.best:
        yield f"profile  {ranking.best.name}: {ranking.best.reason}"
        yield f"speed    {speed(ranking.best.name)}"
    else:
        yield "profile  none fits"
    if usual and (ranking.best is None or usual.name != ranking.best.name):
        yield f"start    without a name takes {usual.name}, {usual.reason}"
    rows = [(fit.name, "yes", speed(fit.name), fit.reason) for fit in ranking.others]
    rows += [(unfit.name, "no", "-", _why(unfit.reasons)) for unfit in ranking.unfit]
    if rows:
        yield ""
        yield table(("other profile", "fits", "speed", "why"), rows)


def _fit_json(fit: Fit, hardware: Hardware, store: ProfileStore) -> dict[str, object]:
    speed = _speed(resolve(fit.name, store), hardware, store)
    return {**dataclasses.asdict(fit), "reported_tokens_per_second": speed}


def speed_in_words(profile: Profile, hardware: Hardware, store: ProfileStore) -> str:
    """The speed that was reported for this model on such machines."""
    speed = _speed(profile, hardware, store)
    return "not reported" if speed is None else f"{speed:g} tokens/s reported"


def _speed(profile: Profile, hardware: Hardware, store: ProfileStore) -> float | None:
    """Tokens generated per second; the highest that was reported."""
    found = reported_for(profile, hardware, lambda name: resolve(name, store.shipped()))
    return max((each.generated_per_second for each in found), default=None)
