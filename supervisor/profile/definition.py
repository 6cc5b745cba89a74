"""A resolved profile: frozen values, each with its origin.  ``key`` of ``declare`` declares its keys."""
# ruff: noqa: RUF009 - ``key`` makes a field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..options.option_types import OptionValue
from .declare import NAME_PATTERN, Origin, key
from .model_source import ModelSource
from .worker_address import WITHOUT_WORKER_ABOUT, WORKERS_ABOUT, LentMemory, WithoutWorker, Worker

ValueSource = Literal["auto", "release", "path", "system", "embedded", "build", "command"]
AutoUpdate = Literal["off", "notify", "apply"]
Placement = Literal["pinned", "engine", "auto"]
GuardrailSetting = Literal["off", "relaxed", "balanced", "strict"]
Effort = Literal["low", "medium", "high"]
Role = Literal["chat", "embedding", "rerank", "transcription", "speech", "image"]
OrphanPolicy = Literal["adopt", "end"]
StopSignal = Literal["TERM", "INT", "QUIT"]
MIB, _MANY = 1024 * 1024, 1_000_000
PARAMETER_PATTERN = r"\S{1,100}"
FLAVOURS = ("cpu", "cuda", "vulkan", "metal", "rocm", "sycl", "opencl", "openvino")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?#@*,\[\]]+)(?::[0-9]{1,5})?"
_VENDORS = ("nvidia", "amd", "intel", "apple", "qualcomm", "none")


@dataclass(frozen=True, slots=True)
class Match:
    """The machine that a profile is made for.  ``None`` and empty mean any."""

    os: tuple[str, ...] = key((), "The operating system.", words=("linux", "macos", "windows"))
    arch: tuple[str, ...] = key((), "The processor's architecture.", words=("x86_64", "arm64"))
    ram_min_bytes: int | None = key(None, "At least this much memory, as the system reports it.", "ram.min")
    ram_max_bytes: int | None = key(None, "At most this much memory.", "ram.max")
    gpu_vendor: tuple[str, ...] = key((), "Who made it; 'none': there is none.", "gpu.vendor", words=_VENDORS)
    gpu_name: str | None = key(None, "A pattern for its name: '*RTX 4060 Ti*', in any case.", "gpu.name")
    gpu_memory_min_bytes: int | None = key(None, "At least this much memory of its own.", "gpu.memory")
    unified: bool | None = key(None, "Whether it shares the main memory.", "gpu.unified")


