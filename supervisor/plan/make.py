"""From profile, build and model to the launch plan.  Pure: ``plan`` shows exactly what ``start`` does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from ..engine.build import Build
from ..errors import ConfigError
from ..options.help import Capabilities
from ..options.meanings import SECRETS
from ..options.option_values import OptionProblem, OptionValue, Translation
from ..options.render import render
from ..profile.definition import AutoUpdate, Origin, Profile
from .outside import divide
from .types import Door, LaunchPlan, Offer


@dataclass(frozen=True, slots=True)
class ModelAtHand:
    """The model's first file as it will be passed, every file of it, and a stamp that changes with it."""

    path: str
    files: tuple[str, ...] = ()
    stamp: str = ""  # "" while it is not on disk


def make_plan(
    profile: Profile,
    build: Build,
    model: ModelAtHand,
    settings: Mapping[str, str] | None = None,
    memory: Mapping[str, int] | None = None,
    *,
    inside: str = "",
    offers: tuple[Offer, ...] = (),
    key_text: str = "",
) -> LaunchPlan:
    """
    Decide everything about one launch; ``settings`` and ``memory`` are remembered for what comes after it.

    Behind a gateway llama-server listens on the socket ``inside``, or on a loopback port; ``key_text`` is
    what the profile's file of keys holds.

    Raises ConfigError with every option that cannot be, each with its place in the profile.
    """
    divided = divide(profile, inside, offers, key_text) if profile.gateway.mode == "on" else None
    door, taken = (divided.door, divided.translations) if divided else (None, ())
    profile = divided.inner if divided else profile
    options, secrets = profile.server, _secrets(profile.server)
    meant = _with_what_we_always_say(profile, options, model, build.capabilities)
    rendered = render(meant, build.capabilities)
    if rendered.problems:
        raise ConfigError("\n".join(_explain(problem, profile, build) for problem in rendered.problems))
    argv = (*build.command, *rendered.argv)
    env = dict(profile.env)
    return LaunchPlan(
        profile=profile.name,
        argv=argv,
        env=env,
        secrets=secrets,
        host=profile.listen.host,
        port=profile.listen.port,
        build=build.tag,
        flavour=build.flavour,
        engine=build.reason,
        model=model.path,
        model_files=model.files,
        digest=_digest(argv, {**env, **secrets}, build.digest, model.stamp),
        restart=profile.restart,
        health=profile.health,
        stop=profile.stop,
        aliases=profile.aliases,
        wants_gpu=profile.wants_gpu,
        devices=build.devices,
        liveness_path="/metrics" if "--metrics" in argv else None,
        door=door,
        api_prefix=str(options.get("api-prefix", "")),
        tls="ssl-key-file" in options,
        translations=(*rendered.translations, *taken),
        repository=build.repository,
        auto_update=_auto_update(profile),
        memory=dict(memory or {}),
        settings=dict(settings or {}),
        warnings=(*profile.notes, *_warnings(profile, door, build)),
    )


def _auto_update(profile: Profile) -> AutoUpdate:
    """Only an official release of a channel that moves can be updated; who pins a tag means that tag."""
    engine = profile.engine
    moves = engine.channel is None or not engine.channel.startswith("b")
    return engine.auto_update if engine.source in {"auto", "release"} and moves else "off"


def _secrets(options: Mapping[str, OptionValue]) -> dict[str, str]:
    """Secrets never stand in argv, where ``ps`` shows them to everybody; `render` leaves them out of it."""
    return {SECRETS[name]: _joined(options[name]) for name in options if name in SECRETS}


def _joined(value: OptionValue) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _with_what_we_always_say(
    profile: Profile,
    options: Mapping[str, OptionValue],
    model: ModelAtHand,
    capabilities: Capabilities,
) -> dict[str, OptionValue]:
    """
    Model, host and port always (their defaults change between builds), and a way to probe liveness.

    A socket of ours has no port.
    """
    meant: dict[str, OptionValue] = {"model": model.path, **options}
    if profile.aliases:
        meant["alias"] = ",".join(profile.aliases)
    if "metrics" not in options and capabilities.find("--metrics"):
        meant["metrics"] = True
    listen = profile.listen
    port = {} if listen.host.endswith(".sock") and not listen.port else {"port": listen.port}
    return {**meant, "host": listen.host, **port}


def _explain(problem: OptionProblem, profile: Profile, build: Build) -> str:
    origin: Origin | None = profile.origins.get(f"server.{problem.option}")
    place = f"{origin}: " if origin else f"profile {profile.name}: "
    nearest = f" (nearest: {problem.suggestion})" if problem.suggestion else ""
    which = "" if build.tag in problem.message else f" (build {build.tag})"
    return f"{place}server.{problem.option}: {problem.message}{which}{nearest}"


def _digest(argv: tuple[str, ...], env: Mapping[str, str], binary: str, model: str) -> str:
    text = json.dumps([argv, sorted(env.items()), binary, model])
    return hashlib.sha256(text.encode()).hexdigest()


def _warnings(profile: Profile, door: Door | None, build: Build) -> list[str]:
    found = [_open_door(door) if door else _open_server(profile)]
    if profile.wants_gpu and build.source != "none" and not build.devices:
        found.append(f"the profile asks for a GPU and {build.tag} ({build.flavour}) sees none")
    return [warning for warning in found if warning]


def _open_door(door: Door) -> str:
    if is_loopback(door.host) or not door.settings.allow_unauthenticated:
        return ""
    where = f"{door.host}:{door.port} is open to the network"
    return f"{where} and anybody who reaches it can use it (gateway.allow-unauthenticated)"


def _open_server(profile: Profile) -> str:
    keys = {"api-key", "api-key-file"} & set(profile.server) or {"LLAMA_API_KEY"} & set(profile.env)
    if keys or is_loopback(profile.listen.host):
        return ""
    return (
        f"{profile.listen.host}:{profile.listen.port} is open to the network and there is no API key: "
        "anybody who reaches it can use it; set server.api-key-file, or listen.host to 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name is trusted only if it is localhost."""
    if host == "localhost" or host.endswith(".sock"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def translation_lines(translations: tuple[Translation, ...]) -> list[str]:
    """One line for each translation, for people."""
    return [_line(translation) for translation in translations]


def _line(translation: Translation) -> str:
    source = f" [{translation.source}]" if translation.source else ""
    rendered = " ".join(translation.rendered) or "(left out)"
    return f"{translation.option} -> {rendered}: {translation.reason}{source}"
