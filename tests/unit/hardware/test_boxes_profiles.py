"""Each recorded computer gets the profile that was made for it, and its record survives the file."""

from pathlib import Path

import pytest

from supervisor.hardware.detection import detect
from supervisor.hardware.wire import from_json, to_json
from supervisor.profile.matching import rank_stored
from supervisor.profile.store import ProfileStore

from .recorded import boxes, load

SHIPPED = ProfileStore(Path("/nonexistent"))
MADE_FOR = {
    "evo-t1-64gb": "evo-t1-64gb",
    "jetson-nano-jetpack4": "qwen3.5-0.8b",
    "strix-halo-t400": "ryzen-ai-max-395",
    "hx370-96gb": "xg1-370-96gb-cpu",
    "hx370-96gb-4060ti": "rtx4060ti-oculink",
    "m4-max-128gb": "m4-max-128gb",
    "m4-mini-16gb": "m4-mini-16gb",
    "max-395-128gb-carved": "ryzen-ai-max-395",
    "max-395-128gb-gtt": "ryzen-ai-max-395",
    "rtx4060ti-intel-windows": "rtx4060ti-oculink",
    "ryzen-9700x-rx9070": "rx9070-120b",
    "snapdragon-x-elite-windows": "zenbook-sora-32gb",
    "strix-halo-windows": "ryzen-ai-max-395",
}
NONE_MADE = "gpt-oss-20b"  # and all of the others have memory enough for it


@pytest.fixture(params=boxes())
def box(request, tmp_path):
    return request.param, detect(tmp_path, load(request.param))


def test_the_best_profile_is_the_one_made_for_the_machine(box):
    name, hardware = box
    assert rank_stored(SHIPPED, hardware).best.name == MADE_FOR.get(name, NONE_MADE)


def test_the_record_is_the_same_when_it_comes_from_a_file(box):
    _, hardware = box
    assert from_json(to_json(hardware), "box.json") == hardware


def test_no_byte_is_counted_twice(box):
    _, hardware = box
    for gpu in hardware.gpus:
        assert 0 <= gpu.shared_bytes <= min(gpu.memory_bytes or 0, hardware.ram_bytes or 0)


@pytest.mark.parametrize(
    ("name", "memory", "large"),
    [("gt1030-7900xtx", 86.5, True), ("jetson-orin-jetpack6", 61.3, False), ("two-nvidia", 118.4, True)],
)
def test_memory_that_a_model_would_not_have_does_not_count(name, memory, large, tmp_path):
    """A card that stays idle; on a Jetson, what 59 GiB of weights leave to a context and the system."""
    hardware = detect(tmp_path, load(name))
    assert round((hardware.memory_bytes or 0) / 2**30, 1) == memory
    suit = {each.name for each in rank_stored(SHIPPED, hardware).others}
    assert ("gpt-oss-120b" in suit) == large


def test_each_of_them_is_recorded():
    assert set(MADE_FOR) <= set(boxes())
