"""What a ledger cannot know, in sentences.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..model.model import Model
from .layout import Layout
from .settings import Settings


def notes(model: Model, settings: Settings, layout: Layout) -> tuple[str, ...]:
    """Empty where everything was counted by rules that hold for this model."""
    return (*_of_choices(settings, layout), *_of_model(model), *_of_options(settings))


def _of_choices(settings: Settings, layout: Layout) -> Iterator[str]:
    """What llama.cpp changes by itself when memory is short: common/fit.cpp."""
    if not (settings.fit and settings.left_open):
        return
    if layout.devices and "gpu-layers" in settings.left_open:
        yield (
            "llama.cpp places the layers itself (--fit): the figures are for all of them on the GPU, "
            "and it puts fewer there where that is too much."
        )
    if "ctx-size" in settings.left_open:
        yield (
            "llama.cpp chooses the context itself (--fit): the figures are for all that the model was "
            "trained for, and it takes less where that is too much."
        )


def _of_model(model: Model) -> Iterator[str]:
    unknown = [tensor.name for tensor in model.tensors if tensor.size_bytes is None]
    if unknown:
        yield (
            f"{len(unknown)} of the tensors, {unknown[0]} first, are in a format that is not known here: "
            "not counted."
        )
    if not model.layers or not model.context_length:
        yield "The file does not say how many layers or how long a context the model has: not all is counted."
    if any(key.startswith(f"{model.architecture}.ssm.") for key in model.values):
        yield "Some of its layers keep a state in place of a cache: counted as if they had a cache."


def _of_options(settings: Settings) -> Iterator[str]:
    for option in settings.not_counted:
        yield f"What --{option} takes is not counted."
    if settings.cache_ram_bytes is None:
        yield "The cache of old prompts has no limit (--cache-ram -1): not counted."
    if settings.split_mode in {"row", "tensor"}:
        yield f"--split-mode {settings.split_mode} is counted as if whole layers were split."
