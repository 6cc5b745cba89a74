"""Builds of several eras: help texts in the true format, shortened to the rows that matter."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.options.help import parse_help

if TYPE_CHECKING:
    from supervisor.options.help import Capabilities

_VERSIONS = {
    6100: "version: 6100 (65c797c4)\nbuilt with cc (Ubuntu 11.4.0) for x86_64-linux-gnu\n",
    7500: "version: 7500 (6ce863c80)\nbuilt with GNU 11.4.0 for Linux x86_64\n",
    9925: "version: 9925 (ed8c26150)\nbuilt with Clang 20.1.8 for Windows x86_64\n",
    11549: "version: 0.7.0-dev (build 11549, commit 1a2b3c4)\nbuilt with GNU 12.2.0 for Linux x86_64\n",
}


def help_text(build: int) -> str:
    path = Path(__file__).parent / "options_eras" / f"b{build}.help.txt"
    return path.read_text(encoding="utf-8")


@cache
def era(build: int) -> Capabilities:
    return parse_help(help_text(build), _VERSIONS[build])


# what the article's command line means
ARTICLE = {
    "model": "gpt-oss-120b.gguf",
    "ctx-size": 32768,
    "jinja": True,
    "ubatch-size": 4096,
    "batch-size": 4096,
    "gpu-layers": 99,
    "flash-attn": "on",
    "n-cpu-moe": 32,
    "host": "0.0.0.0",
    "port": 8080,
}
