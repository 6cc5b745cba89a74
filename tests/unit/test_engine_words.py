"""What the engine room reads from other programs' words, and what it says of them."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from supervisor.engine.inspection import cannot_start, does_not_answer, parse_devices
from supervisor.engine.local_engines import grouped
from supervisor.engine.pypi.compile import FLAVOURS, flavour_for, parse_progress
from supervisor.errors import ConfigError, NoSuitableEngine, NotFound, PermissionDenied
from supervisor.tool import ToolResult, clean_environment

SERVER = Path("/opt/llama/llama-server")


def said(returncode: int | None, stderr: str) -> NoSuitableEngine:
    error = does_not_answer(SERVER, "--version", ToolResult(returncode, "", stderr), 30)
    assert isinstance(error, NoSuitableEngine)
    return error


@pytest.mark.parametrize(
    ("library", "hint"),
    [
        ("libgomp.so.1", "apt-get install libgomp1"),
        ("libssl.so.3", "apt-get install libssl3"),
        ("libvulkan.so.1", "dnf install vulkan-loader"),
        ("libcudart.so.12", "cudart archive"),
        ("libllama-common.so.0", "next to the binary"),
        ("libnobodyknows.so.7", "engine.source=build"),
    ],
)
def test_a_missing_library_is_named_with_what_brings_it(library: str, hint: str) -> None:
    text = f"llama-server: error while loading shared libraries: {library}: cannot open shared object file"
    error = said(127, text)
    assert f"the shared library {library} is not installed" in str(error)
    assert hint in error.hint


def test_a_missing_library_of_a_mac_is_named() -> None:
    error = said(-6, "dyld[71]: Library not loaded: @rpath/libggml.0.dylib\n  Referenced from: x")
    assert "libggml.0.dylib" in str(error)


@pytest.mark.parametrize(
    ("returncode", "stderr", "expected"),
    [
        (1, "x: /lib/libc.so.6: version `GLIBC_2.38' not found (required by x)", "it needs GLIBC_2.38"),
        (
            127,
            "x: error while loading shared libraries: libggml.so: failed to map segment from shared object",
            "the shared library libggml.so is on a file system that is mounted noexec",
        ),
        (-4, "", "instructions that this CPU does not have"),
        (0xC0000135, "", "a DLL that it needs is missing"),
        (0xC000001D - 2**32, "", "instructions that this CPU does not have"),
        (1, "failed to parse server config file: /etc/llama.cpp/config.ini", "/etc/llama.cpp/config.ini"),
        (3, "one\n\nthe last word\n\n", "exit code 3: the last word"),
        (-11, "", "signal 11: it said nothing"),
    ],
)
def test_why_a_binary_does_not_run(returncode: int, stderr: str, expected: str) -> None:
    assert expected in str(said(returncode, stderr))


def test_a_binary_that_hangs_is_told_from_one_that_fails() -> None:
    assert "did not end within 30 s" in str(said(None, ""))


def test_a_folder_and_a_missing_file_are_not_found(tmp_path: Path) -> None:
    folder = cannot_start(tmp_path, PermissionError(errno.EACCES, "Permission denied"))
    assert isinstance(folder, NotFound)
    assert "is a folder" in str(folder)
    missing = cannot_start(tmp_path / "no", FileNotFoundError(errno.ENOENT, "No such file"))
    assert isinstance(missing, NotFound)


def test_a_file_that_may_not_run_is_a_matter_of_permission(tmp_path: Path) -> None:
    file = tmp_path / "llama-server"
    file.touch()
    error = cannot_start(file, PermissionError(errno.EACCES, "Permission denied"))
    assert isinstance(error, PermissionDenied)
    assert f"chmod +x {file}" in error.hint


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 0xB7), "built for Linux on aarch64"),
        (b"\x7fELF\x02\x02" + bytes(12) + struct.pack(">H", 0x16), "built for Linux on s390x"),
        (b"MZ" + bytes(30), "built for Windows"),
        (b"\xcf\xfa\xed\xfe" + bytes(30), "built for macOS"),
        (b"<html>not found</html>", "it is no executable file"),
        (b"", "it is empty"),
    ],
)
def test_a_program_for_another_machine_is_named(tmp_path: Path, head: bytes, expected: str) -> None:
    file = tmp_path / "llama-server"
    file.write_bytes(head)
    error = cannot_start(file, OSError(errno.ENOEXEC, "Exec format error"))
    assert isinstance(error, NoSuitableEngine)
    assert expected in str(error)


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("Available devices:\n  (none)\n", ()),
        (
            "load_backend: x\nAvailable devices:\n  CUDA0: A (1 MiB, 1 MiB free)\n",
            ("CUDA0: A (1 MiB, 1 MiB free)",),
        ),
        ("Available devices:\n  MTL0: M (1 MiB)\n  BLAS: Accelerate (0 MiB)\n", ("MTL0: M (1 MiB)",)),
        ("something else\n", ()),
    ],
)
def test_devices_are_read_from_their_list(text: str, devices: tuple[str, ...]) -> None:
    assert parse_devices(text) == devices


@pytest.mark.parametrize(
    ("line", "fraction", "detail"),
    [
        ("[ 66%] Building CXX object a.cpp.o", 0.66, "Building CXX object a.cpp.o"),
        ("[12/48] Building CXX object a.cpp.o", 0.25, "Building CXX object a.cpp.o"),
        ("[0/0] nothing", None, "nothing"),
        ("-- Found OpenMP", None, "-- Found OpenMP"),
    ],
)
def test_progress_is_read_from_make_and_ninja(line: str, fraction: float | None, detail: str) -> None:
    assert parse_progress(line) == (fraction, detail)


def test_without_a_gpu_the_flavour_to_compile_is_cpu() -> None:
    assert flavour_for(None, wants_gpu=False) == "cpu"
    assert flavour_for("vulkan", wants_gpu=True) == "vulkan"


def test_a_flavour_that_cannot_be_compiled_is_refused_with_those_that_can() -> None:
    with pytest.raises(ConfigError, match=r"openvino cannot be compiled; these can: cpu, cuda") as raised:
        flavour_for("openvino", wants_gpu=True)
    assert all(flavour in str(raised.value) for flavour in FLAVOURS)


def test_what_would_change_the_engine_behind_our_back_is_not_passed_on() -> None:
    base = {
        "PATH": "/bin",
        "LLAMA_ARG_PORT": "1",
        "PYTHONPATH": "/x",
        "PIP_TARGET": "/x",
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "HTTPS_PROXY": "http://proxy.example",
    }
    kept = clean_environment(base, Path("/empty"))
    assert {"PATH", "PIP_INDEX_URL", "HTTPS_PROXY"} <= kept.keys()
    assert not {"LLAMA_ARG_PORT", "PYTHONPATH", "PIP_TARGET"} & kept.keys()
    assert str(Path("/empty")) in kept.values()


def test_what_was_passed_over_for_the_same_reason_is_one_clause() -> None:
    passed = ("cuda-12.8: no GPU", "cuda-13.4: no GPU", "cpu: old", "nothing is left")
    assert grouped(passed) == ["cuda-12.8, cuda-13.4: no GPU", "cpu: old", "nothing is left"]
