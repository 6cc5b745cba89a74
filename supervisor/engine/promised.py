"""The stand-in for an engine that is not there yet, so that a plan can be shown before a download."""

from __future__ import annotations

from ..options.meanings import pinned as pinned_options
from .build import Build
from .catalogue.releases import REPOSITORY


def promised(reason: str, tag: str = "", flavour: str = "unknown") -> Build:
    """No engine, but the options that the pinned build is known to have; ``reason`` is what is missing."""
    known = pinned_options()
    known_tag = f"b{known.build}"
    return Build(
        source="none",
        repository=REPOSITORY,
        tag=tag or known_tag,
        flavour=flavour,
        command=("llama-server",),
        digest="",
        capabilities=known,
        reason=f"{reason.rstrip('.')}: shown with the known options of {known_tag}.",
    )
