"""
llama-server's presets, such as ``--gpt-oss-20b-default``: one option that names a model and sets several
others.

The values are those of b11434 (common/arg.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_FIM = "--port 8012 --ubatch-size 1024 --batch-size 1024 --ctx-size 0 --cache-reuse 256"
_GPT_OSS = (
    "--port 8013 --ubatch-size 2048 --batch-size 32768 --parallel 2 --ctx-size 262144 --temp 1.0 --top-p 1.0 "
    "--top-k 0 --min-p 0.01 --jinja"
)
_VISION = "--port 8014 --ctx-size 0 --jinja"
_DRAFT = "--spec-draft-hf ggml-org/Qwen2.5-Coder-0.5B-Q8_0-GGUF:Q8_0"


def _coder(size: str) -> str:
    return f"-hf ggml-org/Qwen2.5-Coder-{size}-Q8_0-GGUF -hff qwen2.5-coder-{size.lower()}-q8_0.gguf {_FIM}"


_TEXTS = {
    "embd-gemma-default": "-hf ggml-org/embeddinggemma-300M-qat-q4_0-GGUF "
    "-hff embeddinggemma-300M-qat-Q4_0.gguf "
    "--port 8011 --ubatch-size 2048 --batch-size 2048 --parallel 32 --ctx-size 65536 --embedding",
    "fim-qwen-1.5b-default": _coder("1.5B"),
    "fim-qwen-3b-default": _coder("3B"),
    "fim-qwen-7b-default": _coder("7B"),
    "fim-qwen-7b-spec": f"{_coder('7B')} {_DRAFT}",
    "fim-qwen-14b-spec": f"{_coder('14B')} {_DRAFT}",
    "fim-qwen-30b-default": "-hf ggml-org/Qwen3-Coder-30B-A3B-Instruct-Q8_0-GGUF "
    f"-hff qwen3-coder-30b-a3b-instruct-q8_0.gguf {_FIM}",
    "gpt-oss-20b-default": f"-hf ggml-org/gpt-oss-20b-GGUF -hff gpt-oss-20b-mxfp4.gguf {_GPT_OSS}",
    "gpt-oss-120b-default": f"-hf ggml-org/gpt-oss-120b-GGUF {_GPT_OSS}",
    "vision-gemma-4b-default": f"-hf ggml-org/gemma-3-4b-it-qat-GGUF {_VISION}",
    "vision-gemma-12b-default": f"-hf ggml-org/gemma-3-12b-it-qat-GGUF {_VISION}",
}
PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(text.split()) for name, text in _TEXTS.items()}
)
"""The option's name, without dashes, and the words that it stands for."""
