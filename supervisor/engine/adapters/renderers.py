"""
What an engine makes of a profile before a launch: one contract.  Pure.

A profile becomes llama-server's command line, that of its own command, or ``ggml-rpc-server``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ...errors import ConfigError
from ...options.help import Capabilities
from ...options.meanings import SECRETS
from ...options.option_types import OptionProblem, OptionValue, Translation
from ...options.parse import parse_arguments
from ...options.render import render
from ...profile.definition import Profile
from ..build import Build
from .adapter import Question, question_for
from .command import KEY, NAME, PORT, filled
from .rpc_server import NAME as RPC_SERVER


@dataclass(frozen=True, slots=True)
class Rendering:
    """
    One launch, decided as far as it can be without knowing where it will listen.

    ``liveness_path`` is asked while it serves, None for ``/health``.  ``upstream_model`` is the name that the
    engine wants to hear, "" for whatever the client said.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/health"
    question: Question | None = None
    liveness_path: str | None = None
    upstream_model: str = ""
    api_prefix: str = ""
    tls: bool = False
    translations: tuple[Translation, ...] = ()
    warnings: tuple[str, ...] = ()


class Renderer(Protocol):
    """What is particular to an engine while a launch is planned; see `Adapter` for the rest."""

    @property
    def adapter(self) -> str:
        """The name of the adapter that knows the engine while it runs."""

    @property
    def reads_models(self) -> bool:
        """Whether a GGUF file's header tells what a launch takes of the memory."""

    def takes_sockets(self, build: Build) -> bool:
        """Whether it can listen on a Unix socket."""

    def render(self, profile: Profile, build: Build, model: str) -> Rendering:
        """
        ``profile`` has the address where the engine is to listen; port 0 is found at the launch.  ``model``
        is the path or the name that the engine gets.  Raises ConfigError for what the engine does not take.
        """

    def options(self, argv: Sequence[str]) -> Mapping[str, OptionValue]:
        """llama-server's options by name, for what clients are told; empty where it has none."""


# llama-server


class LlamaCppRenderer:
    """See `Renderer`."""

    adapter: Final = "llamacpp"
    reads_models: Final = True

    def takes_sockets(self, build: Build) -> bool:
        """As its help says; one that says nothing is taken for what all are, from b6100 on."""
        option = build.capabilities.find("--host")
        return option is None or not option.summary or "unix socket" in option.summary.lower()

    def render(self, profile: Profile, build: Build, model: str) -> Rendering:
        return _rendered(profile, build, model)

    def options(self, argv: Sequence[str]) -> Mapping[str, OptionValue]:
        return parse_arguments(argv[1:]).options


def _rendered(profile: Profile, build: Build, model: str) -> Rendering:
    """Raises ConfigError with every option that cannot be, each with its place in the profile."""
    options = profile.server
    found = render(_with_fixed_options(profile, options, model, build.capabilities), build.capabilities)
    if found.problems:
        raise ConfigError("\n".join(_explain(problem, profile, build) for problem in found.problems))
    argv = (*build.command, *found.argv)
    return Rendering(
        argv=argv,
        env=dict(profile.env),
        secrets=_secrets(options),
        liveness_path="/metrics" if "--metrics" in argv else None,
        api_prefix=str(options.get("api-prefix", "")),
        tls="ssl-key-file" in options,
        translations=found.translations,
        warnings=_warnings(profile, build),
    )


def _secrets(options: Mapping[str, OptionValue]) -> dict[str, str]:
    """Secrets are never in argv, where ``ps`` shows them to everybody; `render` leaves them out of it."""
    given = {SECRETS[name]: value for name, value in options.items() if name in SECRETS}
    return {name: ",".join(each) if isinstance(each, tuple) else str(each) for name, each in given.items()}


def _with_fixed_options(
    profile: Profile, options: Mapping[str, OptionValue], model: str, capabilities: Capabilities
) -> dict[str, OptionValue]:
    """Model, host and port always (their defaults change between builds), and a way to probe liveness."""
    workers = {"rpc": options["rpc"]} if "rpc" in options else {}  # before the options that name devices
    meant: dict[str, OptionValue] = {"model": model, **workers, **options}
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


def _warnings(profile: Profile, build: Build) -> tuple[str, ...]:
    if profile.wants_gpu and build.source != "none" and not build.devices:
        return (f"the profile asks for a GPU and {build.tag} ({build.flavour}) sees none",)
    return ()


# Another program


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
        if problem := _problem_of_command(profile, model):
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


def _problem_of_command(profile: Profile, model: str) -> str:
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


# A worker


class RpcServerRenderer:
    """See `Renderer`.  The build is the program's own (see `rpc_program`), which has few options."""

    adapter: Final = RPC_SERVER
    reads_models: Final = False

    def takes_sockets(self, build: Build) -> bool:  # noqa: ARG002 - the contract's
        return False

    def render(self, profile: Profile, build: Build, model: str) -> Rendering:  # noqa: ARG002 - it has none
        lend, listen = profile.lend, profile.listen
        argv = [*build.command, "-H", listen.host, "-p", str(listen.port), "-c"]
        if lend.devices:
            argv += ["-d", ",".join(lend.devices)]
        if lend.memory_bytes is not None:
            argv += [_memory_option(profile, build), _each_megabytes(profile, build)]
        return Rendering(tuple(argv), dict(profile.env), warnings=_warnings(profile, build))

    def options(self, argv: Sequence[str]) -> Mapping[str, OptionValue]:  # noqa: ARG002 - the contract's
        return {}


def _memory_option(profile: Profile, build: Build) -> str:
    """Raises ConfigError for a build without it."""
    if build.source == "none" or build.capabilities.find("--mem"):
        return "-m"
    place = profile.origins.get("lend.memory") or f"profile {profile.name}"
    raise ConfigError(
        f"{place}: lend.memory: ggml-rpc-server of {build.tag} has no option for it any more, and lends all "
        "that is free.",
        hint="Leave --memory out. On the computer that serves the model, server.tensor-split says how much "
        "of it goes where.",
    )


def _each_megabytes(profile: Profile, build: Build) -> str:
    """A number for each device: one that has none lends all."""
    count = len(profile.lend.devices or build.devices) or 1
    return ",".join([str((profile.lend.memory_bytes or 0) // 2**20)] * count)


# All of them

_COMMAND: Final[Renderer] = CommandRenderer()
_LLAMACPP: Final[Renderer] = LlamaCppRenderer()
_RPC_SERVER: Final[Renderer] = RpcServerRenderer()


def renderer_for(profile: Profile) -> Renderer:
    """Every ``engine.source`` but a command is a build of llama.cpp."""
    if profile.lend.is_worker:
        return _RPC_SERVER
    return _COMMAND if profile.engine.source == "command" else _LLAMACPP


def renderer_of(adapter: str) -> Renderer:
    """The one that made a plan which names this adapter."""
    return next((each for each in (_COMMAND, _RPC_SERVER) if each.adapter == adapter), _LLAMACPP)
