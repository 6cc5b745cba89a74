"""Servers as the gateway sees them, without how they are launched, watched and restarted."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from .. import __version__
from ..hardware.sensors import CPU, RAM, DeviceReading
from ..plan.launch import LaunchPlan
from ..plan.listen import serves_clients
from ..server.diagnosis import Diagnosis
from ..server.lifecycle_table import ABSENT, State
from ..server.outcome import Hold
from ..server.probe_target import ProbeTarget
from ..server.rpc_probe import client_at
from .api.routes import HandlerName
from .scheduler import ServerPhase, Situation


class Backend(Protocol):
    """A server as the gateway sees it; its owner calls `Gateway.changed` after each change."""

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> State: ...

    @property
    def is_serving(self) -> bool: ...

    @property
    def why(self) -> str:
        """Why it is in this state; empty where that needs no words."""

    @property
    def failure(self) -> Diagnosis | None:
        """The last failure; it is kept while the server serves again."""

    @property
    def plan(self) -> LaunchPlan | None: ...

    @property
    def launch(self) -> int:
        """A number that is different for each process."""

    @property
    def target(self) -> ProbeTarget | None:
        """How to reach its process; None while there is none."""

    @property
    def ready_since(self) -> float | None:
        """Seconds since 1970; None while it is not ready."""

    @property
    def restarts(self) -> int: ...

    @property
    def is_held(self) -> bool:
        """Whether somebody measures it: then nothing of ours may unload it."""

    @property
    def hold(self) -> Hold | None: ...

    def resident_bytes(self) -> int | None:
        """What its process holds of the RAM; costs a look into the process table."""

    def sleep(self) -> object:
        """Unload the model until `wake`."""

    def look(self) -> None:
        """It could not be reached: probe it now."""

    def drained(self) -> None:
        """No request is being answered any more."""


class GatewayOwner(Protocol):
    """The owner of the servers: the daemon's `Loads`."""

    def load(self, profile: str, *, by_request: bool = True) -> None:
        """
        Have this profile served, and tell by `Gateway.loaded` what came of it.  ``by_request``: it is for
        requests that wait for it, and given up when none does any more.
        """

    def awaits(self, profile: str) -> str:
        """What a load of this profile waits for, in words; "" where it waits for nothing."""

    def wanted(self, profile: str) -> None:
        """A request has arrived that is work for this profile's model, loaded or not."""

    def rested(self) -> None:
        """A server has nothing to do any more."""


