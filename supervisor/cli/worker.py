"""``worker``: lend this computer's memory to a llama-server on another one."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ..errors import UsageError
from ..paths import Paths
from .common import Function, json_option, parse_settings, set_option

WORKER = "worker"
"""The profile that it starts; one of the user's own may extend it."""


def worker_options(function: Function) -> Function:
    """Adds ``listen``, ``devices`` and ``memory``: texts, or None."""
    about = "The private address that the other computer reaches this one by; the port is 50052 without one."
    listen = click.option("--listen", metavar="ADDRESS", help=about)
    about = "Which devices to lend: CUDA0,CUDA1, or CPU.  Default: all GPUs; without one, the main memory."
    devices = click.option("--devices", metavar="NAMES", help=about)
    about = "The most that each device lends (12GiB), if the build has an option for it.  Default: all."
    return listen(devices(click.option("--memory", metavar="SIZE", help=about)(function)))


@click.command()
@worker_options
@click.option(
    "--detach", "-d", is_flag=True, help="Return when it is ready; it keeps running in the background."
)
@click.option(
    "--ready-fd",
    type=click.IntRange(min=3),
    metavar="N",
    help="Write a newline to this file descriptor and close it when it is ready; foreground only.",
)
@click.option("--service", "as_service", is_flag=True, help="As for start.")
@click.option("--dry-run", is_flag=True, help="Only show what would run.")
@set_option
@json_option
def worker(
    *,
    listen: str | None,
    devices: str | None,
    memory: str | None,
    detach: bool,
    ready_fd: int | None,
    as_service: bool,
    dry_run: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> int:
    """
    Lend this computer's memory to a llama-server on another one.

    It runs llama.cpp's RPC server as start runs a llama-server: status, logs, ps, restart and stop are the
    same.  A profile on the other computer names this one under workers.

    RPC has neither keys nor encryption, so only loopback and private addresses are taken.  The gateway
    listens on 127.0.0.1:21434 and tells what the worker is (GET /supervisor/worker);
    --set listen.host=ADDRESS lets others ask, with a key.
    """
    from .start import start  # noqa: PLC0415 - the daemon's modules: only here

    assert start.callback is not None
    started: int = start.callback(
        names=(),
        profile=WORKER,
        detach=detach,
        yes=True,
        ready_fd=ready_fd,
        as_service=as_service,
        dry_run=dry_run,
        force=False,
        settings=settings_of_worker(Paths.from_environment(), listen, devices, memory, settings),
        as_json=as_json,
    )
    return started


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
        from ..prepare.machine_checks import private_hint  # noqa: PLC0415 - as below

        missing = "A worker needs the address that the other computer reaches it by: --listen."
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
    from ..prepare.prepare import resolved  # noqa: PLC0415 - YAML: only here

    return resolved(WORKER, parse_settings(settings), paths).lend.is_worker
