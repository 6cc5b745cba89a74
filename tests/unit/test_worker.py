"""A worker: its command line, its address, why it dies, and what its gateway tells of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.engine.adapters import rpc_program
from supervisor.engine.adapters.known import adapter_of
from supervisor.engine.adapters.rpc_server import HELLO, protocol_in
from supervisor.engine.build import Build
from supervisor.engine.install_context import InstallContext
from supervisor.errors import ConfigError, NoSuitableEngine
from supervisor.gateway.api.routes import route_of
from supervisor.gateway.backends import lent
from supervisor.hardware.hardware import Hardware
from supervisor.hardware.sensors import DeviceReading
from supervisor.options.help import Capabilities, HelpOption
from supervisor.paths import Paths
from supervisor.plan.listen import Listen, Offer, offers_beside, serves_clients
from supervisor.plan.make import ModelAtHand, make_plan
from supervisor.plan.plan_json import from_json, to_json
from supervisor.prepare.machine_checks import of_a_worker, private_address
from supervisor.profile.definition import Engine, Profile
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore
from supervisor.profile.worker_address import LentMemory
from supervisor.progress import Silent
from supervisor.server.cause_of_death import cpu_fallback, diagnose
from supervisor.server.lifecycle_table import State
from supervisor.server.process import ExitStatus

from ..fakes.binaries import script

GIB = 2**30
NONE = Capabilities(11434, "", "", ())
WITH_MEM = replace(NONE, options=(HelpOption(("-m", "--mem"), takes_value=True),))
CARDS = ("CUDA0: NVIDIA GeForce RTX 5090 (32109 MiB, 31588 MiB free)", "CUDA1: Old (1024 MiB, 9 MiB free)")
BUILD = Build("release", "ggml-org/llama.cpp", "b11434", "cuda", ("/opt/ggml-rpc-server",), "d", NONE, CARDS)
WORKER = Profile("worker", lend=LentMemory("10.0.0.3:50053"))
RPC = adapter_of("rpc-server")


def plan_of(profile=WORKER, build=BUILD):
    return make_plan(profile, build, ModelAtHand("none"))


def lending(**lend):
    return replace(WORKER, lend=replace(WORKER.lend, **lend))


# --- HELLO


def test_the_protocol_is_in_the_answer_to_hello():
    answer = (28).to_bytes(8, "little") + bytes((7, 1, 2, 0)) + bytes(24)
    assert len(HELLO) == 33
    assert protocol_in(answer) == "7.1.2"
    assert [protocol_in(answer[:length]) for length in (0, 7, 20)] == ["", "", ""]
    assert protocol_in((3).to_bytes(8, "little") + bytes((3, 0, 1))) == "3.0.1"


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(8)])
def test_what_another_program_says_is_no_answer(said):
    assert protocol_in(said) is None


# --- the plan


def test_the_command_line_has_the_address_and_the_tensor_cache():
    plan = plan_of()
    assert plan.argv == ("/opt/ggml-rpc-server", "-H", "10.0.0.3", "-p", "50053", "-c")
    assert (plan.host, plan.port, plan.adapter) == ("10.0.0.3", 50053, "rpc-server")
    assert plan.behind_gateway
    assert not serves_clients(plan)
    assert from_json(to_json(plan)) == plan


def test_devices_and_memory_are_passed_on_where_the_build_can():
    chosen = lending(devices=("CUDA0", "CPU"), memory_bytes=12 * GIB)
    words = plan_of(chosen, replace(BUILD, capabilities=WITH_MEM)).argv
    assert words[-4:] == ("-d", "CUDA0,CPU", "-m", "12288,12288")


def test_without_named_devices_each_gpu_has_the_limit_and_else_the_cpu():
    with_mem = replace(BUILD, capabilities=WITH_MEM)
    assert plan_of(lending(memory_bytes=GIB), with_mem).argv[-2:] == ("-m", "1024,1024")
    assert plan_of(lending(memory_bytes=GIB), replace(with_mem, devices=())).argv[-2:] == ("-m", "1024")


def test_a_limit_that_the_build_has_no_option_for_is_an_error():
    with pytest.raises(
        ConfigError, match=r"lend\.memory: ggml-rpc-server of b11434 has no option for it"
    ) as no:
        plan_of(lending(memory_bytes=GIB))
    assert "Leave --memory out" in no.value.hint


def test_clients_are_offered_no_model_by_a_worker():
    offers = (Offer("worker", ("worker",)), Offer("chat", ("chat",)))
    listen = Listen("worker", "127.0.0.1", 21434, offers=offers)
    assert [each.profile for each in offers_beside([plan_of()], listen)] == ["chat"]


def test_the_shipped_profile_becomes_a_worker_by_its_address_alone():
    store = ProfileStore(Path("/nonexistent"))
    assert not resolve("worker", store).can_start
    found = resolve("worker", store, {"lend.listen": "mini2.local", "lend.memory": "12GiB"})
    assert found.can_start
    assert (str(found.lend.address), found.lend.memory_bytes) == ("mini2.local:50052", 12 * GIB)
    assert (found.listen.host, found.listen.port) == ("127.0.0.1", 21434)


@pytest.mark.parametrize("setting", [{"model": "demo"}, {"ctx-size": "4096"}, {"gateway": "off"}])
def test_a_worker_serves_no_model_and_needs_its_gateway(setting):
    with pytest.raises(ConfigError, match=r"is not for a worker \(lend\.listen\)"):
        resolve("worker", ProfileStore(Path("/nonexistent")), {"lend.listen": "10.0.0.3", **setting})


# --- the machine


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("127.0.0.1", "127.0.0.1:50052"),
        ("10.0.0.3:1", "10.0.0.3:1"),
        ("172.31.0.9", "172.31.0.9:50052"),
        ("192.168.1.9", "192.168.1.9:50052"),
        ("169.254.7.7", "169.254.7.7:50052"),
        ("100.101.1.2", "100.101.1.2:50052"),
    ],
)
def test_loopback_and_private_addresses_are_taken(written, taken):
    assert str(private_address(written)) == taken


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("0.0.0.0", "is every network that this computer is in: .* neither keys nor encryption"),
        ("8.8.8.8:50052", "is a public address: .* neither keys nor encryption"),
        ("172.32.0.1", "is a public address"),
        ("100.128.0.1", "is a public address"),
        ("::", "IPv4 only"),
        ("[2001:db8::1]:50052", "IPv4 only"),
        ("*", "must be an address such as"),
    ],
)
def test_an_address_that_others_could_reach_is_refused_with_the_reason(written, why):
    with pytest.raises(ValueError, match=why):
        private_address(written)


def context(tmp_path, *gpus):
    hardware = Hardware("linux", "x86_64", gpus=gpus)
    return InstallContext(Paths.under(tmp_path), Silent(), lambda: hardware, Path)


def test_without_a_gpu_it_gets_the_cpus_engine_and_its_tensors_are_kept_with_our_downloads(tmp_path):
    made = of_a_worker(WORKER, context(tmp_path))
    assert made.engine.flavour == "cpu"
    assert made.env == {"LLAMA_CACHE": str(tmp_path / "data" / "cache")}
    assert of_a_worker(WORKER, context(tmp_path, object())).engine.flavour is None
    assert of_a_worker(lending(devices=("CPU",)), context(tmp_path, object())).engine.flavour == "cpu"
    chosen = replace(WORKER, engine=Engine(flavour="vulkan"), env={"LLAMA_CACHE": "/big"})
    assert of_a_worker(chosen, context(tmp_path)).engine.flavour == "vulkan"
    assert of_a_worker(chosen, context(tmp_path)).env == {"LLAMA_CACHE": "/big"}
    by_path = replace(WORKER, engine=Engine(source="path", path=Path("/opt/llama-server")))
    assert not of_a_worker(by_path, context(tmp_path)).wants_gpu


def test_a_profile_with_a_public_address_is_refused_at_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr("supervisor.prepare.machine_checks.address_for_others", lambda: "192.168.1.9")
    public = r"profile worker: lend\.listen: 8\.8\.8\.8 is a public address"
    with pytest.raises(ConfigError, match=public) as refused:
        of_a_worker(lending(listen="8.8.8.8"), context(tmp_path))
    assert "Name a private address of this computer, 192.168.1.9 for example" in refused.value.hint


# --- the build


scripts = pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
HELP = """\
Usage: ggml-rpc-server [options]

