import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.memory.accounts import Account, Ledger
from supervisor.memory.verdict import (
    MemoryVerdict,
    given_back,
    judge,
    kept_bytes,
    leaving,
    ours_of,
    reserve_bytes,
    sizes,
    whole,
)

from .memory_machines import GIB, MIB, account, gpu, like_120b, ram

SETTINGS = like_120b((ram(64, 60),), {}).weigh({}).settings
ORDER = ("fits", "tight", "unknown", "does not fit")


def judged(*accounts: Account, guardrails="balanced") -> MemoryVerdict:
    return judge(Ledger(accounts, (), SETTINGS), guardrails)


@pytest.mark.parametrize(
    ("total_gib", "reserve_gib"), [(2, 0.25), (8, 1), (16, 2), (32, 2), (64, 4), (96, 6), (128, 8)]
)
def test_the_reserve_of_the_ram_grows_with_the_machine_and_leaves_small_ones_usable(total_gib, reserve_gib):
    assert reserve_bytes(ram(total_gib, total_gib / 2)) == reserve_gib * GIB


def test_a_card_that_nobody_else_uses_keeps_half_of_what_a_desktop_s_card_does():
    assert reserve_bytes(gpu("CUDA0", 16, 15.6)) == 512 * MIB
    assert reserve_bytes(gpu("CUDA0", 16, 14.9)) == 1024 * MIB


def test_a_gpu_that_shares_the_ram_keeps_no_reserve_beside_the_ram_s():
    assert reserve_bytes(gpu("MTL0", 96, 96, shares_ram=True)) == 0


@pytest.mark.parametrize(("guardrails", "kept"), [("off", 0), ("relaxed", 0), ("balanced", 4), ("strict", 4)])
def test_only_balanced_and_strict_refuse_the_reserve(guardrails, kept):
    assert kept_bytes(ram(64, 60), guardrails) == kept * GIB


def test_what_leaves_the_reserve_alone_fits():
    verdict = judged(account(gpu("CUDA0", 16, 15.6), 13 * GIB), account(ram(96, 90), 50 * GIB))
    assert verdict.status == "fits"
    assert not verdict.refused
    assert verdict.judgements[0].text == "needs 13.0 GiB of the 15.6 GiB that are free on CUDA0"


def test_more_than_a_card_has_free_is_refused_with_both_figures():
    verdict = judged(account(gpu("CUDA0", 16, 15.9), int(17.6 * GIB)), account(ram(96, 90), 30 * GIB))
    assert verdict.refused
    assert [each.pool.name for each in verdict.short] == ["CUDA0"]
    assert verdict.short[0].text == "needs 17.6 GiB of the 15.9 GiB that are free on CUDA0"


def test_what_goes_into_the_reserve_is_refused_by_balanced_and_tight_when_relaxed():
    accounts = account(gpu("CUDA0", 16, 14), int(13.5 * GIB)), account(ram(96, 90), 30 * GIB)
    refused = judged(*accounts)
    assert refused.refused
    assert refused.short[0].text.endswith(
        "needs 13.5 GiB of the 14.0 GiB that are free on CUDA0, "
        "1.0 GiB of which are left to the system and the desktop"
    )
    relaxed = judged(*accounts, guardrails="relaxed")
    assert relaxed.status == "tight"
    assert relaxed.judgements[0].text.endswith("which leaves only 512 MiB for everything else")


def test_a_mapped_file_larger_than_the_ram_is_tight_and_said_to_be_slow():
    verdict = judged(account(ram(64, 58), 60 * GIB, anonymous=2 * GIB))
    assert verdict.status == "tight"
    assert not verdict.refused
    assert verdict.paged_bytes == 6 * GIB
    assert "up to 6.0 GiB of the model's file are read from the disk again and again" in (
        verdict.judgements[0].text
    )


def test_strict_refuses_what_would_be_read_again():
    verdict = judged(account(ram(64, 58), 60 * GIB, anonymous=2 * GIB), guardrails="strict")
    assert verdict.refused
    assert verdict.paged_bytes == 0


def test_memory_that_cannot_be_dropped_is_refused_and_said_to_be_that():
    verdict = judged(account(ram(64, 58), 61 * GIB, anonymous=59 * GIB))
    assert verdict.refused
    assert verdict.short[0].text.endswith("59.0 GiB of it cannot be read from the disk again")


def test_off_refuses_nothing_and_still_says_that_it_does_not_fit():
    verdict = judged(account(gpu("CUDA0", 16, 15.9), 60 * GIB), account(ram(96, 90), GIB), guardrails="off")
    assert verdict.status == "does not fit"
    assert not verdict.refused
    assert not verdict.allowed


def test_free_memory_that_nobody_knows_is_unknown_and_not_refused():
    verdict = judged(account(gpu("Vulkan0", 16, None), 12 * GIB), account(ram(32, 28), GIB))
    assert verdict.status == "unknown"
    assert not verdict.refused
    assert verdict.judgements[0].text == "needs 12.0 GiB on Vulkan0; how much of it is free is not known"


def test_a_gpu_that_is_not_used_needs_no_figure():
    verdict = judged(account(gpu("Vulkan0", 16, None), 0), account(ram(32, 28), GIB))
    assert verdict.status == "fits"


