"""Runs one system program, and parses numbers and records that it and the kernel print."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..machine import TIMEOUT_SECONDS, Machine


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a program printed, or "" and a ``note`` that says why not."""

    text: str = ""
    note: str = ""


def ask(machine: Machine, *command: str) -> ToolAnswer:
    """A program that fails and prints something all the same has answered: sysctl does so for one odd key."""
    outcome = machine.run(*command)
    if outcome is None:
        return ToolAnswer(note=f"{command[0]} is not there or cannot be started.")
    if outcome.returncode is None:
        return ToolAnswer(note=f"{command[0]} did not answer within {TIMEOUT_SECONDS:g} s.")
    if outcome.stdout.strip():
        return ToolAnswer(outcome.stdout)
    lines = outcome.stderr.strip().splitlines()
    reason = lines[0].rstrip(".") if lines else f"exit code {outcome.returncode}"
    return ToolAnswer(note=f"{command[0]} failed: {reason}.")


def document(answer: ToolAnswer, program: str) -> tuple[Mapping[str, Any], str]:
    """The JSON object that a program printed, or an empty one and the note."""
    if answer.note:
        return {}, answer.note
    try:
        found = json.loads(answer.text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        found = None
    return (found, "") if isinstance(found, dict) else ({}, f"{program} printed something that is no record.")


def items(value: object) -> list[Mapping[str, Any]]:
    """The objects in a list, or the one object: PowerShell writes a list of one as that one."""
    listed = value if isinstance(value, list) else [value]
    return [each for each in listed if isinstance(each, dict)]


def text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def number(value: object) -> int | None:
    """A whole number that is not negative; a text of digits is one."""
    if isinstance(value, str):
        return whole(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


MIB = 1024 * 1024
NVIDIA_SMI = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")  # where it may be found
_DIGITS = 19  # what fits into 64 bits; more is no number of anything


def whole(text: str | None) -> int | None:
    """``24564`` or ``0x5000``, not negative; None for anything else, ``[N/A]`` among it."""
    found = re.fullmatch(r"\s*(?:(\d+)|0x([0-9a-fA-F]+))\s*", text or "", re.ASCII)
    if found is None or len(found[1] or found[2]) > _DIGITS:
        return None
    return int(found[1]) if found[1] else int(found[2], 16)


def decimal(text: str | None) -> float | None:
    """The number that a text begins with: ``16.0 GT/s PCIe`` is 16.0."""
    found = re.match(r"\s*(\d{1,9}(?:\.\d{1,9})?)(?![\w.])", text or "", re.ASCII)
    return float(found[1]) if found else None


def pci_address(text: str) -> str:
    """``00000000:01:00.0`` of NVIDIA's tools as ``0000:01:00.0`` of everybody else; "" for no address."""
    found = re.fullmatch(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", text.strip().lower())
    return f"{int(found[1] or '0', 16):04x}:{found[2]}" if found else ""
