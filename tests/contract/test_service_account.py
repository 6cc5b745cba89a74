"""Whose service it is, where its files may lie, and the environment in which it is prepared."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.errors import NotFound, PermissionDenied, SupervisorError, UsageError
from supervisor.service import account
from supervisor.service.account import (
    existing_groups,
    for_preparing,
    kept,
    make_home,
    path_of_services,
    prepare_as,
    user_name,
    user_of_system,
)
from supervisor.service.systemd import GPU_GROUPS

if sys.platform == "win32":
    pytest.skip("one user, the one who is there", allow_module_level=True)

import grp
import pwd

by_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
SYSTEMD = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user reaches and may write to, like /tmp; pytest's own are shut to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def mode_and_owner(path: Path) -> tuple[int, str]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), pwd.getpwuid(found.st_uid).pw_name


def as_daemon(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], user="daemon", check=True)


# --- who


@by_root
def test_a_service_of_the_system_is_that_of_who_said_sudo():
    assert user_of_system("nobody", {"SUDO_USER": "daemon"}) == "nobody"
    assert user_of_system(None, {"SUDO_USER": "daemon"}) == "daemon"


def test_who_did_not_say_sudo_yet_would_have_to(monkeypatch):
    monkeypatch.setattr(account, "is_root", lambda: False)
    monkeypatch.setattr(account, "user_name", lambda: "daemon")
    assert user_of_system(None, {"SUDO_USER": "nobody"}) == "daemon"


@by_root
@pytest.mark.parametrize("environ", [{}, {"SUDO_USER": "root"}])
def test_root_is_never_guessed(environ):
    with pytest.raises(UsageError) as refused:
        user_of_system(None, environ)
    assert "--run-as" in refused.value.hint
    assert user_of_system("root", environ) == "root"


def test_a_user_who_does_not_exist_is_named():
    with pytest.raises(NotFound, match="no-such-user"):
        user_of_system("no-such-user", {})


def test_a_user_without_a_name_is_a_number(monkeypatch):
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert user_name() == str(os.getuid())


# --- the folder


@by_root
def test_a_home_in_the_systems_place_is_made_by_root_and_given_away(tmp_path):
    home = tmp_path / "lib" / "home"
    make_home(home, "daemon")
    assert mode_and_owner(home) == (0o700, "daemon")
    assert mode_and_owner(home.parent)[1] == "root"


@by_root
def test_a_home_in_a_users_folder_is_made_by_that_user(open_path):
    as_daemon("mkdir", open_path / "theirs")
    make_home(open_path / "theirs" / "deep" / "home", "daemon")
    for made in (open_path / "theirs" / "deep", open_path / "theirs" / "deep" / "home"):
        assert mode_and_owner(made)[1] == "daemon"
    assert mode_and_owner(open_path / "theirs" / "deep" / "home")[0] == 0o700


@by_root
@pytest.mark.parametrize("link", ["link", "theirs/link"])
def test_root_makes_no_home_behind_a_users_link(open_path, link):
    (open_path / "roots").mkdir(mode=0o755)
    as_daemon("mkdir", open_path / "theirs")
    as_daemon("ln", "-s", open_path / "roots", open_path / link)
    with pytest.raises(PermissionDenied, match="daemon may not make") as refused:
        make_home(open_path / link / "home", "daemon")
    assert "sudo install -d -m 700 -o daemon" in refused.value.hint
    assert list((open_path / "roots").iterdir()) == []


@by_root
def test_a_home_that_is_there_is_shut_to_others(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    os.chown(home, pwd.getpwnam("daemon").pw_uid, -1)
    make_home(home, "daemon")
    assert mode_and_owner(home) == (0o700, "daemon")


@by_root
def test_a_home_of_somebody_else_is_refused_and_left_as_it_is(tmp_path):
    home = tmp_path / "a home"
    home.mkdir(mode=0o755)
    with pytest.raises(PermissionDenied, match="belongs to user 0, not to daemon") as refused:
        make_home(home, "daemon")
    assert f"sudo chown -R daemon: '{home}'" in refused.value.hint
    assert mode_and_owner(home) == (0o755, "root")


@by_root
def test_a_file_is_no_home(tmp_path):
    (tmp_path / "home").touch()
    with pytest.raises(NotADirectoryError):
        make_home(tmp_path / "home", "daemon")


# --- the environment

ROOTS = {
    "PATH": "/home/caller/bin:/usr/bin",
    "HOME": "/root",
    "USER": "root",
    "HF_HOME": "/home/caller/hf",
    "LLAMA_CACHE": "/home/caller/llama",
    "TMPDIR": "/home/caller/tmp",
    "XDG_CACHE_HOME": "/home/caller/cache",
    "LD_LIBRARY_PATH": "/home/caller/lib",
    "LANG": "C.UTF-8",
    "https_proxy": "http://proxy",
    "SSL_CERT_FILE": "/etc/firm.pem",
    "HF_TOKEN": "hf_secret",
    "PIP_INDEX_URL": "http://mirror",
}
BESIDES = {
    name: ROOTS[name] for name in ("LANG", "https_proxy", "SSL_CERT_FILE", "HF_TOKEN", "PIP_INDEX_URL")
}


@dataclass
class Shell:
    """What a program that is run as a service's user sees of itself."""

    folder: Path

    def run(self, user: str, environment: dict[str, str]) -> None:
        code = f"cd {self.folder} && id -un > who; id -Gn > groups; umask > umask; env -0 > env"
        prepare_as(user, ("/bin/sh", "-c", code), environment)

    def words(self, name: str) -> Sequence[str]:
        return (self.folder / name).read_text().split()

    @property
    def environment(self) -> dict[str, str]:
        """Without what the shell itself sets."""
        pairs = (self.folder / "env").read_text().rstrip("\0").split("\0")
        told = dict(pair.split("=", 1) for pair in pairs)
        return {name: value for name, value in told.items() if name not in {"PWD", "OLDPWD", "SHLVL", "_"}}