options:
  -h, --help                       show this help message and exit
  -t, --threads N                  number of threads for the CPU device (default: 1)
  -m, --mem <M1,M2,...>            memory size for each device (in MB)
  -c, --cache                      enable local file cache
"""


def build_at(folder):
    return replace(BUILD, command=(str(folder / "llama-server"),))


@scripts
@pytest.mark.parametrize("name", ["ggml-rpc-server", "rpc-server"])
def test_the_program_next_to_llama_server_is_asked_for_its_options(tmp_path, name):
    program = script(tmp_path / name, f"cat >&2 <<'EOF'\n{HELP}EOF\n")
    found = rpc_program.build_of(build_at(tmp_path), {})
    assert found.command == (str(program),)
    assert found.capabilities.find("--mem").takes_value
    assert not found.capabilities.find("--cache").takes_value
    assert found.capabilities.find("--rpc") is None
    assert found.devices == CARDS


@scripts
def test_it_is_found_where_a_link_to_llama_server_leads(tmp_path):
    program = script(tmp_path / "cellar" / "ggml-rpc-server", "exit 0\n")
    script(tmp_path / "cellar" / "llama-server", "exit 0\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "llama-server").symlink_to(tmp_path / "cellar" / "llama-server")
    assert rpc_program.find_program(build_at(tmp_path / "bin")) == program


def test_a_build_without_the_program_says_so_and_what_has_it(tmp_path):
    with pytest.raises(NoSuitableEngine, match="comes without ggml-rpc-server") as none:
        rpc_program.build_of(build_at(tmp_path), {})
    assert "engine.source=release" in none.value.hint
    with pytest.raises(NoSuitableEngine) as earlier:
        rpc_program.build_of(replace(build_at(tmp_path), source="build"), {})
    assert "goss-supervisor engine remove b11434" in earlier.value.hint


@scripts
def test_a_program_that_does_not_run_says_why(tmp_path):
    script(tmp_path / "ggml-rpc-server", "echo 'libggml.so.0: cannot open' >&2\nexit 127\n")
    with pytest.raises(NoSuitableEngine, match="does not run"):
        rpc_program.build_of(build_at(tmp_path), {})


# --- its deaths; what ggml-rpc-server (b11434) prints


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("Failed to create server socket", "bind-failed", "cannot listen on its address"),
        ("error: unknown device: CUDA7", "bad-argument", "knows no device CUDA7"),
        ("error: unknown argument: --mem", "bad-argument", "unknown argument: --mem"),
        ("Failed to create cache directory: /big/rpc", "cache", "/big/rpc"),
        ("Failed to find RPC backend", "no-rpc", "has no RPC"),
    ],
)
def test_what_it_says_before_it_was_ready_is_the_reason_and_final(line, kind, said):
    found = diagnose(
        ExitStatus(code=0), "starting", ["Starting RPC server v7.0.0", line], RPC, "ggml-rpc-server"
    )
    assert (found.kind, found.retryable) == (kind, False)
    assert said in found.message
    assert found.hint


def test_it_ends_with_0_where_it_should_fail_so_that_is_final_too():
    assert not diagnose(ExitStatus(code=0), "starting", [], RPC, "ggml-rpc-server").retryable
    assert diagnose(ExitStatus(code=0), "serving", [], RPC, "ggml-rpc-server").retryable


def test_a_gpu_that_ran_out_of_memory_is_no_llama_server():
    tail = ["CUDA error: out of memory"]
    found = diagnose(ExitStatus(signal=6), "serving", tail, RPC, "ggml-rpc-server")
    assert (found.kind, found.retryable) == ("gpu-memory", True)
    found = diagnose(ExitStatus(signal=6), "serving", [], RPC, "ggml-rpc-server")
    assert found.message == "ggml-rpc-server gave itself up (SIGABRT)."


def test_that_only_the_cpu_is_lent_is_seen():
    assert cpu_fallback("  CPU: AMD EPYC (24105 MiB, 24105 MiB free)", RPC)
    assert not cpu_fallback("  CUDA0: NVIDIA GeForce RTX 5090 (32109 MiB, 31588 MiB free)", RPC)


# --- what it tells


def worker(plan, greeting=b"7.0.0", **more):
    target = SimpleNamespace(greeting=greeting)
    return SimpleNamespace(
        plan=plan, target=target, state=State.READY, why="", is_serving=False, ready_since=None, **more
    )


def test_it_tells_its_build_protocol_and_devices_with_what_is_free():
    cards = {
        "CUDA0": DeviceReading(
            "", "NVIDIA GeForce RTX 5090", memory_total_bytes=32 * GIB, memory_used_bytes=GIB
        )
    }
    told = lent(worker(plan_of()), cards)
    assert (told["build"], told["flavour"], told["rpc_protocol"]) == ("b11434", "cuda", "7.0.0")
    assert (told["address"], told["state"], told["cache"]) == ("10.0.0.3:50053", "ready", True)
    assert told["devices"][0] == {"name": "CUDA0", "description": "NVIDIA GeForce RTX 5090"}
    assert told["memory"]["CUDA0"] == {"total_bytes": 32109 * 2**20, "free_bytes": 31 * GIB}
    assert told["memory"]["CUDA1"] == {"total_bytes": GIB, "free_bytes": None}
    assert told["uptime_seconds"] is None


def test_what_it_lends_of_the_cpu_is_the_ram_and_unknown_is_null():
    plan = plan_of(build=replace(BUILD, devices=()))
    assert lent(worker(plan, b""), {})["memory"] == {"CPU": {"total_bytes": None, "free_bytes": None}}
    assert lent(worker(plan, b""), {})["rpc_protocol"] is None
    ram = DeviceReading("RAM", memory_total_bytes=24 * GIB, memory_used_bytes=4 * GIB)
    told = lent(worker(plan), {"RAM": ram, "CPU": DeviceReading("CPU", "AMD EPYC")})
    assert told["devices"] == [{"name": "CPU", "description": "AMD EPYC"}]
    assert told["memory"] == {"CPU": {"total_bytes": 24 * GIB, "free_bytes": 20 * GIB}}


def test_only_the_named_devices_are_lent():
    told = lent(worker(plan_of(lending(devices=("CUDA1",)))), {})
    assert [each["name"] for each in told["devices"]] == ["CUDA1"]


def test_its_endpoint_is_behind_the_keys_of_the_gateway():
    route = route_of("GET", "/supervisor/worker")
    assert (route.handler, route.access) == ("worker", "inference")
