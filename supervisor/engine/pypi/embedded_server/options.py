"""
Option types: names, row of the help, and how a value is set in CommonParams.

Options that set more than one attribute follow llama.cpp's common/arg.cpp.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from pathlib import Path
from typing import Any

Params = Any  # a CommonParams; xllamacpp ships no types
Apply = Callable[[Params, str], None]
Read = Callable[[str], object]

COLUMN = 40  # llama.cpp's help: options left of it, text right of it
GAP = 3  # and the text on the next line unless so many spaces are left between
WIDTH = 70


class BadArgument(ValueError):
    """A value that the option does not take; the text is what llama-server would say."""


@dataclass(frozen=True, slots=True)
class Option:
    """
    One row of the help.  Without ``hint`` the option takes no value; then ``apply`` gets ``on`` or ``off``.

    ``path`` is the dotted attribute of CommonParams behind it; a wheel that lacks it does not get the option.
    """

    names: tuple[str, ...]
    path: str
    text: str
    apply: Apply
    hint: str = ""
    off: tuple[str, ...] = ()
    env: str = ""
    shows_default: bool = False
    inverted: bool = False

    def row(self, params: Params) -> str:
        """This option as llama-server's help prints it."""
        left = ", ".join((*self.names, *self.off)) + (f" {self.hint}" if self.hint else "")
        lines = [part for line in self.text.splitlines() for part in textwrap.wrap(line, WIDTH)]
        if self.shows_default and (shown := self._default(params)):
            lines.append(f"(default: {shown})")
        if self.env:
            lines.append(f"(env: {self.env})")
        head = left if len(left) > COLUMN - GAP else left.ljust(COLUMN) + lines.pop(0)
        return "\n".join([head, *(" " * COLUMN + line for line in lines)])

    def _default(self, params: Params) -> str:
        current = attribute(params, self.path)
        if isinstance(current, Enum | str | list | set | dict):
            return ""  # a number that means a word, or nothing that fits in a line
        if isinstance(current, bool):
            return str(current != self.inverted).lower()
        return f"{current:.2f}" if isinstance(current, float) else str(current)


def attribute(params: Params, path: str) -> Any:  # noqa: ANN401 - xllamacpp ships no types
    return reduce(getattr, path.split("."), params)


def set_attribute(params: Params, path: str, value: object) -> None:
    *parents, name = path.split(".")
    owner = reduce(getattr, parents, params)
    current = getattr(owner, name)
    setattr(owner, name, type(current)(value) if isinstance(current, Enum) else value)


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadArgument("stoi") from None


def decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadArgument("stof") from None


