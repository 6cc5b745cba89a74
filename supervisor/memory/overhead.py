"""What llama-server takes of the RAM beside its buffers.  Pure."""

from __future__ import annotations

from .compute import Work

_MIB = 1024**2
_PROCESS_BYTES = 15 * _MIB  # code and heap of a server without a model
_TOKEN_BYTES = 400  # of tables for each token of the vocabulary, with its merges
_Q8_BYTES, _Q8_ELEMENTS = 34, 32
_F32 = 4


def process_bytes(work: Work) -> int:
    """
    The process, its vocabulary, the logits that it hands out, what the CPU rewrites a batch to, old prompts.

    The first two were measured: RssAnon of b11434 with true-shape models (docs/memory.md).  A prompt cache
    without a limit counts nothing, which the ledger says in a note.
    """
    vocabulary = work.model.vocabulary_size or 0
    tables = _PROCESS_BYTES + vocabulary * _TOKEN_BYTES
    logits = work.settings.outputs * vocabulary * _F32
    return tables + logits + _rewritten_bytes(work) + (work.settings.cache_ram_bytes or 0)


def _rewritten_bytes(work: Work) -> int:
    """The CPU multiplies matrices with a batch in Q8: ggml_graph_plan in ggml/src/ggml-cpu/ggml-cpu.c."""
    experts = work.model.experts_used or 1
    rows = max(
        (
            weight.tensor.shape[0] * (experts if len(weight.tensor.shape) > 2 else 1)
            for repacked in (True, False)
            for weight in work.on_cpu(repacked=repacked)
        ),
        default=0,
    )
    return rows * work.settings.ubatch * _Q8_BYTES // _Q8_ELEMENTS
