"""
Where clients connect, and on what terms.  No part of a launch, so a switch leaves it alone.  Pure.

The address that others use can differ from the one that is bound: ``0.0.0.0`` is reached as 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from ..engine.adapters.known import adapter_of
from ..errors import ConfigError, StartFailed
from ..options.option_types import OptionValue
from ..profile.definition import GatewaySettings, Profile, Role
from ..profile.peer import Peer
from .launch import LaunchPlan
from .role import roles_of

GATEWAY_OPTIONS = {
    "api-key": "the gateway asks for it, and passes no client's key on",
    "api-key-file": "the gateway asks for the keys in it, and passes no client's key on",
    "ssl-cert-file": "the gateway speaks TLS with clients",
    "ssl-key-file": "the gateway speaks TLS with clients",
    "reuse-port": "the gateway shares its port with nobody",
}
"""The options of llama-server that the gateway takes over, and what becomes of each."""
GATEWAY_VARIABLES = {
    "LLAMA_API_KEY": "api-key",
    "LLAMA_ARG_API_KEY_FILE": "api-key-file",
    "LLAMA_ARG_SSL_CERT_FILE": "ssl-cert-file",
    "LLAMA_ARG_SSL_KEY_FILE": "ssl-key-file",
    "LLAMA_ARG_REUSE_PORT": "reuse-port",
}
"""The same options by the variables that llama-server reads (common/arg.cpp); an option overrides them."""


@dataclass(frozen=True, slots=True)
class Offer:
    """
    A profile that clients may ask for; ``names`` are its own and its aliases, the one shown first.

    ``load``: a start loads it next to the main server's.  ``pinned``: it is never unloaded for another.
    ``priority``: of those that could make way, one with a lower number does.  ``idle_unload_seconds`` None is
    what the gateway's settings say, and 0 never.
    """

    profile: str
    names: tuple[str, ...]
    description: str = ""
    pinned: bool = False
    priority: int = 0
    load: bool = False
    idle_unload_seconds: float | None = None
    roles: tuple[Role, ...] = ()  # see `roles_of`
    context_tokens: int | None = None  # of one request; None where it is known only once the model is loaded

    @property
    def role(self) -> Role:
        return self.roles[0] if self.roles else "chat"

    def idle_seconds(self, settings: GatewaySettings) -> float:
        """After so long without a request it is unloaded; 0 is never."""
        if self.idle_unload_seconds is not None:
            return self.idle_unload_seconds
        return 0.0 if self.pinned else settings.idle_unload_seconds


@dataclass(frozen=True, slots=True)
class Listen:
    """
    The gateway's address and terms, as ``profile`` gives them; ``offers`` begins with that profile.

    ``named`` are the profiles that the start named in addition, which a reload serves again.  ``keys`` are
    the SHA-256 digests, in hexadecimal, of keys that the profile itself gives.
    """

    profile: str
    host: str
    port: int
    settings: GatewaySettings = field(default_factory=GatewaySettings)
    offers: tuple[Offer, ...] = ()
    named: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    tls_certificate: str = ""  # paths of PEM files; both or none
    tls_key: str = ""
    peers: tuple[Peer, ...] = ()

    @property
    def warning(self) -> str:
        """What a person must know of an address that anybody on the network can use; else empty."""
        if is_loopback(self.host) or not self.settings.allow_unauthenticated:
            return ""
        where = f"{self.host}:{self.port} is open to the network"
        return f"{where} and anybody who reaches it can use it (gateway.allow-unauthenticated)"


def make_listen(profile: Profile, offers: tuple[Offer, ...] = (), key_text: str = "") -> Listen | None:
    """
    How clients reach this profile; None where llama-server has the address itself (``gateway: off``).
    ``key_text`` is what the profile's file of keys holds.  Raises ConfigError for half of a TLS pair.
    """
    if profile.gateway.mode == "off":
        return None
    options = gateway_options(profile)
    _both_or_none(profile, options)
    return Listen(
        profile=profile.name,
        host=profile.listen.host,
        port=profile.listen.port,
        settings=profile.gateway,
        offers=offers or (offer_of(profile),),
        keys=tuple(hashlib.sha256(key.encode()).hexdigest() for key in _keys(options, key_text)),
        tls_certificate=str(options.get("ssl-cert-file", "")),
        tls_key=str(options.get("ssl-key-file", "")),
    )


def offer_of(profile: Profile, roles: tuple[Role, ...] | None = None) -> Offer:
    """
    The profile as clients may ask for it: by its aliases, the first of which is shown, or by its name.
    ``roles`` are given by who has seen the model's header.
    """
    names = tuple(dict.fromkeys((*profile.aliases, profile.name)))
    roles = roles_of(profile) if roles is None else roles
    return Offer(
        profile.name,
        names,
        profile.description,
        roles=roles,
        context_tokens=context_of(profile.server),
    )


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


def offers_beside(plans: Sequence[LaunchPlan], listen: Listen) -> tuple[Offer, ...]:
    """
    What clients may ask for while servers have these plans: their profiles first, offered or not.  A worker
    serves no model.
    """
    workers = {plan.profile for plan in plans if not serves_clients(plan)}
    offers = {offer.profile: offer for offer in listen.offers if offer.profile not in workers}
    own = {
        plan.profile: _offer_of_plan(plan, offers.get(plan.profile)) for plan in plans if serves_clients(plan)
    }
    return tuple((offers | own)[name] for name in dict.fromkeys((*own, *offers)))


def serves_clients(plan: LaunchPlan) -> bool:
    """Whether clients' requests can go there: a worker speaks no HTTP."""
    return adapter_of(plan.adapter).protocol == "http"


