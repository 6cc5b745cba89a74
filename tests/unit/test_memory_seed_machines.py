"""What is proposed for the machines that people found good settings for by hand, with the real ledger."""

from dataclasses import replace

import pytest

from supervisor.hardware.detection import detect
from supervisor.memory.placement import Proposal, WantedPlacement, propose

from .hardware.recorded import load
from .memory_machines import GIB, gpt_oss, weighing


@pytest.fixture
def proposed(tmp_path):
    def on(box, flavour, size, context, *, available_gib=None) -> Proposal:
        hardware = detect(tmp_path, load(box))
        if available_gib is not None:
            hardware = replace(hardware, available_bytes=available_gib * GIB)
        model = gpt_oss(size)
        wanted = WantedPlacement({}, model.layers, model.experts or 0, context, context)
        return propose(wanted, weighing(model, hardware, flavour, {}), "balanced")

    return on


def test_an_rtx_4060_ti_has_the_experts_of_four_to_six_layers_of_the_120b(proposed):
    proposal = proposed("hx370-96gb-4060ti", "cuda-12.8", "120b", 32768)
    assert proposal.verdict.status == "fits"
    assert proposal.changes.keys() == {"ctx-size", "gpu-layers", "n-cpu-moe", "ubatch-size", "batch-size"}
    assert proposal.changes["n-cpu-moe"] in {30, 31, 32}
    assert proposal.changes["ubatch-size"] == 4096


def test_an_rx_9070_has_all_of_the_20b(proposed):
    proposal = proposed("ryzen-9700x-rx9070", "vulkan", "20b", 32768)
    assert proposal.verdict.status == "fits"
    assert proposal.changes["gpu-layers"] == 99
    assert not {"n-cpu-moe", "cpu-moe", "repack"} & proposal.changes.keys()


def test_an_evo_t1_keeps_all_experts_of_the_120b_mapped_and_not_rearranged(proposed):
    proposal = proposed("evo-t1-64gb", "vulkan", "120b", 4096)
    assert proposal.verdict.status == "tight"
    assert proposal.changes["cpu-moe"] is True
    assert proposal.changes["load-mode"] == "mmap"
    assert "ubatch-size" in proposal.changes
    assert proposal.changes["cache-ram"] == 0


def test_an_xg1_370_has_the_whole_context_of_the_120b_in_ram_and_is_told_the_rest(proposed):
    proposal = proposed("hx370-96gb", "cpu", "120b", 131072)
    assert proposal.verdict.status == "fits"
    assert proposal.changes == {"ctx-size": 131072}
    assert proposal.reasons[-1].endswith("GiB stay free in RAM")


def test_an_m4_max_has_all_of_the_120b_on_metal(proposed):
    proposal = proposed("m4-max-128gb", "metal", "120b", 131072, available_gib=100)
    assert proposal.verdict.status == "fits"
    assert proposal.reasons[0] == "all 36 layers on MTL0"


@pytest.mark.parametrize("box", ["max-395-128gb-carved", "max-395-128gb-gtt"])
def test_a_strix_halo_has_all_of_the_120b_however_its_memory_is_shared_out(proposed, box):
    proposal = proposed(box, "vulkan", "120b", 32768)
    assert proposal.verdict.status == "fits"
    assert proposal.reasons[0] == "all 36 layers on Vulkan0"


def test_two_cards_share_the_experts_and_not_only_the_layers(proposed):
    proposal = proposed("two-nvidia", "cuda-12.8", "120b", 32768)
    assert proposal.verdict.status == "fits"
    assert proposal.changes["n-cpu-moe"] <= 8
    first, last = (int(part) for part in proposal.changes["tensor-split"].split(","))
    assert first + last == 37
    assert first - proposal.changes["n-cpu-moe"] > last


@pytest.mark.parametrize("size", ["20b", "120b"])
def test_a_larger_card_never_has_less_of_the_model(tmp_path, size):
    model, machine = gpt_oss(size), detect(tmp_path, load("hx370-96gb-4060ti"))
    (card,) = [gpu for gpu in machine.gpus if gpu.vendor == "nvidia"]
    wanted = WantedPlacement({}, model.layers, model.experts, 32768, 32768)
    placed = []
    for gib in (0.5, 1, 2, 3, 4, 6, 8, 10, 11, 12, 16, 24, 48, 80):
        larger = replace(card, memory_bytes=int(gib * GIB), free_bytes=int(gib * GIB))
        weigh = weighing(model, replace(machine, gpus=(larger,)), "cuda-12.8", {})
        proposal = propose(wanted, weigh, "balanced")
        assert proposal.verdict.status == "fits"
        placed.append(weigh(proposal.changes).accounts[0].weights.bytes)
    assert placed == sorted(placed)
    assert placed[-1] == weigh({"gpu-layers": 99}).accounts[0].weights.bytes
