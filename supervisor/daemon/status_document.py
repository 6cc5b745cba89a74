"""What the daemon tells of its servers: of one in ``status --json``, and of the memory of all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ..gateway.scheduler import ContextUse
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, public_end, url_of
from ..server.gpu_memory import by_device
from ..server.instance import Instance, failure_of, iso
from ..server.memory_sample import MemorySample
from ..server.memory_warnings import RAM, SETTLED_SECONDS, difference, gpus
from ..server.server import Server


def status_of(instance: Instance, listen: Listen | None, use: ContextUse | None = None) -> dict[str, Any]:
    """
    One JSON object; what is not known is null.  ``listen`` is where clients come in, and ``use`` is of a
    context that the slots share.
    """
    server, hold = instance.server, instance.server.hold
    plan, child = server.plan, server.child
    sample = server.memory.now()
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
        "uptime_seconds": round(time.time() - server.ready_since, 1) if server.ready_since else None,
        "restarts": server.restarts,
        "requests_under_way": server.under_way(),
        "memory_bytes": sample.held.rss_bytes if sample else None,
        "memory": _memory_of(server, sample) if sample else None,
        "context": {"slots": plan.context_slots, **asdict(use)} if plan and use else None,
        "digest": plan.digest if plan else None,
        "warnings": _warnings(plan, listen) if plan else [],
        "held_by": {"owner": hold.owner, "why": hold.why, "since": iso(hold.since)} if hold else None,
        "log": str(server.output.path),
        "log_dropped_bytes": server.output.dropped_bytes,
        "last_failure": failure_of(server),
    }


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