class DeviceWatch(Protocol):
    """What the gateway needs of a `HardwareWatch`."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """The samples of the last hour, oldest first."""

    def subscribe(self, on_sample: Callable[[dict[str, Any]], object], /) -> Callable[[], None]:
        """Call this with each sample from now on; what is returned ends it."""

    async def recent(self) -> object:
        """Take a sample, unless the last one is recent."""

    def devices(self) -> Mapping[str, DeviceReading]:
        """As sampled last, by their names."""


class PageOwner(Protocol):
    """What the page shows and does: the daemon's control socket."""

    @property
    def happened(self) -> object:
        """Another one after each change of a server, a load or a job."""

    @property
    def hardware(self) -> DeviceWatch: ...

    def status(self) -> dict[str, Any]:
        """What ``goss-supervisor status --json`` prints."""

    def log_of(self, server: str) -> Path:
        """Where the output of this server lies.  Raises NotFound."""

    def control(self, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Carry out one of the operations that a page may ask for; the answer of the control socket."""


class Backends:
    """
    All of them by name, in the order in which they came; the first is the main one.  ``chats`` tells whether
    the profile of this name is for requests that name no model.
    """

    def __init__(self, chats: Callable[[str], bool]) -> None:
        self._by_name: dict[str, Backend] = {}
        self._chats = chats

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Backend:
        return self._by_name[name]

    def add(self, backend: Backend) -> None:
        self._by_name[backend.name] = backend

    def remove(self, name: str) -> None:
        self._by_name.pop(name, None)

    @property
    def plans(self) -> list[LaunchPlan]:
        """The plans of all servers that clients may ask for; a stopped one is left out."""
        return [each.plan for each in self if each.plan and each.state is not State.STOPPED]

    @property
    def main(self) -> Backend:
        """There is always one: the gateway opens for its sake."""
        return next(iter(self))

    @property
    def is_worker(self) -> bool:
        """Whether this computer lends memory and serves no model."""
        plan = self.main.plan
        return plan is not None and not serves_clients(plan)

    @property
    def answering(self) -> Backend:
        """The server for requests that name no model: the first that serves and chats, else the main one."""
        serving = (each for each in self if each.is_serving and self.chats(each))
        return next(serving, self.main)

    def chats(self, server: Backend) -> bool:
        return self._chats(profile_of(server))

    def situation_of(self, server: Backend) -> Situation:
        """This server as the queue sees it."""
        return Situation(
            phase_of(server),
            profile_of(server),
            server.launch,
            answers_any=self.chats(server),
            retries=server.state is State.FAILED and server is not self.main,
            context_tokens=server.plan.shared_context_tokens if server.plan else 0,
            hold=server.hold.id if server.hold and server.hold.shuts_out else 0,
        )

    def is_served(self, profile: str) -> bool:
        """Whether a server serves this profile, or any where it is ""."""
        server = self.having(profile) if profile else self.answering
        return server is not None and server.is_serving and not self.is_worker

    def why_lost(self, name: str) -> str:
        """Why this server has failed a request, in words."""
        server = self[name]
        if server.failure is None or server.is_serving:
            workers = ", ".join(server.plan.workers) if server.plan else ""
            also = f"; it uses the memory of {workers}" if workers else ""
            return f"it died, or gave up this request{also}"  # the connection's end is seen before the exit
        return server.failure.message

    def instead_of(self, profile: str, handler: HandlerName | None) -> str:
        """What answers where clients cannot have this profile loaded: whoever serves, "" for any."""
        if handler == "props":
            return profile_of(self.answering)
        return "" if handler is None else profile

    def having(self, profile: str) -> Backend | None:
        """The server that has this profile's plan, loaded or not; of two the one that is not asleep."""
        found = (each for each in self if each.plan and each.plan.profile == profile)
        return min(found, key=lambda each: each.state in ABSENT, default=None)


def profile_of(server: Backend) -> str:
    """The profile of this server; empty while it has none."""
    return server.plan.profile if server.plan else ""


_DEVICE: Final = re.compile(r"(?P<name>\w+): (?P<about>.*) \((?P<total>\d+) MiB, \d+ MiB free\)")


def lent(worker: Backend, readings: Mapping[str, DeviceReading]) -> dict[str, Any]:
    """
    What this worker lends, for llama-servers elsewhere; unknown is null.  ``readings`` are of its devices, as
    sampled last.
    """
    plan, target = worker.plan, worker.target
    assert plan is not None
    devices = _lent_devices(plan, readings)
    return {
        "version": __version__,
        "build": plan.build,
        "flavour": plan.flavour,
        "rpc_protocol": (target.greeting.decode("ascii", "replace") if target else "") or None,
        "address": f"{plan.host}:{plan.port}",
        "state": worker.state.value,
        "why": worker.why,
        "devices": [{"name": name, "description": about} for name, about, _ in devices],
        "memory": {name: _memory_of(name, total, readings) for name, _, total in devices},
        "client": client_at(plan.port) if worker.is_serving else "",
        "uptime_seconds": round(time.time() - worker.ready_since, 1) if worker.ready_since else None,
        "cache": "-c" in plan.argv,
    }


def _lent_devices(
    plan: LaunchPlan, readings: Mapping[str, DeviceReading]
) -> list[tuple[str, str, int | None]]:
    """Name, description and bytes: the GPUs that llama.cpp listed, or those that were named; else the CPU."""
    words = plan.argv
    named = words[words.index("-d") + 1].split(",") if "-d" in words else []
    listed = [found for each in plan.devices if (found := _DEVICE.fullmatch(each))]
    known: dict[str, tuple[str, int | None]] = {
        each["name"]: (each["about"], int(each["total"]) * 2**20) for each in listed
    }
    cpu, ram = readings.get(CPU), readings.get(RAM)
    known[CPU] = cpu.name if cpu else "", ram.memory_total_bytes if ram else None
    lends = named or [name for name in known if name != CPU] or [CPU]
    return [(name, *known.get(name, ("", None))) for name in lends]


def _memory_of(name: str, total: int | None, readings: Mapping[str, DeviceReading]) -> dict[str, int | None]:
    reading = readings.get(RAM if name == CPU else name)
    used = reading.memory_used_bytes if reading else None
    whole = reading.memory_total_bytes if reading else None
    free = max(whole - used, 0) if whole is not None and used is not None else None
    return {"total_bytes": total, "free_bytes": free}


_PHASES: Final[dict[State, ServerPhase]] = {
    State.READY: "serving",
    State.DEGRADED: "serving",
    State.SLEEPING: "asleep",
    State.FAILED: "down",
    State.STOPPED: "down",
}


def phase_of(server: Backend) -> ServerPhase:
    return _PHASES.get(server.state, "coming")


def progress(server: Backend) -> str:
    """The state, and about how much of the model is in memory: what the process holds of its files' size."""
    share = loaded_share(server) if server.state is State.STARTING else None
    loaded = f", about {share:.0%} of the model loaded" if share is not None else ""
    why = f" ({server.why})" if server.why else ""
    return f"{server.state.value}{why}{loaded}"


def loaded_share(server: Backend) -> float | None:
    """How much of its model is in memory, from 0 to 1; None where that is not known."""
    size = server.plan.model_bytes if server.plan else 0
    held = server.resident_bytes() if size else None
    return min(held / size, 0.99) if held else None
