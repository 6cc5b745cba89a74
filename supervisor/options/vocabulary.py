"""The meanings that a profile may use, and what people write for them."""

from __future__ import annotations

from collections.abc import Mapping

from .meanings import SECRETS, canonical, describe, nearest, pinned
from .settle import Said, hear, settle
from .types import Folded, OptionValue

__all__ = ["SECRETS", "canonical", "describe", "nearest", "normalise", "pinned"]


def normalise(options: Mapping[str, OptionValue]) -> Folded:
    """
    Options as users write them, ``no_mmap: true`` or ``-ngl: 99``, keyed by canonical name.

    Unknown keys, values that do not fit, and two spellings of one meaning are problems; the options
    of the result are those without one.
    """
    heard = [hear(key, value) for key, value in options.items()]
    said = [each for each in heard if isinstance(each, Said)]
    return settle(said, (each for each in heard if not isinstance(each, Said)), last_wins=False)
