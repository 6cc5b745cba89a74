"""
The first start: show what it will do, check that it can, and ask before anything is downloaded.

It also binds the address for a moment, so a port that is taken is found before the download.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from ..errors import DoesNotFit, StartFailed, UsageError
from ..home.places import record_file
from ..home.records import read_record
from ..paths import Paths
from ..plan.listen import bind_addresses, is_socket_path, serves_clients, url_of
from ..profile.definition import Profile
from .common import confirmed
from .output import size, waiting

if TYPE_CHECKING:
    from ..hardware.hardware import Hardware
    from ..plan.launch import LaunchPlan
    from ..plan.listen import Listen as GatewayListen
    from ..prepare.prepare import Estimate, PlannedDownload
    from ..profile.definition import ListenSettings, Profile
    from ..profile.matching import Fit


LARGE_BYTES = 10**9  # nobody expects a download of gigabytes from a script that never said so
EXIT_DECLINED = 1
DECLINED = """\
Nothing was downloaded or started.
hint: goss-supervisor start --profile demo needs no model; goss-supervisor detect lists the other profiles."""
_THIS_COMPUTER = {"127.0.0.1", "::1", "localhost"}


def is_first(paths: Paths) -> bool:
    """Whether no server was ever started from this home."""
    return read_record(record_file(paths)) is None


def welcome(
    default: Fit,
    settings: Mapping[str, str],
    paths: Paths,
    *,
    yes: bool,
    force: bool = False,
    command: str = "start",
) -> None:
    """
    Before a default profile is started: say on stderr what will happen, and let a person decide.

    Does nothing for the last profile used.  What would stop the start later stops it here, before anything is
    downloaded: raises as ``estimate`` does, DoesNotFit unless ``force``, and StartFailed where the address is
    taken.  Raises UsageError where nobody can be asked, gigabytes are to be downloaded, and ``command`` lacks
    ``--yes``; ends the program where a person says no.
    """
    last = read_record(record_file(paths))
    if last is not None and default.name in {last.profile, last.remembered}:
        return
    from ..hardware.detection import hardware_of  # noqa: PLC0415 - YAML and all the rest: only when it is needed
    from ..prepare.prepare import estimate  # noqa: PLC0415 - the same

    hardware = hardware_of(paths)
    with waiting("looking up what to download"):
        expected = estimate(default.name, settings, paths, hardware)
    for line in _lines(hardware, expected):
        click.echo(line, err=True)
    if expected.refusal and not force:
        raise _does_not_fit(expected.profile, expected.refusal)
    try_address(expected.profile)
    if not yes and expected.download_bytes != 0:
        hint = f"goss-supervisor {command} --yes, or goss-supervisor {command} --profile {default.name}"
        _agree(expected, "and start", DECLINED, hint)


def ask_before_gigabytes(name: str, paths: Paths, command: str) -> None:
    """
    The same before ``command`` downloads gigabytes for a default profile; it does nothing for less.

    Raises as ``estimate`` does, and UsageError where nobody can be asked; ends the program where a person
    says no.
    """
    from ..hardware.detection import hardware_of  # noqa: PLC0415 - as above
    from ..prepare.prepare import estimate  # noqa: PLC0415 - as above

    with waiting("looking up what to download"):
        expected = estimate(name, {}, paths, hardware_of(paths))
    if _is_large(expected):
        hint = f"goss-supervisor {command} {name}"
        _agree(expected, f"and {command}", "Nothing was downloaded.", hint)


def farewell(plan: LaunchPlan, listen: GatewayListen | None) -> tuple[str, ...]:
    """What to do next, now that the server is ready; one line each."""
    if not serves_clients(plan):
        there = f"workers: [{plan.host}:{plan.port}] in a profile on the other computer"
        return (*_naming(), f"use it   {there}", "look     goss-supervisor status")
    url = url_of(plan, listen)
    by_http = url.startswith("http")
    chat = (f"chat     {url} in a browser",) if by_http else ()
    base = f"{url}/v1 is the base URL; " if by_http else ""
    clients = f"clients  {base}goss-supervisor client-config has the lines for Cline, Codex and others"
    ask = 'ask      goss-supervisor ask "What are you?"'
    page = ("page     goss-supervisor open shows all of it in a browser",) if by_http else ()
    return (*_naming(), *chat, ask, clients, *page, "look     goss-supervisor status")


def _naming() -> tuple[str, ...]:
    """Every hint says goss-supervisor; a line for a shell that does not find it, as with a clone."""
    from shutil import which  # noqa: PLC0415 - at a first start only

    if os.name == "nt" or which("goss-supervisor"):
        return ()
    places = (Path(__file__).resolve().parents[2] / "bin", Path(sys.executable).parent)
    programs = [place / "goss-supervisor" for place in places if (place / "goss-supervisor").is_file()]
    return tuple(f"first    alias goss-supervisor={quote(str(program))}" for program in programs[:1])


def _lines(hardware: Hardware, expected: Estimate) -> list[str]:
    profile = expected.profile
    rows = [
        ("machine", machine_in_words(hardware)),
        ("about", profile.description),
        ("engine", _part(expected.engine)),
        ("model", _part(expected.model)),
        *(("memory", text) for text in expected.memory),
        ("disk", f"{size(hardware.disk_free_bytes)} free" if hardware.disk_free_bytes else "unknown"),
        ("address", _address(profile.listen)),
    ]
    return [f"{name:<8} {text}" for name, text in rows if text]


def machine_in_words(hardware: Hardware) -> str:
    """``Ubuntu 24.04.3 LTS, AMD Ryzen 7 9700X, 62.1 GiB RAM, AMD Radeon RX 9070``; says what is unknown."""
    ram = "RAM unknown" if hardware.ram_bytes is None else f"{size(hardware.ram_bytes)} RAM"
    cpu = hardware.cpu.name or "CPU unknown"
    gpus = [gpu.name or f"a GPU of {gpu.vendor}" for gpu in hardware.gpus] or ["no GPU"]
    beside = (gpu for gpu in gpus if gpu != cpu)  # a Mac's has the name of the processor that it is in
    return ", ".join((hardware.os_name or hardware.os, cpu, ram, *beside))


def _address(listen: ListenSettings) -> str:
    if is_socket_path(listen.host):
        return listen.host
    who = "this computer only" if listen.host in _THIS_COMPUTER else "other computers reach it too"
    return f"{listen.host} port {listen.port}, {who}"


def _part(part: PlannedDownload) -> str:
    left = part.download_bytes
    return part.what if left == 0 else f"{part.what}: {_amount(left)} to download"


def _amount(number_bytes: int | None) -> str:
    """In decimal units, as downloads are shown everywhere."""
    if number_bytes is None:
        return "an unknown amount"
    large = number_bytes >= LARGE_BYTES
    return f"{number_bytes / 10**9:.1f} GB" if large else f"{number_bytes / 10**6:.0f} MB"


def _in_all(expected: Estimate) -> str:
    """Of the engine alone the size may be unknown: then it is the model's, and that there is more."""
    model = expected.model.download_bytes
    if expected.download_bytes is not None or model is None:
        return _amount(expected.download_bytes)
    return f"{_amount(model)} and an engine" if model else "an engine"


