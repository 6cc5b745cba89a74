"""Which profile is made for which computer, and why the others are not."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.hardware.hardware import Gpu, Hardware
from supervisor.profile.definition import Engine, Match, ModelSource, Profile
from supervisor.profile.matching import Fit, Unfit, missing_gpu, rank, rank_stored, why_not
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

GIB = 1024**3
CARD = Gpu("nvidia", "NVIDIA GeForce RTX 4060 Ti", memory_bytes=16 * GIB, integrated=False, unified=False)
GRAPHICS = Gpu(
    "amd",
    "AMD Radeon 890M",
    memory_bytes=48 * GIB,
    shared_bytes=47 * GIB,
    integrated=True,
    unified=True,
)
PC = Hardware("linux", "x86_64", ram_bytes=94 * GIB, gpus=(GRAPHICS, CARD))
BARE = Hardware("linux", "x86_64", ram_bytes=32 * GIB)
SHIPPED = ProfileStore(Path("/nonexistent"))


@cache
def shipped():
    """Those of llama.cpp that `rank_stored` keeps; of the others it keeps those whose program is installed."""
    found = (resolve(name, SHIPPED) for name in SHIPPED.names())
    return tuple(profile for profile in found if profile.can_start and not profile.engine.command)


def profile(name, repo="", **match):
    return Profile(name, match=Match(**match), model=ModelSource(repo=repo or None))


@pytest.mark.parametrize(
    ("match", "reasons"),
    [
        (Match(), ()),
        (Match(os=("linux",), arch=("x86_64", "arm64"), ram_min_bytes=94 * GIB), ()),
        (Match(os=("macos",)), ("it runs linux, macos is asked for",)),
        (Match(os=("macos", "windows")), ("it runs linux, macos or windows is asked for",)),
        (Match(arch=("arm64",)), ("it is x86_64, arm64 is asked for",)),
        (Match(ram_min_bytes=96 * GIB), ("it has 95 GiB of RAM, 96 GiB or more are asked for",)),
        (Match(ram_max_bytes=66 * GIB), ("it has 95 GiB of RAM, 66 GiB or less are asked for",)),
        (Match(gpu_vendor=("nvidia",), gpu_name="*rtx 4060 ti*"), ()),
        (Match(gpu_vendor=("intel",)), ("its AMD Radeon 890M is no GPU of intel",)),
        (
            Match(gpu_vendor=("nvidia",), gpu_memory_min_bytes=24 * GIB),
            ("its NVIDIA GeForce RTX 4060 Ti has 16 GiB of its own, 24 GiB or more are asked for",),
        ),
        (Match(gpu_vendor=("amd",), unified=False), ("its AMD Radeon 890M shares the main memory",)),
        (
            Match(gpu_vendor=("nvidia",), unified=True),
            ("its NVIDIA GeForce RTX 4060 Ti has memory of its own",),
        ),
        (Match(gpu_name="*RX 9070*"), ("its GPU is called AMD Radeon 890M, *RX 9070* is asked for",)),
        (Match(gpu_vendor=("none",)), ("it has a GPU (AMD Radeon 890M), none is asked for",)),
        (Match(gpu_vendor=("none", "nvidia")), ()),
    ],
)
def test_each_thing_that_does_not_match_is_a_clause(match, reasons):
    assert why_not(match, PC) == reasons


def test_all_that_is_asked_of_a_gpu_must_be_true_of_one():
    assert why_not(Match(gpu_vendor=("nvidia",), unified=True), PC)
    assert why_not(Match(gpu_vendor=("amd",), gpu_memory_min_bytes=15 * GIB), PC)  # 1 of its 48 is its own


def test_a_machine_without_a_gpu():
    wanted = Match(gpu_vendor=("intel",), gpu_name="*Arc*", unified=True)
    assert why_not(wanted, BARE) == ("it has no GPU, one of intel called *Arc* is asked for",)
    assert why_not(Match(gpu_vendor=("none",)), BARE) == ()


def test_what_is_not_known_does_not_match():
    dark = Hardware("linux", "", gpus=(Gpu("nvidia", device_id="10de:2803"),))
    wanted = Match(("linux",), ("x86_64",), GIB, None, ("nvidia",), "*4060*", GIB, unified=False)
    assert why_not(wanted, dark) == (
        "it is of an unknown kind, x86_64 is asked for",
        "its RAM is not known",
        "the name of its GPU 10de:2803 is not known",
        "the memory of its GPU 10de:2803 is not known",
        "whether its GPU 10de:2803 shares the main memory is not known",
    )


def test_what_the_firmware_gave_to_the_graphics_is_ram_that_was_bought():
    carved = replace(GRAPHICS, memory_bytes=96 * GIB, shared_bytes=0)
    box = Hardware("linux", "x86_64", ram_bytes=31 * GIB, gpus=(carved,))
    assert why_not(Match(ram_min_bytes=120 * GIB), box) == ()


def test_a_card_goes_before_graphics_in_the_processor():
    ranking = rank(shipped(), PC)
    assert ranking.best.name == "rtx4060ti-oculink"
    assert [fit.name for fit in ranking.others] == [
        "xg1-370-96gb-cpu",
        *("gpt-oss-120b", "gpt-oss-20b", "qwen3.6-35b-a3b-mtp", "qwen3.6-35b-a3b", "glm-4.7-flash"),
        *("qwen3.8-27b", "gemma-4-26b-a4b", "gemma-4-e4b", "qwen3.5-0.8b"),
        *("qwen3-reranker-0.6b", "qwen3-embedding-0.6b", "demo"),
    ], "gpt-oss first, then other models for chats, larger ones first"


def test_the_worker_is_no_profile_to_start_a_model_with():
    ranking = rank_stored(SHIPPED, PC)
    assert "worker" not in {each.name for each in (ranking.best, *ranking.others, *ranking.unfit)}


def test_a_gpus_name_goes_before_any_number_of_other_keys():
    named = profile("named", gpu_name="*4060*")
    much = profile("much", os=("linux",), arch=("x86_64",), gpu_vendor=("nvidia",), ram_min_bytes=GIB)
    assert rank([much, named], PC).best == Fit("named", "made for a GPU called *4060*")
    assert rank([much, profile("less", os=("linux",))], PC).best.name == "much"


def test_among_equals_ones_own_goes_first_then_the_larger_model_that_fits():
    small = profile("a-small", "ggml-org/gpt-oss-20b-GGUF", os=("linux",))
    large = profile("b-large", "ggml-org/gpt-oss-120b-GGUF", os=("linux",))
    assert rank([small, large], PC).best.name == "b-large"
    assert rank([small, large], BARE).best.name == "a-small"
    assert rank([small, large], PC, own=["a-small"]).best.name == "a-small"


@pytest.mark.parametrize(
    ("ram", "best", "reason"),
    [
        (
            15.4,
            "gpt-oss-20b",
            "no profile is made for this machine; it has 15.4 GiB of memory, enough for gpt-oss-20b",
        ),
        (
            256,
            "gpt-oss-20b",
            "no profile is made for this machine; it has 256 GiB of memory, enough for gpt-oss-20b",
        ),
        (
            7.7,
            "gemma-4-e4b",
            "no profile is made for this machine; it has 7.7 GiB of memory, and gpt-oss-20b needs 16 GiB",
        ),
        (
            3.9,
            "qwen3.5-0.8b",
            "no profile is made for this machine; it has 3.9 GiB of memory, and gpt-oss-20b needs 16 GiB",
        ),
        (
            2,
            "demo",
            "no profile is made for this machine; it has 2 GiB of memory, and gpt-oss-20b needs 16 GiB",
        ),
        (
            None,
            "demo",
            "no profile is made for this machine; how much memory it has is not known, and gpt-oss-20b "
            "needs 16 GiB",
        ),
    ],
)
def test_where_no_profile_is_made_for_the_machine_the_memory_decides(ram, best, reason):
    bare = Hardware("linux", "x86_64", ram_bytes=None if ram is None else round(ram * GIB))
    assert rank(shipped(), bare).best == Fit(best, reason)


def test_memory_of_cards_and_ram_count_together():
    box = Hardware("linux", "x86_64", ram_bytes=8 * GIB, gpus=(replace(CARD, memory_bytes=8 * GIB),))
    assert rank(shipped(), box).best.name == "gpt-oss-20b"


def test_a_model_that_is_larger_than_all_memory_does_not_fit_any_machine():
    reasons = {unfit.name: unfit.reasons for unfit in rank(shipped(), BARE).unfit}
    assert reasons["gpt-oss-120b"] == ("it has 32 GiB of memory, the model takes 59 GiB",)


MINE = Fit("mine", "no profile is made for this machine, and this one of yours is for any machine")


@pytest.mark.parametrize(
    ("looked", "best", "told"),
    [
        (("", 10 * GIB), MINE, None),
        (
            ("", 0),
            "gpt-oss-20b",
            Fit(
                "mine",
                "for any machine; how large its model is, is not known: goss-supervisor plan mine",
            ),
        ),
        (
            ("", 40 * GIB),
            "gpt-oss-20b",
            Unfit("mine", ("it has 32 GiB of memory, the model takes 40 GiB",)),
        ),
        (("its model is not there", 0), "gpt-oss-20b", Unfit("mine", ("its model is not there",))),
    ],
)
def test_the_users_own_for_any_machine_goes_first_only_where_it_is_known_to_fit(tmp_path, looked, best, told):
    (tmp_path / "mine.yaml").write_text("model: /models/mine.gguf\n")
    (tmp_path / "demo.yaml").write_text("extends: demo\n")
    asked = []
    ranking = rank_stored(ProfileStore(tmp_path), BARE, lambda profile: asked.append(profile.name) or looked)
    assert best in (ranking.best, ranking.best.name)
    assert told is None or told in (*ranking.others, *ranking.unfit)
    assert asked == ["demo", "mine"], "the shipped ones are not looked at"


def test_the_users_own_embedding_model_is_never_the_best(tmp_path):
    (tmp_path / "vectors.yaml").write_text("extends: qwen3-embedding-0.6b\n")
    (tmp_path / "ranks.yaml").write_text("model: /m/ranks.gguf\nserver: {reranking: true}\n")
    ranking = rank_stored(ProfileStore(tmp_path), BARE, lambda _profile: ("", GIB))
    assert ranking.best.name == "gpt-oss-20b"
    assert {"vectors", "ranks"} <= {fit.name for fit in ranking.others}


def test_a_broken_profile_stops_nobody(tmp_path):
    (tmp_path / "broken.yaml").write_text("modell: demo\n")
    ranking = rank_stored(ProfileStore(tmp_path), BARE)
    assert ranking.best.name == "gpt-oss-20b"
    assert ranking.unfit[-1].reasons == ("it has mistakes: goss-supervisor profile check broken",)


def test_without_any_profile_there_is_no_best():
    assert rank([], PC) == rank([], BARE)
    assert rank([], PC).best is None


@given(st.permutations(shipped()), st.sampled_from([PC, BARE]))
def test_the_order_of_the_profiles_does_not_matter(profiles, hardware):
    assert rank(profiles, hardware) == rank(shipped(), hardware)


@given(st.sampled_from([PC, BARE, replace(PC, gpus=(CARD,)), replace(PC, os="windows")]))
def test_every_profile_is_told_of_once(hardware):
    ranking = rank(shipped(), hardware)
    told = [
        ranking.best.name,
        *(fit.name for fit in ranking.others),
        *(unfit.name for unfit in ranking.unfit),
    ]
    assert sorted(told) == sorted(profile.name for profile in shipped())
    assert all(unfit.reasons for unfit in ranking.unfit)


RTX = {"gpu_vendor": ("nvidia",), "gpu_name": "*RTX 4060 Ti*", "gpu_memory_min_bytes": 15 * GIB}


@pytest.mark.parametrize(
    ("match", "flavour", "gpus", "is_fatal"),
    [
        (RTX, "cuda", (CARD, GRAPHICS), None),
        (RTX, "cuda", (replace(CARD, name=""),), None),  # it may be this one
        (RTX, "cuda", (replace(CARD, memory_bytes=8 * GIB),), None),  # it is there, and smaller
        (RTX, "cuda", (GRAPHICS,), True),
        (RTX, "cuda", (), True),
        (RTX, "cuda", (replace(CARD, name="NVIDIA GeForce RTX 3060"),), False),  # another card may do
        (RTX, "cuda", (replace(CARD, vendor="amd", name="AMD Radeon RX 9070"),), True),
        (RTX, "vulkan", (replace(CARD, vendor="amd", name="AMD Radeon RX 9070"),), False),
        (RTX, None, (GRAPHICS,), False),  # it asks for no GPU: the CPU will do
        ({"gpu_vendor": ("intel",), "unified": True}, "vulkan", (GRAPHICS,), False),
        ({"gpu_vendor": ("none",)}, "cpu", (CARD,), None),
        ({"os": ("linux",)}, "vulkan", (), None),
    ],
)
def test_a_card_that_is_absent_is_fatal_where_nothing_takes_its_place(match, flavour, gpus, is_fatal):
    wanted = replace(profile("mine", **match), engine=Engine(flavour=flavour))
    found = missing_gpu(wanted, replace(PC, gpus=gpus))
    assert (found and found.is_fatal) == is_fatal
