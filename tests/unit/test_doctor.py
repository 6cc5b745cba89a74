"""What the findings of ``doctor`` say of machines, daemons and kernels, and what its archive hides."""

from __future__ import annotations

import getpass
import io
import os
import socket
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supervisor.doctor.bundle import hider, write_bundle
from supervisor.doctor.home_findings import daemon_findings, limits_in, speed_findings
from supervisor.doctor.machine_findings import disk_speed, kernel_findings, machine_findings, signs_in
from supervisor.doctor.profile_findings import profile_findings
from supervisor.errors import UsageError
from supervisor.hardware.conditions import Conditions
from supervisor.hardware.hardware import Gpu, Hardware, Node
from supervisor.home.run_history import runs_in
from supervisor.paths import Paths
from supervisor.tool import ToolResult

GIB = 1024**3
NOW = datetime(2027, 1, 1, tzinfo=UTC)
CARD = Gpu("amd", "RX 9070", driver="amdgpu", memory_bytes=16 * GIB)


class Fake:
    """A machine with these files and the answers of these programs."""

    def __init__(self, files=None, said=None, system="linux"):
        self.files, self.said, self.os = files or {}, said or {}, system

    def read(self, path):
        return self.files.get(path)

    def run(self, *command):
        text = self.said.get(command[0])
        return None if text is None else ToolResult(0, text, "")


def found(hardware=None, machine=None, now=NOW):
    hardware = hardware or Hardware("linux", "x86_64", ram_bytes=32 * GIB, disk_free_bytes=100 * GIB)
    return {each.id: each for each in machine_findings(hardware, Conditions(), machine or Fake(), now)}


# --- the machine


def test_a_sound_machine_has_nothing_but_ok():
    assert {each.state for each in found().values()} == {"ok"}


def test_a_gpu_that_may_not_be_opened_names_the_file_and_the_group():
    card = Gpu("amd", "RX 9070", driver="amdgpu", nodes=(Node("/dev/kfd", may_open=False),))
    finding = found(Hardware("linux", "x86_64", gpus=(card,)))["gpu-access"]
    assert finding.state == "problem"
    assert "/dev/kfd" in finding.text
    assert "render" in finding.fix


def test_a_gpu_without_a_driver_is_named_and_one_with_it_shown():
    bare = Hardware("linux", "x86_64", gpus=(Gpu("nvidia", "RTX 3090"),))
    assert found(bare)["gpu-driver"].state == "warning"
    assert found(Hardware("linux", "x86_64", gpus=(CARD,)))["gpu"].text == "RX 9070, 16.0 GiB, driver amdgpu."


def test_what_is_unknown_is_called_so():
    nothing = found(Hardware("linux", "x86_64", notes=("lspci is missing",)))
    assert [nothing[each].state for each in ("memory", "disk", "hardware")] == ["unknown"] * 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("SwapTotal: 8388608 kB\nSwapFree: 0 kB\n", "swap"),
        ("HugePages_Total: 1024\nHugepagesize: 2048 kB\n", "huge-pages"),
        ("SwapTotal: 8388608 kB\nSwapFree: 8388600 kB\nHugePages_Total: 0\nHugepagesize: 2048 kB\n", None),
    ],
)
def test_swap_in_use_and_reserved_pages_are_told(text, wanted):
    warned = [each.id for each in found(machine=Fake({"/proc/meminfo": text})).values() if each.state != "ok"]
    assert warned == [wanted] * bool(wanted)


def test_a_full_disk_and_a_clock_of_the_past_are_told():
    little = Hardware("linux", "x86_64", ram_bytes=GIB, disk_free_bytes=GIB)
    assert found(little)["disk"].state == "warning"
    assert found(now=datetime(2020, 1, 1, tzinfo=UTC))["clock"].state == "problem"


def test_the_disks_speed_is_of_the_file_or_unknown(tmp_path):
    (tmp_path / "m.gguf").write_bytes(bytes(64 * 1024**2))
    assert disk_speed(tmp_path / "m.gguf", GIB).id == "disk-speed"  # a file in memory cannot be read past it
    assert disk_speed(tmp_path / "none.gguf", GIB).state == "unknown"


# --- the kernel

