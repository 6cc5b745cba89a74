"""The launch plan: everything that the daemon needs for a launch, so it reads no other files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.adapters.adapter import Question
from ..options.option_types import Translation
from ..profile.definition import AutoUpdate, Effort, Health, OrphanPolicy, Restart, Role, Stop

SHORT_AT_LOAD = "for without it the load failed for memory"
SHORT_IN_REQUESTS = "for without it requests ran out of GPU memory"
"""Why a plan is replaced by its adjusted one."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a profile does to the parameters of the requests that it answers; see `GatewaySettings`."""

    reasoning_effort: Effort | None = None
    set_params: Mapping[str, Any] = field(default_factory=dict)  # JSON by name; replaces what a request says
    strip_params: tuple[str, ...] = ()
    upstream_model: str = ""  # what the engine calls its model, if only that name will do
    public_model: str = ""  # and what its answers call it


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """
    One engine's process, decided to the last argument.

    ``host`` and ``port`` are where the engine itself listens; port 0 is one that is found when it is
    launched.  ``env`` is set on top of the daemon's own cleaned environment, as are ``secrets``, which are
    never printed or written.  ``digest`` covers what a server has to be restarted for: not the policies.
    """

    profile: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    host: str
    port: int
    build: str  # b11434
    flavour: str  # cpu
    engine: str  # a sentence: which engine and why
    model: str  # a path, as shown to people
    digest: str
    wish: str = ""  # the digest without what the free memory decided; "" is not known
    orphan: OrphanPolicy = "end"
    restart: Restart = field(default_factory=Restart)
    health: Health = field(default_factory=Health)
    stop: Stop = field(default_factory=Stop)
    aliases: tuple[str, ...] = ()
    model_files: tuple[str, ...] = ()  # checked before each launch
    model_bytes: int = 0  # of all of them; 0 is not known
    wants_gpu: bool = False
    devices: tuple[str, ...] = ()
    adapter: str = "llamacpp"  # who knows what is particular to this engine
    ready_path: str = "/health"
    question: Question | None = None  # that it must answer, too, before it counts as ready
    liveness_path: str | None = "/metrics"  # through the inference queue; None where the build has none
    is_trial: bool = False  # runs only to be measured: nothing of it is kept, and its failure is an answer
    behind_gateway: bool = False  # else llama-server has the public address itself
    drain_seconds: float = 0.0  # how long requests under way may keep a switch waiting
    parameters: Parameters = field(default_factory=Parameters)
    description: str = ""
    roles: tuple[Role, ...] = ()  # see `roles_of`
    api_prefix: str = ""
    tls: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""  # ggml-org/llama.cpp; with build and flavour it is what an update may replace
    auto_update: AutoUpdate = "off"
    memory: Mapping[str, int] = field(default_factory=dict)  # bytes that it will hold: RAM, CUDA0 …
    adapters: Mapping[str, str] = field(default_factory=dict)  # PCI address by device, where it is certain
    sharing: Mapping[str, int] = field(default_factory=dict)  # of each GPU that shares the RAM: its own bytes
    needs: Mapping[str, int] = field(default_factory=dict)  # bytes that it uses, what is mapped included
    keeps: Mapping[str, int] = field(default_factory=dict)  # bytes of each memory that are left to others
    ours: Mapping[str, int] = field(default_factory=dict)  # where limited: the most for all our servers
    leaves: Mapping[str, int] = field(default_factory=dict)  # what `memory.leave` says, for status
    shared_context_tokens: int = 0  # that all slots together have; 0: each has its own, or it is not known
    context_slots: int = 0  # that share them
    measures: bool = False  # what it holds of the RAM is kept for the next start
    figures: str = ""  # under which key the engine's own figures of its memory are kept; "" for not at all
    settings: Mapping[str, str] = field(default_factory=dict)  # what --set said; may hold a secret
    adjusted: LaunchPlan | None = None  # what is tried once, should the load or requests fail for memory
    adjustment: str = ""  # of an adjusted plan: what is different and, once it is tried, why; in words
    adjusts: str = ""  # and the digest of the plan that it replaces
    workers: tuple[str, ...] = ()  # host:port of the machines that lend memory, in the order of --rpc
    without_workers: LaunchPlan | None = None  # what runs while one of them is gone; None: wait for it
    translations: tuple[Translation, ...] = ()
    warnings: tuple[str, ...] = ()
