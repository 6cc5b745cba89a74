"""The names that an error suggests."""

from __future__ import annotations

import pytest

from supervisor.errors import similar_names

NAMES = ("demo", "gpt-oss-20b", "gpt-oss-120b", "rtx4060ti-oculink", "vllm", "flash-attn", "cpu-moe")


@pytest.mark.parametrize(
    ("word", "similar"),
    [
        ("dmeo", ["demo"]),
        ("Gpt-Oss", ["gpt-oss-20b", "gpt-oss-120b"]),
        ("rtx4060", ["rtx4060ti-oculink"]),
        ("flash", ["flash-attn"]),
        ("llama", []),
        ("gpu-memory", []),
        ("foo", []),
        ("", []),
    ],
)
def test_a_name_is_suggested_that_may_have_been_meant_and_no_other(word, similar):
    assert similar_names(word, NAMES, 3) == similar
