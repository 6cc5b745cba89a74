"""The files of true size: their figures are those of the published models."""

from __future__ import annotations

import pytest

from supervisor.errors import SupervisorError
from supervisor.model.demo import tensors
from supervisor.model.gguf import NAMED
from supervisor.model.open import open_model
from tests.fakes import shapes

from ..fakes.shapes import SHAPES, TOKENS, write_sparse


def holes_here(folder):
    try:
        shapes._demand_holes(folder)
    except SupervisorError:
        return False
    return True


@pytest.mark.parametrize(
    ("size", "count", "total_bytes"), [("20b", 459, 12_096_558_336), ("120b", 687, 63_374_323_968)]
)
def test_count_and_bytes_of_the_tensors_are_the_published_ones(size, count, total_bytes):
    found = list(tensors(SHAPES[size], TOKENS, dense=NAMED["q8_0"]))
    assert len({tensor.name for tensor in found}) == len(found) == count
    assert sum(tensor.size_bytes for tensor in found) == total_bytes


def test_experts_of_a_layer_have_the_published_size():
    found = [
        t for t in tensors(SHAPES["120b"], TOKENS, dense=NAMED["q8_0"]) if t.name.startswith("blk.0.ffn_")
    ]
    assert sum(t.size_bytes for t in found if "exps" in t.name) == 1_696_481_280


def test_the_vocabulary_has_the_real_counts():
    tokens, merges = shapes._tokens(), shapes._merges()
    assert len(set(tokens)) == len(tokens) == 201_088
    assert len(set(merges)) == len(merges) == 446_189
    assert all(merge.count(" ") == 1 for merge in merges)


def test_a_file_of_true_size_takes_little_disk(tmp_path):
    if not holes_here(tmp_path):
        pytest.skip("no sparse files here")
    path = tmp_path / "20b.gguf"
    write_sparse(path, "20b")
    status = path.stat()
    assert status.st_size > 12_096_558_336
    assert status.st_blocks * 512 < 20_000_000
    assert open_model(path).architecture == "gpt-oss"
    path.unlink()  # pytest keeps folders; a copy of this one would fill a disk


def test_a_folder_that_is_none_is_an_error_of_ours(tmp_path):
    with pytest.raises(SupervisorError, match="cannot be written"):
        write_sparse(tmp_path / "missing" / "x.gguf", "20b")
