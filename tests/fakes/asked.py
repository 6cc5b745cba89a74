"""A request that is over, as the gateway keeps it."""

from __future__ import annotations

from supervisor.gateway.telemetry.activity import RequestRecord

_CHAT = {
    "at": 1_795_273_324.5,
    "caller": "laptop",
    "method": "POST",
    "endpoint": "/v1/chat/completions",
    "profile": "demo",
    "model": "demo",
    "stream": True,
    "status": 200,
    "result": "answered",
    "seconds": 1.5,
}


def a_chat(**more) -> RequestRecord:
    """A chat that was answered, but for what is said otherwise."""
    return RequestRecord(**_CHAT | more)
