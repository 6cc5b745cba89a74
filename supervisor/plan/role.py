"""
What a model is good for: what the profile says, what its options tell, what its header tells.  Pure.

llama-server (b11434) answers embeddings and reranking only with its options for them, so a model of such a
role gets them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..options.option_types import OptionValue
from ..profile.definition import Profile, Role

if TYPE_CHECKING:
    from ..model.metadata import Model  # the daemon reads no headers

_OPTIONS: Final[Mapping[Role, str]] = {"embedding": "embedding", "rerank": "rerank"}
_VARIABLES: Final[Mapping[str, Role]] = {
    "LLAMA_ARG_EMBEDDINGS": "embedding",
    "LLAMA_ARG_RERANKING": "rerank",
}
_ENCODERS: Final = frozenset(
    (
        *("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3"),
        *("eurobert", "gemma-embedding", "llama-embed", "t5encoder"),
    )
)
"""Architectures that write nothing (src/llama-arch.cpp of b11434)."""
_RANK: Final = 4  # enum llama_pooling_type; 1 to 3 are ways to one embedding


def roles_of(profile: Profile, model: Model | None = None) -> tuple[Role, ...]:
    """
    The role first, then what the options make llama-server answer besides.  Empty where nothing tells:
    it is taken for chat then.  ``model`` is None while its header is not at hand.
    """
    by_options = _by_options(profile.server, profile.env)
    first = [profile.role] if profile.role else []
    by_header = [_by_header(model)] if model is not None and not first and not by_options else []
    return tuple(dict.fromkeys((*first, *by_options, *by_header)))


def with_role(profile: Profile, model: Model) -> Profile:
    """
    The profile with the role that it has, and with the option of llama-server that the role needs.  A way of
    pooling alone is not enough for it.  Notes say what llama-server will refuse.
    """
    role, *_ = roles_of(profile, model)
    option = _OPTIONS.get(role)
    profile = replace(profile, role=role, notes=(*profile.notes, *_refused(profile, role, model)))
    if option is None or option in profile.server or role in _by_variables(profile.env):
        return profile
    return replace(profile, server={**profile.server, option: True})


def _refused(profile: Profile, role: Role, model: Model) -> Iterator[str]:
    """llama-server makes one embedding of a text by a way of pooling, which models for chat do not name."""
    known = "pooling" in profile.server or profile.env.get("LLAMA_ARG_POOLING")
    if role == "embedding" and not known and _by_header(model) == "chat":
        yield (
            "the model's file names no pooling, so llama-server will refuse /v1/embeddings; "
            "set server.pooling, to mean or last for example"
        )


def _by_variables(env: Mapping[str, str]) -> set[Role]:
    return {_VARIABLES[name] for name, value in env.items() if name in _VARIABLES and value not in {"", "0"}}


def _by_options(options: Mapping[str, OptionValue], env: Mapping[str, str]) -> tuple[Role, ...]:
    pooling, said = options.get("pooling"), _by_variables(env)
    if options.get("rerank") is True or "rerank" in said or pooling == "rank":
        return ("rerank",)
    if options.get("embedding") is True or "embedding" in said or pooling in {"mean", "cls", "last"}:
        return ("embedding",)
    return ()


def _by_header(model: Model) -> Role:
    pooling = model.number("pooling_type") or 0
    if pooling == _RANK:
        return "rerank"
    return "embedding" if pooling or model.architecture in _ENCODERS else "chat"
