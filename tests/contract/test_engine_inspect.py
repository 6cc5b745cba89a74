from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest

from supervisor.engine.inspection import inspect
from supervisor.errors import NoSuitableEngine, NotFound, PermissionDenied
from tests.fakes.binaries import script, server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")

QUESTIONS = ["--version", "--help", "--list-devices"]
CUDA = "CUDA0: NVIDIA GeForce RTX 4060 Ti (16062 MiB, 15862 MiB free)"


@pytest.mark.parametrize("build", [6100, 11549])
def test_a_build_of_any_era_tells_its_number_options_and_devices(tmp_path: Path, build: int) -> None:
    seen = inspect([str(server(tmp_path / "llama-server", build, devices=CUDA))], tmp_path / "cache")
    assert seen.capabilities.build == build
    assert seen.capabilities.find("--ctx-size") is not None
    assert seen.devices == (CUDA,)
    assert len(seen.digest) == 64


def test_a_build_is_asked_once_and_remembered(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    binary = server(tmp_path / "llama-server", calls=calls)
    first = inspect([str(binary)], tmp_path / "cache")
    assert inspect([str(binary)], tmp_path / "cache") == first
    assert calls.read_text().split() == QUESTIONS


def test_the_same_binary_at_another_place_is_recognised(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    one = server(tmp_path / "one" / "llama-server", calls=calls)
    other = server(tmp_path / "other" / "llama-server", calls=calls)
    assert inspect([str(one)], tmp_path / "cache") == inspect([str(other)], tmp_path / "cache")
    assert calls.read_text().split() == QUESTIONS


def test_another_binary_at_the_same_place_is_asked_anew(tmp_path: Path) -> None:
    binary = server(tmp_path / "llama-server", 6100)
    assert inspect([str(binary)], tmp_path / "cache").capabilities.build == 6100
    server(binary, 11549)
    assert inspect([str(binary)], tmp_path / "cache").capabilities.build == 11549


def test_a_library_beside_the_launcher_belongs_to_the_build(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    binary = server(tmp_path / "llama-server", calls=calls)
    library = tmp_path / "libllama.so.0"
    library.write_bytes(b"old")
    before = inspect([str(binary)], tmp_path / "cache")
    library.write_bytes(b"newer")
    after = inspect([str(binary)], tmp_path / "cache")
    assert before.digest != after.digest
    assert calls.read_text().split() == QUESTIONS * 2


def test_devices_are_asked_again_when_they_matter(tmp_path: Path) -> None:
    calls, plugged = tmp_path / "calls", tmp_path / "plugged"
    binary = server(
        tmp_path / "llama-server",
        calls=calls,
        first=f'if [ "$1" = --list-devices ] && [ -e "{plugged}" ]; then cat "{plugged}"; exit; fi',
    )
    assert inspect([str(binary)], tmp_path / "cache").devices == ()
    plugged.write_text(f"Available devices:\n  {CUDA}\n")
    assert inspect([str(binary)], tmp_path / "cache").devices == ()
    assert inspect([str(binary)], tmp_path / "cache", fresh_devices=True).devices == (CUDA,)
    assert inspect([str(binary)], tmp_path / "cache").devices == (CUDA,)


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"format": 1}', '{"format": 999}'])
def test_a_cache_that_cannot_be_read_is_written_anew(tmp_path: Path, broken: str) -> None:
    binary = server(tmp_path / "llama-server")
    first = inspect([str(binary)], tmp_path / "cache")
    for file in (tmp_path / "cache").iterdir():
        file.write_text(broken)
    assert inspect([str(binary)], tmp_path / "cache") == first
    assert all("11549" in file.read_text() for file in (tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert inspect([str(server(tmp_path / "llama-server"))], tmp_path / "cache").capabilities.build == 11549


def test_neither_variables_nor_a_broken_config_file_reach_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config" / "llama.cpp").mkdir(parents=True)
    (tmp_path / "config" / "llama.cpp" / "config.ini").write_text("broken")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LLAMA_ARG_PORT", "not a port")
    check = 'if [ -n "$LLAMA_ARG_PORT" ] || [ -e "$XDG_CONFIG_HOME/llama.cpp/config.ini" ]; then exit 1; fi'
    binary = server(tmp_path / "llama-server", first=check)
    assert inspect([str(binary)], tmp_path / "cache").capabilities.build == 11549


def test_a_build_that_hangs_is_given_up_with_all_that_it_started(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    binary = script(tmp_path / "llama-server", f'(echo held; exec sleep 600) > "{pipe}" &\nwait\n')
    with pytest.raises(NoSuitableEngine, match=r"--version did not end within 1 s"):
        inspect([str(binary)], tmp_path / "cache", timeout_seconds=1)
    os.set_blocking(reader, True)
    assert select.select([reader], [], [], 10)[0]
    with os.fdopen(reader) as file:
        assert file.read() == "held\n"  # and then its end: nobody holds it any more


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    text = "llama-server: error while loading shared libraries: libgomp.so.1: cannot open shared object file"
    binary = script(tmp_path / "llama-server", f'echo "{text}" >&2\nexit 127\n')
    with pytest.raises(NoSuitableEngine, match=r"libgomp\.so\.1 is not installed") as raised:
        inspect([str(binary)], tmp_path / "cache")
    assert "libgomp1" in raised.value.hint


def test_a_binary_that_crashes_is_told_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(NoSuitableEngine, match="instructions that this CPU does not have"):
        inspect([str(script(tmp_path / "llama-server", "kill -ILL $$\n"))], tmp_path / "cache")


def test_another_program_is_no_llama_server(tmp_path: Path) -> None:
    with pytest.raises(NoSuitableEngine, match="is not a llama-server"):
        inspect([str(script(tmp_path / "llama-server", "echo hello\n"))], tmp_path / "cache")


def test_what_cannot_be_started_is_told_by_its_cause(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    with pytest.raises(PermissionDenied, match="may not be executed"):
        inspect([str(plain)], tmp_path / "cache")
    with pytest.raises(NotFound, match="There is no"):
        inspect([str(tmp_path / "missing")], tmp_path / "cache")
    with pytest.raises(NotFound, match="is a folder"):
        inspect([str(tmp_path)], tmp_path / "cache")
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"MZ" + bytes(100))
    foreign.chmod(0o755)
    with pytest.raises(NoSuitableEngine, match="built for Windows"):
        inspect([str(foreign)], tmp_path / "cache")
    orphan = script(tmp_path / "orphan", "")
    orphan.write_text("#!/nowhere/python\n")
    with pytest.raises(NoSuitableEngine, match="interpreter or loader"):
        inspect([str(orphan)], tmp_path / "cache")


def test_what_a_profile_sets_reaches_every_question_and_has_answers_of_its_own(tmp_path: Path) -> None:
    """HSA_OVERRIDE_GFX_VERSION, GGML_VK_VISIBLE_DEVICES: with them a driver shows other devices."""
    need = 'if [ "$HSA_OVERRIDE_GFX_VERSION" = 11.0.0 ]; then seen="ROCm0: x (1 MiB, 1 MiB free)"; else seen="(none)"; fi'
    binary = server(tmp_path / "llama-server", devices="'\"$seen\"'", first=need)
    cache, variables = tmp_path / "cache", {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}
    for _ in range(2):
        assert inspect([str(binary)], cache).devices == ()
        assert inspect([str(binary)], cache, variables=variables).devices == ("ROCm0: x (1 MiB, 1 MiB free)",)


def test_a_build_that_needs_its_library_path_runs_with_it(tmp_path: Path) -> None:
    need = '[ "$LD_LIBRARY_PATH" = /opt/rocm/lib ] || { echo "error while loading shared libraries: x: no" >&2; exit 127; }'
    binary = server(tmp_path / "llama-server", first=need)
    with pytest.raises(NoSuitableEngine, match="shared library x"):
        inspect([str(binary)], tmp_path / "cache")
    seen = inspect([str(binary)], tmp_path / "cache", variables={"LD_LIBRARY_PATH": "/opt/rocm/lib"})
    assert seen.capabilities.build == 11549


def test_what_would_change_llama_cpp_itself_does_not_reach_it(tmp_path: Path) -> None:
    binary = server(tmp_path / "llama-server", first='[ -z "$LLAMA_ARG_DEVICE$PYTHONPATH" ] || exit 9')
    given = {"LLAMA_ARG_DEVICE": "x", "PYTHONPATH": "/x"}
    assert inspect([str(binary)], tmp_path / "cache", variables=given).capabilities.build == 11549
