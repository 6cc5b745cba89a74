"""Promises of the ledger that hold for any options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.memory.accounts import Account, Ledger, Pool
from supervisor.memory.context import layers_bytes
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import Settings, settings_of
from supervisor.model.gguf import KINDS, ValueType
from supervisor.model.header import Array, TensorInfo
from supervisor.model.metadata import Model
from supervisor.options.option_types import OptionValue

from .memory_machines import gpt_oss

GIB = 1024**3
RAM = Pool("RAM", 64 * GIB, 60 * GIB)
CARD = Pool("CUDA0", 16 * GIB, 15 * GIB)
SECOND = Pool("CUDA1", 8 * GIB, 8 * GIB)
AVX2 = ("avx2", "fma")


def ledger(
    options: Mapping[str, OptionValue],
    pools: Sequence[Pool] = (CARD, RAM),
    *,
    flavour: str = "cuda-12.8",
    features: Sequence[str] = AVX2,
    model: Model | None = None,
    build: int | None = None,
) -> Ledger:
    model = model or gpt_oss("20b")
    settings = settings_of(options, build, model)
    return account(model, settings, pools, cpu_features=features, flavour=flavour)


def on(name: str, of: Ledger) -> Account:
    return next(each for each in of.accounts if each.pool.name == name)


def needed(of: Ledger) -> int:
    return sum(each.needed_bytes for each in of.accounts)


contexts = st.integers(1, 131072)
machines = st.sampled_from(
    [((RAM,), "cpu"), ((CARD, RAM), "vulkan"), ((CARD, SECOND, RAM), "vulkan"), ((CARD, RAM), "metal")]
)
options = st.fixed_dictionaries(
    {
        "ctx-size": contexts,
        "ubatch-size": st.sampled_from([64, 512, 2048, 4096]),
        "batch-size": st.sampled_from([512, 4096]),
        "parallel": st.sampled_from([-1, 1, 2, 4]),
        "gpu-layers": st.integers(0, 26),
        "n-cpu-moe": st.integers(0, 24),
        "repack": st.booleans(),
        "kv-offload": st.booleans(),
        "swa-full": st.booleans(),
        "flash-attn": st.sampled_from(["on", "off"]),
    },
)


@given(options, contexts, machines)
def test_more_context_never_needs_less(
    given_options: dict[str, OptionValue], other: int, machine: tuple[tuple[Pool, ...], str]
) -> None:
    pools, flavour = machine
    less, more = sorted([other, int(given_options["ctx-size"])])  # type: ignore[arg-type]
    small = ledger({**given_options, "ctx-size": less}, pools, flavour=flavour)
    large = ledger({**given_options, "ctx-size": more}, pools, flavour=flavour)
    for one, other_one in zip(small.accounts, large.accounts, strict=True):
        assert one.needed_bytes <= other_one.needed_bytes


@given(options, machines, st.data())
def test_a_quantized_cache_never_needs_more(
    given_options: dict[str, OptionValue], machine: tuple[tuple[Pool, ...], str], data: st.DataObject
) -> None:
    pools, flavour = machine
    kind = data.draw(st.sampled_from(["q8_0", "q4_0", "q5_1"]))
    narrow = {**given_options, "cache-type-k": kind, "cache-type-v": kind}
    plain = ledger(given_options, pools, flavour=flavour)
    for one, wide in zip(ledger(narrow, pools, flavour=flavour).accounts, plain.accounts, strict=True):
        assert one.needed_bytes <= wide.needed_bytes


@given(options, machines)
def test_the_weights_of_all_memories_are_those_of_the_model(
    given_options: dict[str, OptionValue], machine: tuple[tuple[Pool, ...], str]
) -> None:
    pools, flavour = machine
    found = ledger(given_options, pools, flavour=flavour)
    assert sum(each.weights.bytes for each in found.accounts) == gpt_oss("20b").weights_bytes


THE_ISSUE: dict[str, OptionValue] = {"ctx-size": 513, "ubatch-size": 2048, "batch-size": 4096, "n-cpu-moe": 2}


@given(options, machines, st.sampled_from(["gpu-layers", "n-cpu-moe"]), st.integers(0, 36), st.booleans())
@example(THE_ISSUE, ((CARD, RAM), "vulkan"), "gpu-layers", 35, True)
@example(
    {**THE_ISSUE, "ctx-size": 4096, "ubatch-size": 4096}, ((CARD, RAM), "vulkan"), "gpu-layers", 36, True
)
def test_a_layer_moved_to_the_cpu_never_raises_what_a_gpu_needs_but_for_the_first_two(
    given_options: dict[str, OptionValue],
    machine: tuple[tuple[Pool, ...], str],
    option: str,
    step: int,
    large: bool,
) -> None:
    """
    The engine's own figures rise there (memory_recorded.txt): with its first two whole layers the CPU takes
    part in the stream of computing, which costs copies of the embeddings, and of one layer's cache.
    """
    pools, flavour = machine
    model = gpt_oss("120b" if large else "20b")
    more, less = (step, step + 1) if option == "n-cpu-moe" else (step + 1, step)
    given_options = {**given_options, "gpu-layers": 99, "flash-attn": "on", "kv-offload": True}
    before = ledger({**given_options, option: more}, pools[-2:], flavour=flavour, model=model)
    after = ledger({**given_options, option: less}, pools[-2:], flavour=flavour, model=model)
    starts_splitting = option == "gpu-layers" and (model.layers or 0) - less in {0, 1}
    allowed = of_splitting(before.settings, model) if starts_splitting else 0
    for one, other in zip(before.accounts[:-1], after.accounts[:-1], strict=True):
        assert one.weights.bytes >= other.weights.bytes
        assert one.context.bytes >= other.context.bytes
        assert one.needed_bytes + allowed >= other.needed_bytes


def of_splitting(settings: Settings, model: Model) -> int:
    """Nine copies of the embeddings of one batch, and the keys and values of one layer."""
    copies = 9 * settings.ubatch * (model.embedding_length or 0) * 4
    return copies + max(layers_bytes(model, settings))


def test_attention_of_cuda_keeps_a_wide_copy_of_one_layer_of_a_quantized_cache() -> None:
    narrow: dict[str, OptionValue] = {"cache-type-k": "q8_0", "cache-type-v": "q8_0"}
    cuda, vulkan = (ledger(narrow, flavour=flavour) for flavour in ("cuda-12.8", "vulkan"))
    more = on("CUDA0", cuda).compute.bytes - on("CUDA0", vulkan).compute.bytes
    assert more == 131072 * 2 * 512 * 2  # cells of a whole layer; keys and values of 8 heads; two bytes each
    assert needed(cuda) < needed(ledger({}))


def test_more_context_never_needs_less_where_the_copy_of_a_cache_outgrows_that_of_a_weight() -> None:
    taken = [
        on("CUDA0", ledger({"gpu-layers": 12, "ctx-size": tokens, "ubatch-size": 64})).needed_bytes
        for tokens in range(2048, 131073, 2048)
    ]
    assert taken == sorted(taken)


def test_rearranged_experts_cannot_be_dropped_and_mapped_ones_can() -> None:
    model = gpt_oss("120b")
    plain = on("RAM", ledger({"repack": False, "cache-ram": 0}, [RAM], flavour="cpu", model=model))
    repacked = on("RAM", ledger({"cache-ram": 0}, [RAM], flavour="cpu", model=model))
    assert plain.needed_bytes == repacked.needed_bytes
    assert plain.anonymous_bytes == plain.needed_bytes - plain.weights.bytes
    assert (repacked.anonymous_bytes - plain.anonymous_bytes) // 1024**2 == 58092  # as b11434 says


@pytest.mark.parametrize(
    ("flavour", "options", "anonymous"),
    [
        ("cuda-12.8", {}, False),  # pinned memory comes first in llama.cpp's list, and mapping before it
        ("cuda-12.8", {"no-host": True}, True),
        ("cuda-12.8", {"load-mode": "none"}, True),
        ("metal", {}, True),
        ("metal", {"repack": False}, False),
        ("vulkan", {"load-mode": "mmap+mlock"}, True),
    ],
)
def test_experts_of_the_cpu_beside_a_gpu(
    flavour: str, options: dict[str, OptionValue], anonymous: bool
) -> None:
    given_options = {"cpu-moe": True, "cache-ram": 0, **options}
    memory = on("RAM", ledger(given_options, flavour=flavour))
    assert (memory.anonymous_bytes > memory.weights.bytes // 2) == anonymous


def test_a_shared_memory_is_not_mapped_unless_asked_for() -> None:
    integrated = Pool("Vulkan0", 32 * GIB, 30 * GIB, shares_ram=True)
    given_options: dict[str, OptionValue] = {"cpu-moe": True, "cache-ram": 0}
    read = on("RAM", ledger(given_options, [integrated, RAM], flavour="vulkan"))
    mapped = on("RAM", ledger({**given_options, "load-mode": "mmap"}, [integrated, RAM], flavour="vulkan"))
    assert read.anonymous_bytes == read.needed_bytes
    assert mapped.anonymous_bytes == mapped.needed_bytes - mapped.weights.bytes


def test_older_builds_compute_logits_of_the_whole_batch() -> None:
    def compute(build: int) -> int:
        return on("RAM", ledger({"ctx-size": 32768}, [RAM], flavour="cpu", build=build)).compute.bytes

    assert compute(9459) / 1024**2 == pytest.approx(453, rel=0.01)
    assert compute(9460) / 1024**2 == pytest.approx(128.65, rel=0.01)


def test_the_prompt_cache_counts_unless_it_is_off_or_not_invented() -> None:
    def other(build: int | None, **more: OptionValue) -> int:
        return on("RAM", ledger(more, [RAM], flavour="cpu", build=build)).other.bytes

    assert other(None) - other(None, **{"cache-ram": 0}) == 8 * GIB
    assert other(6722) < GIB < other(6723)


def test_gpus_that_are_not_used_have_an_empty_account() -> None:
    found = ledger({"device": "CUDA1"}, [CARD, SECOND, RAM])
    assert on("CUDA0", found).needed_bytes == 0
    assert on("CUDA1", found).weights.bytes > 0
    assert [each.pool.name for each in found.accounts] == ["CUDA0", "CUDA1", "RAM"]
    nowhere = ledger({"device": "none"}, [CARD, RAM])
    assert on("CUDA0", nowhere).needed_bytes == 0


def test_an_override_moves_what_its_pattern_finds() -> None:
    found = on("CUDA0", ledger({"override-tensor": r"blk\.\d\.ffn_.*_exps=CPU"}))
    whole = on("CUDA0", ledger({}))
    assert (whole.weights.bytes - found.weights.bytes) // 1024**2 == 4044  # of ten layers, 404 MiB each


def test_embeddings_that_are_the_output_too_are_held_twice_where_the_output_is_on_the_gpu() -> None:
    model = gpt_oss("20b")
    tied = Model(
        model.architecture,
        model.values,
        tuple(tensor for tensor in model.tensors if tensor.name != "output.weight"),
        (),
    )
    together = ledger({}, model=tied)
    assert sum(each.weights.bytes for each in together.accounts) == model.weights_bytes
    alone = ledger({}, [RAM], flavour="cpu", model=tied)
    assert on("RAM", alone).weights.bytes == tied.weights_bytes


def test_what_is_left_to_the_engine_and_what_is_not_counted_stands_in_the_notes() -> None:
    assert len(ledger({}).notes) == 2
    assert len(ledger({"fit": "off"}).notes) == 0
    assert len(ledger({"ctx-size": 4096, "gpu-layers": 9}).notes) == 0
    said = ledger({"fit": "off", "lora": "style.gguf", "cache-ram": -1, "split-mode": "row"}).notes
    assert [note.split()[0] for note in said] == ["What", "The", "--split-mode"]


def test_a_format_of_the_future_is_said_not_to_be_counted() -> None:
    strange = TensorInfo("blk.0.ffn_up.weight", (64, 64), None, 0, None)
    values = {
        "new.block_count": 1,
        "new.context_length": 64,
        "tokenizer.ggml.tokens": Array(ValueType.STRING, 9),
    }
    model = Model("new", values, (strange,), ())
    found = ledger({"ctx-size": 64, "fit": "off"}, [RAM], flavour="cpu", model=model)
    assert on("RAM", found).weights.bytes == 0
    assert "blk.0.ffn_up.weight" in found.notes[0]


def test_a_model_that_says_nothing_of_itself_has_an_account_all_the_same() -> None:
    tensor = TensorInfo("token_embd.weight", (64, 64), KINDS[0], 0, 64 * 64 * 4)
    found = ledger({"fit": "off"}, model=Model("unheard", {}, (tensor,), ()))
    assert sum(each.weights.bytes for each in found.accounts) == 2 * 64 * 64 * 4
    assert "does not say how many layers" in found.notes[0]
