"""What `tune` leaves behind: a profile that loads and loses nothing, and what its fingerprint tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.engine.local_engines import promised
from supervisor.errors import ConfigError, UsageError
from supervisor.hardware.hardware import Cpu, Gpu, Hardware
from supervisor.prepare.fingerprint import changes, fingerprint, no_longer_tuned
from supervisor.profile.definition import Tuned
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore
from supervisor.tune.search_values import Found
from supervisor.tune.tuned_profile import TunedResult, demand_tunable, tuned_name, write_tuned

from .memory_machines import GIB, gpt_oss

CARD = Gpu(
    "nvidia", "NVIDIA GeForce RTX 4060 Ti", memory_bytes=16 * GIB, integrated=False, driver_version="580.95"
)
BOX = Hardware(
    "linux", "x86_64", cpu=Cpu("Ryzen 7", 8, 8, 16), ram_bytes=31 * GIB + 300_000_000, gpus=(CARD,)
)  # fmt: skip
BUILD = promised("", "b11434", "cuda-12.8")
MODEL = gpt_oss("20b")
NOW = fingerprint(BOX, BUILD, MODEL)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "user").mkdir()
    (tmp_path / "shipped").mkdir()
    (tmp_path / "user" / "big.yaml").write_text(
        "model: demo\nserver: {ctx-size: 8192, threads: 8, n-cpu-moe: 30}\nengine: {flavour: cpu}\n"
    )
    return ProfileStore(tmp_path / "user", tmp_path / "shipped")


def result(*best, effects=None):
    found = Found(best, (), 1.42, 1.38, 1.47, "")
    return TunedResult(found, replace(NOW, goal="chat", date="2026-11-30"), effects or {})


def written(store, *best, **effects):
    path, _ = write_tuned("big", result(*best, **effects), store)
    return path.read_text(), resolve(tuned_name("big"), store)


def test_it_has_only_what_changed_with_what_each_does_and_loads_as_it_was_measured(store):
    text, profile = written(
        store,
        ("engine.flavour", "vulkan"),
        ("n-cpu-moe", "28"),
        ("server.threads", "null"),
        ("server.ubatch-size", "2048"),
        effects={"n-cpu-moe": "+12 % (9 to 15) generation"},
    )
    assert dict(profile.server) == {"ctx-size": 8192, "n-cpu-moe": 28, "ubatch-size": 2048}
    assert profile.engine.flavour == "vulkan"
    assert "  n-cpu-moe: 28                               # +12 % (9 to 15) generation\n" in text
    assert "ctx-size" not in text
    assert "1.42 times as fast as big" in text
    measured = resolve(
        "big", store, {"engine.flavour": "vulkan", "n-cpu-moe": "28", "server.threads": "null"}
    )
    assert profile.placement == measured.placement == "pinned"


def test_the_fingerprint_in_it_is_read_back(store):
    _, profile = written(store, ("ubatch-size", "2048"))
    assert profile.tuned == replace(NOW, goal="chat", date="2026-11-30")
    assert [*changes(profile.tuned, NOW)] == []


def test_what_is_unknown_is_left_out(store):
    path, _ = write_tuned("big", replace(result(("threads", "4")), tuned=Tuned(goal="chat")), store)
    assert "tuned:\n  goal: chat\nserver:" in path.read_text()


def test_a_file_that_was_there_is_kept_each_time_and_only_if_it_differs(store):
    folder = store.user_dir
    (folder / "big-tuned.yaml").write_text("extends: big # by hand\n")
    path, kept = write_tuned("big", result(("threads", "4")), store)
    assert (kept, kept.read_text()) == (folder / "big-tuned.yaml.bak", "extends: big # by hand\n")
    assert write_tuned("big", result(("threads", "4")), store) == (path, None)
    _, again = write_tuned("big", result(("threads", "6")), store)
    assert "threads: 4" in again.read_text()
    assert kept.read_text() == "extends: big # by hand\n"
    assert store.strays() == ()


@pytest.mark.parametrize("wrong", [("no-such-option", "1"), ("engine.path", "relative")])
def test_what_does_not_load_is_not_written(store, wrong):
    with pytest.raises(ConfigError):
        write_tuned("big", result(wrong), store)
    assert not (store.user_dir / "big-tuned.yaml").exists()


def test_a_result_is_not_tuned_again_but_what_extends_it_is(store):
    written(store, ("threads", "4"))
    (store.user_dir / "mine.yaml").write_text("extends: big-tuned\n")
    for name in ("big", "mine"):
        demand_tunable(resolve(name, store))
    with pytest.raises(UsageError) as refused:
        demand_tunable(resolve("big-tuned", store))
    assert refused.value.hint == "goss-supervisor tune big"


# -- what changed since


@pytest.mark.parametrize(
    ("hardware", "build", "model", "said"),
    [
        (BOX, promised("", "b11480", "cuda-12.8"), MODEL, "engine ggml-org/llama.cpp b11434 cuda-12.8 then, "
         "ggml-org/llama.cpp b11480 cuda-12.8 now"),
        (BOX, promised("", "b11434", "vulkan"), MODEL, "engine ggml-org/llama.cpp b11434 cuda-12.8 then, "
         "ggml-org/llama.cpp b11434 vulkan now"),
        (replace(BOX, gpus=()), BUILD, MODEL, "GPU NVIDIA GeForce RTX 4060 Ti, 16.0 GiB, 580.95 then, none now"),
        (replace(BOX, gpus=(replace(CARD, driver_version="590.10"),)), BUILD, MODEL,
         "GPU NVIDIA GeForce RTX 4060 Ti, 16.0 GiB, 580.95 then, NVIDIA GeForce RTX 4060 Ti, 16.0 GiB, 590.10 now"),
        (replace(BOX, cpu=Cpu("Ryzen 7", 8, 8, 8)), BUILD, MODEL,
         "processor Ryzen 7, 8 cores, 16 threads then, Ryzen 7, 8 cores, 8 threads now"),
        (replace(BOX, environment="container"), BUILD, MODEL, "system linux then, linux container now"),
        (replace(BOX, ram_bytes=15 * GIB), BUILD, MODEL, "memory 31.3 GiB then, 15.0 GiB now"),
        (BOX, BUILD, gpt_oss("120b"), None),
    ],
)  # fmt: skip
def test_each_part_of_the_fingerprint_that_changed_is_named(hardware, build, model, said):
    (only,) = changes(NOW, fingerprint(hardware, build, model))
    assert only == said or (said is None and only.startswith("model "))


@pytest.mark.parametrize(
    ("hardware", "build", "model"),
    [
        (replace(BOX, ram_bytes=31 * GIB), BUILD, MODEL),  # a kernel that takes some MiB more
        (replace(BOX, available_bytes=1, disk_free_bytes=1, kernel="7.0"), BUILD, MODEL),
        (replace(BOX, cpu=Cpu(), ram_bytes=None), BUILD, None),
        (BOX, promised(""), MODEL),  # no engine yet, so nobody knows which flavour it will be
        (BOX, BUILD, replace(MODEL, values={**MODEL.values, "tokenizer.chat_template": "another"})),
    ],
)
def test_what_says_nothing_about_the_speed_or_is_unknown_is_no_change(hardware, build, model):
    assert [*changes(NOW, fingerprint(hardware, build, model))] == []


def test_a_binary_that_somebody_compiled_is_told_by_its_digest():
    mine = replace(promised("", "b11434", "cpu"), source="path", repository="unknown", digest="ab" * 32)
    then = fingerprint(BOX, mine, MODEL)
    (only,) = changes(then, fingerprint(BOX, replace(mine, digest="cd" * 32), MODEL))
    assert only == "engine b11434 cpu, sha256 abababababababab then, b11434 cpu, sha256 cdcdcdcdcdcdcdcd now"


def test_the_sentence_names_the_profile_that_was_tuned(store):
    written(store, ("threads", "4"))
    (store.user_dir / "mine.yaml").write_text("extends: big-tuned\n")
    profile = resolve("mine", store)
    sentence = no_longer_tuned(profile, fingerprint(BOX, promised("", "b11480", "cuda-12.8"), MODEL))
    assert sentence.startswith("mine was tuned under other conditions (engine ggml-org/llama.cpp b11434")
    assert sentence.endswith("; to measure again: goss-supervisor tune big")
    assert no_longer_tuned(profile, NOW) == ""
    assert no_longer_tuned(resolve("big", store), NOW) == ""
