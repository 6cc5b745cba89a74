"""What a user wants a model for, and which profiles suit that.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from ..options.option_types import OptionValue
from .definition import Profile
from .matching import is_for_chats

Purpose = Literal["chat", "code", "embedding"]

# By a part of the repository's name, with what the maker's model card says for agents that write code.
# Sources: the cards of Qwen/Qwen3.6-35B-A3B ("precise coding tasks") and zai-org/GLM-4.7-Flash ("Terminal
# Bench, SWE Bench Verified"); those of gpt-oss and Qwen3.8-27B have one setting for everything.
_FOR_CODE: Mapping[str, Mapping[str, OptionValue]] = {
    "gpt-oss": {},
    "Qwen3.6-35B-A3B": {"temp": 0.6, "presence-penalty": 0.0},
    "Qwen3.8-27B": {},
    "GLM-4.7-Flash": {"temp": 0.7, "top-p": 1.0},
}
_NONE: Mapping[str, OptionValue] = MappingProxyType({})


def suitable(purpose: Purpose, profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    """
    In their order.  Where none is known to be good at code, any for chats will do.

    The demo is for chats where nothing else is.
    """
    if purpose == "embedding":
        return tuple(each for each in profiles if each.role == "embedding")
    chats = tuple(each for each in profiles if is_for_chats(each))
    chats = tuple(each for each in chats if not each.model.demo) or chats
    coders = tuple(each for each in chats if _written_for(each))
    return coders if coders and purpose == "code" else chats


def options_for(purpose: Purpose, profile: Profile) -> Mapping[str, OptionValue]:
    """What the model's maker recommends for this purpose instead of the profile's options."""
    return _FOR_CODE[_written_for(profile)] if purpose == "code" and _written_for(profile) else _NONE


def _written_for(profile: Profile) -> str:
    """The row of `_FOR_CODE`, or nothing."""
    return next((part for part in _FOR_CODE if part in (profile.model.repo or "")), "")