@dataclass(frozen=True, slots=True)
class Engine:
    """Which llama.cpp to run, or which other program."""

    source: ValueSource = key(
        "auto",
        "Where llama-server comes from: 'release' is the official one for this machine, 'path' a given "
        "binary, 'system' the one on PATH, 'embedded' a ready-made CPU engine, 'build' is compiled here; "
        "'auto' is the official one, and where that cannot be had, what else can serve, with the reason. "
        "'command' is another program, which engine.command starts.",
    )
    flavour: str | None = key(
        None,
        "What it computes on: cpu, cuda (or exactly cuda-12.8), vulkan, metal, rocm …; without it, what "
        "suits the machine best.",
        what=f"one of {', '.join(FLAVOURS)}, or exactly one such as cuda-12.8",
        pattern=rf"(?:{'|'.join(FLAVOURS)})(?:-[a-z0-9.-]+)?",
        words=FLAVOURS,
    )
    channel: str | None = key(
        None,
        "stable (upstream's own choice), nightly (the newest), or a pinned build tag such as b11434; without "
        "it, the tag that this version of goss-supervisor was tested with.",
        what="stable, nightly or a build tag such as b11434",
        pattern=r"stable|nightly|b[0-9]+",
    )
    path: Path | None = key(None, "The llama-server binary, for source: path.", absolute=True)
    mirror: str | None = key(
        None,
        "Where releases are downloaded, in place of https://github.com.",
        what="an address such as https://mirror.lan/github",
        pattern=r"https?://\S+",
    )
    proxy: str | None = key(
        None,
        "The proxy for downloads; without it, what HTTPS_PROXY says.",
        what="an address such as http://proxy.lan:3128",
        pattern=r"(https?|socks5h?)://\S+",
    )
    auto_update: AutoUpdate = key(
        "notify",
        "Whether the daemon looks for a newer engine once a day: 'notify' tells of it in status, 'apply' "
        "takes it, and takes it back if it is worse.",
    )
    command: tuple[str, ...] = key(
        (),
        "For source: command, the program and its arguments, as a list. {model}, {host} and {port} are "
        "filled in; {port} must be there, or in a variable under env.",
        what="a text or a list of them",
        pattern=r"[^\0]*",
    )
    ready_path: str = key(
        "/health",
        "The program of a command is up when a GET of this path answers 200.",
        "ready.path",
        what="a path such as /health",
        pattern=r"/\S*",
    )
    ready_question: bool = key(
        True,
        "Whether it must also answer a request for one token before it counts as ready, where the role of "
        "the model has such a request.",
        "ready.question",
    )
    upstream_model: str | None = key(
        None,
        "The name of the model that the program of a command knows, such as '{model}': put into every "
        "request, and replaced by the profile's own name in every answer.",
        what="a model name",
        pattern=r"[^\0-\x1f\x7f]+",
    )
    memory: Mapping[str, int] = field(default_factory=dict)  # bytes by name: RAM, CUDA0 …


@dataclass(frozen=True, slots=True)
class ListenSettings:
    host: str = key("127.0.0.1", "The address to listen on.", what="a host name or address", pattern=r"\S+")
    port: int = key(8080, "The port to listen on.", least=1, most=65535)


@dataclass(frozen=True, slots=True)
class Restart:
    policy: Literal["on-failure", "never"] = key("on-failure", "Whether the server comes back after it died.")
    max_restarts: int = key(5, "More restarts than that in the window: failed.", "max", least=0, most=1000)
    window_seconds: float = key(600.0, "The time in which restarts are counted.", least=1)
    backoff_seconds: float = key(1.0, "The wait before a restart; doubles each time.")
    backoff_limit_seconds: float = key(60.0, "The longest wait.")
    stable_seconds: float = key(60.0, "Ready for this long: the wait begins anew.")


@dataclass(frozen=True, slots=True)
class Health:
    start_timeout_seconds: float = key(300.0, "How long loading may go on without any progress.", least=1)
    start_limit_seconds: float = key(3600.0, "How long loading may take at all.", least=1)
    interval_seconds: float = key(10.0, "The time between two liveness probes.", least=0.1)
    timeout_seconds: float = key(5.0, "How long one probe waits.", least=0.1)
    hang_timeout_seconds: float = key(
        60.0, "Unanswered probes and no progress for this long: killed and restarted.", least=1
    )
    busy_timeout_seconds: float = key(
        900.0, "Unanswered probes for this long even though there is progress: killed and restarted.", least=1
    )


