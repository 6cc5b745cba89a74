"""Each way of dying has a name, a sentence and a next step; and what cannot succeed is not tried again."""

from __future__ import annotations

import sys

import pytest

from supervisor.engine.adapters.known import adapter_of
from supervisor.errors import StartFailed
from supervisor.server import shortage
from supervisor.server.cause_of_death import cpu_fallback
from supervisor.server.cause_of_death import diagnose as diagnose_any
from supervisor.server.process import ExitStatus

ONE = ExitStatus(code=1)
LLAMACPP = adapter_of("llamacpp")
SIGNS = LLAMACPP.signs


def diagnose(status, phase, tail):
    return diagnose_any(status, phase, tail, LLAMACPP, "llama-server")


# What llama-server prints (b11434 unless it is an older build's text), and what follows from it.
SAMPLES = [
    ("error: invalid argument: --bogus", "bad-argument", "--bogus"),
    (
        "error while handling argument \"-fa\": error: unknown value for --flash-attn: '--jinja'",
        "bad-argument",
        "-fa: unknown value for --flash-attn: '--jinja'",
    ),
    (
        'error while handling environment variable "LLAMA_ARG_CTX_SIZE": stoi',
        "bad-argument",
        "LLAMA_ARG_CTX_SIZE",
    ),
    (
        'error while handling argument "--rpc": RPC not supported in this build',
        "no-rpc",
        "knows no RPC",
    ),
    (
        "E RPC server version mismatch: 5.0.0\nggml-rpc.cpp:550: RPC handshake failed for 198.51.100.2:50052\n",
        "worker-protocol",
        "198.51.100.2:50052 speaks another version",
    ),
    (
        "ggml-rpc.cpp:547: Failed to connect to mini2.local:50052\n",
        "worker-lost",
        "The worker mini2.local:50052 is gone",
    ),
    (
        "ggml-rpc.cpp:566: Remote RPC server crashed or returned malformed response",
        "worker-lost",
        "A worker is gone",
    ),
    (
        'error while handling argument "-ctk": Unsupported cache type: zz',
        "bad-argument",
        "KV cache of the type zz",
    ),
    ('error while handling argument "-dev": invalid device: CUDA0', "no-device", "CUDA0"),
    (
        "failed to parse server config file: /etc/llama.cpp/config.ini",
        "bad-config",
        "/etc/llama.cpp/config.ini",
    ),
    (
        "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file",
        "missing-library",
        "libcudart.so.12",
    ),
    (
        "dyld[71]: Library not loaded: @rpath/libllama.dylib",
        "missing-library",
        "@rpath/libllama.dylib",
    ),
    (
        "/lib/libm.so.6: version `GLIBC_2.38' not found (required by llama-server)",
        "missing-library",
        "GLIBC_2.38",
    ),
    (
        "0.00.012 E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080",
        "bind-failed",
        "127.0.0.1 port 8080",
    ),
    (
        "E gguf_init_from_file: failed to open GGUF file '/m.gguf' (No such file or directory)",
        "model-missing",
        "/m.gguf",
    ),
    (
        "gguf_init_from_reader: invalid magic characters: 'tjgg', expected 'GGUF'",
        "not-gguf",
        "'tjgg'",
    ),
    ("gguf_init_from_reader: failed to read magic", "not-gguf", "empty"),
    ("gguf_init_from_reader: failed to read key-value pairs", "model-broken", "cut off"),
    (
        "tensor 'blk.0.attn_q.weight' data is not within the file bounds, model is corrupted or incomplete",
        "model-broken",
        "blk.0.attn_q.weight",
    ),
    (
        "this GGUF file is version 9 but this software only supports up to version 3",
        "model-too-new",
        "version 9",
    ),
    (
        "error loading model architecture: unknown model architecture: 'gpt-oss'",
        "model-too-new",
        "gpt-oss",
    ),
    (
        "error loading model vocabulary: unknown pre-tokenizer type: 'gpt-6'",
        "model-too-new",
        "gpt-6",
    ),
    ("check_tensor_dims: tensor 'output.weight' not found", "model-broken", "tensors"),
    ("llama_model_load: error loading model: invalid split file", "model-split", "parts"),
    ("error: the supplied chat template is not supported: foo", "chat-template", "template"),
    (
        "terminate called after throwing an instance of 'vk::DeviceLostError'",
        "device-lost",
        "GPU was lost",
    ),
    (
        "cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory",
        "gpu-memory",
        "GPU",
    ),
    ("llama_model_load: error loading model: unable to allocate Vulkan0 buffer", "gpu-memory", "GPU"),
    (
        "ggml_aligned_malloc: insufficient memory (attempted to allocate 58092.19 MB)",
        "memory",
        "memory",
    ),
    ("CUDA error: an illegal memory access was encountered", "gpu-error", "illegal memory access"),
    ("failed to create_context with model", "context", "context"),
    ("failed to reload model after sleeping", "wake-failed", "slept"),
    ("failed to download model", "download-failed", "download"),
    ("srv  llama_server: exiting due to model loading error", "model-broken", "load the model"),
    (
        "/src/ggml.c:12: GGML_ASSERT(n_tokens > 0) failed",
        "assertion",
        "n_tokens > 0",
    ),
]


