"""The engine of an empty home: an official release, downloaded, proved and run, whatever goes wrong."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from supervisor.hardware.detection import VARIABLE
from supervisor.model.demo import DEMO_ANSWER

from ..fakes.archives import pack
from ..fakes.binaries import script
from ..fakes.web import corrupt, cut, held
from .conftest import BUILT, free_port
from .offered import ARCH, OfferedHome, archive_name, light, offer, starting, wait_for_bytes

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="the engines are shell scripts in Linux archives"),
]

TAG = "b11434"  # the number of the really built engine
NAME = archive_name(TAG)


@pytest.fixture(scope="session")
def built() -> Path:
    if BUILT not in os.environ:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    return Path(os.environ[BUILT])


@pytest.fixture
def home(tmp_path, built):
    made = OfferedHome(tmp_path, (), free_port())
    yield made
    made.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory, built) -> Path:
    """The archive of a whole engine, with its libraries and their links."""
    return pack("top-tar", built.parent, tmp_path_factory.mktemp("whole") / NAME, TAG)


def answers(home) -> bool:
    return home.run("ask", "Does it work?").stdout.strip() == DEMO_ANSWER


def nothing_is_installed(home) -> bool:
    """Neither an engine nor a file of one, and no archive; what was loaded of one may go on later."""
    return home.engines() == [] and not [
        *home.data.rglob("llama-server"), *home.downloads.glob("*.gz"), *home.downloads.glob("*.part")
    ]  # fmt: skip


# --- from nothing to an answer


def test_an_empty_home_gets_the_release_of_the_channel_runs_it_and_needs_no_network_again(home, whole):
    home.github.add(TAG, {NAME: whole})
    home.github.promote("v0.6.1", TAG)
    home.environ["GITHUB_TOKEN"] = "a-secret-token"
    started = home.start("demo", *home.channel("stable"))
    steps = [f"downloading {NAME} from 127.0.0.1", f"unpacking llama.cpp {TAG}", f"proving llama.cpp {TAG}"]
    assert [step for step in steps if step not in started.stderr] == []
    assert answers(home)

    [engine] = home.engines()
    assert (engine["tag"], engine["flavour"], engine["problem"]) == (TAG, "cpu", None)
    assert engine["running"]
    assert home.run("engine", "path").stdout.split() == engine["command"]
    assert Path(engine["command"][0]).is_relative_to(home.data)
    server = home.status()["server"]
    assert (server["build"], server["flavour"]) == (TAG, "cpu")
    assert "official release" in server["engine"]
    assert set(home.github.tokens) == {"Bearer a-secret-token"}
    assert home.github.leaked == []
    assert not [*home.downloads.glob("*.gz"), *home.downloads.glob("*.part*")]

    home.run("stop")
    home.github.close()
    again = home.start("demo", *home.channel("stable"))
    assert "downloading" not in again.stderr
    assert "proving" not in again.stderr
    assert home.github.downloads.count(NAME) == 1
    downloads = home.run("events", "--kind", "download").stdout
    assert downloads.count(f"installed the engine ggml-org/llama.cpp {TAG} (cpu)") == 1


def test_an_incomplete_release_is_passed_over_and_that_is_said(home):
    offer(home, TAG)
    newer = archive_name("b12002")
    home.github.add("b12002", {newer: light(home, "b12002")}, uploading=[newer])
    started = home.start("demo", *home.channel("nightly"))
    server = home.status()["server"]
    assert server["build"] == TAG
    assert re.search(r"b12002\b.* its archive is not uploaded yet", server["engine"])
    [said] = engine_lines(started)
    assert said.endswith("; why not another: goss-supervisor engine survey")


# --- what comes is not what was published


def test_an_archive_with_another_digest_is_refused_and_nothing_of_it_kept(home):
    home.github.add(TAG, {NAME: light(home, TAG)}, digests={NAME: "sha256:" + "0" * 64})
    refused = home.start("demo", *home.channel(TAG), code=9)
    assert f"error: {NAME} from 127.0.0.1" in refused.stderr
    assert "hint:" in refused.stderr
    assert nothing_is_installed(home)


def test_a_corrupt_and_a_cut_download_are_mended_by_themselves(home, whole):
    home.github.add(TAG, {NAME: whole})
    home.github.storage.fault(home.github.stored(TAG, NAME), corrupt(3_000_000), cut(4_000_000))
    home.start("demo", *home.channel(TAG))
    first, second, third = home.github.storage.asked(home.github.stored(TAG, NAME))
    assert "range" not in first.headers
    assert "range" not in second.headers  # the first was whole, and wrong in the middle
    assert third.headers["range"] == "bytes=4000000-"
    assert home.engines()[0]["problem"] is None


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_a_hostile_archive_is_refused_and_writes_nothing_outside(home, tmp_path):
    hostile = tmp_path / "hostile.tar.gz"
    with tarfile.open(hostile, "w:gz") as archive:
        for member in (link("llama/out", "../../../../../../.."), "llama/out/escaped"):
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = 4 if info.isreg() else 0
            archive.addfile(info, io.BytesIO(b"evil"))
    home.github.add(TAG, {NAME: hostile})
    refused = home.start("demo", *home.channel(TAG), code=9)
    assert "is refused" in refused.stderr
    assert nothing_is_installed(home)
    assert not [*tmp_path.rglob("*escaped")]


# --- no GitHub, and no mirror


def engine_lines(done) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("engine:")]


def test_without_github_the_llama_server_on_path_runs_and_one_line_says_why(home, built):
    home.github.close()
    script(home.bin / "llama-server", f'exec "{built}" "$@"\n')
    [said] = engine_lines(home.start("demo"))
    assert "it is on PATH" in said
    assert said.endswith("; why not another: goss-supervisor engine survey")
    told = home.run("engine", "survey", "--profile", "demo").stdout
    assert "it is on PATH" in told
    assert "could not download a release: " in told
    assert "refuses the connection" in told
    assert answers(home)


def test_without_github_what_is_installed_goes_on_working(home):
    offer(home, TAG)
    home.start("demo", *home.channel("nightly"))
    home.run("stop")
    home.github.close()
    [said] = engine_lines(home.start("demo"))  # the pinned release, which was never downloaded
    assert f"ggml-org/llama.cpp {TAG} (cpu): it is installed" in said
    assert said.endswith("; why not another: goss-supervisor engine survey")
    assert answers(home)


def test_who_wants_a_release_and_nothing_else_gets_a_network_error(home, built):
    home.github.close()
    script(home.bin / "llama-server", f'exec "{built}" "$@"\n')
    refused = home.start("demo", "--set", "engine.source=release", code=8)
    assert "refuses the connection" in refused.stderr
    assert "engine.mirror" in refused.stderr


def test_where_nothing_can_be_had_build_is_the_last_way_and_all_reasons_are_told(home):
    home.github.close()
    home.environ[VARIABLE] = box(home)
    home.profile("gpu", ON_A_GPU)
    refused = home.start("gpu", code=6)
    [said] = engine_lines(refused)
    assert said.startswith("engine: build instead, since official release: ")
    assert [word for word in ("PATH: ", "embedded b", "build: ") if word not in refused.stderr] == []
    assert "needs a C++ compiler" in refused.stderr
    assert "hint: Check the network." in refused.stderr


# --- a GPU that the engine does not see

ON_A_GPU = "extends: demo\nengine: {flavour: null}\nserver: {gpu-layers: 99}\n"
CARD = {
    "vendor": "nvidia",
    "name": "NVIDIA GeForce RTX 4060 Ti",
    "pci": "0000:01:00.0",
    "memory_bytes": 16 << 30,
    "integrated": False,
    "driver_version": "580.95.05",
    "architecture": "8.9",
}


def box(home) -> str:
    """A machine with a card; it is this one in all that an archive for it needs."""
    file = home.root / "box.json"
    told = {"os": "linux", "arch": {"x64": "x86_64"}.get(ARCH, ARCH), "ram_bytes": 64 << 30, "gpus": [CARD]}
    file.write_text(json.dumps(told))
    return str(file)


def test_an_engine_that_sees_no_gpu_is_installed_but_unusable_and_the_next_flavour_is_tried(home):
    cuda, vulkan = archive_name(TAG, "cuda-12.8"), archive_name(TAG, "vulkan")
    companion = f"cudart-llama-{TAG}-bin-ubuntu-cuda-12.8-{ARCH}.tar.gz"
    runtime = home.root / "cudart"
    runtime.mkdir()
    (runtime / "libcudart.so.12").write_bytes(bytes(1000))
    home.github.add(
        TAG,
        {
            cuda: light(home, TAG, name=cuda),
            companion: pack("top-tar", runtime, home.root / "archives" / companion, TAG),
            vulkan: light(home, TAG, name=vulkan),
            NAME: light(home, TAG),
        },
    )
    home.environ[VARIABLE] = box(home)
    home.profile("gpu", ON_A_GPU)
    refused = home.start("gpu", *home.channel(TAG, "release"), code=6)
    assert "cuda-12.8: it sees no CUDA device" in refused.stderr
    assert "vulkan: it sees no Vulkan device" in refused.stderr
    assert "cpu: the profile asks for a GPU" in refused.stderr
    unusable = {each["flavour"]: each["problem"] for each in home.engines()}
    assert list(unusable) == ["cuda-12.8", "vulkan"]
    assert all("device" in problem for problem in unusable.values())

    again = home.start("gpu", *home.channel(TAG, "release"), code=6)
    assert "downloading" not in again.stderr
    assert home.github.downloads == [cuda, companion, vulkan]

    assert [*home.downloads.glob("cudart-*/")]
    home.run("engine", "remove", TAG)
    assert home.engines() == []
    assert not [*home.downloads.glob("cudart-*/")], "the runtime that only they had goes with them"


def test_what_would_happen_on_another_machine_is_shown_and_nothing_fetched(home):
    detected = json.loads(home.run("detect", "--hardware", box(home), "--json").stdout)
    assert detected["gpus"][0]["name"] == CARD["name"]
    assert detected["profiles"]["best"]["name"] == "rtx4060ti-oculink"
    survey = home.run("engine", "survey", "--hardware", box(home)).stdout
    assert [line.split()[1] for line in survey.splitlines()[2:5]] == ["cuda-13.4", "cuda-12.8", "vulkan"]
    plan = home.run("plan", "rtx4060ti-oculink", "--hardware", box(home)).stdout
    assert "(cuda-13.4) is not installed yet" in plan
    assert home.github.downloads == []


# --- no profile


def test_a_start_without_a_profile_takes_the_one_that_fits_then_the_last_one_used(home):
    offer(home, TAG)
    fits = home.run("start", "--dry-run").stderr
    assert fits.startswith("profile: ")
    assert "which fits this machine best: " in fits
    home.profile("mine", "extends: demo\n")
    home.start("mine", *home.channel(TAG))
    home.run("stop")
    home.start("demo", *home.channel(TAG))  # which is not remembered
    home.run("stop")
    again = home.run("start", "--detach", *home.settings, *home.channel(TAG))
    assert again.stderr.startswith("profile: mine, the last one used")
    assert answers(home)


# --- kill -9


def test_killed_while_it_downloads_the_next_start_goes_on_where_it_stopped(home, whole):
    home.github.add(TAG, {NAME: whole})
    stored = home.github.stored(TAG, NAME)
    home.github.storage.fault(stored, held(4_000_000, threading.Event()))
    with starting(home, *home.channel(TAG)) as start:
        start.said("downloading")
        part = wait_for_bytes(home.downloads, "*.part", 4_000_000)
        start.killed()
    assert part.stat().st_size == 4_000_000
    assert home.engines() == []
    home.start("demo", *home.channel(TAG))
    assert home.github.storage.asked(stored)[-1].headers["range"] == "bytes=4000000-"
    assert answers(home)


# --- a full disk


@pytest.fixture
def small_disk(home):
    """The engines of the home lie on 24 MB."""
    folder = home.data / "engines"
    folder.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"mount: {mounted.stderr.decode(errors='replace').strip()}")
    yield folder
    home.run("stop", "--now", code=None)
    subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_the_old_engine_stays_whole(home, small_disk):
    offer(home, TAG)
    home.start("demo", *home.channel("nightly"))
    offer(home, "b12002", padding=40_000_000)
    refused = home.run("engine", "install", "b12002", code=1)
    assert "No space left on device" in refused.stderr
    assert str(small_disk) in refused.stderr
    assert "hint: Free some space" in refused.stderr
    assert [(each["tag"], each["problem"]) for each in home.engines()] == [(TAG, None)]
    home.run("restart")
    assert answers(home)


# --- two at once


def test_of_two_starts_at_once_one_downloads_and_one_serves(home):
    gate = threading.Event()
    offer(home, TAG)
    stored = home.github.stored(TAG, NAME)
    home.github.storage.fault(stored, held(100, gate))
    with starting(home, *home.channel(TAG)) as first:
        home.github.storage.wait_for_requests(1, stored)
        with starting(home, *home.channel(TAG)) as second:
            second.said("waiting: another goss-supervisor is installing")
            gate.set()
            ends = [first.ended(), second.ended()]
    assert sorted(code for code, _ in ends) == [0, 4]
    assert home.github.downloads == [NAME]
    assert answers(home)
