"""What the daemon tells of its servers: of one in ``status --json``, and of the memory of all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..gateway.backends import loaded_share
from ..gateway.scheduler import ContextUse
from ..hardware.sensors import CPU, DeviceReading
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, public_end, url_of
from ..progress import iso
from ..server.gpu_memory import by_device, of_the_ram
from ..server.hardware_watch import DevicesByName
from ..server.instance import Instance, failure_of
from ..server.lifecycle_table import State
from ..server.memory_sample import MemorySample
from ..server.memory_warnings import RAM, SETTLED_SECONDS, difference, gpus
from ..server.server import Server
from ..server.survivors import why_ended


def status_of(instance: Instance, listen: Listen | None, use: ContextUse | None = None) -> dict[str, Any]:
    """
    One JSON object; what is not known is null.  ``listen`` is where clients come in, and ``use`` is of a
    context that the slots share.
    """
    server, hold = instance.server, instance.server.hold
    plan, child = server.plan, server.child
    sample = server.memory.now()
    share = loaded_share(server) if server.state is State.STARTING else None
    return {
        "name": server.name,
        "state": server.state.value,
        "why": server.why or server.busy,
        "placement": instance.placement,
        "since": iso(server.since),
        "profile": plan.profile if plan else None,
        "build": plan.build if plan else None,
        "flavour": plan.flavour if plan else None,
        "engine": plan.engine if plan else None,
        "model": plan.model if plan else None,
        "aliases": list(plan.aliases) if plan else [],
        "pid": child.identity.pid if child else None,
        "host": public_end(plan, listen).host if plan else None,
        "port": public_end(plan, listen).port if plan else None,
        "url": url_of(plan, listen) if plan else None,
        "loaded_share": round(share, 2) if share is not None else None,
        "uptime_seconds": round(time.time() - server.ready_since, 1) if server.ready_since else None,
        "restarts": server.restarts,
        "requests_under_way": server.under_way(),
        "memory_bytes": sample.held.rss_bytes if sample else None,
        "memory": _memory_of(server, sample) if sample else None,
        "context": {"slots": plan.context_slots, **asdict(use)} if plan and use else None,
        "digest": plan.digest if plan else None,
        "warnings": _warnings(plan, listen) if plan else [],
        "orphan": _orphan(server.launched) if child and server.launched else None,
        "held_by": {"owner": hold.owner, "why": hold.why, "since": iso(hold.since)} if hold else None,
        "log": str(server.output.path),
        "log_dropped_bytes": server.output.dropped_bytes,
        "last_failure": asdict(failure) if (failure := failure_of(server)) else None,
    }


def _orphan(launched: LaunchPlan) -> dict[str, str]:
    """What the profile asks for, and why the process ends with the daemon; "" where it goes on."""
    return {"asked": launched.orphan, "ends_because": why_ended(launched)}


def served(listen: Listen | None, state_of: Callable[[str], dict[str, str]]) -> list[dict[str, Any]]:
    """What clients may ask for, in order, with its terms, and what ``state_of`` says of each profile."""
    return [
        {
            "profile": offer.profile,
            "names": list(offer.names),
            "load": offer.load,
            "pinned": offer.pinned,
            "priority": offer.priority,
            "idle_unload_seconds": offer.idle_seconds(listen.settings),
            **state_of(offer.profile),
        }
        for offer in (listen.offers if listen else ())
        if listen
    ]


def _warnings(plan: LaunchPlan, listen: Listen | None) -> list[str]:
    open_to_all = listen.warning if listen and plan.behind_gateway else ""
    return [*plan.warnings, *([open_to_all] if open_to_all else [])]


def _memory_of(server: Server, sample: MemorySample) -> dict[str, Any]:
    """
    ``planned_bytes`` are of RAM that cannot be dropped, as are ``anonymous_bytes``.  ``gpu_bytes`` are of all
    GPUs together; ``measured_gpu_bytes`` are those that count, where it is certain which GPU has which name.
    """
    plan, ready = server.plan, server.ready_since
    has_settled = ready is not None and time.time() - ready >= SETTLED_SECONDS
    return {
        "rss_bytes": sample.held.rss_bytes,
        "anonymous_bytes": sample.held.anonymous_bytes,
        "swap_bytes": sample.held.swap_bytes,
        "planned_bytes": plan.memory.get(RAM) if plan else None,
        "planned_gpu_bytes": gpus(plan) if plan else {},
        "gpu_bytes": sample.held.gpu_bytes,
        "measured_gpu_bytes": by_device(plan, sample.held.gpus) if plan else {},
        "available_bytes": sample.left_bytes,
        "difference": difference(plan, sample.held) if plan and has_settled else "",
        "warnings": list(server.memory.warnings.values()),
    }


def memory_of_loaded(servers: Iterable[Instance], stays: Sequence[Instance]) -> dict[str, Any]:
    """
    What all that is loaded holds of each memory, in bytes: by the plans, and what is used, ``needed``, of
    those that may be unloaded for others; ``stays`` of those that may not, which are named too.
    """
    held, needed, kept = Counter[str](), Counter[str](), Counter[str]()
    loaded = [each for each in servers if each.server.child is not None]
    for each in loaded:
        if (plan := each.server.plan) is None:
            continue
        if each in stays:
            kept.update(plan.needs)
        else:
            held.update(plan.memory)
            needed.update(plan.needs)
    names = [each.profile for each in loaded if each in stays]
    return {"held": dict(held), "stays": dict(kept), "needed": dict(needed), "pinned": names}


def plans_of(servers: Iterable[Instance]) -> list[LaunchPlan]:
    """Of all, loaded or not, the main server's first."""
    return [plan for each in servers if (plan := each.server.plan) is not None]


