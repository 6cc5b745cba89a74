"""The first start: what will happen is said and asked before it happens, and what comes next at its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ..daemon.places import record_file
from ..errors import SupervisorError, UsageError
from ..paths import Paths
from ..server.record import read_record
from .output import size
from .progress import waiting

if TYPE_CHECKING:
    from ..hardware.types import Hardware
    from ..outlook import Outlook, Part
    from ..profile.matching import Fit

LARGE_BYTES = 10**9  # nobody expects a download of gigabytes from a script that never said so
NEXT = (
    ("ask it", 'goss-supervisor ask "What are you?"'),
    ("use it", "goss-supervisor client-config   (Cline, Codex, Claude Code, openai and others)"),
    ("look", "goss-supervisor status"),
)


def is_first(paths: Paths) -> bool:
    """Whether no server was ever started from this home."""
    return read_record(record_file(paths)) is None


def welcome(usual: Fit, settings: Mapping[str, str], paths: Paths, *, yes: bool) -> None:
    """
    Before a profile is started that nobody named: say on stderr what will happen, and let a person decide.

    A profile that was the last one used is no news.  Raises SupervisorError for a no, and UsageError where
    nobody can be asked, gigabytes are to be downloaded, and ``yes`` was not said.
    """
    last = read_record(record_file(paths))
    if last is not None and last.profile == usual.name:
        return
    from ..hardware.known import hardware_of  # noqa: PLC0415 - YAML and all the rest: only when it is needed
    from ..outlook import outlook  # noqa: PLC0415 - the same

    hardware = hardware_of(paths)
    with waiting("asking what there is to download"):
        expected = outlook(usual.name, settings, paths, hardware)
    for line in _lines(hardware, expected):
        click.echo(line, err=True)
    _agree(usual.name, expected, yes=yes)


def farewell(lead: str = "") -> None:
    """What a person does next, on stderr; ``lead`` is a line before it."""
    if lead:
        click.echo(lead, err=True)
    for what, command in NEXT:
        click.echo(f"{what:<8}  {command}", err=True)


def _lines(hardware: Hardware, expected: Outlook) -> list[str]:
    profile = expected.profile
    rows = [
        ("machine", machine_in_words(hardware)),
        ("about", profile.description),
        ("engine", _part(expected.engine)),
        ("model", _part(expected.model)),
        *(("memory", text) for text in expected.memory),
        ("disk", f"{size(hardware.disk_free_bytes)} free" if hardware.disk_free_bytes else "unknown"),
        ("address", f"{profile.listen.host} port {profile.listen.port}"),
    ]
    return [f"{name:<8} {text}" for name, text in rows if text]


def machine_in_words(hardware: Hardware) -> str:
    """``Ubuntu 24.04.3 LTS, AMD Ryzen 7 9700X, 62.1 GiB RAM, AMD Radeon RX 9070``; unknown is said."""
    ram = "RAM unknown" if hardware.ram_bytes is None else f"{size(hardware.ram_bytes)} RAM"
    gpus = [gpu.name or f"a GPU of {gpu.vendor}" for gpu in hardware.gpus] or ["no GPU"]
    return ", ".join((hardware.os_name or hardware.os, hardware.cpu.name or "CPU unknown", ram, *gpus))


def _part(part: Part) -> str:
    if part.download_bytes == 0:
        return part.what
    return f"{part.what}: {_amount(part.download_bytes)} to download"


def _amount(number_bytes: int | None) -> str:
    """In decimal units, as downloads are shown everywhere."""
    if number_bytes is None:
        return "an unknown amount"
    large = number_bytes >= LARGE_BYTES
    return f"{number_bytes / 10**9:.1f} GB" if large else f"{number_bytes / 10**6:.0f} MB"


def _agree(name: str, expected: Outlook, *, yes: bool) -> None:
    if yes or expected.download_bytes == 0:
        return
    amount = _amount(expected.download_bytes)
    if sys.stdin.isatty() and sys.stderr.isatty():
        if not click.confirm(f"Download {amount} and start?", default=True, err=True):
            raise SupervisorError(
                "Nothing was downloaded or started.",
                hint="goss-supervisor start --profile demo needs no model; detect lists the other profiles.",
            )
        return
    if _is_large(expected):
        raise UsageError(
            f"{name} has {amount} to download, and there is no terminal to ask on.",
            hint=f"goss-supervisor start --yes, or goss-supervisor start --profile {name}",
        )


def _is_large(expected: Outlook) -> bool:
    """A model of unknown size may be; engines alone are not."""
    model = expected.model.download_bytes
    return model is None or model + (expected.engine.download_bytes or 0) >= LARGE_BYTES