def words_of(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def text_of(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadArgument(f"error: failed to open file '{path}'") from None


def value(
    spelled: str, path: str, text: str, read: Read = integer, *, hint: str = "N", mark: int = 0
) -> Option:
    """An option with a value.  ``mark`` is the bit that says that the user chose this sampling value."""

    def apply(params: Params, argument: str) -> None:
        set_attribute(params, path, read(argument))
        if mark:
            params.sampling.user_sampling_config |= mark

    return Option(tuple(spelled.split()), path, text, apply, hint, shows_default=True)


def number(spelled: str, path: str, text: str, *, mark: int = 0) -> Option:
    return value(spelled, path, text, decimal, mark=mark)


def string(spelled: str, path: str, text: str, hint: str, *, mark: int = 0) -> Option:
    return value(spelled, path, text, str, hint=hint, mark=mark)


def words(spelled: str, path: str, text: str, hint: str, kind: type = list) -> Option:
    return value(spelled, path, text, lambda argument: kind(words_of(argument)), hint=hint)


def choice(spelled: str, path: str, text: str, known: Mapping[str, int | bool], hint: str = "") -> Option:
    def read(argument: str) -> int | bool:
        if argument not in known:
            raise BadArgument(f"error: unknown value for {spelled.rsplit(maxsplit=1)[-1]}: '{argument}'")
        return known[argument]

    return value(spelled, path, text, read, hint=hint or f"{{{','.join(known)}}}")


def switch(spelled: str, path: str, text: str, off: str = "", *, inverted: bool = False) -> Option:
    """A flag, with negative names where ``off`` has some; ``inverted``: the attribute means the opposite."""

    def apply(params: Params, argument: str) -> None:
        set_attribute(params, path, (argument == "on") != inverted)

    names, negatives = tuple(spelled.split()), tuple(off.split())
    return Option(names, path, text, apply, off=negatives, shows_default=True, inverted=inverted)


def custom(
    spelled: str, path: str, text: str, apply: Apply, hint: str = "", *, off: str = "", env: str = ""
) -> Option:
    return Option(tuple(spelled.split()), path, text, apply, hint, tuple(off.split()), env)


EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"  # LLM_FFN_EXPS_REGEX of common.h
THINKING = {"on": 1, "off": 0, "auto": -1}


def threads(argument: str) -> int:
    return integer(argument) if integer(argument) > 0 else os.cpu_count() or 1


def seed(argument: str) -> int:
    return integer(argument) % 2**32  # -1 becomes LLAMA_DEFAULT_SEED, which means random


def priority(argument: str) -> int:
    if not -1 <= (level := integer(argument)) <= 3:
        raise BadArgument("invalid value")
    return level


def sleep_seconds(argument: str) -> int:
    if (seconds := integer(argument)) == 0 or seconds < -1:
        raise BadArgument("invalid value: cannot be 0 or less than -1")
    return seconds


def gpu_layers(argument: str) -> int:
    return {"auto": -1, "all": -2}.get(argument) or integer(argument)


def device(params: Params, argument: str) -> None:
    if argument != "none":
        raise BadArgument(f"invalid device: {argument}")
    params.n_gpu_layers = 0


def timeout(params: Params, argument: str) -> None:
    params.timeout_read = params.timeout_write = integer(argument)


def verbose(params: Params, _: str) -> None:
    params.verbosity = 2**31 - 1


def keys(params: Params, argument: str) -> None:
    params.api_keys = [*params.api_keys, *words_of(argument)]


def key_file(params: Params, argument: str) -> None:
    lines = text_of(argument).splitlines()
    params.api_keys = [*params.api_keys, *(line for line in lines if line and not line.startswith("#"))]


def buffer_overrides(params: Params, argument: str) -> None:
    params.tensor_buft_overrides = ",".join(part for part in (params.tensor_buft_overrides, argument) if part)


def experts_on_cpu(params: Params, _: str) -> None:
    buffer_overrides(params, f"{EXPERTS}=CPU")


def expert_layers_on_cpu(params: Params, argument: str) -> None:
    if (count := integer(argument)) < 0:
        raise BadArgument("invalid value")
    buffer_overrides(params, ",".join(rf"blk\.{layer}{EXPERTS}=CPU" for layer in range(count)))


def template_json(params: Params, argument: str) -> None:
    try:
        given = json.loads(argument)
    except ValueError as error:
        raise BadArgument(f"parse error: {error}") from None
    if not isinstance(given, dict):
        raise BadArgument("parse error: not a JSON object")
    template_arguments(params, given)


def template_arguments(params: Params, given: Mapping[str, Any]) -> None:
    rendered = {key: json.dumps(each) for key, each in given.items()}
    params.default_template_kwargs = {**params.default_template_kwargs, **rendered}


def effort(params: Params, argument: str) -> None:
    kept = {key: each for key, each in params.default_template_kwargs.items() if key != "reasoning_effort"}
    params.default_template_kwargs = kept
    if argument != "default":
        template_arguments(params, {"reasoning_effort": argument})


def reasoning(params: Params, argument: str) -> None:
    if argument not in THINKING:
        raise BadArgument(f"error: unknown value for --reasoning: '{argument}'")
    set_attribute(params, "enable_reasoning", THINKING[argument])
    if argument != "auto":
        template_arguments(params, {"enable_thinking": argument == "on"})


def preserve_reasoning(params: Params, argument: str) -> None:
    template_arguments(params, {"preserve_reasoning": argument == "on"})
    params.preserve_reasoning_specified = True
