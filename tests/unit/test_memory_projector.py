"""What projectors take, against what the engine said of the same shapes (b11434, -lv 4, on the CPU)."""

from dataclasses import replace

import pytest

from supervisor.memory.companions import projector_bytes

from ..fakes.projectors import TRUE_PROJECTORS, Projector

MIB = 1024**2
# MiB in all, as "estimated worst-case memory usage of mmproj" says: with flash attention, and without
SAID = {
    "gemma-3": (931.75, 1942.50),
    "gemma-4-26b-a4b": (1288.39, 1519.16),
    "gemma-4-e4b": (454.34, 629.84),
    "qwen3.6-35b-a3b": (1105.70, 5515.41),
    "qwen3-vl-4b": (1119.91, 5525.49),
    "qwen2.5-vl-7b": (1996.19, 6162.97),
    "mistral-small-3.1": (902.02, 924.02),
    "smolvlm2-2.2b": (852.15, 875.83),
    "lfm2-vl-1.6b": (815.62, 867.31),
    "internvl3-8b": (662.96, 715.08),
}


def test_every_true_shape_was_measured():
    assert SAID.keys() == TRUE_PROJECTORS.keys()


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("name", TRUE_PROJECTORS)
def test_weights_and_buffer_are_what_the_engine_takes(name, flash):
    ours = projector_bytes(TRUE_PROJECTORS[name].shape.model, flash=flash)
    said = SAID[name][not flash] * MIB
    assert ours.is_known
    assert 0.98 <= (ours.weights + ours.compute) / said <= 1.03
    buffer = said - ours.weights
    assert ours.compute == pytest.approx(buffer, rel=0.15 if flash else 0.2)


@pytest.mark.parametrize(
    ("name", "tokens", "said"),
    [("gemma-4-e4b", 100, 392.63), ("qwen3.6-35b-a3b", 100, 869.33), ("lfm2-vl-1.6b", 100, 797.15)],
)
def test_fewer_tokens_for_an_image_take_less(name, tokens, said):
    model = TRUE_PROJECTORS[name].shape.model
    ours = projector_bytes(model, flash=True, most_tokens=tokens)
    assert ours.weights + ours.compute == pytest.approx(said * MIB, rel=0.01)
    assert ours.compute <= ours.largest < projector_bytes(model, flash=True).largest


def test_a_large_image_takes_more_than_the_one_it_is_warmed_up_with():
    ours = projector_bytes(TRUE_PROJECTORS["qwen3.6-35b-a3b"].shape.model, flash=True)
    assert ours.largest == pytest.approx(ours.compute * 4096 / 46**2, rel=0.01)


def test_images_of_one_size_take_the_same():
    ours = projector_bytes(TRUE_PROJECTORS["gemma-3"].shape.model, flash=True)
    assert ours.largest == ours.compute


@pytest.mark.parametrize(
    "told", [{"clip.projector_type": "kimivl"}, {"clip.has_audio_encoder": True}], ids=["kind", "ears"]
)
def test_another_kind_and_one_that_hears_are_said_to_be_unknown(told):
    model = Projector("pixtral", 64).shape.model
    ours = projector_bytes(replace(model, values={**model.values, **told}), flash=True)
    assert not ours.is_known
    assert ours.weights == model.weights_bytes
    assert ours.compute > 0
