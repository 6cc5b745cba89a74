"""The mark in each file of a service: whether it is ours, and as we wrote it.  Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

Origin = Literal["ours", "changed", "foreign"]

PLACE = "@MARK@"  # stands in a rendered text, in a comment, where the mark belongs; exactly once
_WORDS = "Made by `goss-supervisor service install`, sha256"
_MARK = re.compile(re.escape(_WORDS) + r" ([0-9a-f]{64})")


def sealed(text: str) -> str:
    """``text`` with its mark in the place of `PLACE`: the digest of the text with an empty one."""
    assert text.count(PLACE) == 1, text
    return text.replace(PLACE, f"{_WORDS} {_digest(text.replace(PLACE, ''))}")


def origin(text: str) -> Origin:
    """Of a file that is there: made by us, made by us and changed by hand since, or another's."""
    marks = _MARK.findall(text)
    if len(marks) != 1:
        return "foreign"
    return "ours" if _digest(_MARK.sub("", text)) == marks[0] else "changed"


def _digest(text: str) -> str:
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()
