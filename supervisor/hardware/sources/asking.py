"""Asks one program of the system, and says in a sentence why nothing came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..machine import TIMEOUT_SECONDS, Machine
from .numbers import whole


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed, or "" and a ``note`` that says why not."""

    text: str = ""
    note: str = ""


def ask(machine: Machine, *command: str) -> Answer:
    """A program that fails and prints something all the same has answered: sysctl does so for one odd key."""
    outcome = machine.run(*command)
    if outcome is None:
        return Answer(note=f"{command[0]} is not there or cannot be started.")
    if outcome.returncode is None:
        return Answer(note=f"{command[0]} did not answer within {TIMEOUT_SECONDS:g} s.")
    if outcome.stdout.strip():
        return Answer(outcome.stdout)
    said = outcome.stderr.strip().splitlines()
    reason = said[0].rstrip(".") if said else f"exit code {outcome.returncode}"
    return Answer(note=f"{command[0]} failed: {reason}.")


def document(answer: Answer, program: str) -> tuple[Mapping[str, Any], str]:
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
