"""
Any program that serves models over HTTP: vLLM, mlx-lm, ``transformers serve``, whisper.cpp and others.

The profile gives its command line.  ``{model}`` and ``{host}`` are filled in when the launch is planned, the
port and the key of a launch, ``{port}`` and ``{key}``, when it begins.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError, NotFound
from ...options.option_types import OptionValue
from .adapter import Ending, LaunchAddress, Question, Rendering, Sign, sign

if TYPE_CHECKING:
    from ...profile.definition import Engine, Profile
    from ..build import Build

NAME: Final = "command"
_PORT, _KEY = "{port}", "{key}"
_MEMORY = "Give it less to hold (a smaller context, fewer requests at once), or close what else uses memory."
_SEE_COMMAND = "Correct engine.command in the profile; `goss-supervisor plan` shows the command line."


class Command:
    """See `Adapter`."""

    name: Final = NAME
    reads_models: Final = False
    cpu_signs: Final = ()
    final_exits: Final = frozenset((0, 1, 2))
    """What programs end with that do not like their command line or cannot load their model."""

    @property
    def signs(self) -> Sequence[Sign]:
        return _SIGNS

    @property
    def endings(self) -> Mapping[int, Ending]:
        return _ENDINGS

    def takes_sockets(self, build: Build) -> bool:  # noqa: ARG002 - the contract's
        """Hardly one does, and each says it in another way."""
        return False

    def render(self, profile: Profile, build: Build, model: str) -> Rendering:
        engine, listen = profile.engine, profile.listen
        given = {
            "{model}": model,
            "{host}": listen.host,
            **({_PORT: str(listen.port)} if listen.port else {}),
        }
        argv = (*build.command, *(_filled(word, given) for word in engine.command[1:]))
        env = {name: _filled(value, given) for name, value in profile.env.items()}
        if problem := _problem(profile, model):
            raise ConfigError(f"{_place(profile)}: engine.command {problem}")
        upstream = _filled(engine.upstream_model or "", given)
        return Rendering(
            argv=argv,
            env=env,
            ready_path=engine.ready_path,
            question=question_for(upstream or (*profile.aliases, profile.name)[0])
            if engine.ready_question
            else None,
            liveness_path=engine.ready_path,
            upstream_model=upstream,
        )

    def environment(self, private_config: Path) -> Mapping[str, str]:  # noqa: ARG002 - the contract's
        return {}

    def program(self, argv: Sequence[str]) -> str:
        return Path(argv[0]).name

    def at_address(self, argv: tuple[str, ...], env: Mapping[str, str], port: int, key: str) -> LaunchAddress:
        """Variables that hold ``{key}`` are secrets: they are never shown."""
        given = {_PORT: str(port)}
        return LaunchAddress(
            tuple(_filled(word, given) for word in argv),
            {name: _filled(value, given) for name, value in env.items() if value != _KEY},
            {name: key for name, value in env.items() if value == _KEY},
        )

    def api_key(self, argv: Sequence[str], env: Mapping[str, str], secrets: Mapping[str, str]) -> str:  # noqa: ARG002
        """All its secrets are this key."""
        return next(iter(secrets.values()), "")

    def options(self, argv: Sequence[str]) -> Mapping[str, OptionValue]:  # noqa: ARG002 - the contract's
        return {}

    def lists_devices(self, argv: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - the contract's
        return ()


def question_for(model: str, role: str = "chat") -> Question | None:
    """What a model of that role is asked to prove that it answers; None where nothing small can be asked."""
    match role:
        case "chat":
            messages = [{"role": "user", "content": "Hi"}]
            asked = {"model": model, "messages": messages, "max_tokens": 1}
            return Question("/v1/chat/completions", json.dumps(asked))
        case "embedding":
            return Question("/v1/embeddings", json.dumps({"model": model, "input": "Hi"}))
        case "rerank":
            asked = {"model": model, "query": "Hi", "documents": ["Hi"]}
            return Question("/v1/rerank", json.dumps(asked))
        case _:
            return None


def _filled(text: str, given: Mapping[str, str]) -> str:
    """Other braces stay: options may hold JSON."""
    return re.sub("|".join(map(re.escape, given)), lambda found: given[found[0]], text)


def _problem(profile: Profile, model: str) -> str:
    """What keeps the command from being run; empty where nothing does."""
    words = (*profile.engine.command, *profile.env.values())
    if not any(_PORT in word for word in words):
        return "must hold {port}: where the program listens is decided at each launch"
    if any(_KEY in word for word in profile.engine.command):
        return "must not hold {key}, which others could read there; set a variable under env to it"
    if _KEY in profile.env.values() and profile.gateway.mode == "off":
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
    from ...options.help import Capabilities  # noqa: PLC0415 - the daemon does not plan
    from ..build import Build  # noqa: PLC0415 - the same

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


_SIGNS: Final = (
    sign(
        "bind-failed",
        r"(?:[Aa]ddress already in use|EADDRINUSE|error while attempting to bind)",
        "The program cannot listen on its port: another one holds it.",
        "Stop the other program, or choose another listen.port.",
    ),
    sign(
        "bad-argument",
        r"(?:error: )(?P<why>unrecognized arguments: .+|the following arguments are required: .+"
        r"|argument [^\n]+: .+|unexpected argument .+|unknown argument: .+|invalid parameter .+)",
        "The program does not accept its command line: {why}.",
        _SEE_COMMAND,
    ),
    sign(
        "missing-library",
        r"(?:ModuleNotFoundError|ImportError): (?P<why>.+)",
        "A Python module that the program needs is missing: {why}.",
        "Install it in the environment that the program runs in.",
    ),
    sign(
        "missing-library",
        r"error while loading shared libraries: (?P<library>[^:]+):",
        "The program needs the library {library}, which is not installed.",
        "Install it.",
    ),
    sign(
        "gpu-memory",
        r"(?:OutOfMemoryError|(?:CUDA|HIP) out of memory|MPS backend out of memory"
        r"|CUDA error: out of memory|cudaMalloc failed: out of memory"
        r"|kIOGPUCommandBufferCallbackErrorOutOfMemory"
        r"|[Nn]o available memory for the cache blocks|less than desired GPU memory utilization)",
        "The GPU has not enough free memory.",
        _MEMORY,
        retryable=True,
    ),
    sign(
        "memory",
        r"(?:^MemoryError\b|std::bad_alloc|DefaultCPUAllocator: (?:can't allocate memory|not enough memory)"
        r"|Cannot allocate memory)",
        "There is not enough free memory.",
        _MEMORY,
        retryable=True,
    ),
    sign(
        "model-missing",
        r"(?:RepositoryNotFoundError|is not a local folder and is not a valid model identifier"
        r"|Repository Not Found for url)",
        "The program cannot find the model.",
        "Correct model in the profile; a model that needs a token needs HF_TOKEN under env.",
    ),
    sign(
        "download-failed",
        r"(?:LocalEntryNotFoundError|couldn't connect to 'https://huggingface\.co'|ConnectTimeout"
        r"|Temporary failure in name resolution)",
        "The program could not download the model.",
        "Check the network, or download the model first.",
        retryable=True,
    ),
)

_KILLED = "{program} was killed by SIGKILL: by somebody, or by the system because memory ran out."
_SEE_LOG = "The log says more: `goss-supervisor logs`."
_ENDINGS: Final = {
    -9: Ending(
        "killed", _KILLED, f"The kernel's log tells (journalctl -k, dmesg).  {_MEMORY}", retryable=True
    ),
    -4: Ending("wrong-cpu", "{program} uses instructions that this CPU does not have.", _SEE_LOG),
    -6: Ending("crash", "{program} gave itself up (SIGABRT).", _SEE_LOG, retryable=True),
    -11: Ending("crash", "{program} crashed (SIGSEGV).", _SEE_LOG, retryable=True),
    0xC0000005: Ending("crash", "{program} crashed (access violation).", _SEE_LOG, retryable=True),
    127: Ending("missing-library", "{program}, or something that it runs, is missing.", _SEE_COMMAND),
}
