"""What limits a machine, told from measurements: published ones of real machines, and what was not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.hardware.conditions import Conditions, MemoryModule
from supervisor.hardware.hardware import Gpu, Hardware, PcieLink
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import settings_of
from supervisor.memory.weights import token_reads
from supervisor.tune.explain import TuningEvidence, explain, gpu_bandwidth, ram_bandwidth
from supervisor.tune.search_values import Axis, TrialResult
from supervisor.tune.space import Space

from .memory_machines import GIB, gpt_oss, gpu, ram

UBATCH, EXPERTS, THREADS = "server.ubatch-size", "server.n-cpu-moe", "server.threads"
SPACE = Space(
    (
        Axis(UBATCH, ("512", "2048", "4096", "8192"), is_ordered=True, now="512"),
        Axis(EXPERTS, ("25", "28"), is_ordered=True, now="28"),
        Axis(THREADS, ("4", "8", "16"), is_ordered=True, now="8"),
    ),
    36,
)
RTX_3090 = Gpu(
    "nvidia",
    "NVIDIA GeForce RTX 3090",
    memory_bytes=24 * GIB,
    integrated=False,
    link=PcieLink(16, 16, 2.5, 16.0),
)
TWO_CHANNELS = Conditions(
    modules=tuple(MemoryModule(f"DIMM {name}", 32 * GIB, 5200, 64, f"CHANNEL {name}") for name in "AB")
)


def ledger(options, *, with_gpu=True, size="120b"):
    model = gpt_oss(size)
    pools = (*((gpu("CUDA0", 24, 23),) if with_gpu else ()), ram(128, 120))
    return model, account(
        model,
        settings_of(options, None, model),
        pools,
        cpu_features=(),
        flavour="cuda" if with_gpu else "cpu",
    )


def ran(prompt, generated):
    return TrialResult((1.0,), 1.0, rates=((prompt, generated),))


def told(
    results, options, *, gpus=(RTX_3090,), conditions=TWO_CHANNELS, size="120b", prompt_tokens=0, clients=1
):
    model, account_of = ledger(options, with_gpu=bool(gpus), size=size)
    evidence = TuningEvidence(
        SPACE,
        results,
        (),
        model,
        account_of,
        Hardware("linux", "x86_64", gpus=gpus),
        conditions,
        prompt_tokens,
        clients,
    )
    return {each.name: each.text for each in explain(evidence)}


MOE_28 = {"gpu-layers": 99, "n-cpu-moe": 28}
ON_3090 = [  # llama.cpp, discussion 15396: gpt-oss-120b with the experts of 25 to 28 layers in RAM
    ((), ran(380, 32)),
    (((UBATCH, "2048"),), ran(1113, 33)),
    (((UBATCH, "4096"),), ran(1682, 32)),
    (((UBATCH, "8192"),), ran(2091, 30)),
]


def test_a_3090_with_experts_in_ram_is_limited_by_pcie_at_prompts():
    said = told(ON_3090, MOE_28)
    assert said["PCIe"] == (
        "a ubatch takes 1.2 s whatever its length: if that is for sending the 44.2 GiB of weights in RAM to the "
        "GPU, 40.2 GB/s, about what the link does (31.5 GB/s with 16 lanes): it limits prompts"
    )
    assert said["compute"].startswith("it is not the limit yet: prompts are read 1.2 times as fast")
    assert said["prompt batch"] == (
        "ubatch-size 8192 reads prompts at 2091 tokens/s, 5.5 times as fast as 512; a larger one was not measured"
    )
    assert said["memory bandwidth"].startswith(
        "each token reads 2.0 GiB on CUDA0 and 1.4 GiB in RAM: at 32 tokens/s"
    )


def test_a_ubatch_that_no_prompt_filled_proves_nothing():
    assert told(ON_3090, MOE_28, prompt_tokens=2048)["prompt batch"].startswith(
        "ubatch-size 2048 reads prompts"
    )
    too_short = told(ON_3090, MOE_28, prompt_tokens=512)
    assert {too_short[name][:12] for name in ("PCIe", "compute", "prompt batch")} == {"not measured"}


def test_without_op_offload_nothing_is_sent():
    assert "op-offload is off" in told(ON_3090, {**MOE_28, "op-offload": False})["PCIe"]


def test_the_same_over_a_fast_link_is_not_limited_by_it():
    slow_cpu = [((), ran(40, 32)), (((UBATCH, "4096"),), ran(60, 32))]
    assert "it is not what limits prompts" in told(slow_cpu, MOE_28)["PCIe"]


def test_a_cpu_whose_channels_are_busy_is_limited_by_its_memory():
    said = told([((), ran(142, 21.3))], {}, gpus=(), size="20b")  # Ryzen 9 7950X, published
    assert said["memory bandwidth"] == (
        "each token reads 2.4 GiB in RAM: at 21.3 tokens/s that is 54.8 GB/s, 66% of what the memory can do: the "
        "bandwidth of the RAM limits generation"
    )
    assert said["PCIe"] == "it does not matter: nothing is on a GPU"


def test_a_small_model_on_a_fast_card_is_limited_by_more_than_bandwidth():
    said = told([((), ran(5171, 162))], {"gpu-layers": 99}, size="20b")
    assert (
        "45% of what the memory can do: more than its bandwidth limits generation" in said["memory bandwidth"]
    )
    assert said["PCIe"] == "it does not matter: once the model is loaded, all weights are on the GPU"


def test_graphics_in_the_processor_are_as_fast_as_the_ram_that_they_share():
    shared = Gpu("amd", "AMD Radeon 890M Graphics", memory_bytes=48 * GIB, integrated=True, unified=True)
    said = told([((), ran(275, 27.7))], {"gpu-layers": 99}, gpus=(shared,), size="20b")
    assert "86% of what the memory can do: the bandwidth of CUDA0 limits" in said["memory bandwidth"]
    assert said["PCIe"] == "it does not matter: the GPU shares the RAM"


def test_a_memory_of_unknown_speed_is_told_by_what_a_layer_more_in_it_costs():
    results = [((), ran(380, 30.0)), (((EXPERTS, "25"),), ran(380, 32.0))]
    said = told(results, MOE_28, conditions=Conditions())["memory bandwidth"]
    assert (
        "how fast the RAM could be is not known, but one more layer of experts in RAM costs 0.69 ms" in said
    )
    assert said.endswith("which is its 51 MiB at 76.3 GB/s")


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"4": 20, "8": 30, "16": 28}, "8 generate fastest (67% with 4, 93% with 16): more only wait"),
        ({"4": 29, "8": 30, "16": 29}, "their number makes no difference to generation"),
        (
            {"4": 10, "8": 20, "16": 35},
            "the most that were tried, 16, generate fastest (29% with 4, 57% with 8)",
        ),
        ({"8": 20}, "not measured: threads had one value only"),
    ],
)
def test_threads(rates, said):
    results = [(() if count == "8" else ((THREADS, count),), ran(100, rate)) for count, rate in rates.items()]
    assert told(results, {}, gpus=(), size="20b")["threads"].startswith(said)


def test_prompts_that_gain_nothing_from_a_larger_batch_are_limited_by_computing():
    results = [((), ran(800, 20)), (((UBATCH, "2048"),), ran(810, 20))]
    said = told(results, MOE_28)
    assert "computing limits prompts" in said["compute"]
    assert said["prompt batch"].startswith("it makes no difference: 800 tokens/s")
    assert said["PCIe"].startswith("it does not limit prompts")


def test_several_clients_read_the_same_weights_together():
    assert told(ON_3090, MOE_28, clients=8)["memory bandwidth"].startswith(
        "not measured: the answers of 8 clients"
    )


def test_what_was_not_measured_is_not_claimed():
    said = told([((), TrialResult((1.0,), 1.0))], MOE_28)
    assert list(said) == ["memory bandwidth", "PCIe", "compute", "prompt batch", "threads"]
    assert all(text.startswith("not measured") for text in said.values())


# -- the figures behind it


def test_a_token_reads_of_the_experts_only_those_that_it_uses():
    model = gpt_oss("120b")
    reads = token_reads(model, settings_of(MOE_28, None, model), (gpu("CUDA0", 24, 23), ram(128, 120)))
    assert reads.whole["RAM"] == 28 * 1_696_481_280
    assert reads.active["RAM"] == 28 * 1_696_481_280 * 4 // 128
    assert sum(reads.active.values()) < 3.7e9  # 5.1 billion weights of 4.25 bits, and the rest in Q8_0


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("NVIDIA GeForce RTX 4060 Ti", 288),
        ("NVIDIA GeForce RTX 4060", 272),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", None),
        ("AMD Radeon RX 9070", 640),
        ("Apple M4", 120),
        ("Apple M4 Pro", 273),
        ("Apple M4 Max", None),  # 410 or 546
        ("Quadro M4000", None),
        ("", None),
    ],
)
def test_a_bandwidth_is_known_by_the_exact_model_or_not_at_all(name, gigabytes):
    found = gpu_bandwidth(Gpu("", name))
    assert found == (gigabytes and gigabytes * 1e9)


def test_the_ram_is_as_fast_as_its_channels_together():
    box = Hardware("linux", "x86_64")
    assert ram_bandwidth(box, TWO_CHANNELS) == pytest.approx(83.2e9)
    four = replace(TWO_CHANNELS, modules=(*TWO_CHANNELS.modules, *TWO_CHANNELS.modules))
    assert ram_bandwidth(box, four) == pytest.approx(83.2e9)  # two on each channel
    assert ram_bandwidth(box, Conditions(modules=(MemoryModule("DIMM 0", 32 * GIB, 5200, 64),))) is None
    m4 = replace(box, gpus=(Gpu("apple", "Apple M4", unified=True),))
    assert ram_bandwidth(m4, Conditions()) == 120e9
