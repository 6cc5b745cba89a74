"""A profile's own command as a launch, and its program as a build."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ...errors import ConfigError, NotFound
from ...options.help import Capabilities
from ...options.option_types import OptionValue
from ...profile.definition import Engine, Profile
from ..build import Build
from .adapter import question_for
from .command import KEY, NAME, PORT, filled
from .rendering import Rendering


class CommandRenderer:
    """See `Renderer`."""

    adapter: Final = NAME
    reads_models: Final = False

    def takes_sockets(self, build: Build) -> bool:  # noqa: ARG002 - the contract's
        """Hardly one does, and each says it in another way."""
        return False

    def render(self, profile: Profile, build: Build, model: str) -> Rendering:
        engine, listen = profile.engine, profile.listen
        given = {
            "{model}": model,
            "{host}": listen.host,
            **({PORT: str(listen.port)} if listen.port else {}),
        }
        argv = (*build.command, *(filled(word, given) for word in engine.command[1:]))
        env = {name: filled(value, given) for name, value in profile.env.items()}
        if problem := _problem(profile, model):
            raise ConfigError(f"{_place(profile)}: engine.command {problem}")
        upstream = filled(engine.upstream_model or "", given)
        return Rendering(
            argv=argv,
            env=env,
            ready_path=engine.ready_path,
            question=question_for(upstream or (*profile.aliases, profile.name)[0], profile.role or "chat")
            if engine.ready_question
            else None,
            liveness_path=engine.ready_path,
            upstream_model=upstream,
        )

    def options(self, argv: Sequence[str]) -> Mapping[str, OptionValue]:  # noqa: ARG002 - the contract's
        return {}


def _problem(profile: Profile, model: str) -> str:
    """What keeps the command from being run; empty where nothing does."""
    words = (*profile.engine.command, *profile.env.values())
    if not any(PORT in word for word in words):
        return "must hold {port}: where the program listens is decided at each launch"
    if any(KEY in word for word in profile.engine.command):
        return "must not hold {key}, which others could read there; set a variable under env to it"
    if KEY in profile.env.values() and profile.gateway.mode == "off":
        return "can be given a {key} only behind the gateway, which knows it"
    if not model and any("{model}" in word for word in words):
        return "holds {model}, and the profile names no model"
    return ""


def _place(profile: Profile) -> str:
    origin = profile.origins.get("engine.command")
    return str(origin) if origin else f"profile {profile.name}"


def find_program(engine: Engine) -> str:
    """The first word of the command as a whole path.  Raises NotFound."""
    word = engine.command[0]
    found = shutil.which(str(Path(word).expanduser()) if word.startswith("~") else word)
    if found is None:
        raise NotFound(
            f"The program {word} of engine.command is not installed, or not on PATH.",
            hint="Install it, or name its whole path in the profile.",
        )
    return str(Path(found).absolute())


def build_of(engine: Engine, *, at_hand: bool = True) -> Build:
    """The program as a build.  Raises NotFound; with ``at_hand`` False the reason tells of it."""
    word = engine.command[0]
    build = Build(
        source=NAME,
        repository="",
        tag=Path(word).name,
        flavour=NAME,
        command=(word,),
        digest="",
        capabilities=Capabilities(None, "", "", ()),
        reason="the profile's own command",
    )
    try:
        program = find_program(engine)
    except NotFound as error:
        if at_hand:
            raise
        return replace(build, reason=str(error).rstrip("."))
    return replace(build, command=(program,), reason=f"the profile's own command, {program}")
