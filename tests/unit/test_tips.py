"""What to change about a machine before measuring; what it does not tell gives no tip."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.engine.local_engines import promised
from supervisor.hardware.conditions import Conditions, MemoryModule
from supervisor.hardware.hardware import Gpu, Hardware, PcieLink
from supervisor.memory.fitting import fit
from supervisor.profile.definition import Profile
from supervisor.profile.layers import Value
from supervisor.profile.load_layers import overrides_layer
from supervisor.tune.tips import link_bytes_per_second, machine_tips, memory_tips, near_miss, near_miss_tip

from .memory_machines import GIB, gpt_oss

LINUX = Hardware("linux", "x86_64")
CARD = Gpu("nvidia", "NVIDIA GeForce RTX 4060 Ti", pci="0000:01:00.0", integrated=False)
MODULE = MemoryModule("DIMM 0", 32 * GIB, 5600, 64, "P0 CHANNEL A")


def said(conditions=Conditions(), hardware=LINUX):  # noqa: B008 - a value
    return [tip.text for tip in machine_tips(hardware, conditions)]


def one(conditions=Conditions(), hardware=LINUX):  # noqa: B008 - a value
    (text,) = said(conditions, hardware)
    return text


def test_what_is_unknown_or_as_it_should_be_gives_no_tip():
    assert said() == []
    good = Conditions(
        on_battery=False,
        power_mode="performance",
        governor="performance",
        scaling_driver="acpi-cpufreq",
        preference="performance",
        modules=(MODULE, replace(MODULE, channel="P0 CHANNEL B")),
        slots=4,
    )
    whole = replace(CARD, link=PcieLink(8, 8, 2.5, 16.0))
    assert said(good, replace(LINUX, gpus=(whole,))) == []


# -- power


@pytest.mark.parametrize(
    ("os", "conditions", "words"),
    [
        ("linux", Conditions(on_battery=True), ("runs on its battery", "Plug it in")),
        (
            "windows",
            Conditions(power_mode="balanced"),
            ("Windows' power mode is Balanced", "Best performance"),
        ),
        ("windows", Conditions(power_mode="efficiency"), ("is for power efficiency", "Best performance")),
        ("macos", Conditions(power_mode="efficiency"), ("Low Power Mode is on", "System Settings")),
        ("linux", Conditions(power_mode="balanced"), ("power profile is balanced", "powerprofilesctl")),
        (
            "linux",
            Conditions(governor="powersave", scaling_driver="acpi-cpufreq"),
            ("the lowest clock", "cpupower frequency-set -g performance"),
        ),
        (
            "linux",
            Conditions(governor="powersave", scaling_driver="intel_pstate", preference="balance_power"),
            ("energy preference is balance_power", "energy_performance_preference"),
        ),
    ],
)
def test_power_that_is_saved(os, conditions, words):
    text = one(conditions, replace(LINUX, os=os))
    assert all(word in text for word in words)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(governor="powersave", scaling_driver="amd-pstate-epp", preference="balance_performance"),
        Conditions(governor="schedutil", scaling_driver="amd-pstate"),
        Conditions(governor="powersave"),  # of no known driver
    ],
)
def test_a_governor_that_raises_the_clock_by_itself_is_no_fault(conditions):
    assert said(conditions) == []


def test_a_mac_on_automatic_is_as_it_should_be():
    assert said(Conditions(power_mode="balanced"), replace(LINUX, os="macos")) == []


# -- memory modules


def test_one_module_of_two_is_named_with_what_it_costs():
    text = one(Conditions(modules=(MODULE,), slots=2))
    assert text.startswith("One memory module is in 2 slots, all on one channel.")
    assert "5600 MT/s are at most 45 GB/s on one channel and 90 on two (by calculation)" in text
    assert text.endswith("Add a second module of the same kind, in the slot of the other channel.")


def test_two_modules_on_one_channel_are_to_be_moved():
    text = one(Conditions(modules=(MODULE, MODULE), slots=4))
    assert text.startswith("2 memory modules are in 4 slots, all on one channel.")
    assert text.endswith("Move one of them to a slot of the other channel.")


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(modules=(MODULE,)),  # how many slots there are is not known
        Conditions(modules=(MODULE,), slots=1),  # a board with one
        Conditions(modules=(replace(MODULE, channel=""),) * 2, slots=4),
        Conditions(slots=4),
    ],
)
def test_modules_of_which_too_little_is_known_give_no_tip(conditions):
    assert said(conditions) == []


def test_a_module_without_its_speed_is_told_without_figures():
    assert "MT/s" not in one(Conditions(modules=(MemoryModule(),), slots=2))


# -- PCIe


def linked(port=None, **link):
    gpu = replace(CARD, link=PcieLink(**link))
    return said(Conditions(ports={CARD.pci: port} if port else {}), replace(LINUX, gpus=(gpu,)))


@pytest.mark.parametrize(
    ("port", "action"),
    [
        (None, "OCuLink and M.2 adapters have 4; in a slot of the board, look at its lanes and at the BIOS."),
        (PcieLink(max_width=4), "The slot has no more (OCuLink and M.2 adapters have 4)"),
        (PcieLink(max_width=16), "The slot has 16: seat the card again"),
    ],
)
def test_a_card_with_fewer_lanes_than_it_could_have(port, action):
    (text,) = linked(port, width=4, max_width=8, speed_gts=2.5, max_speed_gts=16.0)
    assert text.startswith("NVIDIA GeForce RTX 4060 Ti has 4 of its 8 PCIe lanes.")
    assert "(7.9 GB/s at most)" in text
    assert action in text


def test_a_link_at_rest_is_slow_and_no_fault_but_an_older_slot_is():
    assert linked(width=8, max_width=8, speed_gts=2.5, max_speed_gts=16.0) == []
    (text,) = linked(PcieLink(max_width=8, max_speed_gts=8.0), width=8, max_width=8, max_speed_gts=16.0)
    assert text.startswith("The slot of NVIDIA GeForce RTX 4060 Ti does 8 GT/s, the card 16.")


@pytest.mark.parametrize(("lanes", "speed", "gigabytes"), [(16, 16.0, 31.5), (4, 16.0, 7.9), (1, 2.5, 0.25)])
def test_a_link_moves_what_its_coding_leaves(lanes, speed, gigabytes):
    assert link_bytes_per_second(lanes, speed) / 1e9 == pytest.approx(gigabytes, rel=0.01)


# -- memory of integrated graphics


def shared(carved_gib, gtt_gib):
    gpu = Gpu(
        "amd", "AMD Radeon 890M Graphics", memory_bytes=(carved_gib + gtt_gib) * GIB,
        free_bytes=(carved_gib + gtt_gib) * GIB, shared_bytes=gtt_gib * GIB, integrated=True, unified=True,
        architecture="gfx1150",
    )  # fmt: skip
    return Hardware("linux", "x86_64", ram_bytes=90 * GIB, available_bytes=86 * GIB, gpus=(gpu,))


def test_memory_that_the_bios_keeps_from_a_cpu_engine_is_named():
    (tip,) = memory_tips(shared(16, 40), "cpu", None)
    assert tip.what == "The BIOS keeps 16.0 GiB of the RAM for AMD Radeon 890M Graphics."
    assert memory_tips(shared(0, 45), "cpu", None) == ()
    assert memory_tips(shared(16, 40), "vulkan", None) == ()


def test_rocm_uses_one_of_the_two_memories_of_an_integrated_gpu_and_vulkan_both():
    device = ("ROCm0: AMD Radeon 890M Graphics (24576 MiB, 24000 MiB free)",)
    for carved, gtt, is_told in [(9, 8, True), (8, 9, True), (1, 40, False), (40, 1, False), (4, 4, False)]:
        box = shared(carved, gtt)
        fitted = account_on(box, "rocm-7.2", device)({"gpu-layers": "25"})
        assert bool(memory_tips(box, "rocm-7.2", fitted)) == is_told, (carved, gtt)
        assert memory_tips(box, "vulkan", fitted) == ()
    (tip,) = memory_tips(shared(9, 8), "rocm-7.2", fitted)
    assert "which has 9.0 GiB from the BIOS and may use 8.0 GiB of the RAM" in tip.what


# -- a layer short


def account_on(hardware, flavour, devices, size="20b", **given):
    model, build = gpt_oss(size), replace(promised("", flavour=flavour), devices=devices)

    def account(changes):
        layer = overrides_layer("p", {**given, **changes})
        options = {key.removeprefix("server."): value.value for key, value in layer.values.items()}
        assert all(isinstance(value, Value) for value in layer.values.values())
        profile = Profile("p", server=options, placement="pinned")
        return fit(profile, model, build, hardware)

    return account


def with_card(free_gib):
    gpu = replace(CARD, memory_bytes=16 * GIB, free_bytes=int(free_gib * GIB), cuda="13.0")
    return Hardware("linux", "x86_64", ram_bytes=64 * GIB, available_bytes=60 * GIB, gpus=(gpu,))


def missed(free_gib, **given):
    devices = (f"CUDA0: NVIDIA GeForce RTX 4060 Ti (16384 MiB, {int(free_gib * 1024)} MiB free)",)
    account = account_on(with_card(free_gib), "cuda-12.8", devices, **{"ctx-size": "65536", **given})
    return account, near_miss(account, 24, has_experts=True)


def test_a_layer_short_is_named_with_the_context_that_makes_room_for_it():
    account, miss = missed(13.75)
    assert (miss.layers, miss.of_layers, miss.place, miss.now_tokens) == (1, 24, "CUDA0", 65536)
    assert 4096 < miss.context_tokens < 65536
    everything = {"gpu-layers": "25", "n-cpu-moe": "0"}
    held = account({**everything, "ctx-size": str(miss.context_tokens)})
    not_held = account({**everything, "ctx-size": str(miss.context_tokens + 1024)})
    assert held.verdict.allowed
    assert not not_held.verdict.allowed
    text = near_miss_tip(miss).text
    assert text.startswith("The last layer does not fit onto CUDA0: ")
    assert f"With a context of {miss.context_tokens:,} tokens in place of 65,536 all of it fits" in text
    assert "122 tokens/s, 45 with one layer less" in text


def test_where_even_the_least_context_is_too_much_it_says_so():
    _, miss = missed(12.3, **{"ctx-size": "4096"})
    assert miss.context_tokens is None
    assert "A shorter context alone does not make room" in near_miss_tip(miss).text


@pytest.mark.parametrize("free_gib", [15.9, 6.0])
def test_where_all_fits_or_much_is_missing_there_is_no_tip(free_gib):
    assert missed(free_gib)[1] is None


def test_a_gpu_that_shares_the_ram_is_not_short_of_a_layer():
    box = replace(shared(0, 12), ram_bytes=16 * GIB, available_bytes=12 * GIB)
    account = account_on(box, "vulkan", ("Vulkan0: AMD Radeon 890M Graphics (12288 MiB, 12288 MiB free)",))
    assert near_miss(account, 24, has_experts=True) is None


def test_without_a_gpu_nothing_is_short_of_it():
    account = account_on(replace(with_card(1), gpus=()), "cpu", ())
    assert near_miss(account, 24, has_experts=True) is None
    assert near_miss(lambda _: None, 24, has_experts=False) is None
