"""``search``: the hub's models that fit on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from ..errors import NotFound
from ..hardware.detection import hardware_of
from ..hardware.hardware import Hardware
from ..model.hub import Hub
from ..model.hub_search import search_hub
from ..paths import Paths
from .common import json_option
from .output import GIB, echo_list, size, waiting

_LIMIT = 12
_HEADERS = ("name", "size", "fits here", "downloads")


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--all", "shows_all", is_flag=True, help="Include models that do not fit.")
@click.option(
    "--limit",
    default=_LIMIT,
    show_default=True,
    type=click.IntRange(1, 100),
    help="How many repositories to look at.",
)
@json_option
def search(*, words: tuple[str, ...], shows_all: bool, limit: int, as_json: bool) -> None:
    """
    Find GGUF models on the Hugging Face hub that fit this machine.

    It shows the Q4_K_M file of each repository, the usual quantization, else the largest file that fits.
    Here a file fits if it is small enough for the memory of this machine; plan counts exactly.
    """
    paths = Paths.from_environment()
    hardware = hardware_of(paths)
    with waiting("asking the Hugging Face hub"):
        found = search_hub(
            Hub.of(os.environ), words, limit, lambda size_bytes: bool(place(size_bytes, hardware))
        )
    shown = [each for each in found if each.fits or shows_all]
    if not shown:
        what = "that fits here" if found else "in GGUF"
        hint = "--all shows what is too large." if found else "Fewer or other words may find some."
        raise NotFound(f"The hub has no model {what} for {' '.join(words)}.", hint=hint)
    listed = [{**asdict(each), "place": place(each.size_bytes, hardware) or "too large"} for each in shown]
    echo_list("models", listed, _HEADERS, _row, as_json=as_json)
    if not as_json:
        best = shown[0].name
        click.echo(f"get it  goss-supervisor pull {best}", err=True)


def _row(listed: Mapping[str, Any]) -> list[str]:
    gated = ", gated" if listed["gated"] else ""
    return [listed["name"], size(listed["size_bytes"]), listed["place"] + gated, f"{listed['downloads']:,}"]


def place(model_bytes: int, hardware: Hardware) -> str:
    """
    Where a model of this size would be, with room for a context and the system; empty where it is too large.

    If the memory is unknown, it says so.  Pure.
    """
    if hardware.memory_bytes is None:
        return "unknown"
    needed = model_bytes + model_bytes // 10 + GIB // 2
    cards = sum(gpu.memory_bytes or 0 for gpu in hardware.gpus if gpu.integrated is False and not gpu.unified)
    if needed <= cards:
        return "yes, on the GPU"
    if needed > hardware.memory_bytes - 2 * GIB:  # what a system and a browser take
        return ""
    if cards:
        return "yes, in part on the GPU"
    return "yes" if hardware.gpus else "yes, on the CPU"
