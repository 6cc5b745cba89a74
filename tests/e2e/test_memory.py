"""What fits and what does not, before anything is downloaded, loaded or stopped."""

from __future__ import annotations

import json
import os

import psutil
import pytest

from supervisor.hardware.detection import VARIABLE
from supervisor.model.demo import DEMO_ANSWER

from ..fakes.binaries import fake_server, script
from ..fakes.hub import SPLIT, FakeHub, split_demo
from ..fakes.shapes import write_sparse
from .conftest import BUILT, Home, engine_settings, free_port

GIB = 1024**3
PINNED = "server: {gpu-layers: 0, ctx-size: 4096, cache-ram: 0}\n"


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home", (), free_port())
    made.root.mkdir()
    made.engine = engine_settings("built", made.root)
    yield made
    made.close()


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """gpt-oss-120b in its true size, made of holes."""
    path = tmp_path_factory.mktemp("model") / "gpt-oss-120b.gguf"
    write_sparse(path, "120b")
    return path


def box(home, gib: float, **more) -> dict[str, str]:
    """The environment of a machine with so much memory, all of it free."""
    file = home.root / "box.json"
    ram = {"ram_bytes": int(gib * GIB), "available_bytes": int(gib * GIB)}
    file.write_text(json.dumps({"os": "linux", "arch": "x86_64", **ram, **more}))
    return {VARIABLE: str(file)}


def test_a_model_that_cannot_fit_is_refused_with_what_would_make_it_fit(home, large):
    home.profile("large", f"model: {{path: {large}}}\n{PINNED}")
    machine = box(home, 48, cpu={"features": ["avx2"]})
    refused = home.run("start", "-p", "large", "-d", *home.settings, code=7, env=machine)
    assert "large does not fit: needs 59." in refused.stderr
    assert "of the 48.0 GiB that are free in RAM" in refused.stderr
    assert "`repack: false` needs" in refused.stderr
    assert "start --force ignores them once" in refused.stderr
    assert home.status()["server"]["state"] == "stopped"

    home.profile("helped", f"extends: large\n{PINNED.replace('}', ', repack: false}')}")
    plan = json.loads(home.run("plan", "helped", *home.engine, "--json", env=machine).stdout)
    assert plan["ledger"]["verdict"] == "tight"
    assert not plan["ledger"]["refused"]


def test_plan_has_the_account_of_each_memory(home, large):
    home.profile("large", f"model: {{path: {large}}}\n{PINNED}")
    shown = home.run("plan", "large", "-v", *home.engine, env=box(home, 96))
    assert "# MEMORY  NEEDS" in shown.stdout
    planned = json.loads(home.run("plan", "large", *home.engine, "--json", env=box(home, 96)).stdout)
    (ram,) = planned["ledger"]["devices"]
    assert (ram["name"], ram["total_bytes"], ram["free_bytes"]) == ("RAM", 96 * GIB, 96 * GIB)
    assert ram["weights_bytes"] == 63_374_323_968
    assert ram["context_bytes"] == pytest.approx(4096 * 36 * 1024, rel=0.5)
    assert (ram["sources"]["compute"], planned["ledger"]["verdict"]) == ("formula", "fits")
    assert ram["sources"]["weights"] in {"formula", "engine"}  # as the build has llama-fit-params or not
    parts = ("weights_bytes", "context_bytes", "compute_bytes", "other_bytes")
    assert ram["needed_bytes"] == sum(ram[part] for part in parts)


def test_what_needs_no_memory_of_its_own_may_be_larger_than_the_memory(home, large):
    """Left to the engine, the weights stay mapped, and that is said."""
    home.profile("left", f"model: {{path: {large}}}\nserver: {{ctx-size: 4096}}\n")
    machine = box(home, 48, cpu={"features": ["avx2"]})
    plan = json.loads(home.run("plan", "left", *home.engine, "--json", env=machine).stdout)
    assert "--no-repack" in plan["argv"]
    assert any("not rearranged for the CPU" in note for note in plan["notes"])


def test_a_switch_to_what_does_not_fit_stops_nothing(home, large):
    home.start("demo")
    pid = home.status()["server"]["pid"]
    home.profile("large", f"model: {{path: {large}}}\n{PINNED}guardrails: strict\n")
    home.run("switch", "large", *home.settings, code=7, env=box(home, 32))
    assert home.status()["server"]["pid"] == pid
    assert home.run("ask", "Still there?").stdout.strip() == DEMO_ANSWER


def test_nothing_is_downloaded_of_a_model_that_does_not_fit_and_all_of_one_that_does(home, tmp_path):
    with FakeHub() as hub:
        hub.add("me/demo-GGUF", split_demo(tmp_path / "parts"))
        home.profile(
            "hub", f"model: {{repo: me/demo-GGUF, file: {SPLIT[0]}}}\nengine: {{flavour: cpu}}\n{PINNED}"
        )
        refused = home.start("hub", code=7, env={**hub.env, **box(home, 0.01)})
        assert "hub does not fit" in refused.stderr
        assert not (home.root / "data" / "models" / "me").exists()
        home.start("hub", env={**hub.env, **box(home, 8)})
    assert home.run("ask", "Who are you?").stdout.strip() == DEMO_ANSWER


