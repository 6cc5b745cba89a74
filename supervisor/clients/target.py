"""From a profile, or from the plan that runs, to what its clients are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import ConfigError
from ..options.fold import fold
from ..options.types import OptionValue
from ..plan.listen import Listen, is_loopback
from ..plan.types import LaunchPlan
from ..profile.types import Gateway, Profile
from ..server.address import is_socket_path, url_host
from .types import KEY_ENV, Target

_KEYS = frozenset(("api-key", "api-key-file"))
_KEY_VARIABLE = "LLAMA_API_KEY"
_EVERYWHERE = frozenset(("0.0.0.0", "::", "*"))  # noqa: S104 - compared, not bound


def target_of_profile(profile: Profile, *, has_keys: bool) -> Target:
    """
    What it will be like once this profile runs; ``has_keys`` says that ``key add`` made one.

    Raises ConfigError for one that listens on a Unix socket, which no client of these can be given.
    """
    listen, server, host = profile.listen, profile.server, _with_a_port(profile.listen.host)
    scheme = "https" if "ssl-key-file" in server else "http"
    own_keys = bool(_KEYS & server.keys()) or _KEY_VARIABLE in profile.env
    gateway = profile.gateway if profile.gateway.mode == "on" else None
    return Target(
        url=f"{scheme}://{url_host(host)}:{listen.port}{server.get('api-prefix', '')}",
        model=(*profile.aliases, profile.name)[0],
        key_env=KEY_ENV if _asks(gateway, host, own_keys=own_keys, has_keys=has_keys) else None,
        context_tokens=context_of(server),
        is_local=is_loopback(host),
        is_everywhere=host in _EVERYWHERE,
    )


def target_of_plan(plan: LaunchPlan, listen: Listen | None, url: str, *, has_keys: bool) -> Target:
    """The same of what runs; ``url`` is where the daemon says that it is reached.  Raises ConfigError too."""
    listen, options = listen if plan.behind_gateway else None, fold(plan.argv[1:]).options
    host = _with_a_port(listen.host if listen else plan.host)
    in_server = _KEY_VARIABLE in plan.secrets or _KEY_VARIABLE in plan.env or "api-key-file" in options
    own_keys = bool(listen.keys) if listen else in_server
    gateway = listen.settings if listen else None
    return Target(
        url=url,
        model=(*plan.aliases, plan.profile)[0],
        key_env=KEY_ENV if _asks(gateway, host, own_keys=own_keys, has_keys=has_keys) else None,
        context_tokens=context_of(options),
        is_local=is_loopback(host),
        is_everywhere=host in _EVERYWHERE,
    )


def target_of_offer(profile: Profile, running: Target) -> Target:
    """A profile that is offered beside the one that runs: its own names, at the same address."""
    model, context = (*profile.aliases, profile.name)[0], context_of(profile.server)
    return replace(running, model=model, context_tokens=context)


def _with_a_port(host: str) -> str:
    if is_socket_path(host):
        raise ConfigError(
            f"The server listens on the Unix socket {host}; clients want a host and a port.",
            hint="Set listen.host to 127.0.0.1.",
        )
    return host


def _asks(gateway: Gateway | None, host: str, *, own_keys: bool, has_keys: bool) -> bool:
    """Whether a key is asked for; without a gateway llama-server knows only those that it was given."""
    if gateway is None:
        return own_keys
    return not gateway.allow_unauthenticated and (own_keys or has_keys or not is_loopback(host))


def context_of(options: Mapping[str, OptionValue]) -> int | None:
    """
    The tokens that one request can have, or None where the options do not say it.

    llama-server divides ctx-size among its slots, where their number is given and they do not share it
    (b11434, tools/server/server.cpp).
    """
    size, slots, bound = (_number(options, name) for name in ("ctx-size", "parallel", "kv-unified-per-slot"))
    if size < 1:
        return bound if bound > 0 else None
    if slots > 1 and options.get("kv-unified") is not True:
        size //= slots
    return min(size, bound) if bound > 0 else size


def _number(options: Mapping[str, OptionValue], name: str) -> int:
    value = options.get(name)
    return value if isinstance(value, int) else 0
