"""Official releases from a loopback host: downloaded, unpacked, proved and recorded, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from supervisor.engine.catalogue.releases import REPOSITORY, Asset
from supervisor.engine.inspection import inspect
from supervisor.engine.inventory import (
    Install,
    folder,
    installed,
    read_record,
    remove,
    root_of,
    size_bytes,
    spare,
)
from supervisor.engine.official import install as runtime
from supervisor.engine.official.install import Installation
from supervisor.engine.survey import FlavourOption
from supervisor.errors import AlreadyRunning, SupervisorError, VerificationFailed
from supervisor.hardware.hardware import Gpu, Hardware
from supervisor.locks import Lock
from supervisor.model.demo import ensure_demo
from supervisor.progress import Silent

from ..fakes.archives import Layout, pack
from ..fakes.archives import runtime as runtime_archive
from ..fakes.binaries import fake_server, script
from ..fakes.launching import line_from, wait_until_gone
from ..fakes.web import PATIENCE, Web, corrupt, file, held

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")
linux = pytest.mark.skipif(sys.platform != "linux", reason="this needs what Linux has")

TAG = "b11434"
CUDA = "CUDA0: NVIDIA GeForce RTX 4060 Ti (16062 MiB, 15862 MiB free)"
CUDART = ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13")
MACHINE = Hardware("linux", "x86_64", gpus=(Gpu("nvidia", "RTX 4060 Ti", driver_version="580.95.05"),))
RUNTIME_FOLDER = f"cudart-llama-{TAG}-bin-ubuntu-cuda-13.4-x64"


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as web:
        yield web


@dataclass(frozen=True)
class Home:
    """A home, and the host that it downloads from."""

    folder: Path
    web: Web

    @property
    def engines(self) -> Path:
        return self.folder / "engines"

    @property
    def downloads(self) -> Path:
        return self.folder / "cache" / "downloads"

    @property
    def demo(self) -> Path:
        return ensure_demo(self.folder / "models")

    def offers(self, archive: Path, *, sha: str | None = None) -> Asset:
        body = archive.read_bytes()
        url = self.web.serve(f"/{archive.name}", file(body))
        return Asset(archive.name, len(body), sha256(body).hexdigest() if sha is None else sha, url)

    def option(self, flavour: str, archive: Asset, companion: Asset | None = None) -> FlavourOption:
        return FlavourOption(flavour, "a test", archive, companion)

    def install(self, option: FlavourOption, tag: str = TAG, hardware: Hardware = MACHINE) -> Install:
        cache = self.folder / "cache"
        return Installation(self.engines, tag, option, self.demo, hardware, None, cache, Silent()).install()

    def root(self, flavour: str, tag: str = TAG) -> Path:
        return folder(self.engines, REPOSITORY, tag, flavour)


@pytest.fixture
def home(tmp_path: Path, web: Web) -> Home:
    return Home(tmp_path / "home", web)


def packed(tmp_path: Path, name: str, tag: str = TAG, **faults: object) -> Path:
    """An archive, ``name``, of a scripted engine."""
    engine = tmp_path / f"made-{name}"
    devices = faults.pop("devices", ())
    assert isinstance(devices, tuple)
    fake_server(engine / "llama-server", devices=devices, **faults)
    return pack("top-tar", engine, tmp_path / "archives" / name, tag)


def cudart(tmp_path: Path, name: str = "cudart.tar.gz", content: bytes = b"library") -> Path:
    files = {library: content + library.encode() for library in CUDART}
    return runtime_archive(RUNTIME_FOLDER, files, tmp_path / "archives" / name)


@pytest.fixture(scope="module")
def real() -> Path:
    binary = os.environ.get("GOSS_TEST_LLAMA_SERVER")
    if not binary:
        pytest.skip("GOSS_TEST_LLAMA_SERVER is not set")
    return Path(binary).parent


@pytest.mark.engine
@pytest.mark.parametrize("layout", ["build-bin-zip", "flat-tar", "top-tar"])
def test_the_really_built_engine_runs_from_each_layout_of_an_archive(
    tmp_path: Path, home: Home, real: Path, layout: Layout
) -> None:
    name = "llama.zip" if layout.endswith("zip") else "llama.tar.gz"
    asset = home.offers(pack(layout, real, tmp_path / name, TAG))
    made = home.install(home.option("cpu", asset))
    assert (made.problem, made.devices, made.source, made.version) == ("", (), "release", TAG)
    assert (made.url, made.sha256, made.proved_on) == (asset.url, asset.sha256, MACHINE.fingerprint)
    assert read_record(home.root("cpu")) == made
    assert inspect(made.command, tmp_path / "asked").capabilities.build == 11434
    assert not list(home.downloads.glob("*.gz")) + list(home.downloads.glob("*.zip"))
    assert size_bytes(made) > 10_000_000


def test_what_is_installed_is_not_downloaded_again(tmp_path: Path, home: Home) -> None:
    option = home.option("cpu", home.offers(packed(tmp_path, "cpu.tar.gz")))
    made = home.install(option)
    assert home.install(option) == made
    assert len(home.web.asked("/cpu.tar.gz")) == 1


def test_an_engine_that_lost_its_files_is_installed_anew(tmp_path: Path, home: Home) -> None:
    option = home.option("cpu", home.offers(packed(tmp_path, "cpu.tar.gz")))
    Path(home.install(option).command[0]).unlink()
    assert read_record(home.root("cpu")) is None
    assert home.install(option).complete
    assert len(home.web.asked("/cpu.tar.gz")) == 2


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({}, "it sees no CUDA device"),
        ({"devices": (CUDA,), "says": "42"}, "it computes wrongly on CUDA0"),
        ({"devices": (CUDA,), "stderr": "CUDA error", "exit": 1}, "it ended while it loaded"),
    ],
)
def test_an_engine_that_fails_its_proof_is_installed_but_unusable(
    tmp_path: Path, home: Home, faults: dict[str, object], expected: str
) -> None:
    option = home.option("cuda-13.4", home.offers(packed(tmp_path, "cuda.tar.gz", **faults)))
    made = home.install(option)
    assert made.problem.startswith(expected)
    assert read_record(home.root("cuda-13.4")) == made
    assert made.devices == faults.get("devices", ())


def test_an_unusable_engine_is_proved_anew_and_not_downloaded_anew(tmp_path: Path, home: Home) -> None:
    option = home.option("cuda-13.4", home.offers(packed(tmp_path, "cuda.tar.gz")))
    made = home.install(option)
    assert made.problem
    fake_server(Path(made.command[0]), devices=[CUDA])  # as if a driver had been installed
    mended = home.install(option)
    assert (mended.problem, mended.devices) == ("", (CUDA,))
    assert read_record(home.root("cuda-13.4")) == mended
    assert len(home.web.asked("/cuda.tar.gz")) == 1


def test_a_problem_that_may_pass_is_not_held_against_an_engine(tmp_path: Path, home: Home) -> None:
    archive = packed(tmp_path, "cuda.tar.gz", devices=(CUDA,), stderr="CUDA error: out of memory", exit=1)
    made = home.install(home.option("cuda-13.4", home.offers(archive)))
    assert made.problem
    assert made.proved_on == ""


def test_a_new_driver_is_reason_enough_to_prove_an_engine_anew(tmp_path: Path, home: Home) -> None:
    option = home.option("cuda-13.4", home.offers(packed(tmp_path, "cuda.tar.gz", devices=(CUDA,))))
    made = home.install(option)
    newer = replace(MACHINE, gpus=(replace(MACHINE.gpus[0], driver_version="590.1"),))
    fake_server(Path(made.command[0]), devices=[])
    assert home.install(option).problem == ""
    assert home.install(option, hardware=newer).problem.startswith("it sees no CUDA device")


def test_what_is_not_what_was_published_is_never_unpacked(tmp_path: Path, home: Home) -> None:
    option = home.option("cpu", home.offers(packed(tmp_path, "cpu.tar.gz")))
    home.web.fault("/cpu.tar.gz", corrupt(100), corrupt(200))
    with pytest.raises(VerificationFailed, match="SHA-256"):
        home.install(option)
    assert not list(home.engines.rglob("llama-server"))


def test_what_has_no_published_digest_is_not_even_downloaded(tmp_path: Path, home: Home) -> None:
    option = home.option("cpu", home.offers(packed(tmp_path, "cpu.tar.gz"), sha=""))
    with pytest.raises(VerificationFailed, match="no digest of it was published"):
        home.install(option)
    assert home.web.requests == []


def test_an_archive_without_a_server_leaves_nothing(tmp_path: Path, home: Home) -> None:
    empty = runtime_archive("llama", {"readme": b"nothing"}, tmp_path / "cpu.tar.gz")
    with pytest.raises(VerificationFailed, match="llama-server"):
        home.install(home.option("cpu", home.offers(empty)))
    assert not list(home.engines.rglob("readme")) + list(home.downloads.glob("*.gz"))


def test_the_cuda_runtime_lies_beside_the_server_and_is_downloaded_once(tmp_path: Path, home: Home) -> None:
    companion = home.offers(cudart(tmp_path))
    made = []
    for tag in ("b2", "b1"):
        archive = home.offers(packed(tmp_path, f"cuda-{tag}.tar.gz", tag, devices=(CUDA,)))
        made.append(home.install(home.option("cuda-13.4", archive, companion), tag))
    for install in made:
        beside = Path(install.command[0]).parent
        assert [(beside / name).read_bytes() for name in CUDART] == [b"library" + n.encode() for n in CUDART]
    assert len(home.web.asked("/cudart.tar.gz")) == 1
    shared = Path(made[0].command[0]).parent / CUDART[0]
    assert shared.samefile(Path(made[1].command[0]).parent / CUDART[0])


def test_a_cuda_runtime_that_no_engine_uses_is_pruned(tmp_path: Path, home: Home) -> None:
    companion = home.offers(cudart(tmp_path))
    archive = home.offers(packed(tmp_path, "cuda.tar.gz", devices=(CUDA,)))
    made = home.install(home.option("cuda-13.4", archive, companion))
    runtime.prune(home.downloads)
    assert runtime.at_hand(companion, home.downloads)
    remove(made)
    runtime.prune(home.downloads)
    assert not runtime.at_hand(companion, home.downloads)
    assert not list(home.downloads.rglob("*.so.*"))


def test_an_engine_without_its_companion_is_unusable_and_the_linker_says_what_is_missing(
    tmp_path: Path, home: Home, real: Path
) -> None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler on Linux")
    engine, gone = tmp_path / "engine", tmp_path / "gone"
    shutil.copytree(real, engine, symlinks=True)
    gone.mkdir()
    for target, arguments in (
        (gone / "libcudart.so.99", ()),
        (engine / "libggml-cuda.so", ("-Wl,--no-as-needed", "-L", str(gone), "-l:libcudart.so.99")),
    ):
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(target), *arguments]
        subprocess.run(command, input="int x;", text=True, check=True)
    option = home.option("cuda-99.0", home.offers(pack("top-tar", engine, tmp_path / "a.tar.gz", TAG)))
    assert home.install(option).problem.startswith(
        "it sees no CUDA device: libcudart.so.99: cannot open shared object file"
    )


def test_the_same_release_with_another_archive_takes_its_place_only_if_it_works(
    tmp_path: Path, home: Home
) -> None:
    first = home.install(home.option("cpu", home.offers(packed(tmp_path, "1.tar.gz"))))
    worse = home.install(home.option("cpu", home.offers(packed(tmp_path, "2.tar.gz", says="42"))))
    assert worse.problem
    assert read_record(home.root("cpu")) == first
    better = home.install(home.option("cpu", home.offers(packed(tmp_path, "3.tar.gz", load=0))))
    assert better.problem == ""
    assert read_record(home.root("cpu")) == better
    assert [each.name for each in home.root("cpu").iterdir() if each.is_dir()] == [better.sha256[:16]]


# kill -9, at each step


INSTALLING = """
import json, sys
from pathlib import Path
from supervisor.engine.official.install import Installation
from supervisor.engine.survey import FlavourOption
from supervisor.engine.catalogue.releases import Asset
from supervisor.hardware.hardware import Hardware
from supervisor.progress import Silent
home, demo, flavour, archive, companion = json.loads(sys.argv[1])
option = FlavourOption(flavour, "", Asset(*archive), Asset(*companion) if companion else None)
class Told(Silent):
    def step(self, text):
        print(text, flush=True)
