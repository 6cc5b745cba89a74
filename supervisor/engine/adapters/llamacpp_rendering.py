"""A profile as llama-server's command line.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ...errors import ConfigError
from ...options.help import Capabilities
from ...options.meanings import SECRETS
from ...options.option_types import OptionProblem, OptionValue
from ...options.parse import parse_arguments
from ...options.render import render
from ...profile.definition import Profile
from ..build import Build
from .rendering import Rendering


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
    meant: dict[str, OptionValue] = {"model": model, **options}
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
