"""
What a draft and a projector take of each memory, in addition to their model.  Pure.

Sources, at b11434: common_base_params_to_speculative and common_speculative_init_result in
common/speculative.cpp (the context of a draft has as many tokens as its model's, and as many slots),
create_memory in src/llama-model.cpp (a head inside the model keeps keys and values of its own layers),
load_model in tools/server/server-context.cpp, and mtmd_get_memory_usage in tools/mtmd/mtmd.cpp.

A projector (mmproj) turns images into embeddings of the language model.  In tools/mtmd/clip.cpp all its
tensors go into one buffer of one device, copied and not rearranged (load_tensors; clip_ctx::clip_ctx chooses
the first GPU); one more buffer holds what is between them for an image of the size that it is warmed up with
(reserve_compute_meta, the sizes in load_hparams, the graphs in models/).  How many tensors live at once was
found with the engine itself: docs/models.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt

from ..model.header import TensorInfo
from ..model.metadata import Model, nextn_heads
from ..options.option_types import OptionValue
from .accounts import RAM, Account, Figure, Ledger
from .context import trunk
from .memory_settings import Reader
from .verdict import size
from .weights import layer_of

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


DRAFT_FILE, PROJECTOR_FILE = "spec-draft-model", "mmproj"
"""The options that name them."""
# what a draft has options of its own for, which do not follow the model's; the device does
_OWN = {"cache-type-k": "spec-draft-type-k", "cache-type-v": "spec-draft-type-v"}
_OWN_PLACES = {
    "gpu-layers": "spec-draft-ngl",
    "cpu-moe": "spec-draft-cpu-moe",
    "n-cpu-moe": "spec-draft-n-cpu-moe",
    "override-tensor": "spec-draft-override-tensor",
}
_FOLLOWING = {"device": "spec-draft-device"}
AccountOf = Callable[[Model, Mapping[str, OptionValue]], Ledger]


@dataclass(frozen=True, slots=True)
class Companions:
    """What files besides the model's say of themselves; None where there is no such file."""

    draft: Model | None = None
    projector: Model | None = None


ALONE = Companions()


def with_companions(
    ledger: Ledger,
    model: Model,
    beside: Companions,
    options: Mapping[str, OptionValue],
    account_of: AccountOf,
) -> Ledger:
    """
    ``ledger`` with all that goes with ``model`` among what is other, memory by memory.  ``account_of`` counts
    a model that is launched alone with other options.
    """
    settings = ledger.settings
    assert settings is not None
    if beside.draft:
        draft = account_of(beside.draft, draft_options(options, in_file=True))
        if beside.draft.architecture.endswith("-assistant"):  # it reads what its model keeps
            draft = replace(
                draft, accounts=tuple(replace(each, context=Figure(0)) for each in draft.accounts)
            )
        ledger = _with_draft(ledger, draft, "the draft model")
    elif settings.loads_heads and nextn_heads(model):
        head = head_of(model)
        draft = account_of(head, draft_options(options, in_file=False))
        draft = replace(draft, accounts=tuple(replace(each, weights=Figure(0)) for each in draft.accounts))
        ledger = _with_draft(ledger, draft, "the context and buffer of the head for several tokens")
    if beside.projector:
        ledger = _with_projector(ledger, beside.projector, Reader(options))
    return ledger


def draft_options(options: Mapping[str, OptionValue], *, in_file: bool) -> Mapping[str, OptionValue]:
    """The options of a draft as if it were served alone; a head inside a model is placed as that is."""
    own = {**_OWN, **(_OWN_PLACES if in_file else {})}
    following = _FOLLOWING if in_file else {}
    without = {*own, *own.values(), *following.values(), DRAFT_FILE, PROJECTOR_FILE, "spec-type"}
    shared = {name: value for name, value in options.items() if name not in without}
    said = {name: options[of] for name, of in {**own, **following}.items() if of in options}
    return {**shared, **said, "cache-ram": 0, "ctx-checkpoints": 0}


def head_of(model: Model) -> Model:
    """The heads for multi-token prediction as a model of their own, without weights: those are counted."""
    first, name = trunk(model), model.architecture
    values = {
        key: value[first:] if isinstance(value, tuple) and len(value) == model.layers else value
        for key, value in model.values.items()
    }
    values |= {
        f"{name}.block_count": (model.layers or 0) - first,
        f"{name}.nextn_predict_layers": 0,
        f"{name}.full_attention_interval": 1,
    }
    tensors = tuple(
        _moved(tensor, first) for tensor in model.tensors if layer_of(tensor.name, first) >= first
    )
    return replace(model, values=values, tensors=tensors)


def _moved(tensor: TensorInfo, first: int) -> TensorInfo:
    layer = layer_of(tensor.name, -1)
    if layer < 0:
        return tensor
    rest = tensor.name.split(".", 2)[2]
    return replace(tensor, name=f"blk.{layer - first}.{rest}")


def _with_draft(ledger: Ledger, draft: Ledger, what: str) -> Ledger:
    """The process and the runtime of a GPU are there already."""
    taken = [_of_draft(each) for each in draft.accounts]
    accounts = tuple(_plus(each, *more) for each, more in zip(ledger.accounts, taken, strict=True))
    total = sum(needed for needed, _ in taken)
    notes = (*ledger.notes, *draft.notes, f"{what} takes {size(total)} of that")
    return replace(ledger, accounts=accounts, notes=tuple(dict.fromkeys(notes)))


def _of_draft(account: Account) -> tuple[int, int]:
    """The bytes that it needs of this memory, and how many of them are anonymous."""
    other = account.other.bytes
    return account.needed_bytes - other, max(0, account.anonymous_bytes - other)


def _plus(account: Account, needed_bytes: int, anonymous_bytes: int) -> Account:
    other = Figure(account.other.bytes + needed_bytes, account.other.source)
    return replace(account, other=other, anonymous_bytes=account.anonymous_bytes + anonymous_bytes)


def _with_projector(ledger: Ledger, projector: Model, read: Reader) -> Ledger:
    """
    All of it is on one device, which has nothing to do with where the layers are.  Its buffer grows with the
    first large picture, and stays so.
    """
    settings = ledger.settings
    found = projector_bytes(
        projector,
        flash=settings is None or settings.flash,
        most_tokens=read.integer("image-max-tokens", 0) or None,
    )
    total, place = found.weights + found.largest, _projector_place(ledger, read)
    accounts = tuple(
        _plus(each, total, total) if each.pool.name == place else each for each in ledger.accounts
    )
    where = "in RAM" if place == RAM else f"on {place}"
    less = f", {size(found.largest - found.compute)} of it from the first large image on"
    notes = [
        *ledger.notes,
        f"the projector takes {size(total)} {where}{less * (found.largest > found.compute)}",
    ]
    if not found.is_known:
        notes.append(
            "The buffer of this kind of projector was not measured; for sound, only the weights are counted."
        )
    return replace(ledger, accounts=accounts, notes=tuple(notes))


def _projector_place(ledger: Ledger, read: Reader) -> str:
    """The name of a pool: mtmd takes the device that is named, else the first one (common/arg.cpp)."""
    named = read.text("mmproj-device", "") or read.text("device", "").split(",")[0].strip()
    gpus = [each.pool.name for each in ledger.accounts if each.pool.name != RAM and not each.pool.worker]
    if not read.flag("mmproj-offload", default=True) or named == "none" or not gpus:
        return RAM
    return named if named in gpus else gpus[0]