@pytest.mark.skipif(
    psutil.virtual_memory().total + psutil.swap_memory().total > 50 * GIB, reason="it may find room here"
)
def test_with_force_it_is_tried_and_its_death_explained(home, large):
    read = PINNED.replace("}", ", load-mode: none}")  # mapped, all holes of the file would be read first
    home.profile("large", f"model: {{path: {large}}}\n{read}restart: {{max: 0}}\n")
    died = home.start("large", "--force", code=10)
    assert "There is not enough free memory" in died.stderr
    assert "failed to allocate CPU_REPACK buffer" in died.stderr


def test_a_load_that_fails_for_memory_takes_one_step_back_and_remembers_it(home, large, tmp_path):
    """The engine is one that says so as long as a batch is not small; what it then loads is the demo model."""
    engine = script(
        tmp_path / "engine" / "llama-server",
        f'case "$*" in *"--ubatch-size 256"*|*--version*|*--help*|*--list-devices*) exec "{os.environ[BUILT]}" "$@";; esac\n'
        'echo "ggml_aligned_malloc: insufficient memory (attempted to allocate 58092.19 MB)" >&2; exit 1\n',
    )
    home.engine = ("--set", "engine.source=path", "--set", f"engine.path={engine}")
    home.profile("placed", "extends: demo\nplacement: auto\n")
    first = home.start("placed")
    assert "ready" in first.stdout
    server = home.status()["server"]
    assert server["why"] == "with ubatch-size 256, for without it the load failed for memory"
    assert server["restarts"] == 0
    assert home.run("ask", "Well?").stdout.strip() == DEMO_ANSWER
    home.run("stop")
    again = home.start("placed")
    assert (
        "ubatch-size 256, for without it the load failed for memory: it was so the last time" in again.stderr
    )
    assert home.status()["server"]["last_failure"] is None


def test_requests_that_run_out_of_gpu_memory_lead_to_the_same_step_back_which_is_remembered(tmp_path):
    """The engine is a script: every request is too large for it as long as a batch is not small."""
    home = Home(tmp_path / "home", (), free_port())
    roomy = fake_server(tmp_path / "roomy")
    short = fake_server(tmp_path / "short", breaks="decode() failed: ErrorOutOfDeviceMemory")
    engine = script(
        tmp_path / "llama-server",
        f'case "$*" in *"--ubatch-size 256"*) exec {roomy} "$@";; *) exec {short} "$@";; esac\n',
    )
    home.profile("placed", f"model: demo\nengine: {{source: path, path: {engine}}}\nplacement: auto\n")
    try:
        home.start("placed")
        for restarts in (1, 2):
            assert "ErrorOutOfDeviceMemory" in home.run("ask", "Well?", code=None).stderr
            now = home.watch_for(
                lambda now, n=restarts: (now["server"]["restarts"], now["server"]["state"]) == (n, "ready")
            )
        reason = "ubatch-size 256, for without it requests ran out of GPU memory"
        assert now["server"]["why"] == f"with {reason}"
        assert now["server"]["last_failure"]["kind"] == "gpu-memory"
        assert home.run("ask", "Well?").stdout.strip() == DEMO_ANSWER
        assert reason in home.run("status").stdout
        assert reason in home.run("events").stdout
        assert reason in (home.root / "logs" / "daemon.log").read_text()
        home.run("stop")
        assert f"{reason}: it was so the last time" in home.start("placed").stderr
        assert home.status()["server"]["last_failure"] is None
    finally:
        home.close()


def test_where_one_step_back_is_not_enough_it_stops_and_says_so(home, tmp_path):
    engine = script(
        tmp_path / "engine" / "llama-server",
        f'case "$*" in *--version*|*--help*|*--list-devices*) exec "{os.environ[BUILT]}" "$@";; esac\n'
        'echo "ggml_aligned_malloc: insufficient memory (attempted to allocate 58092.19 MB)" >&2; exit 1\n',
    )
    home.engine = ("--set", "engine.source=path", "--set", f"engine.path={engine}")
    home.profile("placed", "extends: demo\nplacement: auto\n")
    failed = home.start("placed", code=10)
    assert "There is not enough free memory" in failed.stderr


def test_what_the_engine_says_after_a_load_is_used_the_next_time(home):
    home.profile("talkative", "extends: demo\nserver: {log-verbosity: 4}\n")
    before = json.loads(home.run("plan", "talkative", *home.engine, "--json").stdout)
    home.start("talkative")
    planned = json.loads(home.run("plan", "talkative", *home.settings, "--json").stdout)
    (ram,) = planned["ledger"]["devices"]
    assert ram["sources"]["compute"] == ram["sources"]["context"] == "measured"
    assert planned["digest"] == home.status()["server"]["digest"]
    assert "measured" not in before["ledger"]["devices"][0]["sources"].values()
