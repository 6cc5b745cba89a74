"""What the recorded computers get, from what their own tools print to the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.engine.survey import survey
from supervisor.hardware.detection import detect

from .engine_releases import release
from .hardware import recorded

CHOICES = """
                             b6100          b10892         b11459
arc-b580-uhd770              vulkan         vulkan         vulkan
container-without-sys        vulkan         vulkan         vulkan
dgx-spark                    -              vulkan         cuda-13.4
evo-t1-64gb                  vulkan         vulkan         vulkan
gt1030-7900xtx               vulkan         vulkan         vulkan
hx370-96gb                   vulkan         vulkan         vulkan
hx370-96gb-4060ti            vulkan         vulkan         cuda-12.8
imac-intel-rx580             cpu            cpu            cpu
jetson-nano-jetpack4         -              -              -
jetson-orin-jetpack6         -              -              -
jetson-thor-jetpack7         -              vulkan         cuda-13.4
m4-max-128gb                 metal          metal          metal
m4-mini-16gb                 metal          metal          metal
max-395-128gb-carved         vulkan         vulkan         vulkan
max-395-128gb-gtt            vulkan         vulkan         vulkan
no-gpu                       -              -              -
nvidia-garbage               vulkan         vulkan         cuda-13.4
nvidia-hangs                 vulkan         vulkan         cuda-13.4
nvidia-mismatch              vulkan         vulkan         cuda-13.4
nvidia-not-running           vulkan         vulkan         vulkan
pi5-trixie                   -              cpu            cpu
rock-5b-mali                 -              -              -
rtx4060ti-intel-windows      cuda-12.4      cuda-13.3      cuda-13.4
ryzen-9700x-rx9070           vulkan         vulkan         vulkan
snapdragon-x-elite-windows   opencl-adreno  opencl-adreno  opencl-adreno
strix-halo-t400              vulkan         vulkan         vulkan
strix-halo-windows           vulkan         vulkan         vulkan
two-nvidia                   vulkan         vulkan         cuda-12.8
wsl2                         vulkan         vulkan         cuda-12.8
"""
HEAD, *_ROWS = (line.split() for line in CHOICES.strip("\n").splitlines())
EXPECTED = {row[0]: tuple(row[1:]) for row in _ROWS}


def test_every_recorded_box_has_its_row() -> None:
    assert set(EXPECTED) == set(recorded.boxes())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_box_gets_its_flavour(name: str, tmp_path: Path) -> None:
    hardware = detect(tmp_path, recorded.load(name))
    found = [survey(hardware, release(tag), flavour=None, gpu=False).ranked for tag in HEAD]
    assert tuple(each[0].flavour if each else "-" for each in found) == EXPECTED[name]
