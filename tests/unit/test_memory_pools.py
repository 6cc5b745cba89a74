"""Which memories a machine has for an engine, and what of them is free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.hardware.detection import detect
from supervisor.hardware.hardware import Gpu, Hardware
from supervisor.memory.accounts import Pool
from supervisor.memory.machine_memory import memories_of
from supervisor.memory.verdict import given_back

from .hardware.recorded import load

GIB = 1024**3
MIB = 1024**2


def pools_of(hardware, flavour, devices=()):
    """Of a model that is not known."""
    return memories_of(hardware, flavour, devices).pools


def machine(name: str) -> Hardware:
    return detect(Path(), load(name))


def names(pools) -> list[str]:
    return [pool.name for pool in pools]


def test_an_engine_for_the_cpu_has_the_ram_alone():
    box = machine("hx370-96gb-4060ti")
    (ram,) = pools_of(box, "cpu")
    assert (ram.name, ram.total_bytes, ram.free_bytes) == ("RAM", box.ram_bytes, box.available_bytes)


def test_what_the_engine_lists_counts():
    listed = ("CUDA0: NVIDIA GeForce RTX 4060 Ti (16062 MiB, 15862 MiB free)",)
    card, ram = pools_of(machine("hx370-96gb-4060ti"), "cuda-12.8", listed)
    assert card == Pool("CUDA0", 16062 * MIB, 15862 * MIB, adapter="0000:01:00.0")
    assert ram.name == "RAM"


def test_a_device_of_another_machine_is_not_planned_with():
    listed = ("RPC0: 10.0.0.2:50052 (24000 MiB, 23000 MiB free)", "CUDA0: Card (16062 MiB, 15862 MiB free)")
    assert names(pools_of(machine("hx370-96gb-4060ti"), "cuda", listed)) == ["CUDA0", "RAM"]


@pytest.mark.parametrize(
    ("box", "flavour", "expected"),
    [
        ("hx370-96gb-4060ti", "cuda-12.8", ["CUDA0", "RAM"]),
        ("hx370-96gb-4060ti", "vulkan", ["Vulkan0", "RAM"]),  # the integrated one is left alone
        ("two-nvidia", "cuda-13.4", ["CUDA0", "CUDA1", "RAM"]),
        ("m4-max-128gb", "metal", ["MTL0", "RAM"]),
        ("no-gpu", "vulkan", ["RAM"]),
        ("evo-t1-64gb", "unknown", ["RAM"]),
    ],
)
def test_before_an_engine_is_there_the_machines_own_gpus_are_taken(box, flavour, expected):
    assert names(pools_of(machine(box), flavour)) == expected


def test_graphics_in_the_processor_share_the_ram_and_a_card_does_not():
    shared, _ = pools_of(machine("evo-t1-64gb"), "vulkan")
    assert shared.shares_ram
    listed, _ = pools_of(machine("evo-t1-64gb"), "vulkan", ("Vulkan0: Arc (47000 MiB, 42000 MiB free)",))
    assert listed.shares_ram
    card, _ = pools_of(machine("ryzen-9700x-rx9070"), "vulkan")
    assert not card.shares_ram


def test_what_is_shared_is_never_freer_than_the_ram():
    box = replace(machine("evo-t1-64gb"), available_bytes=2 * GIB)
    shared, ram = pools_of(box, "vulkan")
    assert shared.free_bytes == ram.free_bytes == 2 * GIB


@pytest.mark.parametrize(("gib", "working_set"), [(16, 16 * 2 / 3), (32, 32 * 2 / 3), (64, 48), (128, 96)])
def test_a_mac_gives_its_gpu_what_metal_recommends(gib, working_set):
    mac = Hardware(
        "macos", "arm64", ram_bytes=gib * GIB, available_bytes=gib * GIB // 2,
        gpus=(Gpu("apple", "Apple M4", memory_bytes=gib * GIB, shared_bytes=gib * GIB, integrated=True, unified=True),),
    )  # fmt: skip
    gpu, ram = pools_of(mac, "metal")
    assert gpu.total_bytes == pytest.approx(working_set * GIB, abs=1)
    assert ram.free_bytes == (gib - 2) * GIB


def test_what_nobody_knows_stays_unknown():
    bare = Hardware("linux", "x86_64", gpus=(Gpu("nvidia", "Card", integrated=False),))
    card, ram = pools_of(bare, "cuda")
    assert (card.total_bytes, card.free_bytes, ram.total_bytes, ram.free_bytes) == (None, None, None, None)


def test_what_a_server_gives_back_is_free_then_and_never_more_than_all():
    before = (Pool("CUDA0", 16 * GIB, 4 * GIB), Pool("RAM", 64 * GIB, 60 * GIB), Pool("CUDA1", None, None))
    card, ram, unknown = given_back(before, {"CUDA0": 11 * GIB, "RAM": 10 * GIB, "CUDA1": GIB})
    assert (card.free_bytes, ram.free_bytes, unknown.free_bytes) == (15 * GIB, 64 * GIB, None)


def test_what_the_firmware_carved_out_is_the_gpus_own():
    carved, _ = pools_of(machine("max-395-128gb-carved"), "vulkan")
    assert (carved.shares_ram, carved.own_bytes) == (True, 96 * GIB)
    listed, _ = pools_of(
        machine("max-395-128gb-carved"), "vulkan", ("Vulkan0: AMD (114000 MiB, 113000 MiB free)",)
    )
    assert listed.own_bytes == 96 * GIB


LISTED = (
    "Vulkan0: NVIDIA T400 4GB (4096 MiB, 3900 MiB free)",
    "Vulkan1: AMD Radeon 8060S Graphics (RADV GFX1151) (123392 MiB, 122000 MiB free)",
)


@pytest.mark.parametrize("devices", [(), LISTED])
def test_wide_graphics_beside_a_small_card_are_the_memory_that_is_used(devices):
    found = memories_of(machine("strix-halo-t400"), "vulkan", devices, model_bytes=60 * GIB)
    gpu, ram = found.pools
    assert (gpu.name, gpu.shares_ram, gpu.own_bytes, ram.name) == ("Vulkan1", True, GIB // 2, "RAM")
    assert found.device == "Vulkan1"
    assert found.idle == (
        "NVIDIA T400 4GB stays idle: AMD Radeon 8060S Graphics alone is faster; "
        "server.device: Vulkan0,Vulkan1 would use it too",
    )


# --- which card of the driver's is which device of the engine's


RTX_5090, RTX_3090 = (
    "NVIDIA GeForce RTX 5090 (32109 MiB, 1 MiB free)",
    "NVIDIA GeForce RTX 3090 (24134 MiB, 1 MiB free)",
)
CARD = "AMD Radeon RX 7900 XTX (24560 MiB, 1 MiB free)"


@pytest.mark.parametrize(
    ("box", "flavour", "devices", "expected"),
    [
        ("two-nvidia", "cuda", (f"CUDA0: {RTX_5090}", f"CUDA1: {RTX_3090}"), {"CUDA0": "01", "CUDA1": "0a"}),
        ("two-nvidia", "cuda", (f"CUDA0: {RTX_3090}", f"CUDA1: {RTX_5090}"), {"CUDA0": "0a", "CUDA1": "01"}),
        ("two-nvidia", "cuda", (f"CUDA0: {RTX_3090}",), {"CUDA0": "0a"}),  # the other one is hidden
        ("two-nvidia", "cuda", (f"CUDA0: {RTX_5090}", f"CUDA1: {RTX_5090}"), {}),
        ("two-nvidia", "cuda", ("CUDA0: NVIDIA GeForce RTX 5090 MIG 1g.8gb (8000 MiB, 1 MiB free)",), {}),
        ("gt1030-7900xtx", "rocm", (f"ROCm0: {CARD}",), {"ROCm0": "0a"}),
        (
            "gt1030-7900xtx",
            "unknown",
            (f"ROCm0: {CARD}", f"Vulkan0: {CARD}"),
            {},
        ),  # which of the two is used?
        ("strix-halo-t400", "vulkan", LISTED, {"Vulkan0": "01", "Vulkan1": "c3"}),
        ("container-without-sys", "cuda", ("CUDA0: NVIDIA L40S (45500 MiB, 1 MiB free)",), {}),  # other pids
    ],
)
def test_which_card_a_device_is_is_known_by_its_size_and_name_or_not_at_all(box, flavour, devices, expected):
    pools = memories_of(machine(box), flavour, devices, every=True).pools
    assert {pool.name: pool.adapter[5:7] for pool in pools if pool.adapter} == expected


def test_two_cards_of_one_kind_cannot_be_told_apart():
    box = machine("two-nvidia")
    box = replace(box, gpus=tuple(replace(box.gpus[1], pci=pci) for pci in ("0000:01:00.0", "0000:0a:00.0")))
    devices = (f"CUDA0: {RTX_3090}", f"CUDA1: {RTX_3090}")
    assert [pool.adapter for pool in pools_of(box, "cuda", devices)] == ["", "", ""]


def test_the_engines_order_of_its_devices_counts():
    swapped = tuple(line.replace(f"Vulkan{1 - n}", f"Vulkan{n}") for n, line in enumerate(reversed(LISTED)))
    assert memories_of(machine("strix-halo-t400"), "vulkan", swapped).device == "Vulkan0"


@pytest.mark.parametrize(
    "listed",
    [
        "Vulkan1: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24260 MiB free)",
        "Vulkan1: Radeon of a name that nobody knows (24560 MiB, 24260 MiB free)",
    ],
)
def test_a_card_is_found_by_its_name_or_its_size(listed):
    devices = ("Vulkan0: NVIDIA GeForce GT 1030 (2048 MiB, 1748 MiB free)", listed)
    found = memories_of(machine("gt1030-7900xtx"), "vulkan", devices)
    assert (names(found.pools), found.device) == (["Vulkan1", "RAM"], "Vulkan1")


def test_graphics_that_an_engine_lists_beside_a_card_are_left_alone_without_being_told():
    devices = (
        "Vulkan0: AMD Radeon RX 9070 (RADV GFX1201) (16304 MiB, 15900 MiB free)",
        "Vulkan1: AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO) (15800 MiB, 15700 MiB free)",
    )
    found = memories_of(machine("ryzen-9700x-rx9070"), "vulkan", devices)
    assert (names(found.pools), found.device, found.idle) == (["Vulkan0", "RAM"], "", ())
    assert not found.pools[0].shares_ram


def test_a_profile_that_names_devices_has_all_to_choose_from():
    found = memories_of(machine("strix-halo-t400"), "vulkan", every=True)
    assert (names(found.pools), found.device) == (["Vulkan0", "Vulkan1", "RAM"], "")
    assert [pool.shares_ram for pool in found.pools] == [False, True, False]


def test_two_cards_of_much_the_same_speed_are_both_used():
    found = memories_of(machine("two-nvidia"), "cuda-12.8", model_bytes=12 * GIB)
    assert (names(found.pools), found.device) == (["CUDA0", "CUDA1", "RAM"], "")
