"""Memories of workers: what goes to them, in llama.cpp's words, and how they are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.engine.local_engines import promised
from supervisor.hardware.detection import detect
from supervisor.memory.accounts import RAM, Account, Figure, Ledger, Pool
from supervisor.memory.calibrated import calibrated
from supervisor.memory.engine_figures import measured
from supervisor.memory.fit_params import question
from supervisor.memory.fitting import fit, notes_of
from supervisor.memory.memory_settings import settings_of
from supervisor.memory.verdict import reserve_bytes
from supervisor.memory.worker_memory import Remote
from supervisor.options.meanings import pinned
from supervisor.profile.definition import Profile

from .hardware.recorded import load
from .memory_machines import GIB, gpt_oss

CARD, NO_CARD = ("ryzen-9700x-rx9070", "vulkan"), ("hx370-96gb", "cpu")  # 16 GB of its own; 96 GB of RAM
MINI = Remote("mini2.local:50052", ((12 * GIB, 16 * GIB),))
BIG = Remote("10.0.0.3:50052", ((60 * GIB, 64 * GIB),))


def fitted(box, size, remotes, *, placement="auto", **server):
    server = {"ctx-size": 8192, **{name.replace("_", "-"): value for name, value in server.items()}}
    profile = Profile("p", server=server, placement=placement)
    name, flavour = box
    build = promised("not here", flavour=flavour)
    return fit(profile, gpt_oss(size), build, detect(Path(), load(name)), remotes=remotes)


def where(found):
    """The options that say what goes where."""
    return {name: found.changes[name] for name in ("rpc", "device", "tensor-split") if name in found.changes}


def test_a_model_that_the_card_here_holds_goes_to_no_worker():
    found = fitted(CARD, "20b", (MINI,))
    assert found.workers == ()
    assert where(found) == {"device": "Vulkan0"}


def test_the_card_here_is_filled_first_then_the_workers_as_they_are_named():
    """The last device has the output, and a worker that had it would send logits back."""
    assert where(fitted(CARD, "120b", (MINI, BIG))) == {
        "rpc": "mini2.local:50052,10.0.0.3:50052",
        "device": "RPC1,RPC0,Vulkan0",
        "tensor-split": "24,5,8",
    }


def test_a_worker_that_is_not_needed_is_not_connected_to():
    found = fitted(CARD, "120b", (BIG, MINI))
    assert where(found) == {"rpc": "10.0.0.3:50052", "device": "RPC0,Vulkan0", "tensor-split": "29,8"}
    assert found.workers == ("10.0.0.3:50052",)


def test_layers_whose_experts_are_here_stay_on_the_card_here():
    found = fitted(CARD, "120b", (MINI,))
    assert found.changes["n-cpu-moe"] == 23
    assert where(found) == {"rpc": "mini2.local:50052", "device": "Vulkan0,RPC0", "tensor-split": "30,7"}
    assert "on RPC0 (mini2.local:50052)" in " ".join(notes_of(found))


def test_without_a_gpu_here_the_first_worker_is_filled_first():
    assert where(fitted(NO_CARD, "120b", (MINI, BIG)))["device"] == "RPC1,RPC0"


@pytest.mark.parametrize(("placement", "more"), [("auto", {}), ("pinned", {"gpu_layers": 99})])
@pytest.mark.parametrize("remotes", [(MINI, BIG), (BIG,), (BIG, MINI)])
def test_what_is_placed_fits_every_memory(placement, more, remotes):
    assert fitted(CARD, "120b", remotes, placement=placement, **more).verdict.allowed


@pytest.mark.parametrize(("placement", "more"), [("auto", {}), ("pinned", {"gpu_layers": 99})])
def test_a_split_of_ours_is_explained(placement, more):
    found = fitted(CARD, "120b", (BIG,), placement=placement, **more)
    said = f"tensor-split {found.changes['tensor-split']} for RPC0,Vulkan0: this computer's GPUs are filled first"
    assert any(reason.startswith(said) for reason in found.reasons)
    alone = fitted(CARD, "20b", (), placement=placement, **more)
    assert not any(reason.startswith("tensor-split") for reason in alone.reasons)


def test_a_load_that_fails_moves_no_experts_between_machines():
    assert fitted(CARD, "120b", (BIG,)).step_back == {"ubatch-size": 2048}


def test_the_split_of_a_profile_is_kept_with_the_order_of_llama_cpp():
    found = fitted(CARD, "120b", (MINI,), placement="pinned", gpu_layers=99, tensor_split="1,1")
    assert where(found) == {"rpc": "mini2.local:50052"}
    first, second, _ = found.verdict.judgements
    assert (first.pool.label, second.pool.name) == ("RPC0 (mini2.local:50052)", "Vulkan0")
    assert found.refusal.startswith(
        "needs 31.0 GiB of the 12.0 GiB that are free on RPC0 (mini2.local:50052)"
    )


def test_a_placement_that_is_left_to_llama_cpp_only_gets_the_workers():
    found = fitted(CARD, "120b", (MINI,), placement="engine")
    assert where(found) == {"rpc": "mini2.local:50052"}


def test_plans_call_a_memory_of_a_worker_by_its_address():
    two = Remote("10.0.0.3:50052", ((30 * GIB, 32 * GIB), (30 * GIB, 32 * GIB)))
    found = fitted(CARD, "120b", (two,))
    assert set(found.held) == {"Vulkan0", "10.0.0.3:50052", RAM}
    both = [each.needed_bytes for each in found.ledger.accounts if each.pool.worker]
    assert len(both) == 2
    assert found.held["10.0.0.3:50052"] == sum(both)


def test_a_memory_of_which_nothing_is_known_is_not_guessed():
    found = fitted(CARD, "120b", (Remote("10.0.0.3:50052", ((None, None),)),))
    assert "how much is free on RPC0 (10.0.0.3:50052) is not known, so nothing is placed" in found.reasons


def test_the_ram_of_a_worker_keeps_the_reserve_of_a_ram_and_a_note_says_so():
    ram = Remote("10.0.0.3:50052", ((64 * GIB, 64 * GIB),))
    found = fitted(CARD, "120b", (ram,))
    assert reserve_bytes(found.verdict.judgements[1].pool) == 4 * GIB
    assert "how much of it other programs need is not known" in " ".join(notes_of(found))


def test_the_engine_is_asked_with_the_workers_before_the_devices_are_named():
    model = gpt_oss("20b")
    settings = settings_of({"rpc": "10.0.0.3:50052", "device": "RPC0"}, None, model)
    words = question(replace(promised("x"), capabilities=pinned()), settings)
    assert words.index("--rpc") < words.index("--device")
    assert words[words.index("--rpc") + 1] == "10.0.0.3:50052"


LOG = """\
load_tensors:   CPU_Mapped model buffer size =    28.69 MiB
load_tensors: RPC0[10.0.0.2:50052] model buffer size =    33.82 MiB
load_tensors: RPC0[10.0.0.3:50052] model buffer size =    58.28 MiB
llama_kv_cache: RPC0[10.0.0.2:50052] KV buffer size =    48.00 MiB
llama_kv_cache: RPC0[10.0.0.3:50052] KV buffer size =    42.00 MiB
sched_reserve: RPC0[10.0.0.2:50052] compute buffer size =    43.05 MiB
sched_reserve: RPC0[10.0.0.3:50052] compute buffer size =    32.91 MiB
sched_reserve:        CPU compute buffer size =    27.32 MiB
"""  # b11434


def test_a_log_that_calls_each_worker_rpc0_is_told_apart_by_their_addresses():
    nothing = Figure(0)
    pools = (
        Pool("RPC0", None, None, worker="10.0.0.2:50052"),
        Pool("RPC1", None, None, worker="10.0.0.3:50052"),
        Pool(RAM, None, None),
    )
    accounts = tuple(Account(pool, nothing, nothing, nothing, nothing, 0) for pool in pools)
    settings = settings_of({}, None, gpt_oss("20b"))
    found = calibrated(Ledger(accounts, (), settings), [measured(LOG.splitlines())])
    figures = [
        (round(each.weights.bytes / 2**20, 1), each.context.bytes >> 20, round(each.compute.bytes / 2**20))
        for each in found.accounts[:2]
    ]
    assert figures == [(33.8, 47, 43), (58.3, 41, 33)]