Installation(Path(home) / "engines", "b11434", option, Path(demo), Hardware("linux", "x86_64"), None,
    Path(home) / "cache", Told()).install()
"""


@contextlib.contextmanager
def installing(home: Home, option: FlavourOption) -> Iterator[subprocess.Popen[str]]:
    """A process that installs, and prints its steps."""
    parts = [
        [asset.name, asset.size_bytes, asset.sha256, asset.url] if asset else None
        for asset in (option.archive, option.companion)
    ]
    told = json.dumps([str(home.folder), str(home.demo), option.flavour, *parts])
    environment = {**os.environ, "TMPDIR": str(home.folder)}  # where kill -9 leaves what it leaves
    child = subprocess.Popen(
        [sys.executable, "-c", INSTALLING, told], stdout=subprocess.PIPE, text=True, env=environment
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def wait_for_step(child: subprocess.Popen[str], beginning: str) -> None:
    assert child.stdout is not None
    assert any(line.startswith(beginning) for line in child.stdout), f"it never said {beginning}"


def check_that_nothing_counts_and_the_next_attempt_succeeds(home: Home, option: FlavourOption) -> None:
    assert installed(home.engines) == ()
    made = home.install(option)
    assert made.problem == ""
    assert installed(home.engines) == (made,)
    assert {each.name for each in home.root(option.flavour).iterdir()} == {"install.json", made.sha256[:16]}


def test_killed_while_it_downloads_it_goes_on_where_it_stopped(tmp_path: Path, home: Home) -> None:
    archive = packed(tmp_path, "cpu.tar.gz")
    with archive.open("ab") as padding:
        padding.write(bytes(300_000))  # what follows a gzip stream, as zeros, is ignored by everybody
    option = home.option("cpu", home.offers(archive))
    home.web.fault("/cpu.tar.gz", held(200_000, threading.Event()))
    part = home.downloads / f"{option.archive.sha256[:16]}-cpu.tar.gz.part"
    with installing(home, option) as child:
        wait_for_step(child, "downloading")
        home.web.wait_for_requests(1, "/cpu.tar.gz")
        wait_for_bytes(part)
        child.kill()
    check_that_nothing_counts_and_the_next_attempt_succeeds(home, option)
    assert "range" in home.web.asked("/cpu.tar.gz")[-1].headers


def wait_for_bytes(part: Path) -> None:
    """No event tells of them."""
    pause, tries = threading.Event(), int(PATIENCE / 0.01)
    assert any((part.exists() and part.stat().st_size) or pause.wait(0.01) for _ in range(tries))


@linux
def test_killed_while_it_unpacks_it_leaves_no_engine(tmp_path: Path, home: Home) -> None:
    engine, gate = tmp_path / "large", tmp_path / "gate"
    fake_server(engine / "llama-server", load_gate=str(gate))  # at the latest it is killed while it proves
    with (engine / "a-large-library.so").open("wb") as library:
        library.truncate(60_000_000)
    option = home.option("cpu", home.offers(pack("top-tar", engine, tmp_path / "large.tar.gz", TAG)))
    with installing(home, option) as child:
        wait_for_step(child, "unpacking")
        unpacked = home.root("cpu") / option.archive.sha256[:16]
        wait_for_bytes(unpacked / f"llama-{TAG}" / "a-large-library.so")
        child.kill()
    gate.touch()
    check_that_nothing_counts_and_the_next_attempt_succeeds(home, option)


@linux
def test_killed_while_it_unpacks_the_runtime_it_leaves_no_half_of_one(tmp_path: Path, home: Home) -> None:
    companion = home.offers(cudart(tmp_path, content=bytes(20_000_000)))
    gate = tmp_path / "gate"
    archive = home.offers(packed(tmp_path, "cuda.tar.gz", devices=(CUDA,), load_gate=str(gate)))
    option = home.option("cuda-13.4", archive, companion)
    with installing(home, option) as child:
        wait_for_step(child, "unpacking cudart")
        child.kill()
    gate.touch()
    check_that_nothing_counts_and_the_next_attempt_succeeds(home, option)
    beside = Path(installed(home.engines)[0].command[0]).parent
    assert [(beside / name).stat().st_size for name in CUDART] == [20_000_000 + len(n) for n in CUDART]


@linux
def test_killed_while_it_proves_it_leaves_no_engine_and_no_server(tmp_path: Path, home: Home) -> None:
    told, gate = tmp_path / "told", tmp_path / "gate"
    os.mkfifo(told)
    option = home.option(
        "cpu", home.offers(packed(tmp_path, "cpu.tar.gz", record=str(told), load_gate=str(gate)))
    )
    with installing(home, option) as child:
        server = json.loads(line_from(told))["pid"]
        child.kill()
    assert wait_until_gone(server)
    told.unlink()
    gate.touch()
    check_that_nothing_counts_and_the_next_attempt_succeeds(home, option)


@linux
def test_killed_while_a_new_archive_is_proved_the_old_engine_still_counts(tmp_path: Path, home: Home) -> None:
    old = home.install(home.option("cpu", home.offers(packed(tmp_path, "1.tar.gz"))))
    told = tmp_path / "told"
    os.mkfifo(told)
    newer = packed(tmp_path, "2.tar.gz", record=str(told), load_gate="/nowhere/gate")
    with installing(home, home.option("cpu", home.offers(newer))) as child:
        server = json.loads(line_from(told))["pid"]
        child.kill()
    assert wait_until_gone(server)
    assert read_record(home.root("cpu")) == old


def test_two_at_once_install_one(tmp_path: Path, home: Home) -> None:
    option = home.option("cpu", home.offers(packed(tmp_path, "cpu.tar.gz")))
    gate = threading.Event()
    home.web.fault("/cpu.tar.gz", held(100, gate))
    with installing(home, option) as first, installing(home, option) as second:
        home.web.wait_for_requests(1)
        waiting = next(child for child in (first, second) if says_that_it_waits(child))
        gate.set()
        assert first.wait(PATIENCE) == 0
        assert second.wait(PATIENCE) == 0
    assert waiting in {first, second}
    assert len(home.web.requests) == 1
    assert len(installed(home.engines)) == 1


def says_that_it_waits(child: subprocess.Popen[str]) -> bool:
    assert child.stdout is not None
    return child.stdout.readline().startswith("waiting: another goss-supervisor is installing")


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """One of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk, on Linux")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"mount: {mounted.stderr.decode(errors='replace').strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_is_downloaded(
    tmp_path: Path, small_disk: Path, web: Web
) -> None:
    home = Home(small_disk / "home", web)
    option = home.option("cpu", replace(home.offers(packed(tmp_path, "cpu.tar.gz")), size_bytes=10_000_000))
    with pytest.raises(SupervisorError, match=r"Downloading llama.cpp b11434 \(cpu\) needs .* are free"):
        home.install(option)
    assert web.requests == []


def test_a_disk_that_becomes_full_while_it_unpacks_is_told_and_leaves_no_engine(
    tmp_path: Path, small_disk: Path, web: Web
) -> None:
    home = Home(tmp_path / "home", web)
    home.folder.mkdir()
    (small_disk / "engines").mkdir()
    home.engines.symlink_to(small_disk / "engines")
    engine = tmp_path / "large"
    fake_server(engine / "llama-server")
    with (engine / "a-large-library.so").open("wb") as library:
        library.truncate(30_000_000)
    option = home.option("cpu", home.offers(pack("top-tar", engine, tmp_path / "large.tar.gz", TAG)))
    with pytest.raises(SupervisorError, match="No space left on device"):
        home.install(option)
    assert installed(home.engines) == ()


# What stands installed


def test_what_is_removed_is_gone_with_all_that_belonged_to_it(tmp_path: Path, home: Home) -> None:
    made = home.install(home.option("cpu", home.offers(packed(tmp_path, "cpu.tar.gz"))))
    root = root_of(made)
    assert root == home.root("cpu")
    remove(made)
    assert not root.exists()
    assert installed(home.engines) == ()
    remove(made)


def test_what_is_being_installed_is_not_removed(tmp_path: Path, home: Home) -> None:
    made = home.install(home.option("cpu", home.offers(packed(tmp_path, "cpu.tar.gz"))))
    lock = Lock.acquire(home.root("cpu").with_name("cpu.lock"), {})
    assert lock is not None
    try:
        with pytest.raises(AlreadyRunning, match="is being installed"):
            remove(made)
    finally:
        lock.release()
    assert read_record(home.root("cpu")) == made


def an_install(tag: str, flavour: str = "cpu", problem: str = "", repository: str = REPOSITORY) -> Install:
    return Install("release", repository, tag, flavour, tag, ("/x",), ("/x",), problem=problem)


def test_the_last_two_tags_that_worked_are_kept_and_what_is_in_use() -> None:
    broken, newest, second = an_install("b9", problem="no"), an_install("b8"), an_install("b7")
    beside, older, pinned, runs = (
        an_install("b7", "cuda", "no"),
        an_install("b6"),
        an_install("b5"),
        an_install("b4"),
    )
    other = an_install("b3", repository="xllamacpp")
    all_of_them = (broken, newest, second, beside, older, pinned, runs, other)
    assert spare(all_of_them, in_use={"b5", f"{REPOSITORY} b4 cpu"}) == (broken, older)
    assert spare(all_of_them, keep=1, in_use=()) == (broken, second, beside, older, pinned, runs)


def test_the_size_of_an_engine_counts_each_file_once(tmp_path: Path) -> None:
    root = tmp_path / "cpu"
    binary = script(root / "bin" / "llama-server", "x" * 1000)
    (root / "bin" / "again").hardlink_to(binary)
    (root / "install.json").write_text("{}")
    install = Install("release", REPOSITORY, TAG, "cpu", TAG, (str(binary),), (str(binary),))
    assert size_bytes(install) == binary.stat().st_size + 2
