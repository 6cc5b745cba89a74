"""``goss-supervisor detect`` as a user runs it: on this machine, and on others from a file."""

import json
import os
import subprocess
import sys

import pytest

from supervisor.cli.detect import _more
from supervisor.hardware.conditions import Conditions, MemoryModule
from supervisor.hardware.hardware import Cpu, Gpu, Hardware, Node, PcieLink
from supervisor.hardware.wire import from_json, to_json

GIB = 1024**3
OCULINK = Hardware(
    "linux",
    "x86_64",
    os_name="Ubuntu 24.04.3 LTS",
    kernel="6.14.0-29-generic",
    libc="glibc",
    libc_version="2.39",
    cpu=Cpu("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", 12, 4, 24, ("avx2", "avx512f")),
    ram_bytes=92 * GIB,
    available_bytes=88 * GIB,
    disk_free_bytes=400 * GIB,
    gpus=(
        Gpu(
            "nvidia",
            "NVIDIA GeForce RTX 4060 Ti",
            pci="0000:01:00.0",
            memory_bytes=16 * GIB,
            free_bytes=15 * GIB,
            integrated=False,
            unified=False,
            driver="nvidia 580.95.05",
            cuda="13.0",
            architecture="8.9",
            link=PcieLink(4, 8, 16.0, 16.0),
        ),
        Gpu(
            "amd",
            "AMD Radeon 890M",
            memory_bytes=50 * GIB,
            shared_bytes=46 * GIB,
            integrated=True,
            unified=True,
            nodes=(Node("/dev/dri/renderD128", may_open=False), Node("/dev/kfd", may_open=False)),
        ),
    ),
    notes=("vulkaninfo did not answer within 5 s.",),
)


@pytest.fixture
def box(tmp_path):
    file = tmp_path / "box.json"
    file.write_text(json.dumps(to_json(OCULINK)), encoding="utf-8")
    return file


def detect(tmp_path, *words, code=0, **env):
    done = subprocess.run(
        [sys.executable, "-I", "-m", "supervisor", "detect", *words],
        env={**os.environ, "GOSS_SUPERVISOR_HOME": str(tmp_path / "home"), **env},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_what_it_prints_can_be_given_back(tmp_path):
    printed = detect(tmp_path, "--json")
    file = tmp_path / "this.json"
    file.write_text(printed, encoding="utf-8")
    assert json.loads(detect(tmp_path, "--json", "--hardware", str(file))) == json.loads(printed)


def test_json_is_the_record_with_the_profiles_beside_it(tmp_path, box):
    document = json.loads(detect(tmp_path, "--json", "--hardware", str(box)))
    assert from_json(document, "stdout") == OCULINK
    best = document["profiles"]["best"]
    assert (best["name"], best["reported_tokens_per_second"]) == ("rtx4060ti-oculink", 20)
    speeds = {each["name"]: each["reported_tokens_per_second"] for each in document["profiles"]["others"]}
    assert (speeds["xg1-370-96gb-cpu"], speeds["gpt-oss-20b"]) == (13.6, None)
    told = {"gpt-oss-20b", "m4-max-128gb"} <= {
        each["name"] for kind in ("others", "unfit") for each in document["profiles"][kind]
    }
    assert told


def test_the_screen_counts_memory_once_and_says_what_to_do(tmp_path, box):
    lines = detect(tmp_path, "--hardware", str(box)).splitlines()
    assert lines[:6] == [
        "system   Ubuntu 24.04.3 LTS, kernel 6.14.0-29-generic, x86_64, glibc 2.39",
        "cpu      AMD Ryzen AI 9 HX 370 w/ Radeon 890M, 12 cores (4 fast), 24 threads",
        "         avx2 avx512f",
        "memory   112.0 GiB in all: 92.0 GiB RAM (88.0 GiB available), 16.0 GiB on NVIDIA GeForce RTX 4060 Ti, "
        "4.0 GiB set aside for AMD Radeon 890M",
        "disk     400.0 GiB free",
        "",
    ]
    text = "\n".join(lines)
    assert "x4 16 GT/s (card x8 16 GT/s)" in text
    assert "note: you may not open /dev/dri/renderD128, /dev/kfd, so no engine can use that GPU." in lines
    assert "hint: sudo usermod -aG render,video $USER, then log in again" in lines
    assert "note: vulkaninfo did not answer within 5 s." in lines
    assert "profile  rtx4060ti-oculink: made for x86_64, 56 to 100 GiB of RAM, a GPU of nvidia" in text
    assert "speed    20 tokens/s reported" in lines
    table = [" ".join(line.split()) for line in lines]
    assert any(line.startswith("xg1-370-96gb-cpu yes 13.6 tokens/s reported made for") for line in table)
    assert "gpt-oss-20b yes not reported for any machine" in table
    assert any(line.startswith("m4-max-128gb no - it runs linux, macos is asked for;") for line in table)


def test_verbose_adds_what_to_change_about_the_machine(tmp_path, box):
    tip = "tip: NVIDIA GeForce RTX 4060 Ti has 4 of its 8 PCIe lanes."
    assert tip in detect(tmp_path, "-v", "--hardware", str(box))
    assert "tip:" not in detect(tmp_path, "--hardware", str(box))
    assert "tip:" not in detect(tmp_path, "-v", "--json", "--hardware", str(box))


def test_power_and_modules_are_shown_as_far_as_they_are_known():
    module = MemoryModule("DIMM 0", 16 * GIB, 5600, 64, "A")
    known = Conditions(False, "balanced", "powersave", "intel_pstate", "power", (module, MemoryModule()), 4)
    assert list(_more(OCULINK, known))[:2] == [
        "power    plugged in, mode balanced, governor powersave (intel_pstate), preference power",
        "modules  2 in 4 slots: 16.0 GiB 5600 MT/s, -",
    ]
    assert [line.partition(" ")[0] for line in _more(OCULINK, Conditions())] == ["tip:"]


def test_the_environment_names_another_machine_for_the_whole_process(tmp_path, box):
    printed = detect(tmp_path, "--json", GOSS_SUPERVISOR_HARDWARE=str(box))
    assert from_json(json.loads(printed), "stdout") == OCULINK


def test_the_option_goes_before_the_environment(tmp_path, box):
    nowhere = str(tmp_path / "nowhere.json")
    assert "HX 370" in detect(tmp_path, "--hardware", str(box), GOSS_SUPERVISOR_HARDWARE=nowhere)


def test_a_file_that_is_missing_or_wrong_is_named(tmp_path):
    assert "There is no file" in detect(tmp_path, "--hardware", str(tmp_path / "nowhere.json"), code=5)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"os": "linux", "arch": "x86_64", "ram_bytes": "64 GB"}')
    said = detect(tmp_path, "--hardware", str(wrong), code=78)
    assert f'{wrong}: ram_bytes: must be a whole number from 0 to 2^60, not "64 GB"' in said
    assert "Traceback" not in said
    why, code = ("Permission denied", 11) if sys.platform == "win32" else ("Is a directory", 1)
    assert why in detect(tmp_path, "--hardware", str(tmp_path), code=code)