@pytest.mark.parametrize(("line", "kind", "words"), SAMPLES)
def test_a_last_word_is_understood(line, kind, words):
    found = diagnose(ONE, "starting", ["0.00.001 I srv  llama_server: initializing ...", line, ""])
    assert found.kind == kind
    assert words in found.message
    assert found.message.endswith(".")
    assert found.hint


def test_every_sign_is_shown_by_a_sample():
    shown = {next(sign for sign in SIGNS if sign.pattern.search(line)) for line, _, _ in SAMPLES}
    assert shown == set(SIGNS)


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [
        ("bad-argument", False),
        ("no-device", False),
        ("missing-library", False),
        ("bind-failed", False),
        ("model-missing", False),
        ("not-gguf", False),
        ("model-too-new", False),
        ("no-rpc", False),
        ("worker-protocol", False),
        ("worker-lost", True),
        ("device-lost", True),
        ("gpu-memory", True),
        ("memory", True),
        ("assertion", True),
    ],
)
def test_only_what_may_pass_is_tried_again(kind, retryable):
    assert {sign.retryable for sign in SIGNS if sign.kind == kind} == {retryable}


def test_the_cause_outweighs_what_follows_from_it():
    tail = [
        "E gguf_init_from_file: failed to open GGUF file '/m.gguf' (Permission denied)",
        "E srv    load_model: failed to load model, '/m.gguf'",
        "E srv  llama_server: exiting due to model loading error",
    ]
    assert (
        diagnose(ONE, "starting", tail).message
        == "The model file /m.gguf cannot be opened: Permission denied."
    )


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (ExitStatus(signal=9), "killed", True),
        (ExitStatus(signal=6), "crash", True),
        (ExitStatus(signal=11), "crash", True),
        (ExitStatus(signal=7), "model-vanished", True),
        (ExitStatus(signal=4), "wrong-cpu", False),
        (ExitStatus(signal=15), "exit", True),
        (ExitStatus(code=127), "missing-library", False),
        (ExitStatus(code=0xC0000005), "crash", True),
        (ExitStatus(code=0xC0000135), "missing-library", False),
        (ONE, "exit", False),
        (ExitStatus(code=0), "exit", False),
        (ExitStatus(), "vanished", True),
    ],
)
def test_without_a_word_the_exit_status_speaks(status, kind, retryable):
    found = diagnose(status, "starting", [])
    assert (found.kind, found.retryable) == (kind, retryable)
    assert found.hint


def test_a_silent_kill_leaves_open_who_did_it():
    assert "or by the system" in diagnose(ExitStatus(signal=9), "serving", ["I srv all is well"]).message


def test_an_end_while_serving_is_always_tried_again():
    assert diagnose(ONE, "serving", []).retryable
    assert diagnose(ExitStatus(code=0), "serving", []).retryable


def test_a_server_that_has_served_had_good_options_and_a_good_model():
    stale = ["E common_fit_params: failed to load model", "exiting due to model loading error"]
    assert diagnose(ExitStatus(signal=11), "serving", stale).kind == "crash"


@pytest.mark.parametrize(
    "line",
    [
        "warning: no usable GPU found, --gpu-layers option will be ignored",
        "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
        "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version",
        "ggml_vulkan: No devices found.",
        "RPC server version mismatch: 7.0.0",
    ],
)
def test_a_fallback_to_the_cpu_is_heard(line):
    assert cpu_fallback(line, LLAMACPP)


def test_ordinary_lines_are_no_fallback():
    assert cpu_fallback("load_backend: loaded CUDA backend from /x/libggml-cuda.so", LLAMACPP) is None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ExitStatus(code=0xC0000005), "exit code 0xC0000005"),
        pytest.param(
            ExitStatus.from_returncode(-64),
            "killed by SIGRTMAX",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals"),
        ),
        (ExitStatus.from_returncode(-99), "killed by signal 99"),
        (ExitStatus(), "ended for an unknown reason"),
    ],
)
def test_rare_exits_have_words(status, words):
    assert str(status) == words


def test_a_limit_on_open_files_that_is_too_low_for_a_start_is_named_with_the_number_needed(monkeypatch):
    monkeypatch.setattr(shortage, "descriptor_limit", lambda: 64)
    shortage.check_descriptor_limit()
    monkeypatch.setattr(shortage, "descriptor_limit", lambda: 20)
    with pytest.raises(StartFailed, match="limit on open files is 20; the daemon needs at least 48"):
        shortage.check_descriptor_limit()
