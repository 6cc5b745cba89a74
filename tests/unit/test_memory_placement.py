from hypothesis import given
from hypothesis import strategies as st

from supervisor.memory.placement import Proposal, WantedPlacement, ladder, propose

from .memory_machines import MIB, MadeUp, gpu, like_120b, ram


def proposed(made: MadeUp, *, context=32768, least=None, guardrails="balanced") -> Proposal:
    wanted = WantedPlacement(made.options, made.layers, 128, context, least or context)
    return propose(wanted, made.weigh, guardrails)


def test_the_ladder_never_puts_more_on_the_gpu_than_the_rung_above():
    stretches = ladder(36, 128, (4096, 2048, 1024, 512), 4096, shares_ram=False).stretches
    rungs = [rung for stretch in stretches for rung in stretch]
    placed = [(rung.gpu_layers, rung.gpu_layers and -rung.cpu_experts) for rung in rungs]
    assert placed == sorted(placed, reverse=True)
    assert rungs[-1].is_left_out


def test_16_gb_beside_much_ram_take_some_experts_and_a_large_ubatch():
    proposal = proposed(like_120b((gpu("CUDA0", 16, 15.58), ram(94, 88)), {}))
    assert proposal.verdict.status == "fits"
    assert proposal.changes["gpu-layers"] == 99
    assert proposal.changes["ubatch-size"] == proposal.changes["batch-size"] == 4096
    assert "cpu-moe" not in proposal.changes
    one_less = "experts of 30 of 36 layers in RAM: with one less it needs 15.2 GiB of the 15.6 GiB"
    assert one_less in proposal.reasons[0]


def test_everything_that_goes_on_the_gpu_goes_there():
    proposal = proposed(like_120b((gpu("CUDA0", 80, 79.6), ram(64, 60)), {}))
    assert proposal.changes == {
        "ctx-size": 32768,
        "gpu-layers": 99,
        "ubatch-size": 4096,
        "batch-size": 4096,
    }
    assert proposal.reasons[0] == "all 36 layers on CUDA0"


def test_one_pool_too_small_keeps_the_experts_mapped_where_they_can_be_dropped():
    pools = gpu("Vulkan0", 46, 46, shares_ram=True), ram(62, 58)
    proposal = proposed(like_120b(pools, {}), context=4096)
    assert proposal.verdict.status == "tight"
    assert proposal.changes["cpu-moe"] is True
    assert proposal.changes["repack"] is False
    assert proposal.changes["cache-ram"] == 0
    assert "mapped from the file" in proposal.reasons[0]


def test_one_pool_that_is_large_enough_has_all_of_it_on_the_gpu():
    pools = gpu("MTL0", 96, 96, shares_ram=True), ram(128, 110)
    proposal = proposed(like_120b(pools, {}), context=131072)
    assert proposal.verdict.status == "fits"
    assert proposal.reasons[0] == "all 36 layers on MTL0"


def test_a_machine_without_a_gpu_says_what_stays_free():
    proposal = proposed(like_120b((ram(87, 82),), {}), context=131072)
    assert proposal.changes == {"ctx-size": 131072}
    assert "in RAM: there is no GPU to use" in proposal.reasons[0]
    assert proposal.reasons[-1].endswith("stay free in RAM")


def test_old_prompts_are_given_up_before_the_experts_stay_as_they_are_in_the_file():
    assert proposed(like_120b((ram(74, 70),), {})).changes["cache-ram"] == 2048
    tighter = proposed(like_120b((ram(70, 64.5),), {}))
    assert tighter.changes["repack"] is False
    assert tighter.changes["cache-ram"] == 0


def test_what_the_profile_sets_is_never_changed():
    options = {"cache-ram": 4096, "repack": True, "ubatch-size": 1024}
    proposal = proposed(like_120b((gpu("CUDA0", 16, 15.58), ram(64, 58)), options))
    assert not options.keys() & proposal.changes.keys()


def test_less_context_is_taken_only_where_it_is_allowed_and_needed():
    small = like_120b((gpu("CUDA0", 8, 7.6), ram(46, 44)), {"repack": True, "cache-ram": 0}, layers=22)
    assert proposed(small, context=131072).changes["ctx-size"] == 131072
    tiny = like_120b((ram(10, 6),), {"cache-ram": 0}, layers=2)
    assert proposed(tiny, context=1048576).verdict.status == "tight"
    less = proposed(tiny, context=1048576, least=4096)
    assert less.verdict.status == "fits"
    assert less.changes["ctx-size"] == 262144
    assert less.reasons[1].startswith("context 262144 instead of 1048576, which needs")


