"""What llama.cpp says itself, and what becomes of the account by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.build import Build
from supervisor.memory.accounts import Account, Figure, Ledger, Pool
from supervisor.memory.calibrated import calibrated
from supervisor.memory.engine_figures import EngineFigures, Taken, measured, read_table
from supervisor.memory.fit_params import question, tool_of
from supervisor.memory.memory_settings import Settings, settings_of
from supervisor.options.help import Capabilities
from supervisor.options.meanings import pinned
from supervisor.options.option_types import OptionValue
from tests.unit.memory_machines import gpt_oss

MIB = 1024**2
TABLE = """\
0.01.291.870 I common_memory_breakdown_print: | memory breakdown [MiB]      | total    free     self   model   context   compute    unaccounted |
0.01.291.884 I common_memory_breakdown_print: |   - CUDA0 (RTX 4060 (Ti) 16) | 15800 = 15800 + (13998 = 11314 +    1314 +    1370) +      -13998 |
0.01.291.884 I common_memory_breakdown_print: |   - Host                    |                  49595 = 49123 +       0 +     472                |
0.01.291.884 I common_memory_breakdown_print: |   - CPU_REPACK              |                     58 =    58 +       0 +       0                |
"""
AFTER = "0.01.400.000 I common_fit_params: successfully fit params to free device memory\n"
LOADED = """\
0.26.863.131 I load_tensors:   CPU_Mapped model buffer size = 11536.18 MiB
0.26.863.132 I load_tensors:   CPU_REPACK model buffer size =  9682.03 MiB
0.53.493.067 I llama_context:        CPU  output buffer size =     3.07 MiB
0.53.493.652 I llama_kv_cache:        CPU KV buffer size =   192.00 MiB
0.53.981.294 I llama_kv_cache:        CPU KV buffer size =    24.00 MiB
0.54.027.278 I sched_reserve:        CPU compute buffer size =   104.65 MiB
"""
FIT_AT_LV_5 = """\
0.00.008.866 I load_tensors:          CPU model buffer size =     0.00 MiB
0.00.009.372 I llama_kv_cache:        CPU KV buffer size =     0.00 MiB
0.00.010.560 I sched_reserve:        CPU compute buffer size =     9.28 MiB
"""
AT_DEFAULT_VERBOSITY = """\
0.00.013.872 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 4096, kv_unified = 'true'
0.00.015.575 I srv  llama_server: model loaded
0.00.015.592 I srv  llama_server: listening on http://127.0.0.1:18991
"""


def settings(build: int | None = None, **options: OptionValue) -> Settings:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return settings_of(named, build, gpt_oss("20b"))


def a_build(number: int | None = 11434, command: tuple[str, ...] = ("/opt/llama-server",)) -> Build:
    capabilities: Capabilities = replace(pinned(), build=number)
    return Build("path", "unknown", "unknown", "cpu", command, "abc", capabilities)


def ram(weights: int, context: int, compute: int, *, mapped: int = 0, other: int = 50) -> Account:
    """In MiB."""
    parts = [Figure(each * MIB) for each in (weights, context, compute, other)]
    total = (weights + context + compute + other) * MIB
    return Account(Pool("RAM", None, None), *parts, anonymous_bytes=total - mapped * MIB)


def ledger(*accounts: Account, **options: OptionValue) -> Ledger:
    return Ledger(accounts, (), settings(**{"parallel": 1, **options}))


def told(source: str = "engine", **buffers: tuple[int, int, int]) -> EngineFigures:
    """In MiB."""
    found = {name: Taken(*(each * MIB for each in row)) for name, row in buffers.items()}
    return EngineFigures("engine" if source == "engine" else "measured", found)


def words(build: Build, launch: Settings) -> Mapping[str, str]:
    argv = question(build, launch)
    assert argv is not None
    return {name: value for name, value in zip(argv, (*argv[1:], ""), strict=True) if name.startswith("--")}


def test_what_decides_the_memory_is_asked_with_its_defaults() -> None:
    assert words(a_build(), settings()) == {
        "--ctx-size": "131072",
        "--batch-size": "2048",
        "--ubatch-size": "512",
        "--parallel": "1",
        "--cache-type-k": "f16",
        "--cache-type-v": "f16",
        "--gpu-layers": "all",
    }


def test_whatever_moves_memory_is_asked() -> None:
    launch = settings(
        **{
            "n-cpu-moe": 3,
            "n-cpu-ffn": 2,
            "override-tensor": ("blk.1.=CPU", "blk.2.=CUDA1"),
            "device": "CUDA0,CUDA1",
            "tensor-split": "3,1.5",
            "split-mode": "row",
            "main-gpu": 1,
            "flash-attn": "off",
            "cache-type-v": "q8_0",
            "gpu-layers": 20,
        }
    )
    asked = words(a_build(), launch)
    assert asked["--n-cpu-moe"] == "3"
    assert asked["--n-cpu-ffn"] == "2"
    assert asked["--override-tensor"] == "blk.1.=CPU,blk.2.=CUDA1"
    assert asked["--device"] == "CUDA0,CUDA1"
    assert asked["--tensor-split"] == "3,1.5"
    assert (asked["--split-mode"], asked["--main-gpu"]) == ("row", "1")
    assert asked["--flash-attn"] == "off"
    assert asked["--cache-type-v"] == "q8_0"
    assert asked["--gpu-layers"] == "20"


def test_switches_are_asked_only_where_they_are_not_as_usual() -> None:
    launch = settings(
        **{
            "swa-full": True,
            "kv-offload": False,
            "op-offload": False,
            "repack": False,
            "no-host": True,
            "device": "none",
        }
    )
    argv = question(a_build(), launch)
    assert argv is not None
    assert {"--swa-full", "--no-kv-offload", "--no-op-offload", "--no-repack", "--no-host"} <= set(argv)
    assert argv[argv.index("--device") + 1] == "none"


def test_slots_that_share_nothing_are_asked_as_they_are() -> None:
    assert words(a_build(), settings(parallel=3))["--parallel"] == "3"
    assert words(a_build(), settings(parallel=3, **{"kv-unified": True}))["--parallel"] == "1"


def test_a_build_without_words_for_a_launch_is_not_asked() -> None:
    capabilities = replace(pinned(), options=(), build=11434)
    assert question(replace(a_build(), capabilities=capabilities), settings()) is None


@pytest.mark.parametrize(
    ("number", "command"),
    [
        (7406, ("{}/llama-server",)),
        (None, ("{}/llama-server",)),
        (11434, ("{}/python", "-m", "embedded")),
        (11434, ("llama-server",)),
        (11434, ("",)),
        (11434, ()),
    ],
)
def test_builds_that_cannot_have_the_tool(
    number: int | None, command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "llama-fit-params").touch()
    assert tool_of(a_build(number, tuple(word.format(tmp_path) for word in command))) is None


@pytest.mark.parametrize("suffix", ["", ".exe"])
def test_the_tool_lies_beside_the_server(tmp_path: Path, suffix: str) -> None:
    build = a_build(command=(str(tmp_path / f"llama-server{suffix}"),))
    assert tool_of(build) is None
    tool = tmp_path / f"llama-fit-params{suffix}"
    tool.touch()
    assert tool_of(build) == tool


def test_a_table_has_a_row_for_each_buffer() -> None:
    expected = told(CUDA0=(11314, 1314, 1370), Host=(49123, 0, 472), CPU_REPACK=(58, 0, 0))
    assert read_table((TABLE + AFTER).splitlines()) == expected
    assert read_table((TABLE + AFTER + TABLE.replace("11314", "1") + AFTER).splitlines()) == expected


@pytest.mark.parametrize("lines", range(5))
def test_a_table_whose_end_is_lost_says_nothing(lines: int) -> None:
    assert read_table(TABLE.splitlines()[:lines]) is None


def test_the_log_of_a_load_tells_each_buffer() -> None:
    found = measured(LOADED.splitlines())
    assert found is not None
    assert found.source == "measured"
    assert found.buffers["CPU"] == Taken(0, 216 * MIB, round(104.65 * MIB))
    assert found.buffers["CPU_REPACK"] == Taken(round(9682.03 * MIB))
    assert set(found.buffers) == {"CPU", "CPU_REPACK", "CPU_Mapped"}


def test_the_pass_of_fit_before_and_a_draft_model_after_are_no_part_of_the_load() -> None:
    draft = LOADED.replace("192.00", "1.00").replace("11536.18", "77.00")
    assert measured((FIT_AT_LV_5 + LOADED + draft).splitlines()) == measured(LOADED.splitlines())


def test_buffers_that_are_reserved_again_count_once() -> None:
    again = "0.55.0 I sched_reserve:        CPU compute buffer size =   104.65 MiB\n"
    assert measured((LOADED + again).splitlines()) == measured(LOADED.splitlines())


@pytest.mark.parametrize("log", ["", AT_DEFAULT_VERBOSITY, TABLE, LOADED.rpartition("0.54")[0]])
def test_a_log_that_does_not_tell_of_a_whole_load(log: str) -> None:
    assert measured(log.splitlines()) is None


@given(st.lists(st.sampled_from((TABLE + LOADED).splitlines()).map(lambda line: line[:150]) | st.text()))
def test_no_log_breaks_it(lines: list[str]) -> None:
    for told, source in ((measured(lines), "measured"), (read_table(lines), "engine")):
        assert told is None or (told.source == source and told.buffers)


def test_figures_that_agree_keep_their_bytes_and_get_the_source() -> None:
    ours = ledger(ram(11536, 210, 104, mapped=1854))
    (account,) = calibrated(ours, [told(Host=(1853, 210, 429), CPU_REPACK=(9682, 0, 0))]).accounts
    assert account.weights == Figure(11536 * MIB, "engine")
    assert account.context == Figure(210 * MIB, "engine")
    assert account.anonymous_bytes == ours.accounts[0].anonymous_bytes


def test_weights_that_are_rearranged_after_all_cannot_be_dropped() -> None:
    ours = ledger(ram(11536, 210, 104, mapped=11536))
    (account,) = calibrated(ours, [told(Host=(1854, 210, 429), CPU_REPACK=(9682, 0, 0))]).accounts
    assert account.weights.bytes == 11536 * MIB
    assert account.anonymous_bytes == (9682 + 210 + 104 + 50) * MIB


def test_weights_that_are_not_rearranged_can() -> None:
    ours = ledger(ram(11536, 210, 104, mapped=1854))
    (account,) = calibrated(ours, [told(Host=(11536, 210, 429))]).accounts
    assert account.anonymous_bytes == (210 + 104 + 50) * MIB


def test_nothing_can_be_dropped_of_what_is_not_mapped() -> None:
    ours = ledger(ram(11536, 210, 104))
    (account,) = calibrated(ours, [told(Host=(1854, 210, 429), CPU_REPACK=(9682, 0, 0))]).accounts
    assert account.anonymous_bytes == account.needed_bytes


def test_the_tools_figures_count_where_ours_are_others() -> None:
    ours = ledger(ram(100, 900, 104, mapped=100))
    (account,) = calibrated(ours, [told(Host=(150, 300, 429))]).accounts
    assert (account.weights, account.context) == (
        Figure(150 * MIB, "engine"),
        Figure(301 * MIB - 1, "engine"),
    )


# gpt-oss-20b on a Vulkan device with buffers of at most 128 MiB; b11434 says "offloaded 25/25 layers to GPU"
KEPT_IN_RAM = told(Vulkan0=(680, 210, 98), Host=(10855, 0, 65))


def on_vulkan(**options: OptionValue) -> Ledger:
    card = replace(ram(10949, 210, 99, other=300), pool=Pool("Vulkan0", 2048 * MIB, 2048 * MIB))
    return ledger(card, ram(587, 0, 31, mapped=587), **options)


def test_layers_that_are_on_a_gpu_by_name_only_are_no_secret() -> None:
    found = calibrated(on_vulkan(gpu_layers=99), [KEPT_IN_RAM])
    assert [account.weights.bytes // MIB for account in found.accounts] == [680, 10855]
    (note,) = found.notes
    assert note.startswith(
        "Of 10.7 GiB of weights that belong on Vulkan0, llama.cpp puts only 0.7 GiB there:"
    )


def test_fewer_layers_on_a_gpu_are_no_news_where_llama_cpp_places_them() -> None:
    assert calibrated(on_vulkan(), [KEPT_IN_RAM]).notes == ()


def test_a_gpu_that_has_what_was_planned_is_no_news() -> None:
    as_planned = told(Vulkan0=(10949, 210, 98), Host=(586, 0, 65))
    assert calibrated(on_vulkan(gpu_layers=99), [as_planned]).notes == ()


def test_the_tools_compute_counts_only_before_the_server_computed_fewer_logits() -> None:
    tool = told(Host=(100, 210, 429))
    old = Ledger((ram(100, 210, 104),), (), settings(9459, parallel=1))
    new = replace(old, settings=settings(9460, parallel=1))
    assert calibrated(new, [tool]).accounts[0].compute == Figure(104 * MIB)
    assert calibrated(old, [tool]).accounts[0].compute == Figure(429 * MIB, "engine")


def test_a_context_that_slots_share_is_at_least_what_one_slot_takes() -> None:
    tool = told(Host=(100, 210, 429))
    for ours, expected in ((216, Figure(216 * MIB)), (90, Figure(210 * MIB, "engine"))):
        (account,) = calibrated(ledger(ram(100, ours, 104), parallel=-1), [tool]).accounts
        assert account.context == expected


def test_a_gpu_has_its_own_figures_and_none_of_them_can_be_dropped() -> None:
    gpu = replace(ram(11000, 1314, 900, other=450), pool=Pool("CUDA0", None, None))
    gpu = replace(gpu, anonymous_bytes=gpu.needed_bytes)
    tool = read_table((TABLE + AFTER).splitlines())
    assert tool is not None
    first, last = calibrated(ledger(gpu, ram(49181, 0, 472, mapped=49181)), [tool]).accounts
    assert first.weights == Figure(11314 * MIB, "engine")
    assert first.anonymous_bytes == first.needed_bytes
    assert last.weights == Figure(49181 * MIB, "engine")
    assert last.anonymous_bytes == (58 + 472 + 50) * MIB


def test_what_pinned_memory_and_a_mapped_gpu_are_called() -> None:
    metal = replace(ram(90, 10, 5, other=0), pool=Pool("MTL0", None, None))
    log = told("measured", MTL0_Mapped=(95, 0, 0), MTL0=(0, 12, 7), CUDA_Host=(0, 0, 3), CPU=(0, 1, 0))
    first, last = calibrated(ledger(metal, ram(0, 0, 0, other=0)), [log]).accounts
    assert first.weights == Figure(90 * MIB)
    assert first.context.bytes == pytest.approx(12 * MIB, abs=MIB / 10)
    assert last.compute.bytes == pytest.approx(3 * MIB, abs=MIB / 10)


def test_an_account_without_a_memory_that_is_named_stays_as_it_is() -> None:
    ours = ledger(ram(100, 10, 5))
    assert calibrated(ours, [told(CUDA0=(90, 9, 5), Host=(10, 1, 0))]) == ours


def test_a_load_says_context_and_compute_and_at_most_what_is_mapped() -> None:
    ours = ledger(ram(11536, 210, 90, mapped=1854), parallel=-1)
    log = measured(LOADED.splitlines())
    assert log is not None
    (account,) = calibrated(ours, [log]).accounts
    assert account.weights == Figure(11536 * MIB)
    assert account.context.source == account.compute.source == "measured"
    assert account.context.bytes == pytest.approx(216 * MIB, abs=MIB / 10)
    assert account.compute.bytes == pytest.approx(104.65 * MIB, abs=MIB / 10)
    copies = 9682 + 216 + 104.65 + 50
    assert account.anonymous_bytes == pytest.approx(copies * MIB, abs=MIB)


MANY = st.integers(0, 100_000)
ROW = st.tuples(MANY, MANY, MANY)


@given(
    ours=ROW,
    mapped_percent=st.integers(0, 100),
    host=ROW,
    repack=ROW,
    source=st.sampled_from(["engine", "measured"]),
    slots=st.sampled_from([-1, 1]),
)
def test_whatever_is_told_the_account_adds_up(
    *,
    ours: tuple[int, int, int],
    mapped_percent: int,
    host: tuple[int, int, int],
    repack: tuple[int, int, int],
    source: str,
    slots: int,
) -> None:
    before = ledger(ram(*ours, mapped=ours[0] * mapped_percent // 100), parallel=slots)
    said = told(source, **{"Host" if source == "engine" else "CPU_Mapped": host, "CPU_REPACK": repack})
    after = calibrated(before, [said])
    (account,) = after.accounts
    assert 0 <= account.needed_bytes - account.anonymous_bytes <= account.weights.bytes
    assert account.other == before.accounts[0].other
    assert calibrated(after, [said]) == after
