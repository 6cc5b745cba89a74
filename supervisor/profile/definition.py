"""What a profile says, resolved: frozen values, each with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..options.option_values import OptionValue

Source = Literal["auto", "release", "path", "system", "embedded", "build"]
AutoUpdate = Literal["off", "notify", "apply"]
Placement = Literal["pinned", "engine", "auto"]
Guardrails = Literal["off", "relaxed", "balanced", "strict"]
Effort = Literal["low", "medium", "high"]
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written; line and column count from 1.  ``file`` is a path, or ``--set``."""

    profile: str
    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def short(self) -> str:
        """For tables: ``rtx4060ti-oculink.yaml:12``."""
        name = Path(self.file).name
        return f"{name}:{self.line}" if self.line else name


@dataclass(frozen=True, slots=True)
class Match:
    """The machine that a profile is made for.  ``None`` and empty mean any."""

    os: tuple[str, ...] = ()  # linux, macos, windows
    arch: tuple[str, ...] = ()  # x86_64, arm64
    ram_min_bytes: int | None = None
    ram_max_bytes: int | None = None
    gpu_vendor: tuple[str, ...] = ()  # nvidia, amd, intel, apple, qualcomm; "none" is a machine without one
    gpu_name: str | None = None  # a case-insensitive glob, as in "*RTX 4060 Ti*"
    gpu_memory_min_bytes: int | None = None
    unified: bool | None = None


@dataclass(frozen=True, slots=True)
class Engine:
    """
    Which llama.cpp to run.

    ``flavour`` is cpu, cuda, cuda-12.8, vulkan, metal, rocm …; ``None`` is any.  ``channel`` is stable,
    nightly or a pinned tag such as b11434; ``None`` is the build that comes pinned with this version.
    """

    source: Source = "auto"
    flavour: str | None = None
    channel: str | None = None
    path: Path | None = None  # for source: path
    mirror: str | None = None  # in place of https://github.com
    proxy: str | None = None
    auto_update: AutoUpdate = "notify"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Exactly one of: a path, a Hugging Face repository with a file, or the demo model."""

    path: Path | None = None
    repo: str | None = None
    file: str | None = None
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    host: str = "127.0.0.1"
    port: int = 8080


@dataclass(frozen=True, slots=True)
class Restart:
    """When the server comes back by itself, and when it stays down."""

    policy: Literal["on-failure", "never"] = "on-failure"
    max_restarts: int = 5  # more than this many within the window: FAILED
    window_seconds: float = 600.0
    backoff_seconds: float = 1.0  # doubles with every restart
    backoff_limit_seconds: float = 60.0
    stable_seconds: float = 60.0  # READY for this long: the backoff starts anew


@dataclass(frozen=True, slots=True)
class Health:
    """When a silent server is late, busy or dead."""

    start_timeout_seconds: float = 300.0  # loading without any progress
    start_limit_seconds: float = 3600.0  # loading at all
    interval_seconds: float = 10.0  # between two liveness probes
    timeout_seconds: float = 5.0  # of one probe
    hang_timeout_seconds: float = 60.0  # unanswered probes and no progress
    busy_timeout_seconds: float = 900.0  # unanswered probes while there is progress


@dataclass(frozen=True, slots=True)
class Stop:
    """The ladder: TERM, grace, TERM, insist, KILL."""

    grace_seconds: float = 10.0
    insist_seconds: float = 3.0


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """
    The door that clients come in by, and what it does with their requests.

    Of the profile that a person chose; only ``reasoning_effort``, ``set_params`` and ``strip_params`` are of
    the one that a request is answered by.  0 for ``max_concurrent`` and ``idle_unload_seconds`` is never.
    """

    mode: Literal["on", "off"] = "on"
    models: tuple[str, ...] = ()  # profiles that may be asked for; this one always may
    switch_on_request: bool = True
    unknown_model: Literal["active", "reject"] = "active"
    min_warm_seconds: float = 30.0  # ready for this long before an idle model makes way for another
    max_wait_seconds: float = 120.0  # asked for this long before a busy one does
    hold_timeout_seconds: float = 600.0  # how long a request waits for a server that can answer it
    drain_timeout_seconds: float = 120.0  # how long requests under way may keep a switch waiting
    loading_state: bool = False  # tell streams that wait, as SSE comments
    replay: bool = True  # once, when the server died before the first byte of its answer
    idle_unload_seconds: float = 0.0
    preload: bool = True
    max_concurrent: int = 0
    max_queue: int = 256  # requests that wait, for whatever reason
    max_queue_bytes: int = 256 * MIB
    max_connections: int = 4096
    max_body_bytes: int = 64 * MIB
    max_head_bytes: int = 64 * 1024
    idle_timeout_seconds: float = 120.0  # a connection without a request
    client_timeout_seconds: float = 30.0  # a client that sends, or takes, nothing in the middle of one
    allow_origins: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    allow_unauthenticated: bool = False
    reasoning_effort: Effort | None = None
    set_params: Mapping[str, Any] = field(default_factory=dict)  # JSON by name; replaces what a request says
    strip_params: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """
    How to run one model on one kind of machine: ``extends`` applied, ``args`` parsed, all checked.

    ``server`` is keyed by canonical option name (``ctx-size``).  ``origins`` is keyed by dotted path
    (``listen.port``, ``server.ctx-size``) and names where the winning value was written.  ``placement`` is
    pinned where the profile's own options say what goes to the GPU.
    """

    name: str
    description: str = ""
    match: Match = Match()
    engine: Engine = Engine()
    model: ModelSource = ModelSource()
    server: Mapping[str, OptionValue] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    listen: Listen = Listen()
    restart: Restart = Restart()
    health: Health = Health()
    stop: Stop = Stop()
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    aliases: tuple[str, ...] = ()
    placement: Placement = "engine"
    guardrails: Guardrails = "balanced"
    lineage: tuple[Origin, ...] = ()  # this profile first, then what it extends
    origins: Mapping[str, Origin] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # translations made while parsing ``args``, and the like

    @property
    def wants_gpu(self) -> bool:
        """Whether this profile asks for a GPU: by flavour, by layers placed on one, or by device."""
        if self.engine.flavour is not None:
            return self.engine.flavour != "cpu"
        if str(self.server.get("device", "")).lower() == "none":
            return False
        layers = self.server.get("gpu-layers")
        return "device" in self.server or (layers is not None and str(layers) != "0")