@dataclass(frozen=True, slots=True)
class Stop:
    grace_seconds: float = key(10.0, "The wait after the first TERM.")
    insist_seconds: float = key(3.0, "The wait after the second TERM.")
    signal: StopSignal = key(
        "TERM", "The signal that asks it to end, in place of the first TERM; Windows has one way only."
    )


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """
    How clients come in, and what happens to their requests.

    Of the profile that a person chose; only ``reasoning_effort``, ``set_params`` and ``strip_params`` are of
    the one that a request is answered by.  0 for ``max_loaded``, ``max_concurrent`` and
    ``idle_unload_seconds`` is never.
    """

    mode: Literal["on", "off"] = key(
        "on", "'off' gives llama-server the listen address itself; 'gateway: off' is short for it."
    )
    models: tuple[str, ...] = key(
        (),
        "Profiles that clients may ask for by name or alias; this one always may be.",
        what="a profile name or a list of them",
        pattern=NAME_PATTERN,
    )
    switch_on_request: bool = key(True, "Whether a request that names another of them loads it.")
    unknown_model: Literal["active", "reject"] = key(
        "active",
        "A request for a model of another name: 'active' lets the running one answer, 'reject' answers 404.",
    )
    max_loaded: int = key(
        0,
        "At most so many models are loaded at once; 'off': as many as there is memory for.",
        least=0,
        most=_MANY,
        or_off=True,
    )
    min_warm_seconds: float = key(
        30.0, "For this long a model that became ready is not unloaded for another."
    )
    max_wait_seconds: float = key(
        120.0, "A request for another model waits at most this long for those in use to be free."
    )
    hold_timeout_seconds: float = key(
        600.0, "How long a request waits for a server that loads, restarts, switches or wakes."
    )
    drain_timeout_seconds: float = key(
        120.0, "How long requests under way may keep a switch waiting; then they are broken off, visibly."
    )
    stop_notice_seconds: float = key(
        0.0,
        "For this long after a stop was asked for, /supervisor/ready answers 503 and all requests are still "
        "answered, so that load balancers send the next ones elsewhere.",
    )
    loading_state: bool = key(False, "Tell waiting streams what they wait for, in comments clients skip.")
    replay: bool = key(True, "Send a request again, once, if the server died before its answer's first byte.")
    idle_unload_seconds: float = key(
        0.0, "Without requests for so long the server gives its memory back; the next wakes it.", or_off=True
    )
    preload: bool = key(True, "Load the model at the start; else with the first request.")
    max_concurrent: int = key(
        0, "At most so many requests are answered at once; more wait.", least=0, most=_MANY, or_off=True
    )
    max_queue: int = key(256, "At most so many requests wait; one more is answered 429.", least=0, most=_MANY)
    max_queue_bytes: int = key(256 * MIB, "At most so much of their bodies is kept.", "max-queue-bytes")
    max_connections: int = key(4096, "At most so many clients are connected.", least=1, most=_MANY)
    max_body_bytes: int = key(64 * MIB, "The largest body of a request.", least=1024)
    max_head_bytes: int = key(64 * 1024, "The largest head of a request.", least=1024, most=MIB)
    idle_timeout_seconds: float = key(120.0, "A connection idle for this long is closed.", least=1)
    client_timeout_seconds: float = key(
        30.0, "A client that sends or takes nothing for this long within a request is let go.", least=1
    )
    allow_origins: tuple[str, ...] = key(
        (),
        "Origins of web pages that may use the model, such as https://chat.lan; all others may not.",
        origins=True,
    )
    allow_hosts: tuple[str, ...] = key(
        (),
        "Names besides localhost under which clients reach a loopback address, for example behind a proxy.",
        what="a host name, with a port or without, or a list of them",
        pattern=_HOST,
    )
    allow_unauthenticated: bool = key(False, "Require no key, on any address.")
    reasoning_effort: Effort | None = key(None, "How long the model thinks where a request does not say it.")
    set_params: Mapping[str, Any] = field(default_factory=dict)  # JSON by name; replaces what a request says
    strip_params: tuple[str, ...] = key(
        (),
        "Parameters that are taken out of requests.",
        what="the name of a parameter or a list of them",
        pattern=PARAMETER_PATTERN,
    )


@dataclass(frozen=True, slots=True)
class Tuned:
    """
    The goal and the day, and the fingerprint: what makes the result invalid when it changes.

    All parts of the fingerprint are texts that are compared as they are, except the RAM, of which the system
    does not always report the same.  "" and None mean unknown; see ``prepare/fingerprint.py``.
    """

    goal: str = key("", "What it was tuned for: chat, agent, batch or balanced.")
    date: str = key("", "The day of the measurement: 2026-11-30.")
    build: str = key("", "The engine: repository, tag and flavour.")
    model: str = key("", "The model: name, size and a digest of what its header says of the weights.")
    os: str = key("", "The operating system, and whether it is a container or WSL2.")
    cpu: str = key("", "The processor with its cores and threads.")
    ram_bytes: int | None = key(None, "The memory that the system reports.")
    gpus: str = key("", "The GPUs with their own memory and their drivers.")


