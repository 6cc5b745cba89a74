"""What is warned of: combinations of build, options, model and hardware that are known to go wrong."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from supervisor.engine.known_bad import TABLE, warnings_of
from supervisor.engine.local_engines import promised
from supervisor.hardware.hardware import Gpu, Hardware
from supervisor.model.metadata import Model
from supervisor.options.help import Capabilities
from supervisor.options.meanings import describe

STRIX_HALO = Gpu("amd", "AMD Radeon 8060S Graphics", integrated=True, architecture="gfx1151")
RX_9070 = Gpu("amd", "AMD Radeon RX 9070", integrated=False, architecture="gfx1201")
XTX = Gpu("amd", "AMD Radeon RX 7900 XTX", integrated=False)


def warned(options=None, *, build=11541, flavour="cpu", gpus=(), os="linux", model=None):
    made = replace(promised("", flavour=flavour), capabilities=Capabilities(build, "", "", ()))
    return warnings_of(made, options or {}, lambda: Hardware(os, "x86_64", gpus=gpus), model)


def named(architecture, name):
    return Model(architecture, {"general.name": name}, (), ())


@pytest.mark.parametrize(
    ("source", "case", "well"),
    [
        ("CVE-2026-43631", {"options": {"sleep-idle-seconds": 600}}, {"options": {"sleep-idle-seconds": -1}}),
        ("CVE-2026-43632", {"options": {"sleep-idle-seconds": 600}}, {"options": {}}),
        (
            "#25992",
            {"flavour": "rocm-10.0", "gpus": (STRIX_HALO,), "options": {"parallel": 4, "kv-unified": True}},
            {"flavour": "rocm-10.0", "gpus": (STRIX_HALO,), "options": {"parallel": 4}},
        ),
        (
            "#25992",
            {"flavour": "rocm-10.0", "gpus": (STRIX_HALO,)},
            {"flavour": "rocm-10.0", "gpus": (STRIX_HALO,), "options": {"parallel": 1}},
        ),
        (
            "#28211",
            {"flavour": "rocm-10.0", "gpus": (STRIX_HALO,)},
            {"flavour": "vulkan", "gpus": (STRIX_HALO,)},
        ),
        (
            "#27572",
            {"options": {"spec-type": "draft-mtp", "parallel": 2}},
            {"options": {"spec-type": "draft-mtp", "parallel": 1}},
        ),
        (
            "#26609",
            {
                "flavour": "cuda-12.8",
                "build": 10243,
                "options": {"n-cpu-moe": 20},
                "model": named("qwen35moe", "Qwen3.6 35B A3B"),
            },
            {
                "flavour": "cuda-12.8",
                "build": 10244,
                "options": {"n-cpu-moe": 20},
                "model": named("qwen35moe", "Qwen3.6 35B A3B"),
            },
        ),
        (
            "#29892",
            {"flavour": "vulkan", "gpus": (RX_9070,)},
            {"flavour": "vulkan", "gpus": (RX_9070,), "build": 11200},
        ),
        (
            "#27734",
            {"flavour": "vulkan", "gpus": (XTX,), "os": "windows", "options": {"ctx-size": 131072}},
            {"flavour": "vulkan", "gpus": (XTX,), "os": "linux", "options": {"ctx-size": 131072}},
        ),
        (
            "#28079",
            {"flavour": "cuda-13.4", "options": {"cache-type-k": "q5_1"}},
            {"flavour": "vulkan", "options": {"cache-type-k": "q5_1"}},
        ),
        (
            "#28455",
            {
                "flavour": "cuda-12.8",
                "build": 11000,
                "options": {"cache-type-k": "f16", "cache-type-v": "q5_1"},
            },
            {"flavour": "cuda-12.8", "options": {"cache-type-k": "f16", "cache-type-v": "q5_1"}},
        ),
        (
            "#27150",
            {"flavour": "rocm-10.0", "build": 11000, "options": {"cache-type-k": "q8_0"}},
            {
                "flavour": "rocm-10.0",
                "build": 11000,
                "options": {"cache-type-k": "q8_0", "cache-type-v": "q8_0"},
            },
        ),
        (
            "metal",
            {"flavour": "metal", "options": {"cache-type-v": "q4_0"}},
            {"flavour": "metal", "options": {"cache-type-k": "q4_0", "cache-type-v": "q4_0"}},
        ),
        (
            "fattn.cu of b11434",
            {"flavour": "cuda-13.4", "options": {"cache-type-v": "iq4_nl"}},
            {"flavour": "cpu", "options": {"cache-type-v": "iq4_nl"}},
        ),
        (
            "#25144",
            {"options": {"spec-type": "draft-mtp,ngram-mod", "mmproj": "/p.gguf"}},
            {"options": {"spec-type": "draft-simple", "mmproj": "/p.gguf"}},
        ),
        (
            "#29887",
            {"flavour": "vulkan", "options": {"moe-cache-mib": 4096}},
            {"flavour": "vulkan", "options": {"moe-cache-mib": 0}},
        ),
        (
            "#25295",
            {"options": {"slot-save-path": "/x"}, "model": named("gpt-oss", "Gpt Oss 120B")},
            {"options": {"slot-save-path": "/x"}, "model": named("llama", "Llama")},
        ),
    ],
)
def test_a_bad_combination_is_warned_of_with_its_source_and_a_good_one_is_not(source, case, well):
    assert [text for text in warned(**case) if source in text]
    assert not [text for text in warned(**well) if source in text]


def test_two_cache_types_are_warned_of_unless_both_are_one_that_has_a_kernel():
    fast, slow = ("", "f16", "bf16", "q8_0", "q4_0"), ("q4_1", "q5_0", "q5_1", "iq4_nl")
    for build in (11541, 11000):
        for keys in (*fast, *slow):
            for values in (*fast, *slow):
                said = warned({"cache-type-k": keys, "cache-type-v": values}, flavour="cuda", build=build)
                is_well = keys in fast and (keys or "f16") == (values or "f16")
                assert bool(said) != is_well, (build, keys, values, said)


def test_a_build_that_does_not_tell_its_number_is_warned_of():
    assert warned({"sleep-idle-seconds": 60}, build=None)
    assert not warned({"sleep-idle-seconds": 60}, build=7491)


def test_what_a_plain_profile_says_is_not_warned_of():
    plain = {"ctx-size": 32768, "gpu-layers": 99, "jinja": True, "cache-ram": 2048}
    assert warned(plain, flavour="vulkan", gpus=(STRIX_HALO,)) == ()


def test_every_row_names_its_source_and_options_that_exist():
    for row in TABLE:
        assert re.search(r"#\d{4,}|CVE-|fattn|ggml-metal", row.source), row
        assert row.before is None or row.since < row.before
        assert all(describe(option) or option == "moe-cache-mib" for option in row.options)
        for pattern in (*row.options.values(), row.gpu, row.model):
            re.compile(pattern)
