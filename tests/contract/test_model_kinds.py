"""The table of element formats, against the real llama.cpp's own."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from supervisor.model.gguf import KINDS

pytestmark = pytest.mark.engine
ENGINE = os.environ.get("GOSS_TEST_LLAMA_SERVER", "")


def library():
    found = sorted(Path(ENGINE).parent.glob("libggml-base.*")) if ENGINE else []
    if not found:
        pytest.skip("no GOSS_TEST_LLAMA_SERVER with ggml as a library beside it")
    ggml = ctypes.CDLL(str(found[0]))
    ggml.ggml_type_name.restype = ctypes.c_char_p
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    return ggml


def test_ggml_knows_the_same_kinds_with_the_same_blocks():
    ggml = library()
    count = max(KINDS) + 1
    asked = [
        (ggml.ggml_type_name(n).decode(), ggml.ggml_blck_size(n), ggml.ggml_type_size(n))
        for n in range(count)
    ]
    known = {n: answer for n, answer in enumerate(asked) if answer[1]}  # dropped ones have blocks of nothing
    assert known == {n: (k.name, k.block_elements, k.block_bytes) for n, k in KINDS.items()}