LINES = {
    "out-of-memory": "kernel: Out of memory: Killed process 4711 (llama-server) total-vm:1kB, anon-rss:1kB",
    "gpu-lost": "kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.",
    "gpu-error": "kernel: NVRM: Xid (PCI:0000:01:00): 31, pid=1, name=llama-server",
    "gpu-reset": "kernel: amdgpu 0000:03:00.0: amdgpu: GPU reset begin!",
}


@pytest.mark.parametrize(("wanted", "line"), LINES.items())
def test_each_sign_of_the_kernel_is_one_finding_with_its_line(wanted, line):
    (finding,) = signs_in([line, "kernel: usb 1-1: reset high-speed USB device"])
    assert (finding.id, finding.state) == (wanted, "warning")
    assert line in finding.text


def test_a_sign_that_comes_again_is_counted():
    (finding,) = signs_in([LINES["out-of-memory"]] * 3)
    assert finding.text.startswith("The kernel killed llama-server, because memory ran out 3 times")


def test_messages_that_nobody_may_read_are_unknown_and_others_are_read_from_what_there_is():
    (refused,) = kernel_findings(Fake())
    assert refused.state == "unknown"
    (sound,) = kernel_findings(Fake(said={"dmesg": "all is well\n"}))
    assert sound.state == "ok"
    (reset,) = kernel_findings(Fake(said={"journalctl": "", "dmesg": LINES["gpu-reset"]}))
    assert reset.id == "gpu-reset"