def memories_of(
    fleet: Iterable[Instance],
    held_plan: Callable[[Instance], LaunchPlan | None],
    servers: Iterable[Mapping[str, Any]],
    devices: DevicesByName,
) -> list[dict[str, Any]]:
    """As `memory_by_device`; ``servers`` are their `status_of`, and ``held_plan`` is `Admission`'s."""
    measured = {each["name"]: each["memory"] for each in servers}
    held = [(each.name, held_plan(each)) for each in fleet]
    shares = [MemoryShare(name, plan, measured.get(name)) for name, plan in held if plan is not None]
    return memory_by_device(devices, shares, plans_of(fleet))


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """A server that holds memory or was let in, and the ``memory`` of its status; None: nothing runs yet."""

    server: str
    plan: LaunchPlan
    measured: Mapping[str, Any] | None


def memory_by_device(
    devices: DevicesByName, shares: Sequence[MemoryShare], plans: Sequence[LaunchPlan]
) -> list[dict[str, Any]]:
    """
    Each memory that the machine or a plan has, the RAM first: what there is, what is left of it, what others
    use, and each server's share, planned and measured.  ``devices`` are as sampled last.
    """
    called = {each.pci: name for name, each in devices.items() if each.pci}
    of_server = [(each, _share(each, called)) for each in shares]
    planned = (_name(plan, name, called) for plan in plans for name in gpus(plan))
    names = dict.fromkeys((RAM, *devices, *planned, *(name for _, share in of_server for name in share)))
    left_of_ram = _left(devices.get(RAM), [each.measured for each in shares if each.measured])
    return [
        _memory_of_device(
            name,
            devices.get(name),
            [
                {"server": of.server, "profile": of.plan.profile, **by[name]}
                for of, by in of_server
                if name in by
            ],
            left_of_ram,
            plans,
        )
        for name in names
        if name != CPU
    ]


def _name(plan: LaunchPlan, name: str, called: Mapping[str, str]) -> str:
    """Builds of two flavours have two names for one GPU; ``called`` has the one that is shown, by address."""
    return called.get(plan.adapters.get(name, ""), name)


def _share(of: MemoryShare, called: Mapping[str, str]) -> dict[str, dict[str, int | None]]:
    """
    Of each memory in bytes: what is planned, what is measured, and what is in the RAM besides, mapped from
    the model's file.  Only the last can be dropped.
    """
    plan, now = of.plan, of.measured or {}
    gpu_bytes = now.get("measured_gpu_bytes", {})
    held, resident = now.get("anonymous_bytes"), now.get("rss_bytes")
    measured = {**gpu_bytes, RAM: None if held is None else held + of_the_ram(plan, gpu_bytes)}
    mapped = None if held is None or resident is None else max(resident - held, 0)
    return {
        _name(plan, name, called): {
            "planned_bytes": plan.memory.get(name),
            "measured_bytes": measured.get(name),
            "mapped_bytes": mapped if name == RAM else None,
        }
        for name in dict.fromkeys((RAM, *gpus(plan), *gpu_bytes))
    }


def _left(ram: DeviceReading | None, measured: Sequence[Mapping[str, Any]]) -> int | None:
    """Of the RAM: as the servers were measured just now, else as sampled last."""
    known = [each["available_bytes"] for each in measured if each["available_bytes"] is not None]
    return min(known, default=None if ram is None else _free(ram))


def _free(reading: DeviceReading) -> int | None:
    total, used = reading.memory_total_bytes, reading.memory_used_bytes
    return None if total is None or used is None else max(total - used, 0)


def _memory_of_device(
    name: str,
    reading: DeviceReading | None,
    shares: list[dict[str, Any]],
    left_of_ram: int | None,
    plans: Sequence[LaunchPlan],
) -> dict[str, Any]:
    """A GPU that shares the RAM has no more left than its own memory and what is left of the RAM."""
    total = reading.memory_total_bytes if reading else None
    left = left_of_ram if name == RAM else _free(reading) if reading else None
    used = None if total is None or left is None else max(total - left, 0)
    measured = [each["measured_bytes"] for each in shares]
    others = None if used is None or None in measured else max(used - sum(measured), 0)
    own = next((plan.sharing[name] for plan in plans if name in plan.sharing), None)
    if own is not None and left is not None and left_of_ram is not None:
        left = min(left, own + left_of_ram)
    return {
        "device": name,
        "name": reading.name if reading else "",
        "total_bytes": total,
        "left_bytes": left,
        "leave_bytes": max((plan.leaves.get(name, 0) for plan in plans), default=None),
        "others_bytes": others,
        "shares": shares,
    }
