"""The smallest request that proves that a model answers; a server may be up long before, or without."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """The smallest request that proves that a model answers: a POST of this JSON ``body``."""

    path: str
    body: str


def question_for(model: str, role: str = "chat") -> Question | None:
    """What a model of that role is asked to prove that it answers; None where nothing small can be asked."""
    match role:
        case "chat":
            messages = [{"role": "user", "content": "Hi"}]
            asked = {"model": model, "messages": messages, "max_tokens": 1}
            return Question("/v1/chat/completions", json.dumps(asked))
        case "embedding":
            return Question("/v1/embeddings", json.dumps({"model": model, "input": "Hi"}))
        case "rerank":
            asked = {"model": model, "query": "Hi", "documents": ["Hi"]}
            return Question("/v1/rerank", json.dumps(asked))
        case _:
            return None
