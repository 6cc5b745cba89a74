"""The table of element formats, against our own writer; tests/contract/test_model_kinds.py asks the engine."""

from __future__ import annotations

import pytest

from supervisor.model.gguf import KINDS


def test_every_kind_stands_under_its_own_number_and_name():
    assert all(kind.ggml_id == number for number, kind in KINDS.items())
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)


def test_a_row_is_whole_blocks():
    assert KINDS[39].row_bytes(2880) == 1530
    with pytest.raises(ValueError, match="33 elements are no multiple of 32, a block of q8_0"):
        KINDS[8].row_bytes(33)
