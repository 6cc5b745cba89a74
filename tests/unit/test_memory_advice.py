import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.memory.advice import advise, in_words
from supervisor.memory.verdict import judge

from .memory_machines import MIB, MadeUp, gpu, like_120b, ram

CARD = gpu("CUDA0", 16, 15.58)
BY_HAND = {"ctx-size": 32768, "gpu-layers": 99, "ubatch-size": 4096, "batch-size": 4096}


def advised(made: MadeUp, guardrails="balanced"):
    verdict = judge(made.weigh({}), guardrails)
    return verdict, advise(made.weigh, guardrails, made.layers)


def changes(advices) -> list[dict]:
    return [dict(advice.changes) for advice in advices]


def test_what_fits_needs_no_advice():
    verdict, advices = advised(like_120b((CARD, ram(94, 88)), {**BY_HAND, "n-cpu-moe": 30}))
    assert advices == ()
    assert in_words(verdict, advices) == ""


def test_the_experts_of_as_few_layers_more_as_are_enough_come_first():
    _, advices = advised(like_120b((CARD, ram(94, 88)), {**BY_HAND, "n-cpu-moe": 28}))
    assert changes(advices)[0] == {"n-cpu-moe": 30}
    assert advices[0].needs == "13.6 GiB on CUDA0"
    assert advices[0].text == "`n-cpu-moe: 30` needs 13.6 GiB on CUDA0"


def test_whole_layers_are_not_moved_where_their_experts_are_enough():
    _, advices = advised(like_120b((CARD, ram(94, 88)), {**BY_HAND, "n-cpu-moe": 28}))
    assert all("gpu-layers" not in each for each in changes(advices))


def test_whatever_keeps_all_layers_on_the_gpu_comes_before_what_takes_the_first_one_off():
    made = like_120b((CARD, ram(94, 88)), {**BY_HAND, "ctx-size": 196608}, layers=8)
    _, advices = advised(made)
    kinds = [next(iter(each)) for each in changes(advices)]
    assert kinds == ["ubatch-size", "cache-type-k", "ctx-size", "n-cpu-moe"]


def test_the_cache_of_old_prompts_is_the_first_to_go_where_the_ram_is_short():
    made = like_120b((CARD, ram(70, 64)), {**BY_HAND, "n-cpu-moe": 34})
    _, advices = advised(made)
    assert changes(advices)[0] == {"cache-ram": 4096}


def test_where_only_the_ram_is_short_experts_go_to_the_gpu():
    made = like_120b((gpu("CUDA0", 48, 47), ram(62, 58)), {**BY_HAND, "cpu-moe": True, "repack": True})
    _, advices = advised(made)
    assert {"cpu-moe": False, "n-cpu-moe": 29} in changes(advices)


def test_several_changes_are_given_together_where_none_is_enough_alone():
    made = like_120b((ram(32, 26),), {"ctx-size": 524288})
    _, advices = advised(made)
    assert changes(advices) == [{"cache-ram": 4096, "repack": False}]
    assert "`cache-ram: 4096` with `repack: false` needs" in advices[0].text


def test_advice_that_reads_from_the_disk_again_says_so_and_comes_last():
    _, advices = advised(like_120b((ram(64, 58),), {"ctx-size": 4096, "cache-ram": 0}))
    assert changes(advices) == [{"repack": False}]
    assert advices[0].text.endswith("and reads part of the model from the disk again and again")


def test_a_model_that_nothing_helps_is_told_so():
    verdict, advices = advised(like_120b((ram(32, 28),), {}), "strict")
    assert advices == ()
    assert in_words(verdict, advices).endswith("; no change of its settings makes it fit")


def test_the_sentence_has_the_lack_first_and_every_help_after_it():
    verdict, advices = advised(
        like_120b((CARD, ram(94, 88)), {**BY_HAND, "n-cpu-moe": 29, "ctx-size": 65536})
    )
    assert in_words(verdict, advices) == (
        "needs 16.3 GiB of the 15.6 GiB that are free on CUDA0: `n-cpu-moe: 30` needs 14.7 GiB on CUDA0; "
        "or `ctx-size: 16384` needs 14.6 GiB on CUDA0"
    )


def test_nothing_is_advised_for_a_memory_of_which_nothing_is_known():
    _, advices = advised(like_120b((gpu("Vulkan0", 16, None), ram(94, 88)), BY_HAND))
    assert advices == ()


options = st.fixed_dictionaries(
    {},
    optional={
        "ctx-size": st.sampled_from([4096, 32768, 131072, 1048576]),
        "ubatch-size": st.sampled_from([512, 4096]),
        "batch-size": st.just(4096),
        "gpu-layers": st.integers(0, 60),
        "n-cpu-moe": st.integers(0, 60),
        "cpu-moe": st.booleans(),
        "repack": st.booleans(),
        "cache-ram": st.sampled_from([-1, 0, 8192]),
        "parallel": st.sampled_from([1, 4]),
        "load-mode": st.sampled_from(["none", "mmap", "auto"]),
        "cache-type-k": st.sampled_from(["f16", "q8_0"]),
    },
)


@pytest.mark.parametrize("guardrails", ["relaxed", "balanced", "strict"])
@given(data=st.data())
def test_all_advice_fits(guardrails, data):
    made = MadeUp(
        layers=data.draw(st.integers(2, 40)),
        experts_of_a_layer=data.draw(st.integers(MIB, 2000 * MIB)),
        rest_of_a_layer=data.draw(st.integers(MIB, 300 * MIB)),
        embeddings=data.draw(st.integers(0, 1000 * MIB)),
        a_token_of_a_layer=data.draw(st.integers(128, 8192)),
        a_token_of_a_batch=data.draw(st.integers(1024, MIB)),
        pools=(
            gpu("CUDA0", 64, data.draw(st.floats(0.1, 64)), shares_ram=data.draw(st.booleans())),
            ram(128, data.draw(st.floats(0.5, 128))),
        ),
        options=data.draw(options),
    )
    verdict, advices = advised(made, guardrails)
    assert bool(verdict.short) or not advices
    for advice in advices:
        after = judge(made.weigh(advice.changes), guardrails)
        assert after.status in {"fits", "tight"}
        assert advice.changes
