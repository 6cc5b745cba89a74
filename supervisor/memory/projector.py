"""
What a projector (mmproj) takes, which turns images into embeddings of the language model.  Pure.

Sources, at b11434, in tools/mtmd/clip.cpp: all its tensors go into one buffer of one device, copied and not
rearranged (load_tensors; clip_ctx::clip_ctx chooses the first GPU); one more buffer holds what is between
them for an image of the size that it is warmed up with (reserve_compute_meta, the sizes in load_hparams, the
graphs in models/).  How many tensors live at once was found with the engine itself: docs/models.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt

from ..model.metadata import Model

_F32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Eyes:
    """The dimensions of its network; ``patches`` of an image, of ``pixels`` numbers each."""

    patches: int
    pixels: int
    embedding: int
    feed_forward: int
    heads: int
    text: int
    deepstack: int


@dataclass(frozen=True, slots=True)
class ProjectorBytes:
    """
    All on one device.  ``compute`` is there from the start; ``largest`` is what it becomes with the largest
    image that the engine lets through, and it stays so.  ``is_known`` False: the kind was not measured, or it
    takes sound as well, for which only the weights are counted.
    """

    weights: int
    compute: int
    largest: int
    is_known: bool


def _plain(eyes: Eyes) -> int:
    return max(5 * eyes.embedding, 3 * eyes.embedding + eyes.feed_forward)


def _gemma4(eyes: Eyes) -> int:
    return 3 * (eyes.embedding + eyes.feed_forward) + eyes.pixels


def _pixtral(eyes: Eyes) -> int:
    return 4 * eyes.embedding + 3 * eyes.feed_forward + eyes.pixels // 3


def _qwen3(eyes: Eyes) -> int:
    """With what some layers give to the first layers of the language model (deepstack)."""
    wide, levels = eyes.embedding, eyes.deepstack
    given = levels * wide if eyes.text < 4 * wide else (levels + 1) * eyes.text // 4
    return max(6 * wide, 2 * wide + eyes.feed_forward) + eyes.pixels + (given if levels else 0)


def _qwen25(eyes: Eyes) -> int:
    """With the mask of its windows, as it is and in F16.  Of the one shape that was published."""
    return eyes.patches * 3 // 2 + 4 * eyes.embedding + eyes.feed_forward + eyes.pixels


@dataclass(frozen=True, slots=True)
class _Kind:
    """
    ``elements`` of each patch live at once.  Images are ``warm`` tokens a side at the start, and ``most``
    tokens at the most; 0: all have the size that the file says.  ``merge`` patches a side make a token.
    """

    elements: Callable[[Eyes], int]
    warm: int = 0
    most: int = 0
    merge: int = 2


_KINDS: Mapping[str, _Kind] = {
    "gemma3": _Kind(_plain),
    "idefics3": _Kind(_plain),
    "internvl": _Kind(_plain),
    "lfm2": _Kind(_plain, 16, 256),
    "gemma4v": _Kind(_gemma4, 16, 1120, 3),
    "pixtral": _Kind(_pixtral, 16, 1024, 1),
    "qwen3vl_merger": _Kind(_qwen3, 46, 4096),
    "qwen2.5vl_merger": _Kind(_qwen25, 46, 4096),
}
_OTHER = _Kind(_pixtral)


def projector_bytes(projector: Model, *, flash: bool, most_tokens: int | None = None) -> ProjectorBytes:
    """``projector`` is what the file's header says, ``most_tokens`` what ``--image-max-tokens`` does."""
    name = projector.values.get("clip.vision.projector_type") or projector.values.get("clip.projector_type")
    kind = _KINDS.get(str(name), _OTHER)
    hears = bool(projector.values.get("clip.has_audio_encoder"))
    warm, most = (
        _compute(projector, kind, patches, flash=flash) for patches in _patches(projector, kind, most_tokens)
    )
    weights = projector.weights_bytes or projector.size_bytes
    return ProjectorBytes(weights, warm, most, is_known=kind is not _OTHER and not hears)


def _patches(projector: Model, kind: _Kind, most_tokens: int | None) -> tuple[int, int]:
    """Of the image that it is warmed up with, and of the largest."""
    number = projector.number
    if not kind.warm:
        side = (number("vision.image_size") or 0) // (number("vision.patch_size") or 1)
        return side**2, side**2
    told = number("vision.spatial_merge_size") or number("vision.projector.scale_factor")
    merge, most = told or kind.merge, most_tokens or kind.most
    warm = min(kind.warm, max(1, isqrt(most)))
    if kind.warm**2 == kind.most:
        warm = isqrt(most)
    return (warm * merge) ** 2, most * merge**2


def _compute(projector: Model, kind: _Kind, patches: int, *, flash: bool) -> int:
    number = projector.number
    eyes = Eyes(
        patches=patches,
        pixels=3 * (number("vision.patch_size") or 0) ** 2,
        embedding=number("vision.embedding_length") or 0,
        feed_forward=number("vision.feed_forward_length") or 0,
        heads=number("vision.attention.head_count") or 0,
        text=number("vision.projection_dim") or 0,
        deepstack=sum(each.name.endswith(".fc1.weight") for each in projector.tensors),
    )
    elements, wide = kind.elements(eyes), eyes.embedding
    if not flash:  # each patch's score of each other, head by head
        mask = patches if kind.elements is _qwen25 else 0
        elements = max(elements, eyes.heads * patches + mask + wide * (6 + eyes.deepstack) + eyes.pixels)
    return patches * elements * _F32_BYTES