def play(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@by_root
@pytest.mark.skipif(sys.platform != "linux", reason="systemd's PATH")
def test_preparing_has_the_services_environment_and_what_reaches_the_network(open_path, monkeypatch):
    play(monkeypatch, ROOTS)
    shell, entry = Shell(open_path), pwd.getpwnam("daemon")
    shell.run("daemon", {"GOSS_SUPERVISOR_HOME": "/h"})
    assert shell.words("who") == ["daemon"]
    assert shell.environment == {
        **BESIDES,
        "GOSS_SUPERVISOR_HOME": "/h",
        "HOME": entry.pw_dir,
        "LOGNAME": "daemon",
        "PATH": SYSTEMD,
        "SHELL": entry.pw_shell,
        "USER": "daemon",
    }


@by_root
def test_preparing_has_the_services_groups_and_umask(open_path):
    shell, entry = Shell(open_path), pwd.getpwnam("daemon")
    shell.run("daemon", {})
    own = os.getgrouplist("daemon", entry.pw_gid)
    expected = {*(grp.getgrgid(gid).gr_name for gid in own), *existing_groups(GPU_GROUPS)}
    assert set(shell.words("groups")) == expected
    assert int(shell.words("umask")[0], 8) == 0o077


@pytest.mark.skipif(sys.platform != "linux", reason="systemd's PATH")
def test_a_users_own_service_is_prepared_in_its_sessions_folders(tmp_path, monkeypatch):
    session = {"HOME": "/home/ann", "USER": "ann", "XDG_RUNTIME_DIR": "/run/user/1"}
    play(monkeypatch, {**ROOTS, **session})
    shell = Shell(tmp_path)
    shell.run("", {"HF_HOME": "/home/ann/hf"})
    assert shell.environment == {**BESIDES, **session, "HF_HOME": "/home/ann/hf", "PATH": SYSTEMD}


def test_a_program_that_fails_passes_its_exit_code_on():
    assert prepare_as("", ("/bin/sh", "-c", "exit 7"), {}) == 7


def test_a_program_that_was_killed_has_said_nothing_so_we_do():
    with pytest.raises(SupervisorError, match="ended by signal 9"):
        prepare_as("", ("/bin/sh", "-c", "kill -9 $$"), {})


@by_root
def test_a_program_that_another_user_cannot_reach_is_named(open_path):
    hidden = open_path / "hidden" / "program"
    hidden.parent.mkdir(mode=0o700)
    hidden.touch(mode=0o755)
    with pytest.raises(PermissionDenied, match=r"daemon may not run .*/hidden/program") as refused:
        prepare_as("daemon", (str(hidden),), {})
    assert "/opt" in refused.value.hint


@by_root
def test_that_this_process_may_not_become_somebody_is_not_blamed_on_the_program():
    code = (
        "import os; from supervisor.service.account import prepare_as\n"
        "os.setuid(1)\n"
        "try: prepare_as('nobody', ('/bin/true',), {})\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "PermissionDenied This process may not become nobody: Operation not permitted.\n"


# --- what is written into the service's file


def test_a_users_service_takes_the_places_along_and_no_secret():
    environ = {
        "HF_HOME": "/hf",
        "HUGGINGFACE_HUB_CACHE": "/hub",
        "HF_ENDPOINT": "https://mirror",
        "HF_TOKEN": "hf_secret",
        "https_proxy": "http://ann:secret@proxy",
        "PATH": "/home/ann/bin",
        "XDG_DATA_HOME": "",
    }
    there = ("HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT")
    assert kept("user", environ) == {name: environ[name] for name in there}
    assert kept("system", environ) == {}


def test_a_password_in_an_address_is_not_written_down():
    environ = {"HF_ENDPOINT": "https://ann:secret@mirror"}
    assert kept("user", environ) == {}
    assert for_preparing({}, {}, environ)["HF_ENDPOINT"] == environ["HF_ENDPOINT"]


def test_a_place_is_the_same_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    found = kept("user", {"HF_HOME": "hf", "LLAMA_CACHE": "~/llama"})
    assert found == {"HF_HOME": str(tmp_path / "hf"), "LLAMA_CACHE": "/home/ann/llama"}


def test_the_path_is_the_managers():
    mine = {"PATH": "/opt/homebrew/bin:/usr/bin"}
    assert path_of_services(mine, "linux") == SYSTEMD
    assert path_of_services(mine, "darwin") == "/usr/bin:/bin:/usr/sbin:/sbin"
    assert path_of_services(mine, "win32") == mine["PATH"]