@dataclass(frozen=True, slots=True)
class Profile:
    """
    How to run one model on one kind of machine: ``extends`` applied, ``args`` parsed, all checked.

    ``server`` is keyed by canonical option name (``ctx-size``).  ``origins`` is keyed by dotted path
    (``listen.port``, ``server.ctx-size``) and names where the winning value was written.
    """

    name: str
    description: str = key("", "What this profile is for, in a line.")
    match: Match = Match()
    engine: Engine = Engine()
    model: ModelSource = ModelSource()
    server: Mapping[str, OptionValue] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    listen: ListenSettings = ListenSettings()
    lend: LentMemory = LentMemory()
    restart: Restart = Restart()
    health: Health = Health()
    stop: Stop = Stop()
    tuned: Tuned = Tuned()
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    aliases: tuple[str, ...] = key(
        (), "Names that clients know the model by.", what="a model name or a list of them", pattern=r"[^\s,]+"
    )
    role: Role | None = key(
        None,
        "What the model is for. Requests for embeddings, reranking, transcription, speech and images that "
        "name no known model go to the profile of that role. Without it: what the options and the model's "
        "file tell, else chat.",
    )
    placement: Placement = key(
        "engine",
        "Who decides what goes to the GPU: 'pinned' the profile's own options (gpu-layers, n-cpu-moe …), "
        "'engine' llama.cpp, 'auto' goss-supervisor, which places as much as fits next to the context. "
        "Without it: pinned where there are such options, else engine.",
    )
    guardrails: GuardrailSetting = key(
        "balanced",
        "What is refused because of memory: 'off' nothing, 'relaxed' what is more than what is free, "
        "'balanced' (the default) leaves a reserve to the system, 'strict' also wants the whole model in "
        "memory. start --force ignores it once.",
    )
    workers: tuple[Worker, ...] = key((), WORKERS_ABOUT)
    without_worker: WithoutWorker = key("wait", WITHOUT_WORKER_ABOUT)
    orphan: OrphanPolicy = key(
        "adopt",
        "What happens to the server when goss-supervisor is killed: with 'adopt' it goes on with its model, "
        "and the next start takes it over, where that is safe (`plan -v` says); with 'end' it ends too. "
        "A change applies from the next launch on.",
    )
    lineage: tuple[Origin, ...] = ()  # this profile first, then what it extends
    origins: Mapping[str, Origin] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # translations made while parsing ``args``, and the like
    leave_bytes: Mapping[str, int] = field(default_factory=dict)  # what of each memory is not ours, by name
    is_helper: bool = False  # config.yaml serves it next to its first one

    @property
    def can_start(self) -> bool:
        """Whether there is something to run; else it can only be extended."""
        return self.model.is_named or bool(self.engine.command) or self.lend.is_worker

    @property
    def wants_gpu(self) -> bool:
        """By flavour, layers placed on one, or device.  ``cpu`` says nothing of a program by ``path``."""
        if self.lend.is_worker:
            return self.engine.flavour != "cpu" and self.lend.devices != ("CPU",)
        if self.engine.flavour is not None and (self.engine.source, self.engine.flavour) != ("path", "cpu"):
            return self.engine.flavour != "cpu"
        if str(self.server.get("device", "")).lower() == "none":
            return False
        asks = "device" in self.server
        if self.workers and self.origins["workers"].profile != "config.yaml":
            return asks  # its layers may go to them
        return asks or self.server.get("gpu-layers", 0) not in {0, "0"}
