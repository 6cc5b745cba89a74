"""``config.yaml``: what holds for all profiles, unless one says otherwise: ``engine`` and ``gateway``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import NotFound
from .layer import Layer
from .load import load_file
from .nodes import Mark, Problem

NAME = "config.yaml"
_SECTIONS = ("engine.", "gateway.")


def settings_layer(file: Path) -> Layer | None:
    """The layer that lies under every profile; None where there is no such file."""
    try:
        layer = load_file(file, NAME)
    except NotFound:
        return None
    strangers = [
        Problem(layer.file, Mark(value.origin.line, value.origin.column), "belongs into a profile", key)
        for key, value in layer.values.items()
        if not key.startswith(_SECTIONS)
    ]
    return replace(layer, problems=(*layer.problems, *strangers))