def _offer_of_plan(plan: LaunchPlan, known: Offer | None) -> Offer:
    names = tuple(dict.fromkeys((*plan.aliases, plan.profile)))
    offer = known or Offer(plan.profile, names, plan.description)
    return replace(offer, roles=plan.roles or offer.roles)  # the plan was made with the model at hand


def gateway_options(profile: Profile) -> dict[str, OptionValue]:
    """The options that the gateway takes from llama-server, wherever the profile says them."""
    in_env = {
        GATEWAY_VARIABLES[name]: value for name, value in profile.env.items() if name in GATEWAY_VARIABLES
    }
    return {**in_env, **{name: value for name, value in profile.server.items() if name in GATEWAY_OPTIONS}}


def place_of(profile: Profile, option: str) -> str:
    """Where the profile says one of these options: ``p.yaml:3:5: server.api-key-file``."""
    variable = next(name for name, meant in GATEWAY_VARIABLES.items() if meant == option)
    key = f"server.{option}" if option in profile.server else f"env.{variable}"
    origin = profile.origins.get(key)
    return f"{origin}: {key}" if origin else f"profile {profile.name}: {key}"


def is_loopback(host: str) -> bool:
    """
    Whether only this machine can reach the address, or all of several; a name is trusted only if it is
    localhost.
    """
    return all(map(_is_loopback, host.split(",")))


def _is_loopback(host: str) -> bool:
    host = host.strip().removeprefix("[").removesuffix("]")
    if host == "localhost" or host.endswith(".sock"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _both_or_none(profile: Profile, options: Mapping[str, OptionValue]) -> None:
    given = [name for name in ("ssl-cert-file", "ssl-key-file") if name in options]
    if len(given) == 1:
        other = "ssl-key-file" if given == ["ssl-cert-file"] else "ssl-cert-file"
        problem = f"{other} is missing: TLS takes a certificate and its key"
        raise ConfigError(f"{place_of(profile, given[0])}: {problem}")


def _keys(options: Mapping[str, OptionValue], key_text: str) -> Iterable[str]:
    """Those with commas between them, then one a line; a line that begins with ``#`` is a comment."""
    given = options.get("api-key", "")
    words = (",".join(given) if isinstance(given, tuple) else str(given)).split(",")
    lines = [line for line in key_text.splitlines() if not line.startswith("#")]
    return dict.fromkeys(key for each in (*words, *lines) if (key := each.strip()))


_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1", "*": "127.0.0.1"}  # noqa: S104 - not bound here
_SOMEWHERE = ("192.0.2.1", 9)  # reserved for documents (RFC 5737); nothing is sent there


def first_host(host: str) -> str:
    """llama-server takes several hosts, separated by commas; the first stands for all."""
    return host.partition(",")[0].strip().removeprefix("[").removesuffix("]")


def is_socket_path(host: str) -> bool:
    """llama-server's own rule: a host that ends in .sock is the path of a Unix socket."""
    return first_host(host).endswith(".sock")


def bind_addresses(host: str) -> list[str]:
    """Literal addresses to listen on.  Raises OSError for a name that does not resolve."""
    wanted = [each.strip().removeprefix("[").removesuffix("]") for each in host.split(",") if each.strip()]
    return [_resolved("0.0.0.0" if each == "*" else each) for each in wanted] or ["127.0.0.1"]  # noqa: S104


def _resolved(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except ValueError as error:  # a..b, or a NUL: what comes before the resolver, and is no OSError
        raise OSError(f"{host} is no name of a host") from error


def connect_address(host: str) -> str:
    """
    A literal address, since asyncio resolves names in a thread, and the daemon is to have none.

    A name is resolved here, by the local resolver; llama-server binds its first address too.
    Raises StartFailed for a name that does not resolve.
    """
    host = first_host(host)
    if host in _ANY:
        return _ANY[host]
    try:
        return _resolved(host)
    except OSError as error:
        raise StartFailed(
            f"The host {host} does not resolve to an address: {error.strerror or error}.",
            hint="Correct listen.host in the profile; 127.0.0.1 serves this computer only.",
        ) from error


def url_host(host: str) -> str:
    """As in a URL."""
    address = first_host(host)
    address = _ANY.get(address, address)
    return f"[{address}]" if ":" in address else address


def is_any(host: str) -> bool:
    """Whether it stands for all addresses of this machine."""
    return first_host(host) in _ANY


def url_of(plan: LaunchPlan, listen: Listen | None, host: str = "") -> str:
    """Where clients reach it: http, https or unix; ``host`` is how others know this machine."""
    public = public_end(plan, listen)
    tls = plan.tls if public is plan else listen and listen.tls_certificate
    if is_socket_path(public.host):
        return f"unix://{first_host(public.host)}"
    return f"{'https' if tls else 'http'}://{url_host(host or public.host)}:{public.port}{plan.api_prefix}"


def public_end(plan: LaunchPlan, listen: Listen | None) -> LaunchPlan | Listen:
    """Whose host and port clients use: the gateway's, or llama-server's own where there is none before it."""
    return listen if listen is not None and plan.behind_gateway else plan


def address_for_others() -> str | None:
    """By which this machine is known where its default route leads; None where none does."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_SOMEWHERE)
            address = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if address.startswith(("127.", "0.")) else address