# --- a daemon

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max open files            256                  1048576              files
Max locked memory         65536                65536                bytes
Max processes             unlimited            unlimited            processes
"""
SERVER = {
    "name": "default",
    "profile": "chat",
    "state": "ready",
    "pid": 7,
    "memory_bytes": GIB,
    "warnings": [],
}


def daemon(machine, **server):
    status = {"daemon": {"pid": 1, "version": "1"}, "servers": [{**SERVER, **server}]}
    return [(each.id, each.state) for each in daemon_findings(status, machine)]


def test_limits_are_those_of_the_process():
    assert limits_in(LIMITS) == {"Max open files": 256, "Max locked memory": 65536}
    files = {
        "/proc/7/limits": LIMITS,
        "/proc/7/cmdline": "llama-server\0--mlock\0",
        "/proc/7/oom_score_adj": "500\n",
    }
    assert daemon(Fake(files))[2:] == [("limits", "warning"), ("limits", "problem"), ("limits", "warning")]
    assert daemon(Fake({**files, "/proc/7/cmdline": "llama-server\0", "/proc/7/oom_score_adj": "0"}))[2:] == [
        ("limits", "warning")
    ]


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        ({}, "ok"),
        ({"state": "failed", "why": "no file"}, "problem"),
        ({"state": "degraded", "why": "on the CPU"}, "warning"),
        ({"last_failure": {"at": "now", "message": "died", "hint": ""}}, "warning"),
    ],
)
def test_a_server_is_as_its_state_and_last_failure_say(server, wanted):
    assert daemon(Fake(), **server)[1] == ("server", wanted)


def test_the_score_that_we_give_a_server_is_no_finding():
    assert daemon(Fake({"/proc/7/oom_score_adj": "300\n"}))[2:] == []


@pytest.mark.parametrize(
    ("state", "wanted"), [("up", "ok"), ("down", "warning"), ("refuses our key", "warning")]
)
def test_a_peer_is_as_its_state_says(state, wanted):
    peer = {"name": "mini", "url": "http://mini.local:8080", "state": state, "why": "it sleeps"}
    status = {"daemon": {"pid": 1, "version": "1"}, "servers": [], "gateway": {"peers": [peer]}}
    found = list(daemon_findings(status, Fake()))
    assert [(each.id, each.state) for each in found[1:]] == [("peer", wanted)]


@pytest.mark.parametrize(("seconds", "wanted"), [(4.0, "ok"), (20.0, "warning")])
def test_a_model_that_loads_slower_than_usual_is_a_warning(seconds, wanted):
    ready = {"kind": "state", "state": "ready", "server": "a", "profile": "a", "digest": "d", "at": "now"}
    runs = runs_in({**ready, "load_seconds": each} for each in (4.0, 4.0, 4.0, seconds))
    assert [(each.id, each.state) for each in speed_findings(runs)] == [("speed", wanted)]


def test_a_home_without_runs_says_nothing_of_its_speed():
    assert list(speed_findings([])) == []


def test_a_worker_needs_no_model_and_no_problem_is_made_of_its_address(tmp_path):
    (found,) = profile_findings("worker", Paths.under(tmp_path), is_running=False)
    assert (found.state, found.fix) == ("unknown", "goss-supervisor worker --listen ADDRESS --dry-run")


# --- the archive


@pytest.fixture
def hide(monkeypatch):
    """As for anna, whose computer is box1."""
    monkeypatch.setattr(socket, "gethostname", lambda: "box1")
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/anna"))
    monkeypatch.setenv("SUDO_USER", "bob")
    return hider()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--api-key gs-abcdefghijkl --port 80", "--api-key *** --port 80"),
        ("Authorization: Bearer of-another-kind", "Authorization: ***"),
        ("Authorization: Basic YW5uYTpzZWNyZXQ=", "Authorization: ***"),
        ('{"api_key": "secret", "n": 1}', '{"api_key": "***", "n": 1}'),
        ("hf_abcdefghijkl at https://me:word@host/x", "*** at https://***@host/x"),
        ("192.168.1.17 and 127.0.0.1 on box1", "ADDRESS and 127.0.0.1 on HOST"),
        ("fe80::1 [2001:db8::17]:80 ::1 52:54:00:12:34:56", "ADDRESS [ADDRESS]:80 ::1 ADDRESS"),
        ("18:37:53.290Z 0000:01:00.0 std::bad_alloc", "18:37:53.290Z 0000:01:00.0 std::bad_alloc"),
        (f"{Path('/home/anna')}/models/x.gguf, /home/carl/y, annas, bobbin bob", "~/models/x.gguf, /home/USER/y, USERs, bobbin USER"),
        ('/Users/carl/x "C:\\\\Users\\\\carl\\\\x"', '/Users/USER/x "C:\\\\Users\\\\USER\\\\x"'),
        ('{"text": "demo: ready", "level": "info"}', '{"text": "demo: ready", "level": "info"}'),
    ],
)  # fmt: skip
def test_the_archive_has_no_keys_addresses_or_names(hide, text, shown):
    assert hide(text) == shown


@pytest.mark.parametrize(
    "line",
    [
        'request: {"messages": [{"role": "user", "content": "my secret"}]}',
        'http: streamed chunk: data: {"choices":[{"index":0,"delta":{"content":"my secret"}}]}',
        'data: {"choices":[{"text":"my secret"}]}',
        'Parsed message: {"role":"assistant","content":"","reasoning_content":"my secret"}',
        '{"prompt":"my secret","n_predict":4}',
        "n_gen = 4, n_remaining = 4, next token:   274 'my secret'",
        "Received request chatcmpl-1: prompt: 'my secret', params: SamplingParams(n=1)",
    ],
)
def test_the_archive_has_no_prompts_or_answers(hide, line):
    shown = hide(f"before\n0.01 D {line}\nafter\n").splitlines()
    assert shown == ["before", "(left out: a line that may hold a prompt or an answer)", "after"]


def test_the_archive_has_the_ends_of_the_logs_and_replaces_no_file(tmp_path):
    paths = Paths.under(tmp_path)
    paths.logs.mkdir(parents=True)
    (paths.logs / "daemon.log").write_bytes(b"x" * 1_000_000 + b"the end\n")
    if sys.platform != "win32":
        os.mkfifo(paths.logs / "llama-server.log")  # would never end
    names = write_bundle(tmp_path / "report.tar.gz", paths, {"findings.json": "[]"})
    assert {"findings.json", "versions.txt", "logs/daemon.log"} <= set(names)
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "report.tar.gz").read_bytes())) as archive:
        log = archive.extractfile("goss-supervisor-report/logs/daemon.log").read()
    assert len(log) == 1_000_000
    assert log.endswith(b"the end\n")
    if sys.platform != "win32":
        assert (tmp_path / "report.tar.gz").stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="already there"):
        write_bundle(tmp_path / "report.tar.gz", paths, {})
