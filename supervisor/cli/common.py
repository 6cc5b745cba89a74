"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError
from ..options.file_options import FILES, is_of_the_hub
from ..profile.worker_address import WORKER

if TYPE_CHECKING:
    from ..paths import Paths
    from ..profile.matching import Fit

Function = TypeVar("Function", bound=Callable[..., Any])

_OF_MODEL = ("model", "model.path", "model.draft.path", "model.projector.path")
_PATHS = frozenset({*_OF_MODEL, "engine.path", *FILES, *(f"server.{name}" for name in FILES)})


def completer(
    names: Callable[[], Iterable[str]],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For ``shell_complete``: those of the names that begin as the word does."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _profiles() -> Iterable[str]:
    from ..paths import Paths  # noqa: PLC0415 - only when a shell asks for completion
    from ..profile.store import ProfileStore  # noqa: PLC0415

    return ProfileStore(Paths.from_environment().profiles).names()


complete_profiles = completer(_profiles)
server_argument = click.argument("name", required=False, shell_complete=complete_profiles)
profile_argument = click.argument("profile", shell_complete=complete_profiles)
profile_or_default_argument = click.argument("profile", required=False, shell_complete=complete_profiles)
verbose_option = click.option("--verbose", "-v", is_flag=True, help="Show everything.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value once: an option (ctx-size=8192) or a profile key (listen.port=9000).",
)
hardware_option = click.option(
    "--hardware",
    "hardware_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Describe another computer with a file that detect --json wrote.",
)
force_option = click.option("--force", is_flag=True, help="Ignore the guardrails this time.")
DEFAULT_PROFILE = (
    "Profile to use. Default: the first that config.yaml serves, else the last one used, else the one that "
    "fits this machine best."
)


def profile_option(text: str = DEFAULT_PROFILE) -> Callable[[Function], Function]:
    return click.option("--profile", "-p", metavar="NAME", shell_complete=complete_profiles, help=text)


def confirmed(question: str) -> bool:
    """Yes unless a person says no, on a terminal; one who leaves (Ctrl+C) leaves a line that is ended."""
    try:
        return click.confirm(question, default=True, err=True)
    except click.Abort:
        click.echo(err=True)
        raise


def parse_settings(settings: tuple[str, ...]) -> Mapping[str, str]:
    """A relative path is this shell's, also at a later restart.  Raises UsageError for no ``KEY=VALUE``."""
    parsed = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word}: expected KEY=VALUE.", hint="--set ctx-size=8192")
        is_path = key in _PATHS and value != "demo" and not is_of_the_hub(value)
        parsed[key.strip()] = str(Path(value).expanduser().absolute()) if is_path else value
    return parsed


def or_default(profile: str | None, paths: Paths) -> str:
    """The profile that was named, else the default one, whose name is shown."""
    return profile or show_default_profile(paths).name


def show_default_profile(paths: Paths) -> Fit:
    """The default profile, after showing its name.  Raises NotFound if there is none."""
    from ..prepare.default_profile import default_profile  # noqa: PLC0415 - YAML and all the rest

    default = default_profile(paths)
    click.echo(f"profile: {default.name}, {default.reason}", err=True)
    return default


def worker_options(function: Function) -> Function:
    """Adds ``listen``, ``devices`` and ``memory``: texts, or None."""
    about = "The private address by which the other computer reaches this one; the default port is 50052."
    listen = click.option("--listen", metavar="ADDRESS", help=about)
    about = "Which devices to lend: CUDA0,CUDA1, or CPU. Default: all GPUs; without one, the main memory."
    devices = click.option("--devices", metavar="NAMES", help=about)
    about = "The most that each device lends (12GiB), if the build has an option for it. Default: all."
    return listen(devices(click.option("--memory", metavar="SIZE", help=about)(function)))


def settings_of_worker(
    paths: Paths, listen: str | None, devices: str | None, memory: str | None, more: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """
    As words of ``--set``.  Raises UsageError for an address that others than a private network reach, and for
    none, unless the profile says it; NetworkError for a name that does not resolve; ConfigError for a profile
    that is wrong.
    """
    found = (*_words(listen, devices, memory), *more)
    if listen is not None:
        _refuse_public(listen)
    elif not _says_where(paths, found):
        from ..prepare.machine_checks import private_hint  # noqa: PLC0415 - YAML: only here

        missing = "A worker needs the address by which the other computer reaches it: --listen."
        raise UsageError(missing, hint=private_hint())
    return found


def _words(listen: str | None, devices: str | None, memory: str | None) -> Iterator[str]:
    named = {"listen": listen, "devices": devices, "memory": memory}
    return (f"lend.{name}={value}" for name, value in named.items() if value is not None)


def _refuse_public(listen: str) -> None:
    from ..prepare.machine_checks import private_address, private_hint  # noqa: PLC0415 - YAML: only here

    try:
        private_address(listen)
    except ValueError as error:
        raise UsageError(f"--listen {listen} {error}.", hint=private_hint()) from error


def _says_where(paths: Paths, settings: tuple[str, ...]) -> bool:
    from ..profile.resolve import resolve  # noqa: PLC0415 - YAML: only here
    from ..profile.store import ProfileStore  # noqa: PLC0415

    return resolve(WORKER, ProfileStore(paths.profiles), parse_settings(settings)).lend.is_worker
