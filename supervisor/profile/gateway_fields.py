"""The keys of the section ``gateway``: key, kind, description, and the attribute of ``types.Gateway``."""

from __future__ import annotations

from .gateway_kinds import Origins, OrOff, Switch
from .kinds import NAME_PATTERN, Choice, Integer, Kind, Several, Size, duration

_MANY = 1_000_000
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?#@*,\[\]]+)(?::[0-9]{1,5})?"
PARAMETER = r"\S{1,100}"

GATEWAY: tuple[tuple[str, Kind, str, str], ...] = (
    (
        "gateway.mode",
        Switch(as_word=True),
        "'off' gives llama-server the listen address itself; 'gateway: off' is short for it.",
        "mode",
    ),
    (
        "gateway.models",
        Several("a profile name or a list of them", pattern=NAME_PATTERN),
        "Profiles that clients may ask for by name or alias; this one always may be.",
        "models",
    ),
    (
        "gateway.switch-on-request",
        Switch(),
        "Whether a request that names another of them switches to it.",
        "switch_on_request",
    ),
    (
        "gateway.unknown-model",
        Choice(("active", "reject")),
        "A request for a model of another name: 'active' lets the running one answer, 'reject' answers 404.",
        "unknown_model",
    ),
    (
        "gateway.min-warm",
        duration(),
        "A model that became ready is not switched away from sooner than this.",
        "min_warm_seconds",
    ),
    (
        "gateway.max-wait",
        duration(),
        "A request for another model waits at most this long for the running one to have nothing to do.",
        "max_wait_seconds",
    ),
    (
        "gateway.hold-timeout",
        duration(),
        "How long a request waits for a server that loads, restarts, switches or wakes.",
        "hold_timeout_seconds",
    ),
    (
        "gateway.drain-timeout",
        duration(),
        "How long requests under way may keep a switch waiting; then they are broken off, visibly.",
        "drain_timeout_seconds",
    ),
    (
        "gateway.loading-state",
        Switch(),
        "Tell streams that wait what they wait for, in comment lines that clients skip.",
        "loading_state",
    ),
    (
        "gateway.replay",
        Switch(),
        "Send a request again, once, where the server died before the first byte of its answer.",
        "replay",
    ),
    (
        "gateway.idle-unload",
        OrOff(duration()),
        "Without a request for this long the server gives its memory back; the next one wakes it.",
        "idle_unload_seconds",
    ),
    (
        "gateway.preload",
        Switch(),
        "Load the model at the start; else with the first request.",
        "preload",
    ),
    (
        "gateway.max-concurrent",
        OrOff(Integer(0, _MANY)),
        "At most so many requests are answered at once; more wait.",
        "max_concurrent",
    ),
    (
        "gateway.max-queue",
        Integer(0, _MANY),
        "At most so many requests wait; one more is answered 429.",
        "max_queue",
    ),
    (
        "gateway.max-queue-bytes",
        Size(),
        "At most so much of their bodies is kept meanwhile.",
        "max_queue_bytes",
    ),
    (
        "gateway.max-connections",
        Integer(1, _MANY),
        "At most so many clients are connected.",
        "max_connections",
    ),
    ("gateway.max-body", Size(minimum=1024), "The largest body of a request.", "max_body_bytes"),
    (
        "gateway.max-head",
        Size(minimum=1024, maximum=1024 * 1024),
        "The largest head of a request.",
        "max_head_bytes",
    ),
    (
        "gateway.idle-timeout",
        duration(1),
        "A connection without a request for this long is closed.",
        "idle_timeout_seconds",
    ),
    (
        "gateway.client-timeout",
        duration(1),
        "A client that sends or takes nothing for this long in the middle of a request is let go.",
        "client_timeout_seconds",
    ),
    (
        "gateway.allow-origins",
        Origins(),
        "Origins of web pages that may use the model, such as https://chat.lan; all others may not.",
        "allow_origins",
    ),
    (
        "gateway.allow-hosts",
        Several("a host name, with a port or without, or a list of them", pattern=_HOST),
        "Names beside localhost by which this machine is reached on a loopback address, as behind a proxy.",
        "allow_hosts",
    ),
    (
        "gateway.allow-unauthenticated",
        Switch(),
        "Ask nobody for a key, on whatever address.",
        "allow_unauthenticated",
    ),
    (
        "gateway.reasoning-effort",
        Choice(("low", "medium", "high")),
        "How long the model thinks where a request does not say it.",
        "reasoning_effort",
    ),
    (
        "gateway.strip-params",
        Several("the name of a parameter or a list of them", pattern=PARAMETER),
        "Parameters that are taken out of requests.",
        "strip_params",
    ),
)
