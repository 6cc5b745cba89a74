"""Completes the gateway's settings from disk: the profiles that are offered, and the keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..errors import ConfigError, SupervisorError
from ..home.places import server_socket
from ..paths import Paths
from ..plan.listen import Listen, Offer, gateway_options, make_listen, offer_of, place_of
from ..plan.role import roles_of
from ..profile.definition import Profile
from ..profile.load_layers import UserSettings, read_settings
from ..profile.peer import Peer
from ..profile.resolve import resolve, settings_of
from ..profile.store import ProfileStore
from .model_at_hand import model_on_disk

_MOST_KEY_BYTES = 1024 * 1024


def listen_of(
    profile: Profile, paths: Paths, named: Sequence[str] | None = (), *, elsewhere: bool = False
) -> Listen | None:
    """
    How clients reach this profile; None without a gateway.  ``named`` are those that are to be loaded next to
    it; None: it will not be the main server's, so what else is served does not matter.  ``elsewhere`` is for
    another machine.

    Raises ConfigError for a profile that cannot be offered, or a file of keys that cannot be read; NotFound
    for a name that no profile has.
    """
    if profile.gateway.mode == "off":
        if named:
            raise ConfigError(f"Nothing can be served next to {profile.name}, which has gateway: off.")
        return None
    key_text = "" if elsewhere else _key_text(profile)
    store = ProfileStore(paths.profiles)
    if named is None:
        return make_listen(profile, _Offers(profile, paths, UserSettings(), ()).all(), key_text)
    settings = settings_of(store)
    named = tuple(name for name in dict.fromkeys(named) if name != profile.name)
    for name in named:
        store.find(name)
    listen = make_listen(profile, _Offers(profile, paths, settings, named).all(), key_text)
    assert listen is not None
    own = settings.served(profile.name)
    if own is not None and own.load is not None and not named:
        listen = replace(listen, settings=replace(listen.settings, preload=own.load))
    return replace(listen, named=named, peers=_with_keys(settings.peers))


def _with_keys(peers: Sequence[Peer]) -> tuple[Peer, ...]:
    """
    Each with the key that its variable has here, if it has one: the daemon's own environment may have it, and
    `Peers` says where neither has.  Raises ConfigError for a key that no request can carry.
    """
    found = []
    for peer in peers:
        secret = os.environ.get(peer.api_key_env, "").strip() if peer.api_key_env else ""
        if not (secret.isascii() and secret.isprintable()):
            raise ConfigError(f"peers: {peer.name}: {peer.api_key_env} holds a character that no key has.")
        ca_file = os.path.expanduser(peer.ca_file)  # noqa: PTH111 - "" stays ""
        found.append(replace(peer, secret=secret, ca_file=ca_file))
    return tuple(found)


def inside_of(profile: Profile, build: Build, paths: Paths) -> str:
    """The socket for the build to listen on, or "" if it must be a loopback port."""
    if sys.platform != "win32" and renderer_for(profile).takes_sockets(build):
        from ..home.control_socket import short_path  # noqa: PLC0415 - Windows has none

        return str(short_path(server_socket(paths, profile.name)))
    return ""


def unservable(store: ProfileStore) -> Iterator[str]:
    """A line with its place for each profile that config.yaml serves and that cannot be."""
    settings = read_settings(store.settings)
    if settings.layer is not None and settings.layer.problems:
        return  # every profile says so
    for served in settings.serve:
        if why := why_unservable(served.profile, store):
            yield f"{served.origin}: serve: {served.profile} cannot be served: {why}"


def why_unservable(name: str, store: ProfileStore) -> str:
    """Why this profile cannot be served, ``""`` where it can."""
    try:
        _startable(name, store, next_to_others=True)
    except SupervisorError as error:
        return str(error)
    return ""


class _Offers:
    """
    What clients may ask for: the main profile, those that the start named, those that config.yaml serves, and
    those of ``gateway.models``, each once.

    What config.yaml says of loading holds if the start named one of its profiles alone, or none.  Otherwise
    the start has said what is to be loaded, and the rest waits for its first request.
    """

    def __init__(self, main: Profile, paths: Paths, settings: UserSettings, named: tuple[str, ...]) -> None:
        self._main = main
        self._paths = paths
        self._store = ProfileStore(paths.profiles)
        self._settings = settings
        self._named = named
        self._as_written = not named and settings.served(main.name) is not None
        self._found = {main.name: self._on_terms(_offer(main, paths))}
        self._problems: list[str] = []

    def all(self) -> tuple[Offer, ...]:
        """Raises ConfigError with a line for each that cannot be offered."""
        for name in self._named:
            self._add(name, f"{name} cannot be served: ", load=True)
        for served in self._settings.serve:
            start = f"{served.origin}: serve: {served.profile} cannot be served: "
            self._add(served.profile, start, load=served.load if self._as_written else False)
        origin = self._main.origins.get("gateway.models")
        place = f"{origin}: " if origin else ""
        for name in self._main.gateway.models:
            self._add(name, f"{place}gateway.models: {name} cannot be offered: ", load=False, is_served=False)
        if self._problems:
            raise ConfigError("\n".join(self._problems), hint="goss-supervisor profile ls")
        return tuple(self._found.values())

    def _add(self, name: str, start: str, *, load: bool | None, is_served: bool = True) -> None:
        """``load`` None is what the profile says; ``start`` begins the line about a problem."""
        if name in self._found:
            return
        try:
            profile = _startable(name, self._store, next_to_others=is_served)
        except SupervisorError as error:
            self._problems.append(f"{start}{error}")
        else:
            load = profile.gateway.preload if load is None else load
            self._found[name] = replace(self._on_terms(_offer(profile, self._paths)), load=load)

    def _on_terms(self, offer: Offer) -> Offer:
        """As config.yaml has it, wherever else the profile is named."""
        if (served := self._settings.served(offer.profile)) is None:
            return offer
        return replace(
            offer,
            pinned=served.pinned,
            priority=served.priority,
            idle_unload_seconds=served.idle_unload_seconds,
        )


def _offer(profile: Profile, paths: Paths) -> Offer:
    """The header is looked at only where it decides."""
    return offer_of(profile, roles_of(profile) or roles_of(profile, model_on_disk(profile, paths)))


def _startable(name: str, store: ProfileStore, *, next_to_others: bool) -> Profile:
    profile = resolve(name, store)
    if not profile.can_start:
        raise ConfigError("it names no model")
    if profile.lend.is_worker:
        raise ConfigError("it is a worker, which serves no model")
    if next_to_others and profile.gateway.mode == "off":
        raise ConfigError("it has gateway: off")
    return profile


def shared_names(offers: tuple[Offer, ...]) -> Iterator[str]:
    """A line for each name that several profiles have."""
    owner: dict[str, str] = {}
    for offer in offers:
        for name in offer.names:
            first = owner.setdefault(name.lower(), offer.profile)
            if first != offer.profile:
                yield f"{offer.profile} and {first} are both called {name}; requests for it go to {first}"


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
