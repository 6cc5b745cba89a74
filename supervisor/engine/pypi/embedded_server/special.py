"""The options that do more than set one attribute, as llama.cpp's common/arg.cpp treats them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .options import BadValue, Params, integer, set_attribute, text_of, words_of

EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"  # LLM_FFN_EXPS_REGEX of common.h
THINKING = {"on": 1, "off": 0, "auto": -1}


def threads(said: str) -> int:
    return integer(said) if integer(said) > 0 else os.cpu_count() or 1


def seed(said: str) -> int:
    return integer(said) % 2**32  # -1 becomes LLAMA_DEFAULT_SEED, which means random


def priority(said: str) -> int:
    if not -1 <= (level := integer(said)) <= 3:
        raise BadValue("invalid value")
    return level


def sleep_seconds(said: str) -> int:
    if (seconds := integer(said)) == 0 or seconds < -1:
        raise BadValue("invalid value: cannot be 0 or less than -1")
    return seconds


def gpu_layers(said: str) -> int:
    return {"auto": -1, "all": -2}.get(said) or integer(said)


def device(params: Params, said: str) -> None:
    if said != "none":
        raise BadValue(f"invalid device: {said}")
    params.n_gpu_layers = 0


def timeout(params: Params, said: str) -> None:
    params.timeout_read = params.timeout_write = integer(said)


def verbose(params: Params, _: str) -> None:
    params.verbosity = 2**31 - 1


def keys(params: Params, said: str) -> None:
    params.api_keys = [*params.api_keys, *words_of(said)]


def key_file(params: Params, said: str) -> None:
    lines = text_of(said).splitlines()
    params.api_keys = [*params.api_keys, *(line for line in lines if line and not line.startswith("#"))]


def buffer_overrides(params: Params, said: str) -> None:
    params.tensor_buft_overrides = ",".join(part for part in (params.tensor_buft_overrides, said) if part)


def experts_on_cpu(params: Params, _: str) -> None:
    buffer_overrides(params, f"{EXPERTS}=CPU")


def expert_layers_on_cpu(params: Params, said: str) -> None:
    if (count := integer(said)) < 0:
        raise BadValue("invalid value")
    buffer_overrides(params, ",".join(rf"blk\.{layer}{EXPERTS}=CPU" for layer in range(count)))


def template_json(params: Params, said: str) -> None:
    try:
        given = json.loads(said)
    except ValueError as error:
        raise BadValue(f"parse error: {error}") from None
    if not isinstance(given, dict):
        raise BadValue("parse error: not a JSON object")
    template_arguments(params, given)


def template_arguments(params: Params, given: Mapping[str, Any]) -> None:
    rendered = {key: json.dumps(each) for key, each in given.items()}
    params.default_template_kwargs = {**params.default_template_kwargs, **rendered}


def effort(params: Params, said: str) -> None:
    kept = {key: each for key, each in params.default_template_kwargs.items() if key != "reasoning_effort"}
    params.default_template_kwargs = kept
    if said != "default":
        template_arguments(params, {"reasoning_effort": said})


def reasoning(params: Params, said: str) -> None:
    if said not in THINKING:
        raise BadValue(f"error: unknown value for --reasoning: '{said}'")
    set_attribute(params, "enable_reasoning", THINKING[said])
    if said != "auto":
        template_arguments(params, {"enable_thinking": said == "on"})


def preserve_reasoning(params: Params, said: str) -> None:
    template_arguments(params, {"preserve_reasoning": said == "on"})
    params.preserve_reasoning_specified = True
