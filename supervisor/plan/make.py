"""From profile, build and model to the launch plan.  Pure: ``plan`` shows exactly what ``start`` does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..engine.build import Build
from ..errors import ConfigError
from ..options.help import Capabilities
from ..options.meanings import SECRETS
from ..options.option_types import OptionProblem, OptionValue, Translation
from ..options.render import render
from ..profile.definition import AutoUpdate, ListenSettings, Profile
from .launch import LaunchPlan, Parameters
from .listen import GATEWAY_OPTIONS, GATEWAY_VARIABLES, gateway_options, is_loopback
from .role import roles_of


@dataclass(frozen=True, slots=True)
class ModelAtHand:
    """The model's first file as it will be passed, every file of it, and a stamp that changes with it."""

    path: str
    files: tuple[str, ...] = ()
    stamp: str = ""  # "" while it is not on disk
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """
    Bytes by name of the memory: ``needs`` is what a launch uses, ``keeps`` what is left to others, and
    ``ours`` the most that all our servers may have together.  And the tokens of a context that all slots
    share, 0 where each has its own.
    """

    needs: Mapping[str, int]
    keeps: Mapping[str, int]
    shared_context_tokens: int = 0
    ours: Mapping[str, int] = field(default_factory=dict)


def make_plan(
    profile: Profile,
    build: Build,
    model: ModelAtHand,
    settings: Mapping[str, str] | None = None,
    memory: Mapping[str, int] | None = None,
    *,
    shares: MemoryShares | None = None,
    inside: str = "",
) -> LaunchPlan:
    """
    Decide everything about one launch.  Behind a gateway llama-server listens on the socket ``inside``, or on
    a loopback port.  Raises ConfigError with every option that cannot be, each with its place in the profile.
    """
    gateway, behind_gateway = profile.gateway, profile.gateway.mode == "on"
    taken = sorted(gateway_options(profile)) if behind_gateway else ()
    profile = _behind_gateway(profile, inside) if behind_gateway else profile
    options, secrets = profile.server, _secrets(profile.server)
    meant = _with_fixed_options(profile, options, model, build.capabilities)
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
        model_bytes=model.size_bytes,
        digest=_key_digest(argv, {**env, **secrets}, build.digest, model.stamp),
        restart=profile.restart,
        health=profile.health,
        stop=profile.stop,
        aliases=profile.aliases,
        wants_gpu=profile.wants_gpu,
        devices=build.devices,
        liveness_path="/metrics" if "--metrics" in argv else None,
        behind_gateway=behind_gateway,
        drain_seconds=gateway.drain_timeout_seconds if behind_gateway else 0.0,
        parameters=Parameters(gateway.reasoning_effort, gateway.set_params, gateway.strip_params),
        description=profile.description,
        roles=roles_of(profile),
        api_prefix=str(options.get("api-prefix", "")),
        tls="ssl-key-file" in options,
        translations=(
            *rendered.translations,
            *(Translation(name, (), GATEWAY_OPTIONS[name]) for name in taken),
        ),
        repository=build.repository,
        auto_update=_auto_update(profile),
        memory=dict(memory or {}),
        needs=dict(shares.needs if shares else {}),
        keeps=dict(shares.keeps if shares else {}),
        ours=dict(shares.ours if shares else {}),
        shared_context_tokens=shares.shared_context_tokens if shares else 0,
        settings=dict(settings or {}),
        warnings=(*profile.notes, *_warnings(profile, build, behind_gateway=behind_gateway)),
    )


def _behind_gateway(profile: Profile, inside: str) -> Profile:
    """As llama-server is to have it: without what the gateway takes over, and at an address of ours."""
    return replace(
        profile,
        server={name: value for name, value in profile.server.items() if name not in GATEWAY_OPTIONS},
        env={name: value for name, value in profile.env.items() if name not in GATEWAY_VARIABLES},
        listen=ListenSettings(inside or "127.0.0.1", 0),
    )


def _auto_update(profile: Profile) -> AutoUpdate:
    """Only an official release of a channel that moves can be updated; who pins a tag means that tag."""
    engine = profile.engine
    moves = engine.channel is None or not engine.channel.startswith("b")
    return engine.auto_update if engine.source in {"auto", "release"} and moves else "off"


def _secrets(options: Mapping[str, OptionValue]) -> dict[str, str]:
    """Secrets are never in argv, where ``ps`` shows them to everybody; `render` leaves them out of it."""
    given = {SECRETS[name]: value for name, value in options.items() if name in SECRETS}
    return {name: ",".join(each) if isinstance(each, tuple) else str(each) for name, each in given.items()}


def _with_fixed_options(
    profile: Profile, options: Mapping[str, OptionValue], model: ModelAtHand, capabilities: Capabilities
) -> dict[str, OptionValue]:
    """Model, host and port always (their defaults change between builds), and a way to probe liveness."""
    meant: dict[str, OptionValue] = {"model": model.path, **options}
    meant["alias"] = _alias(profile)
    if "metrics" not in options and capabilities.find("--metrics"):
        meant["metrics"] = True
    listen = profile.listen
    port = {} if listen.host.endswith(".sock") and not listen.port else {"port": listen.port}
    return {**meant, "host": listen.host, **port}


def _alias(profile: Profile) -> str:
    """
    What llama-server calls the model in its answers; without one, by the path of its file.  Of several it
    takes the first of the alphabet (b11434), and the gateway knows them all, so it gets the one shown first.
    """
    names = profile.aliases or (profile.name,)
    return names[0] if profile.gateway.mode == "on" else ",".join(names)


def _explain(problem: OptionProblem, profile: Profile, build: Build) -> str:
    origin = profile.origins.get(f"server.{problem.option}")
    place = f"{origin}: " if origin else f"profile {profile.name}: "
    nearest = f" (nearest: {problem.suggestion})" if problem.suggestion else ""
    which = "" if build.tag in problem.message else f" (build {build.tag})"
    return f"{place}server.{problem.option}: {problem.message}{which}{nearest}"


def _key_digest(argv: tuple[str, ...], env: Mapping[str, str], binary: str, model: str) -> str:
    text = json.dumps([argv, sorted(env.items()), binary, model])
    return hashlib.sha256(text.encode()).hexdigest()


def _warnings(profile: Profile, build: Build, *, behind_gateway: bool) -> list[str]:
    found = ["" if behind_gateway else _open_server(profile)]
    if profile.wants_gpu and build.source != "none" and not build.devices:
        found.append(f"the profile asks for a GPU and {build.tag} ({build.flavour}) sees none")
    return [warning for warning in found if warning]


def _open_server(profile: Profile) -> str:
    keys = {"api-key", "api-key-file"} & set(profile.server) or {"LLAMA_API_KEY"} & set(profile.env)
    if keys or is_loopback(profile.listen.host):
        return ""
    return (
        f"{profile.listen.host}:{profile.listen.port} is open to the network and there is no API key: "
        "anybody who reaches it can use it; set server.api-key-file, or listen.host to 127.0.0.1"
    )


def translation_lines(translations: tuple[Translation, ...]) -> list[str]:
    """One line for each translation, for people."""
    return [_line(translation) for translation in translations]


def _line(translation: Translation) -> str:
    source = f" [{translation.source}]" if translation.source else ""
    rendered = " ".join(translation.rendered) or "(left out)"
    return f"{translation.option} -> {rendered}: {translation.reason}{source}"
