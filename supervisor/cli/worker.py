"""``worker``: lend this computer's memory to a llama-server on another one."""

from __future__ import annotations

import click

from ..paths import Paths
from ..profile.worker_address import WORKER
from .common import json_option, set_option, settings_of_worker, worker_options


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

    It runs llama.cpp's RPC server as start runs a llama-server: status, logs, ps, restart and stop work as
    usual.  On the other computer, a profile names this one under workers.

    RPC has neither keys nor encryption, so --listen takes only loopback and private addresses.  The worker's
    gateway on 127.0.0.1:21434 describes it (GET /supervisor/worker); --set listen.host=ADDRESS opens that to
    other computers, which then need a key.
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