def test_what_a_gpu_takes_of_the_shared_ram_counts_against_the_ram():
    shared = account(gpu("MTL0", 96, 96, shares_ram=True), 70 * GIB)
    verdict = judged(shared, account(ram(128, 100), 30 * GIB, anonymous=30 * GIB))
    assert [each.status for each in verdict.judgements] == ["fits", "does not fit"]
    assert verdict.short[0].text.startswith("needs 100.0 GiB of the 100.0 GiB that are free in RAM")


def test_a_gpu_s_part_of_the_shared_ram_is_never_taken_for_a_mapped_file():
    shared = account(gpu("MTL0", 96, 96, shares_ram=True), 70 * GIB, anonymous=0)
    verdict = judged(shared, account(ram(128, 60), 2 * GIB, anonymous=0))
    assert verdict.refused


def test_what_the_firmware_carved_out_of_the_ram_is_not_taken_from_it_again():
    """Ryzen AI Max+ 395, 128 GB of which the firmware gave 96 to the graphics."""
    shared = account(gpu("Vulkan0", 112, 110, shares_ram=True, own_gib=96), 66 * GIB)
    verdict = judged(shared, account(ram(31, 28), 3 * GIB))
    assert verdict.status == "fits"
    assert verdict.judgements[1].needed_bytes == 3 * GIB


def test_figures_that_differ_never_look_the_same():
    assert sizes(int(15.92 * GIB), int(15.94 * GIB)) == ("16302 MiB", "16323 MiB")
    assert sizes(5 * GIB, 5 * GIB) == ("5.0 GiB", "5.0 GiB")
    assert sizes(300 * MIB) == ("300 MiB",)
    assert sizes(31 * MIB, 22 * GIB) == ("31 MiB", "22.0 GiB")


amounts = st.integers(0, 200 * GIB)


@given(free=amounts, mapped=amounts, anonymous=amounts, on_gpu=amounts, more=amounts)
def test_guardrails_that_are_stricter_never_allow_more_and_more_memory_never_less(
    free, mapped, anonymous, on_gpu, more
):
    def status(guardrails, free):
        memory = ram(256, free / GIB)
        shared = gpu("MTL0", 256, free / GIB, shares_ram=True)
        verdict = judged(
            account(shared, on_gpu), account(memory, mapped + anonymous, anonymous), guardrails=guardrails
        )
        return ORDER.index(verdict.status)

    levels = [status(each, free) for each in ("off", "relaxed", "balanced", "strict")]
    assert levels == sorted(levels)
    assert status("balanced", free + more) <= status("balanced", free)


# What is not ours


def left(pool, leave_gib, stays_gib=0):
    ours = ours_of((pool,), {pool.name: leave_gib * GIB})
    return leaving((pool,), ours, {pool.name: stays_gib * GIB})[0]


@pytest.mark.parametrize(
    ("free", "leave", "stays", "free_for_us"),
    [
        (22, 4, 0, 20),  # others use 2 of their 4 already: 2 more are kept for them
        (18, 4, 0, 18),  # they use more than theirs: what is free is ours
        (2, 4, 20, 0),  # ours are all taken by servers that stay
        (12, 4, 10, 10),  # what our own servers hold is not counted as others'
        (24, 0, 0, 24),
    ],
)
def test_what_is_left_to_others_counts_with_what_they_use_already(free, leave, stays, free_for_us):
    pool = left(gpu("CUDA0", 24, free), leave, stays)
    assert pool.free_bytes == free_for_us * GIB
    assert whole(pool) == gpu("CUDA0", 24, free)


def test_memories_that_nobody_named_and_those_of_which_nothing_is_known_stay_as_they_are():
    card, unknown = gpu("CUDA0", 24, 22), gpu("CUDA1", 24, None)
    assert leaving((card, unknown), ours_of((card, unknown), {"CUDA1": 4 * GIB, "RAM": 1}), {}) == (
        card,
        unknown,
    )


def test_the_reserve_is_a_part_of_what_is_left():
    assert reserve_bytes(left(ram(64, 60), 5)) == 3 * GIB  # 4 in all: 1 of it is kept for others anyway
    assert reserve_bytes(left(ram(64, 60), 12)) == 0


def test_what_does_not_fit_because_of_it_says_so():
    verdict = judged(account(left(gpu("CUDA0", 24, 23), 8), 18 * GIB), account(ram(96, 90), 1 * GIB))
    assert verdict.refused
    assert verdict.short[0].text == (
        "needs 18.0 GiB of the 16.0 GiB that are free on CUDA0 without the 7.0 GiB that memory.leave keeps for "
        "others"
    )
    assert not judged(account(gpu("CUDA0", 24, 23), 18 * GIB), account(ram(96, 90), 1 * GIB)).refused


@given(st.integers(0, 64), st.integers(0, 70), st.integers(0, 64), st.integers(0, 64))
def test_we_never_have_more_than_what_is_ours(free, leave, held, stays):
    pool = left(given_back((ram(64, free),), {"RAM": held * GIB})[0], leave, stays)
    assert pool.free_bytes + stays * GIB <= max(64 - leave, stays) * GIB
    assert 0 <= pool.free_bytes <= 64 * GIB
    assert reserve_bytes(pool) + pool.left_bytes >= reserve_bytes(whole(pool))
