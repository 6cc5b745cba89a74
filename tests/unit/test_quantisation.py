"""Which file llama-server would take for -hf owner/name:QUANT."""

import pytest

from supervisor.model.quantisation import best_model, best_projector, quantisations

FILES = (
    "BF16/m-BF16-00001-of-00002.gguf",
    "BF16/m-BF16-00002-of-00002.gguf",
    "imatrix.gguf",
    "m-Q8_0.gguf",
    "m-UD-Q4_K_XL.gguf",
    "mmproj-BF16.gguf",
    "mmproj-F32.gguf",
    "mtp-m-Q4_K_M.gguf",
)


@pytest.mark.parametrize(
    ("quant", "file"),
    [
        ("q8_0", "m-Q8_0.gguf"),
        ("UD-Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
        ("Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
        ("BF16", "BF16/m-BF16-00001-of-00002.gguf"),
        (None, "m-Q8_0.gguf"),
        ("Q4_K", None),
        ("Q4_K_M", None),
    ],
)
def test_a_quantisation(quant, file):
    assert best_model(FILES, quant) == file


@pytest.mark.parametrize(
    ("files", "file"),
    [
        (("m-F16.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"), "m-Q4_K_M.gguf"),
        (("m-F16.gguf", "m-IQ2_M.gguf"), "m-F16.gguf"),
        (("mmproj-F16.gguf", "README.md"), None),
    ],
)
def test_without_one_it_is_the_usual_or_the_first(files, file):
    assert best_model(files, None) == file


def test_what_can_be_named():
    assert quantisations(FILES) == ["BF16", "Q8_0", "Q4_K_XL"]


@pytest.mark.parametrize(
    ("files", "model", "projector"),
    [
        (FILES, "BF16/m-BF16-00001-of-00002.gguf", "mmproj-BF16.gguf"),
        (("mmproj-F16.gguf", "a/mmproj-F32.gguf", "b/mmproj-F16.gguf"), "a/m-Q4_0.gguf", "a/mmproj-F32.gguf"),
        (("a/mmproj-F16.gguf",), "m-Q4_0.gguf", None),
        ((), "m.gguf", None),
    ],
)
def test_the_projector_is_the_nearest_then_the_most_similar(files, model, projector):
    assert best_projector(files, model) == projector
