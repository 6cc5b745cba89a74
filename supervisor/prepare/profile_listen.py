"""Completes the gateway's settings from disk: the profiles that are offered, and the keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..errors import ConfigError, SupervisorError
from ..home.places import server_socket
from ..paths import Paths
from ..plan.listen import Listen, Offer, gateway_options, make_listen, offer_of, place_of
from ..plan.role import roles_of
from ..profile.definition import Profile
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from .model_at_hand import model_on_disk

_MOST_KEY_BYTES = 1024 * 1024


def listen_of(profile: Profile, paths: Paths, *, elsewhere: bool = False) -> Listen | None:
    """
    How clients reach this profile; None without a gateway.  ``elsewhere`` is for another machine.  Raises
    ConfigError for a profile that cannot be offered, or a file of keys that cannot be read.
    """
    if profile.gateway.mode == "off":
        return None
    return make_listen(profile, _offers(profile, paths), "" if elsewhere else _key_text(profile))


def inside_of(profile: Profile, build: Build, paths: Paths) -> str:
    """The socket for the build to listen on, or "" if it must be a loopback port."""
    if sys.platform != "win32" and renderer_for(profile.engine.source).takes_sockets(build):
        from ..home.control_socket import short_path  # noqa: PLC0415 - Windows has none

        return str(short_path(server_socket(paths, profile.name)))
    return ""


def _offers(profile: Profile, paths: Paths) -> tuple[Offer, ...]:
    """This profile, then those that ``gateway.models`` names."""
    store, offers, problems = ProfileStore(paths.profiles), [_offer(profile, paths)], []
    origin = profile.origins.get("gateway.models")
    place = f"{origin}: " if origin else ""
    for name in dict.fromkeys(profile.gateway.models):
        if name == profile.name:
            continue
        try:
            offers.append(_offer(_startable(name, store), paths))
        except SupervisorError as error:
            problems.append(f"{place}gateway.models: {name} cannot be offered: {error}")
    if problems:
        raise ConfigError("\n".join(problems), hint="goss-supervisor profile ls")
    return tuple(offers)


def _offer(profile: Profile, paths: Paths) -> Offer:
    """The header is looked at only where it decides."""
    return offer_of(profile, roles_of(profile) or roles_of(profile, model_on_disk(profile, paths)))


def _startable(name: str, store: ProfileStore) -> Profile:
    profile = resolve(name, store)
    if not profile.can_start:
        raise ConfigError("it names no model")
    return profile


def shared_names(offers: tuple[Offer, ...]) -> Iterator[str]:
    """A line for each name that several profiles have."""
    owner: dict[str, str] = {}
    for offer in offers:
        for name in offer.names:
            first = owner.setdefault(name.lower(), offer.profile)
            if first != offer.profile:
                yield f"{offer.profile} and {first} are both called {name}; who asks for it gets {first}"


def _key_text(profile: Profile) -> str:
    named = gateway_options(profile).get("api-key-file")
    if named is None:
        return ""
    path = Path(str(named)).expanduser()
    try:
        with path.open("rb") as file:
            return file.read(_MOST_KEY_BYTES).decode("utf-8")
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8"
    raise ConfigError(f"{place_of(profile, 'api-key-file')}: {problem}")