def _does_not_fit(profile: Profile, refusal: str) -> DoesNotFit:
    """In the words of a start that finds it out by itself."""
    return DoesNotFit(
        f"{profile.name} does not fit: {refusal}.",
        hint=f"goss-supervisor plan {profile.name} shows the account. The guardrails are "
        f"{profile.guardrails}; start --profile {profile.name} --force ignores them once. "
        "goss-supervisor start --profile demo takes next to nothing.",
    )


def _agree(expected: Estimate, purpose: str, declined: str, hint: str) -> None:
    """``purpose``: ``and start``; ``hint`` is for who meant it and has no terminal."""
    amount = _in_all(expected)
    if sys.stdin.isatty() and sys.stderr.isatty():
        if not confirmed(f"Download {amount} {purpose}?"):
            click.echo(declined, err=True)
            raise click.exceptions.Exit(EXIT_DECLINED)
    elif _is_large(expected):
        raise UsageError(
            f"{expected.profile.name} needs a download of {amount}, and there is no terminal to ask on.",
            hint=hint,
        )


def _is_large(expected: Estimate) -> bool:
    """A model of unknown size may be; engines alone are not."""
    model = expected.model.download_bytes
    return model is None or model + (expected.engine.download_bytes or 0) >= LARGE_BYTES


def try_address(profile: Profile) -> None:
    """
    Raises StartFailed where the gateway cannot listen on it, as the daemon would after all the downloads.

    Without a gateway it is llama-server's, and one of a daemon that was killed may still hold it: only the
    next daemon may end that.
    """
    listen = profile.listen
    if is_socket_path(listen.host) or profile.gateway.mode == "off":
        return
    try:
        for address in bind_addresses(listen.host):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            socket.create_server((address, listen.port), family=family).close()
    except OSError as error:
        from ..server.preflight import why_not_bound  # noqa: PLC0415 - every start comes by, few are refused

        problem = why_not_bound(error, listen.host, listen.port)
        other = f" Just this once: goss-supervisor start {profile.name} --set listen.port={listen.port + 1}"
        is_about_port = problem.kind in {"port-taken", "port-forbidden"}
        raise StartFailed(problem.message, hint=problem.hint + other * is_about_port) from error
