"""From profile, build and model to the launch plan.  Pure: ``plan`` shows exactly what ``start`` does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..options.option_types import Translation
from ..options.option_values import words_of
from ..profile.definition import AutoUpdate, ListenSettings, Profile
from ..profile.worker_address import parse_workers
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
    companions: tuple[str, ...] = ()  # every file of a draft and a projector


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """
    Bytes by name of the memory: ``needs`` is what a launch uses, ``keeps`` what is left to others, and
    ``ours`` the most that all our servers may have together.  The rest is as in a plan.
    And the tokens of a context that so many slots share, 0 where each has its own.
    """

    needs: Mapping[str, int]
    keeps: Mapping[str, int]
    shared_context_tokens: int = 0
    context_slots: int = 0
    ours: Mapping[str, int] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    sharing: Mapping[str, int] = field(default_factory=dict)
    leaves: Mapping[str, int] = field(default_factory=dict)


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
    Decide everything about one launch.  Behind a gateway the engine listens on the socket ``inside``, or on a
    loopback port.  Raises ConfigError with every option that cannot be, each with its place in the profile.
    """
    gateway, behind_gateway = profile.gateway, profile.gateway.mode == "on"
    taken = sorted(gateway_options(profile)) if behind_gateway else ()
    profile = _behind_gateway(profile, inside) if behind_gateway else profile
    renderer = renderer_for(profile)
    rendering = renderer.render(profile, build, model.path)
    argv, env, secrets = rendering.argv, rendering.env, rendering.secrets
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
        model_files=(*model.files, *model.companions),
        model_bytes=model.size_bytes,
        digest=_key_digest(argv, {**env, **secrets}, build.digest, model.stamp),
        orphan=profile.orphan,
        restart=profile.restart,
        health=profile.health,
        stop=profile.stop,
        aliases=profile.aliases,
        wants_gpu=profile.wants_gpu,
        devices=build.devices,
        adapter=renderer.adapter,
        ready_path=rendering.ready_path,
        question=rendering.question,
        liveness_path=rendering.liveness_path,
        behind_gateway=behind_gateway,
        drain_seconds=gateway.drain_timeout_seconds if behind_gateway else 0.0,
        parameters=_parameters(profile, rendering.upstream_model),
        description=profile.description,
        roles=roles_of(profile),
        api_prefix=rendering.api_prefix,
        tls=rendering.tls,
        translations=(
            *rendering.translations,
            *(Translation(name, (), GATEWAY_OPTIONS[name]) for name in taken),
        ),
        repository=build.repository,
        auto_update=_auto_update(profile),
        memory=dict(memory or {}),
        needs=dict(shares.needs if shares else {}),
        keeps=dict(shares.keeps if shares else {}),
        ours=dict(shares.ours if shares else {}),
        adapters=dict(shares.adapters if shares else {}),
        sharing=dict(shares.sharing if shares else {}),
        leaves=dict(shares.leaves if shares else {}),
        shared_context_tokens=shares.shared_context_tokens if shares else 0,
        context_slots=shares.context_slots if shares else 0,
        settings=dict(settings or {}),
        workers=_workers(profile),
        warnings=(
            *profile.notes,
            *rendering.warnings,
            *([] if behind_gateway else _open_server(profile)),
        ),
    )


def _behind_gateway(profile: Profile, inside: str) -> Profile:
    """
    As the engine is to have it: without what the gateway takes over, and at an address of ours; a worker at
    the one that others know.
    """
    lent = profile.lend.address
    return replace(
        profile,
        server={name: value for name, value in profile.server.items() if name not in GATEWAY_OPTIONS},
        env={name: value for name, value in profile.env.items() if name not in GATEWAY_VARIABLES},
        listen=ListenSettings(lent.host, lent.port) if lent else ListenSettings(inside or "127.0.0.1", 0),
    )


def _workers(profile: Profile) -> tuple[str, ...]:
    """As the option has them; what it cannot be was said when the profile was read."""
    rpc = profile.server.get("rpc")
    return tuple(map(str, parse_workers(",".join(words_of(rpc))))) if rpc is not None else ()


def _auto_update(profile: Profile) -> AutoUpdate:
    """Only an official release of a channel that moves can be updated; who pins a tag means that tag."""
    engine = profile.engine
    moves = engine.channel is None or not engine.channel.startswith("b")
    return engine.auto_update if engine.source in {"auto", "release"} and moves else "off"


def _parameters(profile: Profile, upstream_model: str) -> Parameters:
    gateway = profile.gateway
    return Parameters(
        gateway.reasoning_effort,
        gateway.set_params,
        gateway.strip_params,
        upstream_model,
        (*profile.aliases, profile.name)[0],
    )


def _key_digest(argv: tuple[str, ...], env: Mapping[str, str], binary: str, model: str) -> str:
    text = json.dumps([argv, sorted(env.items()), binary, model])
    return hashlib.sha256(text.encode()).hexdigest()


def _open_server(profile: Profile) -> list[str]:
    keys = {"api-key", "api-key-file"} & set(profile.server) or {"LLAMA_API_KEY"} & set(profile.env)
    if keys or is_loopback(profile.listen.host):
        return []
    where = f"{profile.listen.host}:{profile.listen.port} is open to the network and there is no API key"
    who = "anybody who reaches it can use it; set server.api-key-file, or listen.host to 127.0.0.1"
    return [f"{where}: {who}"]


def translation_line(translation: Translation) -> str:
    """For people."""
    source = f" [{translation.source}]" if translation.source else ""
    rendered = " ".join(translation.rendered) or "(left out)"
    return f"{translation.option} -> {rendered}: {translation.reason}{source}"
