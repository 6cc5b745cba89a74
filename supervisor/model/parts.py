"""The files of a split model: whether they belong together, and the model that they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..errors import VerificationFailed
from .header import Header
from .model import Model, Part
from .values import Value

_HINT = "Download all parts again, from one place."
_SAME = ("split.count", "split.tensors.count", "general.architecture")  # where a part has it


def part_count(header: Header) -> int:
    """How many files the model has that this header is one of."""
    count = header.values.get("split.count")
    return count if isinstance(count, int) and count > 1 else 1


def join(files: Sequence[tuple[Part, Header]]) -> Model:
    """
    The model of all its files, in order: each must be the part that it is taken for, of the same model.

    The first may hold no tensors, and the others no keys but their own place.  Raises VerificationFailed.
    """
    (first, header), *others = files
    architecture = header.values.get("general.architecture")
    if not isinstance(architecture, str):
        raise VerificationFailed(
            f"The model {first.name} is a GGUF without general.architecture, so no model."
        )
    if part_count(header) > 1:
        _refuse_other_place(first, header, 0)
    for number, (part, other) in enumerate(others, start=1):
        _refuse_other_place(part, other, number)
        _refuse_stranger(part, other.values, header.values)
    tensors = tuple(tensor for _, each in files for tensor in each.tensors)
    _refuse_other_tensors(first, header, [tensor.name for tensor in tensors])
    return Model(architecture, header.values, tensors, tuple(part for part, _ in files))


def _refuse_other_place(part: Part, header: Header, number: int) -> None:
    found = header.values.get("split.no")
    if found != number:
        says = "does not say which part it is" if found is None else f"says that it is split.no {found}"
        raise VerificationFailed(
            f"The model's part {part.name} {says}; split.no {number} is due.", hint=_HINT
        )


def _refuse_stranger(part: Part, values: Mapping[str, Value], due: Mapping[str, Value]) -> None:
    for key in _SAME:
        if key in values and values[key] != due.get(key):
            raise VerificationFailed(
                f"The part {part.name} is of another model than the first one: it has another {key}.",
                hint=_HINT,
            )


def _refuse_other_tensors(first: Part, header: Header, names: Sequence[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise VerificationFailed(
            f"The parts of the model {first.name} do not belong together: two have {twice!r}.", hint=_HINT
        )
    due = header.values.get("split.tensors.count", len(names))
    if part_count(header) > 1 and due != len(names):
        raise VerificationFailed(
            f"The parts of the model {first.name} do not belong together: "
            f"they have {len(names)} tensors, {due} are due.",
            hint=_HINT,
        )
