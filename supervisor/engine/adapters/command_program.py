"""The program of a profile's own command as a build."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ...errors import NotFound
from ...options.help import Capabilities
from ...profile.definition import Engine
from ..build import Build
from .command import NAME


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
