"""Engines that are proved, or why they are not: scripted ones, and the really built one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.engine.proof import smoke_test, trial
from supervisor.engine.proof.trial import Proof, prove, why_missing
from supervisor.model.demo import ensure_demo
from supervisor.options.help import parse_help

from ..fakes.binaries import ERAS, fake_server, script, server
from ..fakes.launching import line_from, wait_until_gone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")

CUDA = "CUDA0: NVIDIA GeForce RTX 4060 Ti (16062 MiB, 15862 MiB free)"
VULKAN = "Vulkan0: AMD Radeon 890M (65536 MiB, 60000 MiB free)"
linux = pytest.mark.skipif(sys.platform != "linux", reason="the linker's words are those of glibc")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_demo(tmp_path_factory.mktemp("models"))


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    return tmp_path / "engine" / "llama-server"


def proof(binary: Path, flavour: str, demo: Path, timeout_seconds: float | None = None) -> Proof:
    cache = binary.parents[1] / "cache"
    return prove([str(binary)], flavour, demo, cache, timeout_seconds=timeout_seconds)


def starts(record: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in record.read_text("utf-8").splitlines()]


def test_an_engine_that_answers_on_the_device_of_its_flavour_is_proved(
    tmp_path: Path, binary: Path, demo: Path
) -> None:
    record = tmp_path / "starts"
    fake_server(binary, devices=[VULKAN, CUDA], record=str(record))
    assert proof(binary, "cuda-13.4", demo) == Proof((VULKAN, CUDA))
    (start,) = starts(record)
    argv = start["argv"]
    assert isinstance(argv, list)
    assert argv[argv.index("--device") + 1] == "CUDA0"
    assert argv[argv.index("--gpu-layers") + 1] == "all"
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert not [word for word in argv if "key" in word]


def test_a_cpu_engine_is_given_no_device(tmp_path: Path, binary: Path, demo: Path) -> None:
    record = tmp_path / "starts"
    fake_server(binary, record=str(record))
    assert proof(binary, "cpu", demo) == Proof(())
    assert "--device" not in str(starts(record)[0]["argv"])


def test_the_users_own_settings_for_llama_cpp_do_not_reach_it(
    tmp_path: Path, binary: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_PORT", "1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    record = tmp_path / "starts"
    fake_server(binary, record=str(record))
    assert proof(binary, "cpu", demo).problem == ""
    environment = starts(record)[0]["env"]
    assert isinstance(environment, dict)
    assert "LLAMA_ARG_PORT" not in environment


def test_an_engine_that_does_not_run_says_so_in_the_words_of_the_system(binary: Path, demo: Path) -> None:
    said = "error while loading shared libraries: libgomp.so.1: cannot open shared object file"
    script(binary, f"echo '{said}' >&2; exit 127\n")
    assert "the shared library libgomp.so.1 is not installed" in proof(binary, "cpu", demo).problem


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "0.00.002.609 E ggml_cuda_init: failed to initialize CUDA: "
            "CUDA driver version is insufficient for CUDA runtime version",
            "it sees no CUDA device: ggml_cuda_init: failed to initialize CUDA: "
            "CUDA driver version is insufficient for CUDA runtime version",
        ),
        (
            "load_backend: loaded CPU backend from /x/libggml-cpu.so",
            "it sees no CUDA device: there is no library ggml-cuda next to it, and it printed nothing",
        ),
    ],
)
def test_an_engine_that_does_not_see_its_gpu_is_unusable_in_its_own_words(
    binary: Path, demo: Path, said: str, expected: str
) -> None:
    server(binary, devices=VULKAN, first=f"echo '{said}' >&2")
    assert proof(binary, "cuda-12.8", demo) == Proof((VULKAN,), expected)


def library(source: str, target: Path, *arguments: str) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(target), *arguments]
    subprocess.run(command, input=source, text=True, check=True)
    return target


@linux
def test_a_silent_engine_is_spoken_for_by_the_linker(binary: Path, demo: Path) -> None:
    server(binary)
    missing = library("int here;", binary.parent / "gone" / "libcudart.so.99")
    needed = ("-Wl,--no-as-needed", "-L", str(missing.parent), "-l:libcudart.so.99")
    library("int there;", binary.parent / "libggml-cuda.so", *needed)
    missing.unlink()
    assert proof(binary, "cuda-13.4", demo).problem == (
        "it sees no CUDA device: libcudart.so.99: cannot open shared object file: No such file or directory"
        " (Put the files of the matching cudart archive next to the binary)"
    )


@linux
def test_a_library_that_loads_leaves_the_driver_or_the_rights(binary: Path) -> None:
    server(binary)
    library("int here;", binary.parent / "libggml-vulkan.so")
    assert why_missing([str(binary)], "vulkan").startswith("libggml-vulkan.so loads, but its driver")


@linux
def test_a_library_that_crashes_is_named_with_the_signal(binary: Path) -> None:
    server(binary)
    crash = "#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { abort(); }"
    library(crash, binary.parent / "libggml-hip.so")
    assert why_missing([str(binary)], "rocm") == "libggml-hip.so crashes when it is loaded (SIGABRT)"


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (
            {"stderr": "CUDA error: no kernel image", "exit": 1},
            "it ended while it loaded the demo model (exit code 1): CUDA error: no kernel image",
        ),
        (
            {"stderr": "no kernel image", "die": "kill", "die_when": "loading"},
            "it ended while it loaded the demo model (signal 9): no kernel image",
        ),
        (
            {"says": "Hello! I am the demo modem"},
            "it computes wrongly on CUDA0: the demo model said 'Hello! I am the demo modem'",
        ),
        ({"says": ""}, "it computes wrongly on CUDA0: the demo model said ''"),
    ],
)
def test_an_engine_that_fails_says_how(
    binary: Path, demo: Path, faults: dict[str, object], expected: str
) -> None:
    fake_server(binary, devices=[CUDA], **faults)
    found = proof(binary, "cuda-13.4", demo)
    assert found.devices == (CUDA,)
    assert found.problem.startswith(expected)


def test_memory_that_another_program_holds_is_no_lasting_problem(binary: Path, demo: Path) -> None:
    said = "CUDA error: out of memory\n  current device: 0\n  in function alloc\n  at x.cu:1\nabort"
    fake_server(binary, devices=[CUDA], stderr=said, exit=1)
    found = proof(binary, "cuda-13.4", demo)
    assert found.problem
    assert not found.lasting
    assert Proof((), "x").lasting


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"bind": "never"}, "it was not ready with the demo model within 0.5 s"),
        ({"load": 60}, "it was not ready with the demo model within 0.5 s"),
        ({"chat_gate": "/nowhere/gate"}, "it did not answer within 0.5 s"),
    ],
)
def test_an_engine_that_hangs_is_ended_in_time(
    tmp_path: Path, binary: Path, demo: Path, faults: dict[str, object], expected: str
) -> None:
    record = tmp_path / "starts"
    fake_server(binary, record=str(record), term="ignore", **faults)
    assert proof(binary, "cpu", demo, 0.5).problem.startswith(expected)
    pid = starts(record)[0]["pid"]
    assert isinstance(pid, int)
    assert wait_until_gone(pid)


def test_a_port_that_somebody_else_took_is_exchanged_for_another(
    tmp_path: Path, binary: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "starts"
    fake_server(binary, record=str(record))
    with smoke_test.socket.socket() as taken:
        taken.bind((smoke_test.HOST, 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], smoke_test.free_port()])
        monkeypatch.setattr(trial, "free_port", lambda: next(ports))
        assert proof(binary, "cpu", demo) == Proof(())
    assert len(starts(record)) == 2


PROVING = """
import sys
from pathlib import Path
from supervisor.engine.proof.trial import prove
prove([sys.argv[1]], "cpu", Path(sys.argv[2]), Path(sys.argv[3]))
"""


@linux
def test_a_server_on_trial_does_not_outlive_who_tries_it_not_even_after_kill_9(
    tmp_path: Path, binary: Path, demo: Path
) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    fake_server(binary, record=str(told), load=60)
    command = [sys.executable, "-c", PROVING, str(binary), str(demo), str(tmp_path / "cache")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # where kill -9 leaves what it leaves
    with subprocess.Popen(command, env=environment) as proving:
        try:
            pid = json.loads(line_from(told))["pid"]
        finally:
            proving.send_signal(signal.SIGKILL)
    assert wait_until_gone(pid)


@pytest.mark.parametrize("era", sorted(ERAS.glob("*.help.txt")), ids=lambda file: file.name.partition(".")[0])
def test_every_era_is_asked_in_its_own_words(era: Path) -> None:
    number = int(era.name.partition(".")[0].removeprefix("b"))
    capabilities = parse_help(era.read_text("utf-8"), f"version: {number} (abc)")
    argv = trial._argv(trial._meant(Path("/demo.gguf"), 4711, "Vulkan0"), capabilities)
    pairs = set(pairwise(argv))
    layers = "99" if number < 7553 else "all"  # the words came with b7553
    wanted = {("--port", "4711"), ("--device", "Vulkan0"), ("--gpu-layers", layers), ("--ctx-size", "2048")}
    assert wanted <= pairs
    assert ("--fit" in argv) == (number >= 7407)
    assert all(capabilities.find(word) for word in argv if word.startswith("--"))


@pytest.mark.engine
def test_the_really_built_engine_is_proved(tmp_path: Path, demo: Path) -> None:
    binary = os.environ.get("GOSS_TEST_LLAMA_SERVER")
    if not binary:
        pytest.skip("GOSS_TEST_LLAMA_SERVER is not set")
    assert prove([binary], "cpu", demo, tmp_path) == Proof(())
    problem = prove([binary], "vulkan", demo, tmp_path).problem
    assert problem.startswith("it sees no Vulkan device: ")


def test_the_variables_of_a_profile_decide_what_is_seen(tmp_path: Path, demo: Path) -> None:
    need = 'if [ "$HSA_OVERRIDE_GFX_VERSION" = 11.0.0 ]; then seen="ROCm0: x (1 MiB, 1 MiB free)"; else seen="(none)"; fi'
    binary = server(tmp_path / "llama-server", devices="'\"$seen\"'", first=need)
    assert prove([str(binary)], "rocm", demo, tmp_path / "cache").problem.startswith("it sees no ROCm device")
    with_it = prove(
        [str(binary)], "rocm", demo, tmp_path / "cache", variables={"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}
    )
    assert with_it.devices == ("ROCm0: x (1 MiB, 1 MiB free)",)
    assert "sees no" not in with_it.problem  # it cannot answer, which is another matter
