"""What is known of a failure: in a word, in a sentence, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``message`` is one sentence; ``hint`` says what to do; ``retryable``: the same plan may yet succeed."""

    kind: str
    message: str
    hint: str = ""
    retryable: bool = False
