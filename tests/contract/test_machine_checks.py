"""What a start and a plan say first: the card is absent, a disk is not mounted, others hold the GPU."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from supervisor.cli.model import model as model_command
from supervisor.cli.plan import plan as plan_command
from supervisor.disk import ensure_executable, noexec_mount, unreachable
from supervisor.engine.inspection import cannot_start
from supervisor.engine.install_context import InstallContext
from supervisor.engine.local_engines import promised
from supervisor.errors import ConfigError, NoSuitableEngine, NotFound, PermissionDenied
from supervisor.hardware.detection import detect
from supervisor.hardware.hardware import Gpu, Hardware
from supervisor.hardware.sources.gpu_users import GpuUser
from supervisor.hardware.wire import to_json
from supervisor.memory.accounts import Account, Figure, Ledger, Pool
from supervisor.memory.fitting import Fitted, fit
from supervisor.memory.verdict import judge
from supervisor.model import hub
from supervisor.paths import Paths
from supervisor.prepare import machine_checks
from supervisor.prepare.prepare import prepare, preview
from supervisor.profile.resolve import resolve, settings_of, with_models_dir
from supervisor.profile.store import ProfileStore
from supervisor.progress import Silent
from supervisor.server.preflight import check_launch

from ..unit.hardware.recorded import load
from ..unit.memory_machines import gpt_oss
from .test_server import plan as launch_plan

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there, and nothing is noexec")
GIB = 1024**3
GRAPHICS = Gpu("amd", "AMD Radeon 890M Graphics", memory_bytes=50 * GIB, integrated=True, unified=True)
CARD = Gpu("nvidia", "NVIDIA GeForce RTX 3060", memory_bytes=12 * GIB, integrated=False, cuda="13.0")
SWITCHED_OFF = Hardware(
    "linux", "x86_64", libc="glibc", libc_version="2.39", ram_bytes=92 * GIB, available_bytes=88 * GIB,
    gpus=(GRAPHICS,),
)  # fmt: skip
OCULINK = "rtx4060ti-oculink"


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A home, of a machine that reaches no network and whose hub must not be asked."""
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    for name in ("GOSS_SUPERVISOR_GITHUB", "GOSS_SUPERVISOR_GITHUB_API", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(hub.Hub, "of", lambda *_: pytest.fail("the hub was asked"))
    found = Paths.from_environment()
    found.profiles.mkdir(parents=True)
    return found


@pytest.fixture
def machine(tmp_path, monkeypatch):
    def is_now(hardware):
        file = tmp_path / "box.json"
        file.write_text(json.dumps(to_json(hardware)), encoding="utf-8")
        monkeypatch.setenv("GOSS_SUPERVISOR_HARDWARE", str(file))
        return file

    return is_now


# -- the card


def test_a_start_says_first_that_its_card_is_absent(paths, machine):
    machine(SWITCHED_OFF)
    with pytest.raises(NoSuitableEngine) as raised:
        prepare(OCULINK, {}, paths, Silent())
    assert str(raised.value) == (
        f"Profile {OCULINK} is for a GPU of nvidia called *RTX 4060 Ti* with 15 GiB, which is not there: "
        "this machine has only AMD Radeon 890M Graphics."
    )
    assert "Switch it on" in raised.value.hint


def test_a_plan_says_it_in_its_first_line_before_anything_is_asked(paths, machine, monkeypatch):
    file = machine(SWITCHED_OFF)
    seen = []
    monkeypatch.setattr(
        hub.Hub, "of", lambda *_: seen.append("asked") or (_ for _ in ()).throw(NotFound("no"))
    )
    preview(OCULINK, {}, paths, file, warn=seen.append)
    assert "RTX 4060 Ti*" in seen[0]
    assert seen[1:] == ["asked"]
    told = CliRunner().invoke(plan_command, [OCULINK, "--hardware", str(file)]).output
    assert told.startswith(f"# warning: Profile {OCULINK} is for a GPU of nvidia")
    assert told.count("which is not there") == 1
    as_json = CliRunner().invoke(plan_command, [OCULINK, "--hardware", str(file), "--json"]).output
    assert "which is not there" in json.loads(as_json)["warnings"][0]


# -- the models folder


@posix
def test_a_models_folder_that_leads_to_a_disk_that_is_gone_is_named(paths, machine, tmp_path):
    machine(replace(SWITCHED_OFF, gpus=(CARD,)))
    paths.data.mkdir(parents=True)
    paths.models.symlink_to(tmp_path / "disk" / "models")
    for attempt in (
        lambda: prepare("gpt-oss-20b", {}, paths, Silent()),
        lambda: preview("gpt-oss-20b", {}, paths),
    ):
        with pytest.raises(NotFound, match=r"models is a link to .*disk/models, which is not there"):
            attempt()
    listed = CliRunner().invoke(model_command, ["ls"])
    assert isinstance(listed.exception, NotFound)


@posix
def test_a_disk_of_fstab_that_is_not_mounted_is_named(tmp_path):
    fstab, mount = tmp_path / "fstab", tmp_path / "big disk"
    mount.mkdir()
    fstab.write_text(f"# a comment\nUUID=1 / ext4\nUUID=2 {str(mount).replace(' ', chr(92) + '040')} ext4\n")
    assert (
        unreachable(mount / "models" / "x.gguf", fstab) == f"the disk of {mount} (in {fstab}) is not mounted"
    )
    assert unreachable(mount, fstab) == ""


def test_a_folder_that_does_not_exist_yet_is_no_lost_disk(tmp_path):
    assert unreachable(tmp_path / "models" / "owner" / "x.gguf", tmp_path / "fstab") == ""


@posix
def test_a_disk_that_people_plug_in_is_asked_for():
    assert unreachable(Path("/mnt/no-such-disk/models"), Path("/nonexistent")) == (
        "there is no /mnt/no-such-disk (is its disk mounted?)"
    )


@posix
def test_a_launch_names_the_link_whose_disk_went_away(tmp_path):
    link = tmp_path / "models"
    link.symlink_to(tmp_path / "gone")
    found = check_launch(replace(launch_plan(tmp_path), model_files=(str(link / "x.gguf"),)))
    assert found.kind == "model-missing"
    assert f"{link} is a link to {tmp_path / 'gone'}, which is not there" in found.message
    assert found.hint == "Mount the disk."


def test_config_yaml_says_where_models_are(paths, tmp_path):
    (paths.config / "config.yaml").write_text(f"models-dir: {tmp_path / 'big'}\n")
    assert with_models_dir(paths).models == tmp_path / "big"
    (paths.config / "config.yaml").write_text("models-dir: ~/big\n")
    assert with_models_dir(paths).models == Path.home() / "big"
    (paths.config / "config.yaml").write_text("gateway: {idle-unload: 10m}\n")
    assert with_models_dir(paths).models == paths.data / "models"


@pytest.mark.parametrize("text", ["models-dir: models\n", "models-dir: [a]\n"])
def test_a_models_dir_that_is_no_whole_path_is_a_mistake_with_its_place(paths, text):
    (paths.config / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config.yaml:1:13: models-dir: must be"):
        settings_of(ProfileStore(paths.profiles))


# -- noexec


def noexec(monkeypatch, mount):
    """The disk of ``mount`` is mounted noexec."""
    real = os.statvfs

    def statvfs(path):
        found = real(path)
        flag = os.ST_NOEXEC if Path(path).resolve().is_relative_to(mount) else 0
        return os.statvfs_result((*found[:8], flag, found[9]))

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(Path, "is_mount", lambda self: self == mount)


@posix
@pytest.mark.skipif(not hasattr(os, "ST_NOEXEC"), reason="this system does not tell")
def test_a_home_that_is_mounted_noexec_is_named_before_a_download(tmp_path, monkeypatch):
    noexec(monkeypatch, tmp_path)
    with pytest.raises(PermissionDenied, match=f"{tmp_path} is mounted noexec"):
        ensure_executable(tmp_path / "engines" / "not yet")
    binary = tmp_path / "llama-server"
    binary.write_text("#!/bin/sh\n")
    refused = cannot_start(binary, PermissionError(13, "Permission denied"))
    assert "is mounted noexec" in str(refused)
    assert "chmod" not in refused.hint
    found = check_launch(replace(launch_plan(tmp_path), argv=(str(binary),)))
    assert (found.kind, "is mounted noexec" in found.message) == ("engine-forbidden", True)


@posix
@pytest.mark.skipif(not hasattr(os, "ST_NOEXEC"), reason="this system does not tell")
def test_a_start_and_a_plan_name_it_in_place_of_each_engine_that_cannot_be_had(
    paths, machine, tmp_path, monkeypatch
):
    machine(replace(SWITCHED_OFF, gpus=()))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    noexec(monkeypatch, tmp_path)
    with pytest.raises(PermissionDenied, match="is mounted noexec"):
        prepare("demo", {}, paths, Silent())
    assert any("is mounted noexec" in warning for warning in preview("demo", {}, paths).warnings)


@posix
def test_where_programs_may_run_nothing_is_said(tmp_path):
    assert noexec_mount(tmp_path / "engines") is None


# -- memory that others hold


USERS = (GpuUser(4242, "ollama", int(13.5 * GIB)), GpuUser(7, "Xorg", 200 * 1024**2))
SAID = "of the GPU's memory ollama (pid 4242) holds 13.5 GiB, Xorg (pid 7) holds 200 MiB"


def taken(monkeypatch, paths, fitted, *, elsewhere=False):
    monkeypatch.setattr(machine_checks, "gpu_users", lambda _: USERS)
    context = InstallContext(paths, Silent(), lambda: SWITCHED_OFF, lambda: Path("demo"), elsewhere)
    return machine_checks.taken_by_others(fitted, context, paths)


@pytest.mark.parametrize(("free_gib", "said"), [(2, SAID), (15.5, ""), (10, SAID)])
def test_who_has_filled_a_card_is_named(paths, monkeypatch, free_gib, said):
    card = Pool("CUDA0", 16 * GIB, int(free_gib * GIB))
    needs = Figure(12 * GIB)
    ledger = Ledger((Account(card, needs, Figure(0), Figure(0), Figure(0), 12 * GIB),), (), None)
    found = Fitted(ledger, judge(ledger, "balanced"))
    assert taken(monkeypatch, paths, found) == said
    assert taken(monkeypatch, paths, found, elsewhere=True) == ""


@pytest.mark.parametrize(("free_mib", "said"), [(3000, SAID), (15900, "")])
def test_it_is_named_too_where_experts_go_to_the_ram_for_it(paths, monkeypatch, free_mib, said):
    listed = (f"CUDA0: NVIDIA GeForce RTX 4060 Ti (16062 MiB, {free_mib} MiB free)",)
    build = replace(promised("", flavour="cuda-12.8"), devices=listed)
    profile = resolve("gpt-oss-20b", ProfileStore(paths.profiles), {"ctx-size": "32768"})
    found = fit(profile, gpt_oss("20b"), build, detect(Path(), load("hx370-96gb-4060ti")))
    assert found.verdict.allowed
    assert taken(monkeypatch, paths, found) == said


def test_a_plan_warns_of_what_is_known_to_go_wrong(paths, machine):
    machine(replace(SWITCHED_OFF, gpus=()))
    (warning,) = preview("demo", {"sleep-idle-seconds": "60"}, paths).plan.warnings  # as status shows it
    assert "CVE-2026-43631" in warning
    assert preview("demo", {}, paths).plan.warnings == ()


def test_a_plan_warns_where_a_profile_was_tuned_for_another_machine(paths, machine):
    machine(SWITCHED_OFF)
    (paths.profiles / "demo-tuned.yaml").write_text("extends: demo\ntuned: {cpu: a Celeron, ram: 92 GiB}\n")
    assert preview("demo-tuned", {}, paths).plan.warnings == ()  # what the record does not know
    machine(replace(SWITCHED_OFF, ram_bytes=64 * GIB))
    (warning,) = preview("demo-tuned", {}, paths).plan.warnings  # as status shows it
    assert "(memory 92.0 GiB then, 64.0 GiB now); to measure again: goss-supervisor tune demo" in warning
