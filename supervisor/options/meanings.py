"""Which option a spelling of any era stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from ..errors import similar_names
from . import dialect
from .help import Capabilities, HelpOption, parse_help, parse_options

_PINNED_VERSION = "version: 0.6.0-dev (build 11434, commit unknown)"
_ACTIONS = {"help", "version", "cache-list", "completion-bash", "list-devices", "license"}

SECRETS: Mapping[str, str] = MappingProxyType({"api-key": "LLAMA_API_KEY", "hf-token": "HF_TOKEN"})
"""Canonical option to environment variable: every user of a machine can read a command line."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A spelling, understood; ``negated`` when it switches its option off, as ``--no-mmap`` does."""

    option: HelpOption
    negated: bool

    @property
    def name(self) -> str:
        """Of the era of the spelling: ``draft-max``, not what it is called today."""
        return self.option.long_name.removeprefix("--")

    @property
    def is_action(self) -> bool:
        """Whether llama-server prints something and exits, instead of serving."""
        return self.name in _ACTIONS


@cache
def pinned() -> Capabilities:
    """What b11434, with which this release was made, accepts: used if there is no engine."""
    return parse_help(_data("b11434.help.txt"), _PINNED_VERSION)


@cache
def _other_eras() -> tuple[HelpOption, ...]:
    return parse_options(_data("other-eras.help.txt"))


def _data(name: str) -> str:
    return (Path(__file__).with_name("data") / name).read_text(encoding="utf-8")


@cache
def _spellings() -> Mapping[str, Reading]:
    readings: dict[str, Reading] = {}
    for option in (*pinned().options, *_other_eras()):
        for spelling in option.names:
            readings.setdefault(spelling, Reading(option, negated=False))
        for spelling in option.negative_names:
            readings.setdefault(spelling, Reading(option, negated=True))
    return readings


def understand(key: str) -> Reading | None:
    """What ``--ctx-size``, ``ctx_size``, ``-c`` or ``c`` stands for, in any era; None if unknown."""
    key = key.strip()
    long = "--" + key.removeprefix("--").replace("_", "-")
    if key.startswith("-"):
        return _spellings().get(long if key.startswith("--") else key)
    return _spellings().get(long) or _spellings().get(f"-{key}")


def canonical(key: str) -> str | None:
    """The name of the meaning today: ``ngl`` is ``gpu-layers``, ``no-mmap`` is ``load-mode``."""
    if (reading := understand(key)) is None:
        return None
    return dialect.LEGACY.get(reading.name, reading.name)


@cache
def _variables() -> Mapping[str, HelpOption]:
    return {name: option for option in (*_other_eras(), *pinned().options) for name in option.env}


def of_variable(name: str) -> HelpOption | None:
    """The option that an environment variable sets (LLAMA_ARG_CTX_SIZE), None for any other."""
    return _variables().get(name)


def describe(name: str) -> HelpOption | None:
    """The option of a canonical name, as the pinned build (or, if that has none, its own era) lists it."""
    reading = understand(f"--{name}")
    return reading.option if reading and reading.name == name else None


_ELSEWHERE = {
    **dict.fromkeys(
        ("context", "num-ctx", "n-ctx", "context-size", "context-length", "max-context"), "ctx-size"
    ),
    **dict.fromkeys(("num-gpu", "gpu", "layers", "gpu-offload", "offload"), "gpu-layers"),
    **dict.fromkeys(("num-thread", "cpu-threads"), "threads"),
    **dict.fromkeys(("num-predict", "max-tokens"), "predict"),
    **dict.fromkeys(("flash-attention", "fa-on"), "flash-attn"),
    **dict.fromkeys(("num-batch", "batch"), "batch-size"),
    **dict.fromkeys(("temperature",), "temp"),
    **dict.fromkeys(("projector", "vision"), "mmproj"),
    **dict.fromkeys(("draft-model",), "spec-draft-model"),
    **dict.fromkeys(("kv-cache-type", "cache-type"), "cache-type-k"),
}
"""What other programs call them."""


def nearest(key: str) -> str:
    """The known spelling, without dashes, that ``key`` may have been meant to be; empty if none is near."""
    meant = _ELSEWHERE.get(key.strip().lstrip("-").replace("_", "-").lower())
    return meant or closest(key, _spellings())


def closest(key: str, spellings: Mapping[str, object] | tuple[str, ...]) -> str:
    """The long one of ``spellings`` that ``key`` resembles, without dashes; empty if none does."""
    names = [spelling.removeprefix("--") for spelling in spellings if spelling.startswith("--")]
    wanted = key.strip().lstrip("-").replace("_", "-").lower()
    return next(iter(similar_names(wanted, names)), "")
