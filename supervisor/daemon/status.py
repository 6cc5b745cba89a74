"""What ``status --json`` shows of one server."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from ..server.address import public_end, url_of
from ..server.memory.planned import RAM, SETTLED_SECONDS, difference, gpus
from ..server.memory.sample import Sample
from ..server.server import Server


def status_of(server: Server) -> dict[str, Any]:
    """One JSON object; what is not known is null."""
    plan, child, life = server.plan, server.child, server.lifecycle
    sample = server.memory.now()
    return {
        "name": server.name,
        "state": server.state.value,
        "why": life.why or server.busy,
        "since": iso(server.since),
        "profile": plan.profile if plan else None,
        "build": plan.build if plan else None,
        "flavour": plan.flavour if plan else None,
        "engine": plan.engine if plan else None,
        "model": plan.model if plan else None,
        "aliases": list(plan.aliases) if plan else [],
        "pid": child.identity.pid if child else None,
        "host": public_end(plan).host if plan else None,
        "port": public_end(plan).port if plan else None,
        "url": url_of(plan) if plan else None,
        "uptime_seconds": round(time.time() - server.ready_since, 1) if server.ready_since else None,
        "restarts": life.restarts,
        "memory_bytes": sample.held.rss_bytes if sample else None,
        "memory": _memory_of(server, sample) if sample else None,
        "digest": plan.digest if plan else None,
        "warnings": list(plan.warnings) if plan else [],
        "log": str(server.output.path),
        "log_dropped_bytes": server.output.dropped_bytes,
        "last_failure": failure_of(server),
    }


def _memory_of(server: Server, sample: Sample) -> dict[str, Any]:
    """``planned_bytes`` are of RAM that cannot be dropped, as are ``anonymous_bytes``."""
    plan, ready = server.plan, server.ready_since
    has_settled = ready is not None and time.time() - ready >= SETTLED_SECONDS
    return {
        "rss_bytes": sample.held.rss_bytes,
        "anonymous_bytes": sample.held.anonymous_bytes,
        "swap_bytes": sample.held.swap_bytes,
        "planned_bytes": plan.memory.get(RAM) if plan else None,
        "planned_gpu_bytes": gpus(plan) if plan else {},
        "available_bytes": sample.left_bytes,
        "difference": difference(plan, sample.held) if plan and has_settled else "",
        "warnings": list(server.memory.warnings.values()),
    }


def failure_of(server: Server) -> dict[str, Any] | None:
    """The last failure with the log lines before it, or None."""
    failure = server.lifecycle.failure
    if failure is None:
        return None
    return {
        "kind": failure.kind,
        "message": failure.message,
        "hint": failure.hint,
        "at": iso(server.failed_at) if server.failed_at else None,
        "log_tail": list(server.failure_tail),
    }


def iso(seconds: float) -> str:
    """UTC, to the millisecond, as in the logs."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
