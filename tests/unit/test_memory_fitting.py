"""A profile on a machine: the shipped ones fit where they are meant to, and each placement keeps its promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.engine.local_engines import promised
from supervisor.hardware.detection import detect
from supervisor.memory.companions import Companions
from supervisor.memory.engine_figures import EngineFigures, Taken
from supervisor.memory.fitting import fit, notes_of
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore, shipped_folder

from .hardware.recorded import load
from .memory_machines import GIB, gpt_oss

STORE = ProfileStore(Path("/nowhere"), shipped_folder())
# profile, machine, flavour, size of the model
MEANT = [
    ("rtx4060ti-oculink", "hx370-96gb-4060ti", "cuda-12.8", "120b"),
    ("evo-t1-64gb", "evo-t1-64gb", "vulkan", "120b"),
    ("xg1-370-96gb-cpu", "hx370-96gb", "cpu", "120b"),
    ("rx9070-20b", "ryzen-9700x-rx9070", "vulkan", "20b"),
    ("rx9070-120b", "ryzen-9700x-rx9070", "vulkan", "120b"),
    ("m4-max-128gb", "m4-max-128gb", "metal", "120b"),
    ("m4-mini-16gb", "m4-mini-16gb", "metal", "20b"),
    ("ryzen-ai-max-395", "max-395-128gb-carved", "vulkan", "120b"),
    ("zenbook-sora-32gb", "snapdragon-x-elite-windows", "cpu", "20b"),
]


def fitted(
    name,
    box,
    flavour,
    size,
    *,
    server=None,
    available_gib=None,
    told=None,
    held=None,
    stays=None,
    draft=None,
    **changes,
):
    """``server`` replaces the options of the profile, ``changes`` other values of it."""
    profile = replace(resolve(name, STORE), **changes)
    profile = profile if server is None else replace(profile, server=server)
    hardware = detect(Path(), load(box))
    if available_gib is not None:
        hardware = replace(hardware, available_bytes=int(available_gib * GIB))
    more = {
        name: value
        for name, value in (
            ("figures_source", told),
            ("held", held),
            ("stays", stays),
            ("beside", draft and Companions(gpt_oss(draft))),
        )
        if value is not None
    }
    return fit(profile, gpt_oss(size), promised("not here", flavour=flavour), hardware, **more)


@pytest.mark.parametrize(("name", "box", "flavour", "size"), MEANT)
def test_a_shipped_profile_is_not_refused_on_its_machine(name, box, flavour, size):
    found = fitted(name, box, flavour, size)
    assert found.refusal == ""
    assert found.verdict.status in {"fits", "tight"}


@pytest.mark.parametrize(("name", "box", "flavour", "size"), MEANT)
def test_nor_is_it_where_the_placement_is_left_to_us(name, box, flavour, size):
    free = {"ctx-size": resolve(name, STORE).server["ctx-size"]}
    assert fitted(name, box, flavour, size, server=free, placement="auto").verdict.allowed


def test_what_does_not_fit_is_refused_with_what_was_tried_and_does():
    tight = {"n-cpu-moe": 28, "gpu-layers": 99, "ctx-size": 32768, "ubatch-size": 4096, "cache-ram": 0}
    found = fitted("rtx4060ti-oculink", "hx370-96gb-4060ti", "cuda-12.8", "120b", server=tight)
    assert found.refusal.startswith("needs 16.8 GiB of the 15.6 GiB that are free on CUDA0: `n-cpu-moe: ")
    helped = {**tight, **found.advices[0].changes}
    assert fitted("rtx4060ti-oculink", "hx370-96gb-4060ti", "cuda-12.8", "120b", server=helped).refusal == ""


@pytest.mark.parametrize("placement", ["pinned", "auto", "engine"])
def test_a_context_that_is_too_long_is_said_to_be_that_whoever_places(placement):
    long = {"ctx-size": 100_000_000}
    box = ("no-gpu", "cpu", "20b")
    found = fitted("gpt-oss-20b", *box, server=long, placement=placement)
    assert "`ctx-size: " in found.refusal
    helped = {**long, **found.advices[-1].changes}
    assert fitted("gpt-oss-20b", *box, server=helped, placement=placement).refusal == ""


def test_without_guardrails_it_is_said_and_not_refused():
    found = fitted("m4-mini-16gb", "m4-mini-16gb", "metal", "120b", guardrails="off")
    assert found.refusal == ""
    assert found.short in notes_of(found)


def test_ours_comes_with_one_step_back_and_a_pinned_one_with_none():
    box = ("hx370-96gb-4060ti", "cuda-12.8", "120b")
    ours = fitted("rtx4060ti-oculink", *box, server={"ctx-size": 32768}, placement="auto")
    assert ours.changes["n-cpu-moe"] in {30, 31, 32}
    assert ours.step_back == {"n-cpu-moe": ours.changes["n-cpu-moe"] + 3}
    assert fitted("rtx4060ti-oculink", *box).step_back == {}


def test_beside_the_engines_own_placement_only_what_it_does_not_count_is_set():
    found = fitted(
        "gpt-oss-120b",
        "hx370-96gb",
        "cpu",
        "120b",
        server={"ctx-size": 4096},
        available_gib=60,
        placement="engine",
    )
    assert found.changes == {"cache-ram": 0, "repack": False}
    on_a_card = fitted("gpt-oss-120b", "hx370-96gb-4060ti", "cuda-12.8", "120b", placement="engine")
    assert not {"gpu-layers", "n-cpu-moe", "ctx-size"} & on_a_card.changes.keys()
    assert "llama.cpp places the model itself" in on_a_card.reasons[0]


def test_a_context_that_is_said_is_kept_unless_less_is_allowed():
    machine = ("snapdragon-x-elite-windows", "cpu", "20b")
    cramped = {"placement": "auto", "available_gib": 14.5}
    kept = fitted("gpt-oss-20b", *machine, server={"ctx-size": 131072}, **cramped)
    assert kept.ledger.settings.context_tokens == 131072
    allowed = fitted("gpt-oss-20b", *machine, server={"ctx-size": 131072, "fit-ctx": 8192}, **cramped)
    assert 8192 <= allowed.ledger.settings.context_tokens < 131072


def test_what_the_running_server_holds_counts_as_free():
    box = ("hx370-96gb-4060ti", "cuda-12.8", "120b")
    cramped = fitted("rtx4060ti-oculink", *box, available_gib=10)
    assert cramped.verdict.status != "fits"
    assert (
        fitted("rtx4060ti-oculink", *box, available_gib=10, held={"RAM": 60 * GIB}).verdict.status == "fits"
    )


def test_what_the_engine_told_counts_and_is_asked_once():
    asked = []

    def told(settings, ask):
        asked.append(ask)
        return [EngineFigures("engine", {"Host": Taken(62_000 * 2**20, 171 * 2**20, 0)})] if ask else []

    server = {"ctx-size": 4096, "gpu-layers": 0, "repack": False, "cache-ram": 0}
    found = fitted("gpt-oss-120b", "hx370-96gb", "cpu", "120b", server=server, placement="pinned", told=told)
    assert asked.count(True) == 1
    (ram,) = found.ledger.accounts
    assert (ram.weights.bytes, ram.weights.source) == (62_000 * 2**20, "engine")


def test_a_draft_model_is_counted_with_the_context_of_its_target():
    server = {"ctx-size": 32768, "gpu-layers": 99, "n-cpu-moe": 32, "cache-ram": 0}
    box = ("hx370-96gb-4060ti", "cuda-12.8", "120b")
    alone = fitted("rtx4060ti-oculink", *box, server=server)
    both = fitted("rtx4060ti-oculink", *box, server={**server, "spec-draft-model": "20b.gguf"}, draft="20b")
    on_card = [found.ledger.accounts[0] for found in (alone, both)]
    more = on_card[1].needed_bytes - on_card[0].needed_bytes
    assert more == pytest.approx((10.7 + 0.8 + 0.1) * GIB, rel=0.1)  # as it takes alone on an RX 9070
    assert on_card[1].anonymous_bytes == on_card[1].needed_bytes
    in_ram = fitted(
        "rtx4060ti-oculink",
        *box,
        server={**server, "spec-draft-model": "20b.gguf", "spec-draft-ngl": 0},
        draft="20b",
    )
    assert in_ram.ledger.accounts[0].needed_bytes - on_card[0].needed_bytes < GIB
    assert not any("spec-draft" in note for note in both.ledger.notes)


# What is not ours


def test_what_is_left_of_a_card_moves_experts_off_it_and_is_said():
    name, box, flavour, size = MEANT[0]
    card = {"CUDA0": 4 * GIB}
    plain = fitted(name, box, flavour, size, placement="auto", server={"ctx-size": 8192})
    less = fitted(name, box, flavour, size, placement="auto", server={"ctx-size": 8192}, leave_bytes=card)
    assert less.verdict.allowed
    assert less.changes["n-cpu-moe"] > plain.changes["n-cpu-moe"]
    assert less.ours == {"CUDA0": less.verdict.judgements[0].pool.total_bytes - 4 * GIB}
    assert less.verdict.judgements[0].needed_bytes <= less.ours["CUDA0"]
    [said] = [note for note in notes_of(less) if note.startswith("memory.leave keeps")]
    assert said.startswith("memory.leave keeps 3.")  # others use the rest of the 4 already
    assert said.endswith("GiB on CUDA0 for others")
    assert plain.ours == {}


def test_llama_cpp_s_own_fitting_is_told_what_to_leave():
    name, box, flavour, size = MEANT[0]
    leave = {"CUDA0": 4 * GIB, "RAM": 8 * GIB}
    found = fitted(name, box, flavour, size, placement="engine", server={}, leave_bytes=leave)
    assert found.changes["fit-target"] == "4096"
    assert any("fit-target 4096" in reason for reason in found.reasons)
    own = fitted(name, box, flavour, size, placement="engine", server={"fit-target": 9000}, leave_bytes=leave)
    assert "fit-target" not in own.changes
    assert "fit-target" not in fitted(name, box, flavour, size, placement="engine", server={}).changes


def test_what_servers_that_stay_hold_is_ours_and_gone():
    name, box, flavour, size = MEANT[2]  # a model in RAM alone
    leave = {"RAM": 8 * GIB}
    alone = fitted(name, box, flavour, size, leave_bytes=leave)
    beside = fitted(name, box, flavour, size, leave_bytes=leave, stays={"RAM": 40 * GIB}, available_gib=50)
    ours = alone.ours["RAM"]
    assert beside.verdict.judgements[-1].pool.free_bytes == min(50 * GIB, ours - 40 * GIB)
    assert "that memory.leave keeps for others" in beside.verdict.judgements[-1].text


def test_strix_halo_with_a_small_card_has_the_120b_on_its_graphics():
    found = fitted("ryzen-ai-max-395", "strix-halo-t400", "vulkan", "120b")
    assert found.verdict.status == "fits"
    gpu, ram = found.verdict.judgements
    assert (gpu.pool.name, gpu.pool.shares_ram) == ("Vulkan1", True)
    assert gpu.needed_bytes > 58 * GIB
    assert ram.needed_bytes > gpu.needed_bytes - GIB  # what the graphics have is RAM
    assert found.changes == {"device": "Vulkan1"}
    assert any("NVIDIA T400 4GB stays idle" in note for note in notes_of(found))


@pytest.mark.parametrize("placement", ["engine", "auto"])
def test_a_small_old_card_beside_a_large_one_gets_nothing_of_the_20b(placement):
    found = fitted("gpt-oss-20b", "gt1030-7900xtx", "vulkan", "20b", placement=placement)
    assert [each.pool.name for each in found.verdict.judgements] == ["Vulkan1", "RAM"]
    assert found.verdict.status == "fits"
    assert found.changes["device"] == "Vulkan1"


def test_a_device_that_the_profile_names_is_kept():
    named = {"device": "Vulkan0", "gpu-layers": 99}
    found = fitted("gpt-oss-20b", "gt1030-7900xtx", "vulkan", "20b", server=named)
    assert "device" not in found.changes
    held = {each.pool.name: each.needed_bytes for each in found.verdict.judgements}
    assert held["Vulkan0"] > 0 == held["Vulkan1"]


def test_a_raspberry_pi_has_the_20b_in_its_ram():
    found = fitted("gpt-oss-20b", "pi5-trixie", "cpu", "20b")
    assert [each.pool.name for each in found.verdict.judgements] == ["RAM"]
    assert found.verdict.allowed
