"""The tables that ``engine`` prints: installed builds, upstream releases, and which suit this machine."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..engine import choose
from ..engine.catalogue import pins
from ..engine.catalogue.releases import REPOSITORY, Release
from ..engine.install_context import InstallContext
from ..engine.inventory import Install, installed, key_of, size_bytes
from ..engine.released import DEFAULT, FLOATING, chosen_tag
from ..engine.survey import FlavourOption
from ..engine.survey import survey as judged
from ..errors import NotFound
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..prepare.prepare import install_context
from ..progress import Silent
from ..update.update_check import released
from ..update.update_target import UpdateTarget, servers_of, target_of
from .common import hardware_option, json_option, profile_option
from .output import echo_json, echo_list, size, table

_profile_option = profile_option("Use the flavour and channel of this profile.")


@click.command()
@json_option
def ls(*, as_json: bool) -> None:
    """List the installed builds, with their devices and notes."""
    paths = Paths.from_environment()
    listed = list_installed(
        paths, install_context(paths, Silent()), [each.plan for each in servers_of(paths)]
    )
    headers = ("tag", "flavour", "repository", "size", "devices", "note")
    echo_list("engines", listed, headers, _installed_row, as_json=as_json)


def list_installed(
    paths: Paths, context: InstallContext, running: Sequence[LaunchPlan]
) -> list[dict[str, Any]]:
    """One object for each build, newest first, as ``engine ls --json`` shows it."""
    channels = chosen_tags(context)
    runs = {key_of(plan.repository, plan.build, plan.flavour) for plan in running}
    return [_listed(each, context, channels, runs) for each in installed(paths.engines)]


def chosen_tags(context: InstallContext) -> dict[str, str]:
    """Each channel's current release; channels that were never used are left out."""
    found = {channel: context.chosen.tags(channel) for channel in (DEFAULT, *FLOATING)}
    return {DEFAULT: pins.DEFAULT_TAG, **{channel: tags[0] for channel, tags in found.items() if tags}}


def _listed(
    install: Install, context: InstallContext, channels: Mapping[str, str], runs: Collection[str]
) -> dict[str, Any]:
    ours = install.repository == REPOSITORY
    return {
        "repository": install.repository,
        "tag": install.tag,
        "flavour": install.flavour,
        "command": list(install.command),
        "size_bytes": size_bytes(install),
        "devices": list(install.devices),
        "problem": install.problem or None,
        "bad": context.chosen.bad(install.key) or None,
        "channels": [channel for channel, tag in channels.items() if ours and tag == install.tag],
        "running": install.key in runs,
    }


def _installed_row(listed: Mapping[str, Any]) -> list[str]:
    notes = ["runs now"] if listed["running"] else []
    notes += [f"chosen ({channel})" for channel in listed["channels"]]
    notes += [f"unusable: {listed['problem']}"] if listed["problem"] else []
    notes += [f"marked bad: {listed['bad']}"] if listed["bad"] else []
    return [
        listed["tag"],
        listed["flavour"],
        listed["repository"],
        size(listed["size_bytes"]),
        ", ".join(device.partition(":")[0] for device in listed["devices"]) or "CPU",
        "; ".join(notes),
    ]


@click.command()
@click.argument("tag", required=False)
@_profile_option
@hardware_option
@json_option
def survey(tag: str | None, profile: str | None, hardware_file: Path | None, *, as_json: bool) -> None:
    """Rank the flavours of a release for this machine, with reasons."""
    paths = Paths.from_environment()
    target = target_of(paths, profile)
    context = install_context(paths, Silent(), hardware_file)
    tag = tag or chosen_tag(target.engine, context) or pins.DEFAULT_TAG
    found = released(target, context).survey(context.catalogue(target.engine).release(tag))
    taken = choose.find(target.engine, wants_gpu=target.wants_gpu, context=context).reason
    failure, otherwise = context.failures.recent(), ""
    if not found.ranked and target.engine.source == "auto":
        otherwise = choose.without_release(target.engine, wants_gpu=target.wants_gpu, context=context)
    if as_json:
        ranked = [_option(option) for option in found.ranked]
        rejected = [{"flavour": each.flavour, "reason": each.reason} for each in found.rejected]
        echo_json(tag=found.tag, ranked=ranked, rejected=rejected, taken=taken, failure=failure or None)
        return
    rows = [
        (str(rank), option.flavour, size(option.download_bytes), option.reason)
        for rank, option in enumerate(found.ranked, 1)
    ]
    rows += [("no", each.flavour, "-", each.reason) for each in found.rejected]
    click.echo(f"{REPOSITORY} {found.tag}")
    click.echo(table(("rank", "flavour", "download", "reason"), rows))
    click.echo(otherwise or f"What start takes: {taken}")
    if failure:
        click.echo(f"The last start could not download a release: {failure}")


def _option(option: FlavourOption) -> dict[str, Any]:
    files = [option.archive, option.companion] if option.companion else [option.archive]
    return {
        "flavour": option.flavour,
        "reason": option.reason,
        "download_bytes": option.download_bytes,
        "archives": [{"name": file.name, "url": file.url, "sha256": file.sha256} for file in files],
    }


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="How many releases to list."
)
@hardware_option
@json_option
def available(limit: int, hardware_file: Path | None, *, as_json: bool) -> None:
    """List the newest releases and what each has for this machine."""
    paths = Paths.from_environment()
    target, context = target_of(paths), install_context(paths, Silent(), hardware_file)
    here = {(each.tag, each.flavour) for each in installed(paths.engines) if each.repository == REPOSITORY}
    listed = [_release(each, context, target, here) for each in context.catalogue(target.engine).list(limit)]
    headers = ("tag", "published", "for this machine", "installed", "note")
    echo_list("releases", listed, headers, _release_row, as_json=as_json)


def _release_row(listed: Mapping[str, Any]) -> list[str]:
    flavours, here = (", ".join(listed[name]) or "-" for name in ("flavours", "installed"))
    day = listed["published"].partition("T")[0] or "-"
    return [listed["tag"], day, flavours, here, listed["problem"] or ""]


def _release(
    release: Release, context: InstallContext, target: UpdateTarget, here: set[tuple[str, str]]
) -> dict[str, Any]:
    suited = judged(context.hardware(), release, flavour=None, gpu=False)
    return {
        "tag": release.tag,
        "published": release.published,
        "flavours": [option.flavour for option in suited.ranked],
        "installed": [flavour for tag, flavour in sorted(here) if tag == release.tag],
        "problem": released(target, context).unusable(release) or None,
    }


@click.command()
@click.argument("tag", required=False)
@_profile_option
def path(tag: str | None, profile: str | None) -> None:
    """Print the path of the llama-server that start would use."""
    paths = Paths.from_environment()
    target = target_of(paths, profile)
    engine = replace(target.engine, source="release", channel=tag) if tag else target.engine
    build = choose.find(engine, wants_gpu=target.wants_gpu, context=install_context(paths, Silent()))
    if build.source == "none":
        known = f"{build.tag} ({build.flavour})" if build.flavour != "unknown" else "The engine of a start"
        hint = f"goss-supervisor engine install{f' {tag}' if tag else ''}"
        raise NotFound(f"{tag or known} is not installed yet.", hint=hint)
    click.echo(shlex.join(build.command))