def test_nothing_goes_in_is_said_so_with_the_least_that_was_tried():
    proposal = proposed(like_120b((gpu("CUDA0", 4, 3.6), ram(16, 12)), {}), guardrails="strict")
    assert proposal.verdict.refused
    assert proposal.reasons[0].startswith("nothing goes in: even the least needs")


def test_nothing_is_placed_where_the_free_memory_is_not_known():
    proposal = proposed(like_120b((gpu("Vulkan0", 16, None), ram(64, 60)), {}))
    assert proposal.changes == {}
    assert proposal.reasons == ("how much is free on Vulkan0 is not known, so nothing is placed",)


def test_a_gpu_too_small_for_all_layers_without_their_experts_gets_some_of_them():
    proposal = proposed(like_120b((gpu("CUDA0", 2, 1.9), ram(94, 88)), {}))
    assert proposal.verdict.status == "fits"
    assert 0 < proposal.changes["gpu-layers"] < 36
    assert "and all experts in RAM" in proposal.reasons[0]


def test_a_gpu_with_no_room_at_all_is_left_out():
    made = like_120b((gpu("CUDA0", 2, 0.4), ram(94, 88)), {})
    rungs = ladder(36, 128, (4096, 512), 4096, shares_ram=False).stretches[-1]
    assert rungs[-1].changes((1,)) == {"device": "none", "gpu-layers": 0}
    assert proposed(made).verdict.status == "fits"


def test_a_model_without_experts_is_divided_by_layers():
    made = like_120b((gpu("CUDA0", 16, 15.58), ram(94, 88)), {})
    proposal = propose(WantedPlacement({}, 36, 0, 32768, 32768), made.weigh, "balanced")
    assert proposal.verdict.status == "fits"
    assert not {"n-cpu-moe", "cpu-moe"} & proposal.changes.keys()
    assert 0 < proposal.changes["gpu-layers"] < 36


models = st.builds(
    MadeUp,
    layers=st.integers(2, 40),
    experts_of_a_layer=st.integers(MIB, 2000 * MIB),
    rest_of_a_layer=st.integers(MIB, 300 * MIB),
    embeddings=st.integers(0, 1000 * MIB),
    a_token_of_a_layer=st.integers(128, 8192),
    a_token_of_a_batch=st.integers(1024, MIB),
    pools=st.tuples(
        st.builds(gpu, st.just("CUDA0"), st.just(64), st.floats(0.1, 64)),
        st.builds(ram, st.just(128), st.floats(0.5, 128)),
    ),
    options=st.sampled_from(
        [{}, {"ubatch-size": 1024}, {"repack": False}, {"cache-ram": 0}, {"batch-size": 1024}]
    ),
)
contexts = st.sampled_from([4096, 32768, 131072])
levels = st.sampled_from(["relaxed", "balanced", "strict"])


@given(made=models, context=contexts, level=levels)
def test_what_is_proposed_fits_or_nothing_is_said_to(made, context, level):
    proposal = proposed(made, context=context, guardrails=level)
    if proposal.verdict.refused:
        assert proposal.reasons[0].startswith("nothing goes in")
    else:
        assert proposal.verdict.status in {"fits", "tight"}
    assert not made.options.keys() & proposal.changes.keys()


@given(made=models, context=contexts, level=levels, more=st.floats(0, 64))
def test_more_gpu_memory_never_places_less_there(made, context, level, more):
    card, memory = made.pools
    free = card.free_bytes / 1024**3
    larger = MadeUp(
        **{
            **{name: getattr(made, name) for name in made.__slots__},
            "pools": (gpu("CUDA0", 128, free + more), memory),
        }
    )
    same = MadeUp(
        **{
            **{name: getattr(made, name) for name in made.__slots__},
            "pools": (gpu("CUDA0", 128, free), memory),
        }
    )
    before, after = (proposed(each, context=context, guardrails=level) for each in (same, larger))
    if before.verdict.allowed:
        assert after.verdict.allowed
        assert placed(larger, after) >= placed(same, before)


def placed(made: MadeUp, proposal: Proposal) -> int:
    return made.weigh(proposal.changes).accounts[0].weights.bytes
