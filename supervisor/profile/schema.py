"""
What a profile may say: each field declared once.

Validation, typed values, ``profile show`` and the JSON Schema are all read from ``FIELDS``; defaults
come from the records of ``types``.  Keys are dotted paths as in the YAML: ``match.ram.min``.
``FREE`` sections hold free keys or words and are described in ``SECTIONS`` only.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from .definition import Engine, GatewaySettings, Health, Listen, Match, Restart, Stop
from .gateway_fields import GATEWAY
from .kinds import (
    NAME_PATTERN,
    Choice,
    FilePath,
    Integer,
    Kind,
    Several,
    Size,
    Text,
    Truth,
    duration,
    nearest,
)

ENV_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = Text("a profile name (small letters, digits, '.', '_' and '-')", NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class Field:
    """One key; ``attribute`` is its name in the record of its section, with the unit."""

    key: str
    kind: Kind
    description: str
    attribute: str = ""

    @property
    def section(self) -> str:
        return self.key.partition(".")[0] if "." in self.key else ""

    @property
    def default(self) -> Any:  # noqa: ANN401 - typed by the record
        """The value where nothing is said; None where there is none."""
        record = RECORDS.get(self.section)
        return getattr(record(), self.attribute) if record else None


RECORDS: dict[str, type[Any]] = {
    "match": Match,
    "engine": Engine,
    "listen": Listen,
    "gateway": GatewaySettings,
    "restart": Restart,
    "health": Health,
    "stop": Stop,
}

PARAMETERS = "gateway.set-params"
SECTIONS = {
    "match": "The machine that this profile is made for; what is not said may be anything.",
    "match.ram": "How much main memory it has.",
    "match.gpu": "The GPU it has.",
    "engine": "Which llama.cpp to run.",
    "model": "The model: a path, a Hugging Face repository and file, or 'demo'.",
    "server": "llama-server options by their long or short names, without the dashes; null takes back an "
    "inherited one.",
    "args": "A raw llama-server option list, as a text or a list; it is folded into 'server'.",
    "env": "Environment variables for llama-server.",
    "listen": "Where clients come in.",
    "gateway": "What holds, guards and passes on what clients ask for, or 'off'.",
    PARAMETERS: "Parameters by name that are set in every request, in place of what it says; any JSON value. "
    "Key by key over an inherited one; null takes one back.",
    "restart": "When the server comes back by itself, and when it stays down.",
    "health": "When a silent server is late, busy or dead.",
    "stop": "How the server is stopped: TERM, grace, TERM, insist, KILL.",
}

FIELDS = (
    Field("description", Text(), "What this profile is for, in a line."),
    Field("extends", _NAME, "The profile that this one is based on."),
    Field(
        "aliases",
        Several("a model name or a list of them", pattern=r"[^\s,]+"),
        "Names by which clients may ask for the model.",
    ),
    Field(
        "placement",
        Choice(("pinned", "engine", "auto")),
        "Who decides what goes to the GPU: 'pinned' the profile's own options (gpu-layers, n-cpu-moe …), "
        "'engine' llama.cpp, 'auto' goss-supervisor, which places as much as fits beside the context. "
        "Without it: pinned where there are such options, else engine.",
    ),
    Field(
        "guardrails",
        Choice(("off", "relaxed", "balanced", "strict")),
        "What is refused because of memory: 'off' nothing, 'relaxed' what is more than what is free, "
        "'balanced' (the default) leaves a reserve to the system, 'strict' also wants the whole model in "
        "memory. start --force ignores it once.",
    ),
    Field("match.os", Several(names=("linux", "macos", "windows")), "The operating system.", "os"),
    Field("match.arch", Several(names=("x86_64", "arm64")), "The processor's architecture.", "arch"),
    Field("match.ram.min", Size(), "At least this much memory, as the system reports it.", "ram_min_bytes"),
    Field("match.ram.max", Size(), "At most this much memory.", "ram_max_bytes"),
    Field(
        "match.gpu.vendor",
        Several(names=("nvidia", "amd", "intel", "apple", "qualcomm", "none")),
        "Who made the GPU; 'none' is a machine without one.",
        "gpu_vendor",
    ),
    Field(
        "match.gpu.name",
        Text(),
        "A pattern for its name, as in '*RTX 4060 Ti*'; case does not matter.",
        "gpu_name",
    ),
    Field("match.gpu.memory", Size(), "At least this much memory of its own.", "gpu_memory_min_bytes"),
    Field("match.gpu.unified", Truth(), "Whether it shares the main memory.", "unified"),
    Field(
        "engine.source",
        Choice(("auto", "release", "path", "system", "embedded", "build")),
        "Where llama-server comes from: 'release' is the official one for this machine, 'path' a given "
        "binary, 'system' the one on PATH, 'embedded' a ready-made CPU engine, 'build' is compiled here; "
        "'auto' is the official one, and where that cannot be had, what else can serve, with the reason.",
        "source",
    ),
    Field(
        "engine.flavour",
        Text("a flavour such as cpu, cuda, vulkan, metal or rocm", r"[a-z][a-z0-9.-]*"),
        "What it computes on: cpu, cuda (or exactly cuda-12.8), vulkan, metal, rocm …; without it, what "
        "suits the machine best.",
        "flavour",
    ),
    Field(
        "engine.channel",
        Text("stable, nightly or a build tag such as b11434", r"stable|nightly|b[0-9]+"),
        "stable (upstream's own choice), nightly (the newest), or a pinned build tag such as b11434; without "
        "it, the tag that this version of goss-supervisor was tested with.",
        "channel",
    ),
    Field("engine.path", FilePath(absolute=True), "The llama-server binary, for source: path.", "path"),
    Field(
        "engine.mirror",
        Text("an address such as https://mirror.lan/github", r"https?://\S+"),
        "Where releases are downloaded, in place of https://github.com.",
        "mirror",
    ),
    Field(
        "engine.proxy",
        Text("an address such as http://proxy.lan:3128", r"(https?|socks5h?)://\S+"),
        "The proxy for downloads; without it, what HTTPS_PROXY says.",
        "proxy",
    ),
    Field(
        "engine.auto-update",
        Choice(("off", "notify", "apply")),
        "Whether the daemon looks for a newer engine once a day: 'notify' tells of it in status, 'apply' "
        "takes it, and takes it back if it is worse.",
        "auto_update",
    ),
    Field("model.path", FilePath(), "A GGUF file; of a split model, the first part.", "path"),
    Field(
        "model.repo",
        Text("a Hugging Face repository, owner/name", r"[\w.-]+/[\w.-]+"),
        "A Hugging Face repository, owner/name.",
        "repo",
    ),
    Field(
        "model.file",
        Text("a file name", r"[^\s\\]+"),
        "The GGUF file in it; of a split model, the first part.",
        "file",
    ),
    Field("listen.host", Text("a host name or address", r"\S+"), "The address to listen on.", "host"),
    Field("listen.port", Integer(1, 65535), "The port to listen on.", "port"),
    *(Field(*row) for row in GATEWAY),
    Field(
        "restart.policy",
        Choice(("on-failure", "never")),
        "Whether the server comes back after it died.",
        "policy",
    ),
    Field(
        "restart.max", Integer(0, 1000), "More restarts than this within the window: failed.", "max_restarts"
    ),
    Field("restart.window", duration(1), "The time in which restarts are counted.", "window_seconds"),
    Field("restart.backoff", duration(), "The wait before a restart; doubles each time.", "backoff_seconds"),
    Field("restart.backoff-limit", duration(), "The longest wait.", "backoff_limit_seconds"),
    Field("restart.stable", duration(), "Ready for this long: the wait begins anew.", "stable_seconds"),
    Field(
        "health.start-timeout",
        duration(1),
        "How long loading may go on without any progress.",
        "start_timeout_seconds",
    ),
    Field("health.start-limit", duration(1), "How long loading may take at all.", "start_limit_seconds"),
    Field("health.interval", duration(0.1), "The time between two liveness probes.", "interval_seconds"),
    Field("health.timeout", duration(0.1), "How long one probe waits.", "timeout_seconds"),
    Field(
        "health.hang-timeout",
        duration(1),
        "Unanswered probes and no progress for this long: killed and restarted.",
        "hang_timeout_seconds",
    ),
    Field(
        "health.busy-timeout",
        duration(1),
        "Unanswered probes for this long even though there is progress: killed and restarted.",
        "busy_timeout_seconds",
    ),
    Field("stop.grace", duration(), "The wait after the first TERM.", "grace_seconds"),
    Field("stop.insist", duration(), "The wait after the second TERM.", "insist_seconds"),
)

BY_KEY = {field.key: field for field in FIELDS}
FREE = ("server", "env", "args", PARAMETERS)


def known_spelling(key: str) -> str:
    """``engine.auto_update`` means ``engine.auto-update``; anything else stays as it is."""
    dashed = key.replace("_", "-")
    if dashed.startswith(PARAMETERS):
        return PARAMETERS + key[len(PARAMETERS) :]
    return dashed if dashed in BY_KEY else key


def names_under(prefix: str) -> tuple[str, ...]:
    """The keys that may stand in a mapping: ``names_under("match.ram")`` is ``("min", "max")``."""
    lead = prefix + "." if prefix else ""
    keys = [*BY_KEY, *FREE]
    return tuple(dict.fromkeys(key[len(lead) :].partition(".")[0] for key in keys if key.startswith(lead)))


def record(section: str, values: dict[str, Any]) -> Any:  # noqa: ANN401 - one of types' records
    """The record of one section from values by dotted key; what is missing has its default."""
    fields = {
        field.attribute: values[field.key]
        for field in FIELDS
        if field.section == section and field.key in values
    }
    return dataclasses.replace(RECORDS[section](), **fields)


def nearest_key(prefix: str, word: str) -> str:
    """The valid key most like ``word`` in the mapping at ``prefix``."""
    return nearest(word, names_under(prefix))
