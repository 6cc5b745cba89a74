"""Where the clients of a profile, or of the plan that runs, find the model, and with which key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ..engine.adapters.renderers import renderer_of
from ..errors import ConfigError
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, context_of, is_loopback, is_socket_path, url_host
from ..profile.definition import GatewaySettings, Profile

Language = Literal["javascript", "json", "python", "sh", "text", "toml", "yaml"]

KEY_ENV = "GOSS_API_KEY"
MOST_ANSWER_TOKENS = 32_000  # what Claude Code asks for by itself


@dataclass(frozen=True, slots=True)
class ClientEndpoint:
    """
    The address for a client to use, and what it finds there.

    ``url`` has no slash at its end and no ``/v1``.  ``key_env`` is the environment variable that holds the
    key, never the key; None where none is asked for.  ``context_tokens`` is what one request can have; None
    where the profile leaves it to llama-server.  ``is_local``: other machines, and containers, do not reach
    it.  ``is_everywhere``: it listens on every address of this machine, and ``url`` has the local one.
    """

    url: str
    model: str
    key_env: str | None = None
    context_tokens: int | None = None
    is_local: bool = True
    is_everywhere: bool = False

    @property
    def api(self) -> str:
        """For clients of OpenAI's API, which want the path as well."""
        return f"{self.url}/v1"

    @property
    def answer_tokens(self) -> int | None:
        """Of the context, what clients that ask for it may leave to an answer: a quarter."""
        return min(self.context_tokens // 4, MOST_ANSWER_TOKENS) if self.context_tokens else None


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text to paste; ``path`` is the file, or the menu, that it goes to."""

    path: str
    language: Language
    text: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to paste, and what else there is to do or to know: one or more sentences each."""

    files: tuple[Snippet, ...]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientApp:
    """A program that people use models with; ``title`` is what it calls itself."""

    name: str
    title: str
    recipe: Callable[[ClientEndpoint], Recipe]


def quoted(text: str) -> str:
    """A string as JSON, TOML and Python all write it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_AGENT_TOKENS = 32_768
"""An agent's own instructions and tools take 10,000 to 25,000 tokens before the first question."""


def key_steps(endpoint: ClientEndpoint, how: str = "") -> tuple[str, ...]:
    """Where the key is; ``how`` is what this client needs besides."""
    where = where_the_key_is(endpoint.key_env) if endpoint.key_env else ""
    return tuple(filter(None, (where, how))) if where else ()


def where_the_key_is(key_env: str) -> str:
    made = "goss-supervisor key add NAME makes a key, and shows it once"
    return f"{key_env} is the environment variable that holds the key; {made}."


def context_steps(endpoint: ClientEndpoint, *, agent: bool = False) -> tuple[str, ...]:
    """What is unknown of the context, or too little of it."""
    tokens = endpoint.context_tokens
    if tokens is None:
        why = "the profile leaves it to llama-server"
        return (f"The size of the context is not known ({why}) and left out: set ctx-size to have it here.",)
    if agent and tokens < _AGENT_TOKENS:
        few = f"A context of {tokens} tokens is small for an agent, which has 10,000 to 25,000 of its own"
        return (f"{few} in it: set ctx-size to {_AGENT_TOKENS} or more.",)
    return ()


_KEYS = frozenset(("api-key", "api-key-file"))
_KEY_VARIABLE = "LLAMA_API_KEY"
_EVERYWHERE = frozenset(("0.0.0.0", "::", "*"))  # noqa: S104 - compared, not bound


def endpoint_of_profile(profile: Profile, *, has_keys: bool) -> ClientEndpoint:
    """Once this profile runs; ``has_keys`` by ``key add``.  Raises ConfigError for one on a Unix socket."""
    listen, server, host = profile.listen, profile.server, _with_a_port(profile.listen.host)
    scheme = "https" if "ssl-key-file" in server else "http"
    own_keys = bool(_KEYS & server.keys()) or _KEY_VARIABLE in profile.env
    gateway = profile.gateway if profile.gateway.mode == "on" else None
    return ClientEndpoint(
        url=f"{scheme}://{url_host(host)}:{listen.port}{server.get('api-prefix', '')}",
        model=(*profile.aliases, profile.name)[0],
        key_env=KEY_ENV if _asks(gateway, host, own_keys=own_keys, has_keys=has_keys) else None,
        context_tokens=context_of(server),
        is_local=is_loopback(host),
        is_everywhere=host in _EVERYWHERE,
    )


def endpoint_of_plan(plan: LaunchPlan, listen: Listen | None, url: str, *, has_keys: bool) -> ClientEndpoint:
    """The same of what runs; ``url`` is where the daemon says that it is reached.  Raises ConfigError too."""
    listen, options = listen if plan.behind_gateway else None, renderer_of(plan.adapter).options(plan.argv)
    host = _with_a_port(listen.host if listen else plan.host)
    in_server = _KEY_VARIABLE in plan.secrets or _KEY_VARIABLE in plan.env or "api-key-file" in options
    own_keys = bool(listen.keys) if listen else in_server
    gateway = listen.settings if listen else None
    return ClientEndpoint(
        url=url,
        model=(*plan.aliases, plan.profile)[0],
        key_env=KEY_ENV if _asks(gateway, host, own_keys=own_keys, has_keys=has_keys) else None,
        context_tokens=context_of(options),
        is_local=is_loopback(host),
        is_everywhere=host in _EVERYWHERE,
    )


def endpoint_of_offer(profile: Profile, running: ClientEndpoint) -> ClientEndpoint:
    """A profile that is offered besides the running one: its own names, at the same address."""
    model, context = (*profile.aliases, profile.name)[0], context_of(profile.server)
    return replace(running, model=model, context_tokens=context)


def _with_a_port(host: str) -> str:
    if is_socket_path(host):
        problem = f"The server listens on the Unix socket {host}; clients want a host and a port."
        raise ConfigError(problem, hint="Set listen.host to 127.0.0.1.")
    return host


def _asks(gateway: GatewaySettings | None, host: str, *, own_keys: bool, has_keys: bool) -> bool:
    """Whether a key is asked for; without a gateway llama-server knows only those that it was given."""
    if gateway is None:
        return own_keys
    return not gateway.allow_unauthenticated and (own_keys or has_keys or not is_loopback(host))
