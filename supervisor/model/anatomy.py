"""What of a model takes how much room: by the part that tensors play, and by their format.  Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping

from .header import TensorInfo
from .metadata import Model

# Source: LLM_TENSOR_NAMES in src/llama-arch.cpp; the experts are what --cpu-moe moves (common/common.h).
_SHARES = (
    ("experts", re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch)?exps\b")),
    ("feed forward", re.compile(r"\.ffn_|\.post_ffw|\.post_attention_norm")),
    ("attention", re.compile(r"\.attn_")),
    ("embeddings", re.compile(r"^(token_embd|per_layer_token_embd|token_types|position_embd)\b")),
    ("output", re.compile(r"^output")),
)


def shares(model: Model) -> Mapping[str, int | None]:
    """Bytes of the experts, of attention and so on, none that is empty; None where a size is unknown."""
    return _sums(model, _share)


def formats(model: Model) -> Mapping[str, int | None]:
    """Bytes of the tensors in each format, the most first; all unknown formats are one."""
    found = _sums(model, lambda tensor: tensor.kind.name if tensor.kind else "unknown")
    return dict(sorted(found.items(), key=lambda item: -(item[1] or 0)))


def _share(tensor: TensorInfo) -> str:
    return next((name for name, pattern in _SHARES if pattern.search(tensor.name)), "other")


def _sums(model: Model, name_of: Callable[[TensorInfo], str]) -> dict[str, int | None]:
    sums: Counter[str] = Counter()
    unknown = set()
    for tensor in model.tensors:
        name = name_of(tensor)
        sums[name] += tensor.size_bytes or 0
        if tensor.size_bytes is None:
            unknown.add(name)
    order = [name for name, _ in _SHARES]
    names = sorted(sums, key=lambda name: order.index(name) if name in order else len(order))
    return {name: None if name in unknown else sums[name] for name in names}
