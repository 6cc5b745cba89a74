"""
What llama-server's output and its exit mean.  Texts: llama.cpp b6100 to b11434, seen in its output or (GPU
backends) in its source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .adapter import Ending, Sign, sign

LESS_MEMORY = (
    "Give it less to hold: a smaller ctx-size or ubatch-size, more experts on the CPU (n-cpu-moe), fewer "
    "gpu-layers, cache-ram 0, or close what else uses memory."
)
_DOWNLOAD_AGAIN = "Delete the file and download it again."
_NEWER_BUILD = "Use a newer llama.cpp build."
_LOST_OFTEN = "If it happens often, look at the driver's log, at power and at heat."

# The first sign that is anywhere in the log wins, so the precise ones come before those that follow
# from them.
SIGNS: tuple[Sign, ...] = (
    sign(
        "no-device",
        r"invalid device: (?P<device>\S+)",
        "This engine sees no device {device}.",
        "Check the driver and the flavour of the engine; its --list-devices shows what it sees.",
    ),
    sign(
        "no-rpc",
        r"RPC not supported in this build|failed to find RPC (?:backend|add server function)",
        "This build of llama-server knows no RPC, so it cannot use workers.",
        "Use a build with RPC: a release, engine.source: build, or your own with -DGGML_RPC=ON.",
    ),
    sign(
        "worker-protocol",
        r"RPC handshake failed for (?P<worker>\S+)",  # the line with its version may be lost in the abort
        "The worker {worker} speaks another version of llama.cpp's RPC than this engine.",
        "Give both machines the same build: goss-supervisor engine update.",
    ),
    sign(
        "worker-lost",
        r"ggml-rpc\.cpp:\d+: Failed to connect to (?P<worker>\S+)",
        "The worker {worker} is gone.",
        "goss-supervisor goes on by itself when it is back; look at that machine, its network and its log.",
        retryable=True,
    ),
    sign(
        "worker-lost",
        r"Remote RPC server crashed or returned malformed response",
        "A worker is gone.",
        "goss-supervisor goes on by itself when it is back; look at that machine, its network and its log.",
        retryable=True,
    ),
    sign(
        "bad-argument",
        r"Unsupported cache type: (?P<type>\S+)",
        "This build knows no KV cache of the type {type}.",
        "Correct cache-type-k and cache-type-v in the profile.",
    ),
    sign(
        "bad-argument",
        r"error while handling argument \"(?P<option>[^\"]+)\": (?:error: )?(?P<why>.+)",
        "llama-server does not accept the value of {option}: {why}.",
        "Correct it in the profile; `goss-supervisor plan` shows the command line.",
    ),
    sign(
        "bad-argument",
        r"error while handling environment variable \"(?P<option>[^\"]+)\": (?P<why>.+)",
        "llama-server does not accept the value of {option}: {why}.",
        "Correct it under env: in the profile.",
    ),
    sign(
        "bad-argument",
        r"error: invalid argument: (?P<option>\S+)",
        "This build of llama-server has no option {option}.",
        "Remove it from the profile, or use a build that has it; `goss-supervisor plan` shows the command.",
    ),
    sign(
        "bad-config",
        r"failed to parse server config file: (?P<file>.+)",
        "llama-server cannot read its own configuration file {file}.",
        "Repair or remove that file.",
    ),
    sign(
        "missing-library",
        r"error while loading shared libraries: (?P<library>[^:]+):",
        "The engine needs the library {library}, which is not installed.",
        "Install it, or another flavour of the engine.",
    ),
    sign(
        "missing-library",
        r"Library not loaded: (?P<library>\S+)",
        "The engine needs the library {library}, which is not installed.",
        "Install the engine again.",
    ),
    sign(
        "missing-library",
        r"version [`'](?P<version>GLIBC\w*_[\d.]+)' not found",
        "The engine needs {version}, which this system is too old for.",
        "Build the engine on this machine (engine.source: build), or use a build for an older system.",
    ),
    sign(
        "bind-failed",
        r"couldn't bind HTTP server socket, hostname: (?P<host>[^,]+), port: (?P<port>\d+)",
        "llama-server cannot listen on {host} port {port}.",
        "Another program may hold the port, the address may not be this computer's, or a certificate is bad; "
        "choose another listen.port or listen.host.",
    ),
    sign(
        "model-missing",
        r"failed to open GGUF file '(?P<file>[^']+)' \((?P<why>[^)]+)\)",
        "The model file {file} cannot be opened: {why}.",
        "Correct model in the profile, or download it.",
    ),
    sign(
        "not-gguf",
        r"invalid magic characters: '?(?P<magic>[^',]*)'?",
        "The model file is not a GGUF: it begins with '{magic}'.",
        "Name a .gguf file; older formats have to be converted.",
    ),
    sign(
        "not-gguf",
        r"failed to read magic",
        "The model file is not a GGUF: it is empty, or a folder.",
        _DOWNLOAD_AGAIN,
    ),
    sign(
        "model-broken",
        r"failed to read (?:key-value pairs|tensor (?:info|data))",
        "The model file is cut off within its header.",
        _DOWNLOAD_AGAIN,
    ),
    sign(
        "model-broken",
        r"tensor '(?P<tensor>[^']+)' data is not within the file bounds",
        "The model file is incomplete: the data of {tensor} lie behind its end.",
        _DOWNLOAD_AGAIN,
    ),
    sign(
        "model-too-new",
        r"this GGUF file is version (?P<version>\d+) but this software only supports up to version",
        "The model file has GGUF version {version}, which this build cannot read.",
        _NEWER_BUILD,
    ),
    sign(
        "model-too-new",
        r"unknown model architecture: '(?P<arch>[^']+)'",
        "This build does not know models of the architecture {arch}.",
        _NEWER_BUILD,
    ),
    sign(
        "model-too-new",
        r"unknown pre-tokenizer type: '(?P<pre>[^']+)'",
        "This build does not know the tokenizer {pre} of the model.",
        _NEWER_BUILD,
    ),
    sign(
        "model-broken",
        r"(?:tensor '(?P<tensor>[^']+)' (?:not found|has wrong shape)|missing tensor)",
        "The model file does not hold the tensors of its architecture.",
        f"{_DOWNLOAD_AGAIN} If it was made for another program, get one made for llama.cpp.",
    ),
    sign(
        "model-split",
        r"invalid split (?:count|file)",
        "The parts of the model do not belong together, or one is missing.",
        "Keep all parts in one folder under their own names, and name the first.",
    ),
    sign(
        "chat-template",
        r"(?:the supplied chat template is not supported|chat template parsing error)",
        "llama-server cannot use the chat template.",
        "Correct chat-template or chat-template-file in the profile, or leave them out.",
    ),
    sign(
        "device-lost",
        r"decode\(\) failed: .*ErrorDeviceLost",
        "The GPU was lost: its driver reset it, and this llama-server can answer no request since.",
        _LOST_OFTEN,
        retryable=True,
        breaks=True,
    ),
    sign(
        "device-lost",
        r"(?:DeviceLostError|ErrorDeviceLost|ggml_vulkan: device lost)",
        "The GPU was lost: its driver reset it.",
        _LOST_OFTEN,
        retryable=True,
    ),
    sign(
        "gpu-memory",  # Vulkan keeps the size that it could not get, and fails to get it in every request
        r"decode\(\) failed: .*ErrorOutOfDeviceMemory",
        "A request needed more memory than the GPU had free, and this llama-server can answer none since.",
        LESS_MEMORY,
        retryable=True,
        breaks=True,
    ),
    sign(
        "gpu-memory",
        r"(?:cudaMalloc failed: out of memory|(?:CUDA|ROCm) error: out of memory|ErrorOutOfDeviceMemory"
        r"|Device memory allocation of size \d+ failed|kIOGPUCommandBufferCallbackErrorOutOfMemory"
        r"|failed to allocate Metal buffer|unable to allocate (?:CUDA|ROCm|Vulkan|MTL|Metal|SYCL)\w* buffer)",
        "The GPU has not enough free memory.",
        LESS_MEMORY,
        retryable=True,
    ),
    sign(
        "memory",
        r"(?:insufficient memory \(attempted to allocate (?P<size>[\d.]+ MB)\)|unable to allocate \w+ buffer"
        r"|failed to allocate buffer|failed to allocate compute|std::bad_alloc)",
        "There is not enough free memory.",
        LESS_MEMORY,
        retryable=True,
    ),
    sign(
        "gpu-error",
        r"(?P<api>CUDA|ROCm|SYCL) error: ?(?P<why>.+)",
        "The GPU reported an error ({api}): {why}.",
        "If it happens often, update the driver or use another build.",
        retryable=True,
    ),
    sign(
        "context",
        r"failed to (?:create_context with model|initialize the context)",
        "llama-server could not set up the context.",
        LESS_MEMORY,
    ),
    sign(
        "wake-failed",
        r"failed to reload model after sleeping",
        "llama-server could not load the model again after it had slept.",
        "Check that the model file is still there and that memory is free.",
        retryable=True,
    ),
    sign(
        "download-failed",
        r"failed to download model",
        "llama-server could not download the model.",
        "Check the network, or give the model as a file.",
        retryable=True,
    ),
    sign(
        "model-broken",
        r"(?:exiting due to model loading error|error loading model: (?P<why>.+))",
        "llama-server could not load the model.",
        "The log says more: `goss-supervisor logs`.",
    ),
    sign(
        "assertion",
        r"GGML_ASSERT\((?P<what>.+)\) failed",
        "llama-server found itself in an impossible state: {what}.",
        "If it happens often, try another build and report it to llama.cpp.",
        retryable=True,
    ),
)

CPU_FALLBACK: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"no usable GPU found"), "no usable GPU was found; gpu-layers is ignored"),
    (re.compile(r"CUDA driver version is insufficient"), "the NVIDIA driver is too old for this engine"),
    (re.compile(r"no CUDA-capable device is detected"), "the NVIDIA driver sees no GPU"),
    (re.compile(r"failed to initialize (?:CUDA|ROCm|HIP)"), "the GPU's driver could not be initialised"),
    (re.compile(r"RPC server version mismatch"), "a worker speaks another version of llama.cpp's RPC"),
    (re.compile(r"ggml_vulkan: No devices found"), "the Vulkan driver sees no GPU"),
)

_OFTEN = "If it happens often, try another build and report it to llama.cpp."
_WRONG_CPU = "The engine uses instructions that this CPU does not have."

# exit code or minus the signal (POSIX), and NTSTATUS (Windows)
ENDINGS: Mapping[int, Ending] = {
    -9: Ending(
        "killed",
        "llama-server was killed by SIGKILL: by somebody, or by the system because memory ran out.",
        f"The kernel's log tells (journalctl -k, dmesg).  {LESS_MEMORY}",
        retryable=True,
    ),
    -4: Ending("wrong-cpu", _WRONG_CPU, "Use a build for this CPU, or build it here (engine.source: build)."),
    0xC000001D: Ending("wrong-cpu", _WRONG_CPU, "Use a build for this CPU."),
    -7: Ending(
        "model-vanished",
        "llama-server could not read its model any more: the file was cut, replaced, or its disk failed.",
        "Check the model file and its disk; do not replace a model file that is in use.",
        retryable=True,
    ),
    -6: Ending("crash", "llama-server gave itself up (SIGABRT).", _OFTEN, retryable=True),
    -11: Ending("crash", "llama-server crashed (SIGSEGV).", _OFTEN, retryable=True),
    0xC0000005: Ending("crash", "llama-server crashed (access violation).", _OFTEN, retryable=True),
    0xC0000409: Ending("crash", "llama-server gave itself up.", _OFTEN, retryable=True),
    127: Ending(
        "missing-library", "The engine or a library that it needs is missing.", "Install the engine again."
    ),
    0xC0000135: Ending(
        "missing-library",
        "A DLL that the engine needs is missing.",
        "Install the Visual C++ runtime, or the engine again.",
    ),
}
