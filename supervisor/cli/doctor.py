"""``doctor``: what is wrong with this machine and this home, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from ..doctor.bundle import write_bundle
from ..doctor.finding import Finding, FindingState
from ..doctor.home_findings import home_findings
from ..doctor.machine_findings import kernel_findings, machine_findings
from ..doctor.profile_findings import profile_findings
from ..errors import EXIT_OK, SupervisorError
from ..hardware.detection import conditions_of, hardware_of
from ..hardware.machine import ThisMachine
from ..hardware.wire import to_json
from ..home.places import daemon_lock
from ..locks import held_by
from ..paths import Paths
from .common import complete_profiles, json_option, or_default
from .output import echo_json, harmless
from .service_request import scope_of

_STATES: tuple[FindingState, ...] = ("ok", "warning", "problem", "unknown")


@click.command()
@click.argument("profile", required=False, shell_complete=complete_profiles)
@click.option("-v", "--verbose", is_flag=True, help="Also show what is in order.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), metavar="FILE", help="Write an archive for a bug report."
)
@json_option
def doctor(*, profile: str | None, verbose: bool, bundle: Path | None, as_json: bool) -> int:
    """
    Check this machine, this home and a PROFILE, and say what to do.

    It changes nothing.  Without a PROFILE it checks the one that start would use.  The exit code is 1 if it
    finds a problem.  --bundle writes logs, events, findings and hardware into a .tar.gz, without keys,
    prompts, addresses, your name and the computer's; look at it before you send it.
    """
    paths = Paths.from_environment()
    found = list(_findings(profile, paths))
    counts = {state: sum(each.state == state for each in found) for state in _STATES}
    if bundle is not None:
        _write(bundle, paths, found)
    if as_json:
        echo_json(findings=[asdict(each) for each in found], counts=counts)
    else:
        _show(found, verbose=verbose)
        click.echo(_summary(counts))
        if bundle is not None:
            click.echo(f"written: {bundle}")
    return SupervisorError.exit_code if counts["problem"] else EXIT_OK


def _findings(profile: str | None, paths: Paths) -> Iterator[Finding]:
    machine = ThisMachine()
    hardware = hardware_of(paths)
    yield from machine_findings(hardware, conditions_of(), machine, datetime.now(UTC))
    yield from kernel_findings(machine)
    yield from home_findings(paths, machine, scope_of(None))
    try:
        name = or_default(profile, paths)
    except SupervisorError as error:
        yield Finding("profile", "problem", str(error), error.hint)
    else:
        yield from profile_findings(name, paths, is_running=held_by(daemon_lock(paths)) is not None)


def _show(found: list[Finding], *, verbose: bool) -> None:
    for each in found:
        if verbose or each.state != "ok":
            click.echo(harmless(f"{each.state:<7}  {each.id}: {each.text}"))
            if each.fix and each.state != "ok":
                click.echo(harmless(f"         {each.fix}"))


def _summary(counts: Mapping[FindingState, int]) -> str:
    """1 problem, 0 warnings, 2 unknown, 12 in order."""
    told = [f"{counts[each]} {each}{'' if counts[each] == 1 else 's'}" for each in ("problem", "warning")]
    unknown = [f"{counts['unknown']} unknown"] if counts["unknown"] else []
    return ", ".join((*told, *unknown, f"{counts['ok']} in order"))


def _write(file: Path, paths: Paths, found: list[Finding]) -> None:
    documents = {
        "findings.json": json.dumps([asdict(each) for each in found], indent=1),
        "hardware.json": json.dumps(to_json(hardware_of(paths)), indent=1),
    }
    write_bundle(file, paths, documents)
