"""What bench/gpu.sh does of its work on a machine whose GPU is played by a script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..fakes.launching import FAKE

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.sh"
SMI = """#!/bin/sh
case $* in
*pci.bus_id,pci.device_id*) echo 'NVIDIA H200, 00000000:19:00.0, 0x233510DE, 143771, 143000, 580.65.06, 9.0, 5, 5, 16, 16' ;;
*query-gpu=name,driver_version,memory.total*) echo 'NVIDIA H200, 580.65.06, 143771 MiB' ;;
*query-gpu=name*) echo 'NVIDIA H200' ;;
*query-gpu=memory.total*) echo 143771 ;;
*) echo 'CUDA Version: 13.0' ;;
esac
"""

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("timeout"), reason="a shell script that uses timeout"
)


def program(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


def rows_of(tmp_path, *options):
    """What it found, by the name of the check."""
    out = tmp_path / "out"
    words = [
        "sh",
        SCRIPT,
        "--engine",
        tmp_path / "engine",
        "--python",
        sys.executable,
        "--out",
        out,
        *options,
    ]
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(words, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {row["check"]: row for row in json.loads((out / "gpu.json").read_text())["rows"]}


def test_it_compares_what_is_detected_with_what_nvidia_smi_says(tmp_path):
    program(tmp_path / "nvidia-smi", SMI)
    devices = '["CUDA0: NVIDIA H200 (143156 MiB, 143000 MiB free)"]'
    options = f"--fake 'devices={devices}'"
    program(tmp_path / "engine", f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" {options} "$@"\n')
    rows = rows_of(tmp_path, "--only", "machine detect devices")
    assert rows["machine"]["found"] == "NVIDIA H200, 580.65.06, 143771 MiB"
    assert rows["detect"]["found"] == "NVIDIA H200, 143771 MiB; nvidia-smi: NVIDIA H200, 143771 MiB"
    assert "CUDA0: NVIDIA H200" in rows["devices"]["found"]
    assert {row["result"] for row in rows.values()} == {"ok"}


def test_what_does_not_fit_in_the_time_is_not_begun(tmp_path):
    rows = rows_of(tmp_path, "--seconds", "0")
    assert {row["result"] for row in rows.values()} == {"not run"}
    assert list(rows)[-1] == "tune"
