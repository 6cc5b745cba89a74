"""
A Vulkan device under the real program, without a GPU: Mesa's lavapipe, which computes on the CPU.

It is seen, it allocates, it can be hidden and it can be too small, as a card; how fast one is it says nothing of.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from supervisor.hardware.detection import detect
from supervisor.memory.accounts import Pool
from supervisor.memory.engine_figures import measured
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import settings_of
from supervisor.model.demo import (
    BYTES,
    CONTROL,
    DEMO_ANSWER,
    MARKERS,
    NORMAL,
    Shape,
    ensure_demo,
    model_values,
    tensors,
    tokenizer_values,
)
from supervisor.model.gguf import NAMED
from supervisor.model.gguf_writer import write_gguf
from supervisor.model.open import open_model
from supervisor.options.parse import parse_arguments
from tests.fakes.architectures import write_shape
from tests.memory_engine import by_pool

from .conftest import PATIENCE, Home, free_port

VARIABLE, MODELS = "GOSS_TEST_VULKAN", "GOSS_TEST_MODELS"
DEMO, SMOLLM2 = "demo", "SmolLM2-135M-Instruct.Q4_1.gguf"
LFM2 = (
    "lfm2-1.2b"  # its true shape; the embeddings of newer models are more than the 128 MiB of a buffer here
)
COMPILING = 900.0  # seconds until LLVM has compiled the shaders of a first answer; kept for the next run
FEW_TOKENS = ("server.batch-size=8", "server.ubatch-size=8")  # more at once want shaders that take minutes
MIB = 1024**2
FIXED = (
    "n-cpu-moe", "ubatch-size", "batch-size", "threads", "threads-batch", "poll", "flash-attn", "repack", "load-mode",
)  # fmt: skip
LITTLE = "ctx-size: 512, parallel: 1, warmup: false, log-verbosity: 4, cache-ram: 0"
PINNED = f"server: {{gpu-layers: 99, fit: 'off', {LITTLE}}}"
PLACED = f"placement: auto\nserver: {{{LITTLE}}}"


@pytest.fixture(scope="module")
def vulkan():
    """The folder of tests/vulkan.py."""
    if not (folder := os.environ.get(VARIABLE)):
        pytest.skip(f"{VARIABLE} is not set: bin/test --vulkan downloads 90 MB for it")
    return Path(folder)


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path, (), free_port())
    yield made
    made.close()


def seen_by(vulkan):
    return {
        "VK_DRIVER_FILES": str(vulkan / "driver.json"),
        "GGML_VK_VISIBLE_DEVICES": "0",  # llama.cpp leaves out devices that are CPUs, unless they are named
        "MESA_SHADER_CACHE_DIR": str(vulkan / "shaders"),
        "GALLIVM_PERF": "nopt",  # LLVM compiles them faster than it would optimise them
    }


def profile(home, vulkan, *, placing=PINNED, **env):
    """``vk`` has all its layers on the device."""
    engine = {"source": "path", "path": str(vulkan / "llama-server")}
    text = f"extends: demo\nengine: {json.dumps(engine)}\n{placing}\nenv: {json.dumps(env)}\n"
    home.profile("vk", text)


def test_the_plan_has_the_device_that_the_profiles_own_variables_show(home, vulkan):
    ensure_demo(home.root / "data" / "models")
    profile(home, vulkan, **seen_by(vulkan))
    plan = json.loads(home.run("plan", "vk", "--json").stdout)
    assert plan["flavour"] == "vulkan"
    assert plan["warnings"] == []
    assert [each["name"] for each in plan["ledger"]["devices"]] == ["Vulkan0", "RAM"]


@pytest.mark.parametrize("hidden", [{"VK_DRIVER_FILES": "/nowhere.json"}, {"GGML_VK_VISIBLE_DEVICES": "7"}])
def test_a_device_that_the_environment_hides_is_no_silent_run_on_the_cpu(home, vulkan, hidden):
    profile(home, vulkan, **seen_by(vulkan) | hidden)
    home.start("vk", code=1)
    server = home.status()["server"]
    assert server["state"] == "degraded"
    assert "running on the CPU" in server["why"]
    assert home.run("ask", "hello").stdout
    home.run("stop")


def test_too_little_memory_of_the_device_at_the_load_is_called_so(home, vulkan):
    """The buffers of the context are 512 KiB, and no more than 100 KB can be had at once."""
    profile(home, vulkan, **seen_by(vulkan), GGML_VK_FORCE_MAX_BUFFER_SIZE="100000")
    failed = home.start("vk", code=None)
    assert failed.returncode != 0
    assert "The GPU has not enough free memory." in failed.stderr
    assert "gpu-layers" in failed.stderr


def narrow_model(file):
    """A gpt-oss whose attention needs a buffer of its own, larger than any other, for 8 tokens at a time."""
    shape = Shape(
        1, embedding=32, heads=8, heads_kv=1, head_size=64, experts=4, experts_used=2, feed_forward=32
    )
    tokens = [*BYTES, "ab", *MARKERS]
    types = [NORMAL] * (len(BYTES) + 1) + [CONTROL] * len(MARKERS)
    values = model_values(shape, "narrow") | tokenizer_values(tokens, types, ["a b"])
    write_gguf(file, values, list(tensors(shape, len(tokens), dense=NAMED["f32"])))


def complete(home, tokens):
    """The status and the body of the answer."""
    body = json.dumps({"prompt": [40 + n for n in range(tokens)], "n_predict": 2, "cache_prompt": False})
    asked = Request(
        f"http://127.0.0.1:{home.port}/completion", body.encode(), {"Content-Type": "application/json"}
    )
    try:
        with urlopen(asked, timeout=COMPILING) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


STEPS_BACK = {
    PINNED: "",
    PLACED: "with n-cpu-moe 1, for without it requests ran out of GPU memory",
}


@pytest.mark.parametrize("placing", STEPS_BACK, ids=("pinned", "placed"))
def test_too_little_memory_of_the_device_in_requests_is_called_so_and_followed_by_a_start_with_less(
    home, vulkan, tmp_path, placing
):
    """
    Its buffers of 33,300 bytes are enough for the load and for 3 tokens; 8 want one of 33,792.  That llama-server
    keeps the size it wants, and fails in every later request: 3 tokens are answered by the next one.  A placement
    that is the user's stays, also the second time.
    """
    narrow_model(tmp_path / "narrow.gguf")
    size = "33300"
    forced = {"GGML_VK_FORCE_MAX_BUFFER_SIZE": size, "GGML_VK_SUBALLOCATION_BLOCK_SIZE": size}
    profile(home, vulkan, placing=placing, **seen_by(vulkan), **forced)
    options = ("model=" + str(tmp_path / "narrow.gguf"), *FEW_TOKENS, "server.ctx-size=256")
    home.start("vk", *sets(options), timeout=COMPILING)
    for restarts in (1, 2):
        assert complete(home, 3)[0] == 200
        code, said = complete(home, 16)
        assert code == 500
        assert "ErrorOutOfDeviceMemory" in said
        server = home.watch_for(
            lambda now, n=restarts: (now["server"]["restarts"], now["server"]["state"]) == (n, "ready")
        )["server"]
        failure = server["last_failure"]["message"]
        assert failure.startswith("A request needed more memory than the GPU had free")
    assert server["why"] == STEPS_BACK[placing]
    command = psutil.Process(server["pid"]).cmdline()
    assert ("--n-cpu-moe" in command) == bool(STEPS_BACK[placing])
    assert complete(home, 3)[0] == 200
    home.run("stop")


GRID = [
    (DEMO, "-ngl 99"),
    (DEMO, "-ngl 2 --n-cpu-moe 1"),
    (DEMO, "-ngl 99 --cpu-moe"),
    (DEMO, "-ngl 99 -ub 128"),
    (DEMO, "-ngl 99 -fa off"),
    (SMOLLM2, "-ngl 0"),
    (SMOLLM2, "-ngl 1"),
    (SMOLLM2, "-ngl 10 -ub 128"),
    (SMOLLM2, "-ngl 99"),
    (SMOLLM2, "-ngl 99 -b 2048 -ub 2048"),
    (SMOLLM2, "-ngl 99 -fa off"),
    (SMOLLM2, "-ngl 99 -ctk q8_0 -ctv q8_0"),
    (SMOLLM2, "-ngl 99 --no-kv-offload"),
    (LFM2, "-ngl 99"),
    (LFM2, "-ngl 99 -fa off"),
]


@pytest.mark.parametrize(("name", "options"), GRID)
def test_what_is_planned_for_it_is_what_it_allocates(vulkan, tmp_path, name, options):
    if name == DEMO:
        file = ensure_demo(tmp_path)
    elif name == LFM2:
        write_shape(file := tmp_path / "lfm2.gguf", name)
    elif folder := os.environ.get(MODELS):
        file = Path(folder) / name
    else:
        pytest.skip(f"{MODELS} is not set: run bin/test, which says why a model cannot be had")
    words = [*options.split(), "-c", "2048", "-np", "1", "--fit", "off"]
    allocated = by_pool(load(vulkan, file, words))
    for each in ours(file, words, tmp_path):
        found = allocated[each.pool.name]
        assert each.weights.bytes == pytest.approx(found.weights_bytes, rel=0.01, abs=MIB / 50)
        assert each.context.bytes == pytest.approx(found.context_bytes, rel=0.01, abs=MIB / 50)
        assert found.compute_bytes * 0.98 <= each.compute.bytes <= found.compute_bytes * 1.25


def load(vulkan, file, words):
    """The buffers that the log of one load names, before anything is computed."""
    own = ["-lv", "4", "--host", "127.0.0.1", "--port", "0", "--no-warmup"]
    process = subprocess.Popen(
        [vulkan / "llama-server", "-m", file, *own, *words],
        env={**os.environ, **seen_by(vulkan)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    alarm = threading.Timer(PATIENCE, process.kill)
    alarm.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "graph splits" in line or "threadpool init" in line:
                break
    finally:
        alarm.cancel()
        process.kill()
        process.communicate()
    figures = measured(lines)
    assert figures is not None, "".join(lines[-20:])
    return figures.buffers


def ours(file, words, folder):
    model, size = open_model(file), 24 * 1024 * MIB
    settings = settings_of(parse_arguments(words).options, None, model)
    pools = [Pool("Vulkan0", size, size), Pool("RAM", None, None)]
    features = detect(folder).cpu.features
    return account(model, settings, pools, cpu_features=features, flavour="vulkan").accounts


def log_of(home):
    return "".join(path.read_text() for path in (home.root / "logs").glob("llama-server*.log"))


def sets(options):
    return [word for each in options for word in ("--set", each)]


def test_it_is_ready_with_its_layers_on_the_device_and_answers_to_the_letter(home, vulkan):
    profile(home, vulkan, **seen_by(vulkan))
    home.start("vk", *sets(FEW_TOKENS), timeout=COMPILING)
    assert home.status()["server"]["state"] == "ready"
    assert "offloaded 3/3 layers to GPU" in log_of(home)
    assert DEMO_ANSWER in home.run("ask", "hello", timeout=COMPILING).stdout
    home.run("stop")


def start_with_few_tokens(home, vulkan):
    """Also proves that its layers are on the device: the log of a server that only measures is not kept."""
    few = ", ".join(each.removeprefix("server.").replace("=", ": ") for each in FEW_TOKENS)
    placing = PINNED.replace(LITTLE, f"{LITTLE}, {few}")
    profile(home, vulkan, placing=placing, **seen_by(vulkan))
    home.start("vk", timeout=COMPILING)
    assert "offloaded 3/3 layers to GPU" in log_of(home)
    return home.status()["server"]


def test_bench_measures_what_the_device_computes_and_names_it(home, vulkan):
    before = start_with_few_tokens(home, vulkan)
    words = ("bench", "vk", "--prompt", "16", "--answer", "8", "--seconds", "1")
    out = home.run(*words, "--json", timeout=COMPILING)
    (result,) = json.loads(out.stdout)["results"]
    assert (result["flavour"], result["plan"]) == ("vulkan", before["digest"])
    (device,) = result["devices"]
    assert device.startswith("Vulkan0: llvmpipe")
    assert "free" not in device
    (row,) = result["rows"]
    assert row["generated_per_second"]["median"] > 0
    assert all(each["prompt_tokens"] == 16 for each in row["samples"])
    assert home.status()["server"]["pid"] == before["pid"], "it measured the server whose log was read"
    assert f"device   {device}" in home.run("bench", "show", "vk").stdout


def test_tune_measures_with_and_without_the_device_and_ends_with_a_verdict(home, vulkan):
    """The device is the CPU with a driver in between: without it the model is faster, proved in time or not."""
    before = start_with_few_tokens(home, vulkan)
    fixed = [word for key in FIXED for word in ("--fix", key)]
    words = ("--goal", "chat", "--budget", "60s", "--vary", "gpu-layers=0,99", *fixed, "--yes", "--json")
    found = json.loads(home.run("tune", "vk", *words, timeout=COMPILING).stdout)
    points = dict(found["charts"][0]["lines"][0]["points"])
    assert points[0.0]["value"] > points[3.0]["value"]
    changed = [(each["key"], each["is"]) for each in found["settings"]]
    assert (found["result"], changed) in [("faster", [("server.gpu-layers", "0")]), ("unchanged", [])]
    assert found["why"]
    assert home.status()["server"]["digest"] == before["digest"]
    assert "gpu-layers: 0" in (home.root / "config" / "profiles" / "vk-tuned.yaml").read_text()
