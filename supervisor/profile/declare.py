"""
Declares a key of the YAML where its value is stored.

``fields`` makes validation, ``profile show``, the JSON Schema and the docs from that; the daemon does not
load it.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, TypedDict, Unpack


class Limits(TypedDict, total=False):
    """What the type of a key does not say of its values."""

    least: float
    most: float
    words: tuple[str, ...]
    pattern: str
    what: str  # a text that matches ``pattern``, in words
    absolute: bool  # a path from the root or from ~
    origins: bool  # of web pages
    or_off: bool  # off is 0


def key(default: object, about: str, name: str = "", **limits: Unpack[Limits]) -> Any:  # noqa: ANN401 - a field
    """A key of profiles: its default, what it is for, and its name if the attribute has another."""
    return field(default=default, metadata={"about": about, "name": name, **limits})
