"""What `tune` may change: by hardware, model, build, goal and what the user says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.engine.build import Build
from supervisor.errors import UsageError
from supervisor.hardware.hardware import Cpu, Gpu, Hardware
from supervisor.options.meanings import pinned
from supervisor.profile.definition import Profile
from supervisor.tune.space import (
    BATCH,
    DEVICE,
    EXPERTS,
    FLASH,
    FLAVOUR,
    LAYERS,
    PLACEMENT,
    SHARED,
    SLOTS,
    THREADS,
    UBATCH,
    space_of,
)

from .memory_machines import GIB, gpt_oss
from .options_builds import era

BOX = Hardware(
    "linux", "x86_64", cpu=Cpu("Ryzen", 12, 4, 24), ram_bytes=128 * GIB, gpus=(Gpu("amd", "RX 9070"),)
)
VULKAN = Build(
    "release",
    "ggml-org/llama.cpp",
    "b11434",
    "vulkan",
    ("llama-server",),
    "",
    pinned(),
    ("Vulkan0: RX 9070",),
)
CPU = replace(VULKAN, flavour="cpu", devices=())
PINNED = Profile("p", server={"gpu-layers": 99, "ctx-size": 32768}, placement="pinned")
MODEL = gpt_oss("20b")


def space(profile=PINNED, hardware=BOX, build=VULKAN, **more):
    return space_of(profile, hardware, MODEL, build, **more)


def axes(*args, **more):
    return {axis.key: axis for axis in space(*args, **more).axes}


def test_layers_and_experts_may_change_where_there_is_a_gpu():
    found = axes()
    assert found[LAYERS].values == (*map(str, range(25)), "all")
    assert (found[LAYERS].now, found[EXPERTS].now) == ("all", "0")
    assert {LAYERS, EXPERTS}.isdisjoint(axes(build=CPU))


def test_what_the_engine_places_is_not_known():
    assert (axes(Profile("q"))[LAYERS].now, axes(Profile("q"))[EXPERTS].now) == ("", "")


def test_threads_are_the_fast_cores_all_of_them_both_threads_of_each_and_half():
    assert axes()[THREADS].values == ("2", "4", "12", "24")
    assert axes()[THREADS].now == "4"
    assert THREADS not in axes(hardware=replace(BOX, cpu=Cpu()))


def test_what_the_engine_would_take_by_itself_is_known():
    """A pasted command line may come from another machine."""
    pasted = {"threads": 12, "ubatch-size": 4096, "batch-size": 4096, "flash-attn": "off", "repack": False}
    found = space(replace(PINNED, server=PINNED.server | pasted)).usual
    assert dict(found) == {
        THREADS: "4",
        UBATCH: "512",
        BATCH: "2048",
        FLASH: "auto",
        "server.repack": "on",
    }
    assert space().usual == ()


def test_an_option_that_the_build_does_not_know_does_not_change():
    old = replace(VULKAN, capabilities=era(6100))
    known = {key.removeprefix("server.") for key in axes(build=old) if key.startswith("server.")}
    assert all(era(6100).find(f"--{name}") or name == "load-mode" for name in known)
    assert EXPERTS in axes()


def test_context_and_cache_types_change_only_if_the_user_says_so():
    assert {"server.ctx-size", "server.cache-type-k"}.isdisjoint(axes())
    varied = axes(varied={"ctx-size": (), "ctk": ()}, min_context_tokens=10000)
    assert varied["server.ctx-size"].values == ("16384", "32768")
    assert "q8_0" in varied["server.cache-type-k"].values


def test_what_is_fixed_does_not_change():
    assert UBATCH not in axes(fixed=("ub",))
    with pytest.raises(UsageError, match="--fix ubatches: there is no such setting"):
        axes(fixed=("ubatches",))
    with pytest.raises(UsageError, match="both fixed and varied"):
        axes(fixed=("ub",), varied={"ubatch-size": ("512",)})
    with pytest.raises(UsageError, match="needs values"):
        axes(varied={"top-k": ()})


def test_more_slots_are_tried_for_a_batch_only_and_share_the_context():
    assert SLOTS not in axes(goal="chat")
    batch = space(goal="batch")
    assert batch.changed((), SLOTS, "8") == ((SHARED, "true"), (SLOTS, "8"))
    own = replace(PINNED, server={**PINNED.server, "parallel": 2})
    assert SLOTS not in axes(own, goal="batch")  # each would get a smaller context


def test_the_profile_itself_is_the_empty_candidate():
    assert space().changed(((UBATCH, "1024"),), UBATCH, "512") == ()


def test_a_ubatch_takes_the_batch_with_it():
    found = space().changed((), UBATCH, "4096")
    assert found == ((BATCH, "4096"), (UBATCH, "4096"))
    assert space().changed(found, BATCH, "1024") == ((BATCH, "1024"), (UBATCH, "1024"))
    assert not space().allows(((UBATCH, "4096"),))


def test_experts_are_moved_only_out_of_layers_that_are_on_the_gpu():
    assert space().allows(((EXPERTS, "12"),))
    assert not space().allows(((EXPERTS, "12"), (LAYERS, "10")))  # the first 15 layers are on the CPU anyway
    assert space().changed(((EXPERTS, "12"),), LAYERS, "10") == ((LAYERS, "10"),)


def test_the_cpu_flavour_has_nothing_on_a_gpu():
    two = replace(VULKAN, devices=("Vulkan0: RX 9070", "Vulkan1: 890M"))
    several = space(build=two, flavours=("cpu",))
    found = several.changed(((DEVICE, "Vulkan0"), (EXPERTS, "3")), FLAVOUR, "cpu")
    assert found == ((FLAVOUR, "cpu"), (LAYERS, "0"))
    assert several.allows(found)
    assert not several.allows(((FLAVOUR, "cpu"),))


def test_a_placement_by_others_ends_where_layers_are_set():
    placed = ((PLACEMENT, "auto"),)
    assert space().value(placed, LAYERS) == ""
    assert space().changed(placed, UBATCH, "1024") == ((PLACEMENT, "auto"), (UBATCH, "1024"))
    assert space().changed(placed, LAYERS, "12") == ((LAYERS, "12"),)


def test_a_quantised_cache_needs_flash_attention():
    varied = space(varied={"cache-type-v": ()})
    assert not varied.allows((("server.cache-type-v", "q8_0"), (FLASH, "off")))
    assert varied.allows((("server.cache-type-v", "q8_0"),))
