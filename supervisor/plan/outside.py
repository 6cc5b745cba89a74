"""What of a profile is the gateway's, and what is left for llama-server behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import ConfigError
from ..options.option_values import OptionValue, Translation
from ..profile.definition import Listen, Profile
from .types import Door, Offer

_LOOPBACK = "127.0.0.1"
_OURS = {
    "api-key": "the gateway asks for it, and hands no client's key on",
    "api-key-file": "the gateway asks for the keys in it, and hands no client's key on",
    "ssl-cert-file": "the gateway speaks TLS with clients",
    "ssl-key-file": "the gateway speaks TLS with clients",
    "reuse-port": "the gateway shares its port with nobody",
}
"""Options about the way from clients to the server, and what becomes of each."""
_VARIABLES = {
    "LLAMA_API_KEY": "api-key",
    "LLAMA_ARG_API_KEY_FILE": "api-key-file",
    "LLAMA_ARG_SSL_CERT_FILE": "ssl-cert-file",
    "LLAMA_ARG_SSL_KEY_FILE": "ssl-key-file",
    "LLAMA_ARG_REUSE_PORT": "reuse-port",
}
"""The same options by the variables that llama-server reads (common/arg.cpp); an option stands over them."""


@dataclass(frozen=True, slots=True)
class Divided:
    """``inner`` is the profile as llama-server is to have it; it listens at ``inner.listen``."""

    door: Door
    inner: Profile
    translations: tuple[Translation, ...]


def divide(profile: Profile, inside: str, offers: tuple[Offer, ...], key_text: str) -> Divided:
    """
    A profile whose gateway is on, in its two halves.

    ``inside`` is the path of the socket that llama-server shall listen on, or "" for a loopback port, and
    ``key_text`` what the profile's file of keys holds.  Raises ConfigError.
    """
    ours = door_options(profile)
    _both_or_none(profile, ours)
    door = Door(
        host=profile.listen.host,
        port=profile.listen.port,
        settings=profile.gateway,
        offers=offers or (offer_of(profile),),
        keys=tuple(_digest(key) for key in _keys(ours, key_text)),
        tls_certificate=str(ours.get("ssl-cert-file", "")),
        tls_key=str(ours.get("ssl-key-file", "")),
    )
    inner = replace(
        profile,
        server={name: value for name, value in profile.server.items() if name not in _OURS},
        env={name: value for name, value in profile.env.items() if name not in _VARIABLES},
        listen=Listen(inside or _LOOPBACK, 0),
    )
    said = tuple(Translation(name, (), _OURS[name]) for name in sorted(ours))
    return Divided(door, inner, said)


def offer_of(profile: Profile) -> Offer:
    """The profile as clients may ask for it: by its aliases, the first of which is shown, or by its name."""
    names = dict.fromkeys((*profile.aliases, profile.name))
    return Offer(profile.name, tuple(names), profile.description)


def door_options(profile: Profile) -> dict[str, OptionValue]:
    """The options that the gateway takes from llama-server, wherever the profile says them."""
    in_env = {_VARIABLES[name]: value for name, value in profile.env.items() if name in _VARIABLES}
    return {**in_env, **{name: value for name, value in profile.server.items() if name in _OURS}}


def place_of(profile: Profile, option: str) -> str:
    """Where the profile says one of these options: ``p.yaml:3:5: server.api-key-file``."""
    variable = next(name for name, meant in _VARIABLES.items() if meant == option)
    key = f"server.{option}" if option in profile.server else f"env.{variable}"
    origin = profile.origins.get(key)
    return f"{origin}: {key}" if origin else f"profile {profile.name}: {key}"


def _both_or_none(profile: Profile, ours: Mapping[str, OptionValue]) -> None:
    given = [name for name in ("ssl-cert-file", "ssl-key-file") if name in ours]
    if len(given) == 1:
        other = "ssl-key-file" if given == ["ssl-cert-file"] else "ssl-cert-file"
        problem = f"{other} is missing: TLS takes a certificate and its key"
        raise ConfigError(f"{place_of(profile, given[0])}: {problem}")


def _keys(ours: Mapping[str, OptionValue], key_text: str) -> list[str]:
    """Those with commas between them, then one a line; a line that begins with ``#`` is a comment."""
    given = ours.get("api-key", "")
    words = (",".join(given) if isinstance(given, tuple) else str(given)).split(",")
    lines = [line for line in key_text.splitlines() if not line.startswith("#")]
    return list(dict.fromkeys(key for each in (*words, *lines) if (key := each.strip())))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
