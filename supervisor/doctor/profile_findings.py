"""One profile on this machine: its engine, its GPU, its memory, its model's disk, its address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError, SupervisorError
from ..paths import Paths
from ..plan.listen import Listen, is_socket_path
from ..prepare.prepare import Preparation, preview
from ..profile.worker_address import WORKER
from ..server.preflight import who_listens
from .finding import Finding, FindingState
from .machine_findings import LARGE_BYTES, disk_speed


def profile_findings(name: str, paths: Paths, *, is_running: bool) -> Iterator[Finding]:
    """As a start of ``name`` would find it now; nothing is installed or downloaded."""
    try:
        found = preview(name, {}, paths)
    except SupervisorError as error:
        if name == WORKER and isinstance(error, ConfigError):  # its address is only in the command
            text = "worker: a start gives it its address, so its engine is not checked."
            yield Finding("profile", "unknown", text, "goss-supervisor worker --listen ADDRESS --dry-run")
        else:
            yield Finding("profile", "problem", f"{name}: {error}", error.hint)
        return
    plan = found.plan
    yield Finding("engine", "ok", f"{name} runs with {plan.engine}.")
    yield from _devices(found)
    yield from _memory(found)
    yield from (Finding("profile", "warning", f"{name}: {each}") for each in found.warnings)
    of_notes: FindingState = "ok" if found.fitted else "unknown"
    yield from (Finding("profile", of_notes, f"{name}: {each}") for each in found.notes)
    files = [Path(file) for file in plan.model_files]
    if plan.model_bytes >= LARGE_BYTES and files[0].is_file():
        yield disk_speed(files[0], plan.model_bytes)
    if found.listen and not is_running:
        yield from _port(found.listen)


def _devices(found: Preparation) -> Iterator[Finding]:
    plan = found.plan
    if not plan.wants_gpu:
        return
    if plan.devices:
        yield Finding("engine-devices", "ok", f"The engine sees {', '.join(plan.devices)}.")
    else:
        text = f"{plan.profile} is for a GPU, and the engine sees none."
        yield Finding(
            "engine-devices", "problem", text, "goss-supervisor engine survey says why, for each flavour."
        )


def _memory(found: Preparation) -> Iterator[Finding]:
    if found.fitted is None:
        return
    if found.fitted.refusal:
        fix = f"goss-supervisor plan {found.plan.profile} lists what would make it fit."
        yield Finding("fits", "problem", f"{found.plan.profile} does not fit: {found.fitted.refusal}.", fix)
    else:
        yield Finding("fits", "ok", f"{found.plan.profile} fits into the memory.")


def _port(listen: Listen) -> Iterator[Finding]:
    if is_socket_path(listen.host):
        return
    owner = who_listens(listen.port)
    if owner is None:
        yield Finding("port", "ok", f"Port {listen.port} is free.")
    else:
        fix = f"End it, or use another port: --set listen.port={listen.port + 1}"
        yield Finding("port", "problem", f"{owner} listens on port {listen.port}.", fix)
