"""
The two commands of a checkout set themselves up.

Most tests run the true scripts, with a true venv and pip, on a project of a few lines that needs no
package index; one installs this project as it is, from the index.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ..fakes.launching import wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX shell scripts")

ROOT = Path(__file__).parents[2]
REAL_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny"
version = "1"
dependencies = []

[tool.ruff]
line-length = 100
"""

# A PEP 517 backend of its own: pip then needs nothing from anywhere.
BACKEND = """
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("tiny.pth", os.getcwd() + "\\n")
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n" + extra())
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name

def extra():
    return "Requires-Dist: no-such-package\\n" if "no-such-package" in open("pyproject.toml").read() else ""
"""

PROGRAM = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.getcwd(), sys.prefix]))
"""


@pytest.fixture
def bare(tmp_path):
    return make_checkout(tmp_path / "a bare checkout")


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A checkout whose environment two first starts made, at the same time; with what each of them said."""
    root = make_checkout(tmp_path_factory.mktemp("ready") / "my (first) checkout")
    starts = [popen(root, "hello", f"caller {number}") for number in range(2)]
    return root, [(start.communicate(timeout=120), start.returncode) for start in starts]


def make_checkout(root: Path) -> Path:
    shutil.copytree(ROOT / "bin", root / "bin", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "supervisor").mkdir()
    (root / "supervisor" / "__init__.py").touch()
    (root / "supervisor" / "__main__.py").write_text(PROGRAM)
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(PROJECT)
    return root


def path_with(folder: Path, **programs: str) -> str:
    """A PATH of ``folder`` alone, with the given shell scripts and the few tools that the commands use."""
    folder.mkdir(parents=True, exist_ok=True)
    for tool in ("cmp", "readlink", "dirname", "cat", "env"):
        (folder / tool).symlink_to(shutil.which(tool))
    for name, script in programs.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{textwrap.dedent(script)}")
        (folder / name.replace("_", "-")).chmod(0o755)
    return str(folder)


def environment(root: Path, **changes: str) -> dict[str, str]:
    """Nothing but an empty HOME and a PATH with this Python; pip is kept from any index."""
    tools = root.parent / "tools"
    if not tools.exists():
        path_with(tools, python3=f'exec "{REAL_PYTHON}" "$@"\n')
    index = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_RETRIES": "0"}
    return {"PATH": str(tools), "HOME": "", **index, **changes}


def popen(root: Path, *arguments: str, command: Path | None = None, cwd: Path | None = None, **changes: str):
    return subprocess.Popen(
        [command or root / "bin" / "goss-supervisor", *arguments],
        cwd=cwd or "/",
        env=environment(root, **changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def start(root: Path, *arguments: str, **how) -> subprocess.CompletedProcess[str]:
    process = popen(root, *arguments, **how)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def answer(root: Path, *arguments: str, cwd: str = "/") -> str:
    quoted = ", ".join(f'"{argument}"' for argument in arguments)
    return f'[[{quoted}], "{cwd}", "{root.resolve()}/.venv"]\n'


def test_two_first_starts_at_once_both_run_and_one_sets_up(ready):
    root, starts = ready
    assert [(out, code) for (out, _), code in starts] == [
        (answer(root, "hello", "caller 0"), 0),
        (answer(root, "hello", "caller 1"), 0),
    ]
    assert sum("making a private environment" in err for (_, err), _ in starts) == 1


def test_the_first_start_names_the_python_it_took(ready):
    _, starts = ready
    assert f"({REAL_PYTHON})" in "".join(err for (_, err), _ in starts)


def test_the_next_start_is_silent_and_starts_no_python_but_its_own(ready, tmp_path):
    root, _ = ready
    without_python = path_with(tmp_path / "tools", python3="exit 1\n")
    result = start(root, "again", PATH=without_python)
    assert (result.returncode, result.stdout, result.stderr) == (0, answer(root, "again"), "")


def test_it_runs_through_links_from_any_folder_with_arguments_untouched(ready, tmp_path):
    root, _ = ready
    (tmp_path / "far").symlink_to(root / "bin" / "goss-supervisor")
    (tmp_path / "near").symlink_to("far")
    result = start(root, "two words", "*", "", command=tmp_path / "near", cwd=tmp_path)
    assert result.stdout == answer(root, "two words", "*", "", cwd=str(tmp_path.resolve()))


def test_the_user_s_pythonpath_is_not_followed(ready, tmp_path):
    root, _ = ready
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    assert start(root, "x", PYTHONPATH=str(tmp_path)).stdout == answer(root, "x")


def test_a_change_that_pip_does_not_read_installs_nothing(ready):
    root, _ = ready
    (root / "pyproject.toml").write_text(PROJECT.replace("100", "110"))
    result = start(root, "x")
    assert (result.stdout, result.stderr) == (answer(root, "x"), "")


def test_a_change_of_the_project_is_installed_into_the_environment_at_hand(ready):
    root, _ = ready
    (root / "pyproject.toml").write_text(PROJECT.replace("dependencies = []", 'description = "other"'))
    result = start(root, "x")
    assert result.stdout == answer(root, "x")
    assert "installing goss-supervisor" in result.stderr
    assert "making a private environment" not in result.stderr


def test_a_killed_first_start_is_repaired_by_the_next(bare):
    killed = popen(bare, "x")
    wait_until((bare / ".venv" / "bin" / "python").exists, seconds=60)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=30)
    assert (bare / ".venv" / "setup" / "unfinished").exists()
    result = start(bare, "y")
    assert (result.returncode, result.stdout) == (0, answer(bare, "y"))
    assert not list((bare / ".cache").glob("discarded-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_first_start_leaves_no_environment(bare, number):
    process = popen(bare, "x")
    wait_until((bare / ".venv" / "setup" / "unfinished").exists, seconds=60)
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert not (bare / ".venv").exists()


def test_without_a_package_index_it_ends_with_8_names_the_log_and_leaves_no_environment(bare):
    (bare / "pyproject.toml").write_text(PROJECT.replace("[]\n\n[tool", '["no-such-package"]\n\n[tool'))
    result = start(bare, "x")
    assert result.returncode == 8, result.stderr
    assert "no-such-package" in result.stderr
    assert str(bare / ".cache" / "setup.log") in result.stderr
    assert not (bare / ".venv").exists()


def test_without_a_python_it_says_how_to_get_one(bare, tmp_path):
    old = path_with(
        tmp_path / "old", python3="exit 1\n", python="echo 'pyenv: no such version' >&2; exit 127\n"
    )
    result = start(bare, "x", PATH=old)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Python 3.11 or newer is needed" in result.stderr
    assert "apt-get install python3" in result.stderr
    assert "pyenv" not in result.stderr


def test_a_broken_python_is_passed_over(ready, tmp_path):
    root, _ = ready
    (root / ".venv" / "setup" / "run.toml").unlink()
    path = path_with(
        tmp_path / "mixed", python3="exit 126\n", python3_12="", python=f'exec "{REAL_PYTHON}" "$@"\n'
    )
    result = start(root, "x", PATH=path)
    assert (result.returncode, result.stdout) == (0, answer(root, "x"))


HIDDEN_ENSUREPIP = f"""\
case $3 in
*ensurepip*) exit 1 ;;
esac
[ "$2" != -c ] || exec "{REAL_PYTHON}" "$@"
shift
exec "{REAL_PYTHON}" -I -c 'import runpy, sys
sys.modules["ensurepip"] = None
del sys.argv[0]
sys.path.insert(0, sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
"""


def test_a_python_without_ensurepip_is_reported_with_the_remedy(bare, tmp_path):
    result = start(bare, "x", PATH=path_with(tmp_path / "no-apt", python3=HIDDEN_ENSUREPIP))
    assert result.returncode == 1
    assert "lacks the module ensurepip" in result.stderr
    assert not (bare / ".venv").exists()


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0 or not Path("/etc/debian_version").exists(),
    reason="only root on Debian installs packages",
)
def test_as_root_on_debian_ensurepip_is_installed(bare, tmp_path):
    apt = f'echo "$DEBIAN_FRONTEND $*" >>"{tmp_path}/calls"\n'
    path = path_with(tmp_path / "apt", python3=HIDDEN_ENSUREPIP, apt_get=apt)
    result = start(bare, "x", PATH=path)
    package = "python{}.{}-venv".format(*sys.version_info)
    assert (tmp_path / "calls").read_text().splitlines() == [
        "noninteractive -q -y update",
        f"noninteractive -q -y install --no-install-recommends {package}",
    ]
    assert f"sudo apt-get install {package}" in result.stderr  # the stand-in installed nothing


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_checkout_that_may_not_be_written_is_a_matter_of_permission(bare):
    bare.chmod(0o555)
    try:
        assert start(bare, "x").returncode == 11
    finally:
        bare.chmod(0o755)


@pytest.mark.network
def test_a_fresh_copy_of_this_project_runs(tmp_path):
    root = tmp_path / "a fresh copy"
    copy_project(root)
    kept = {
        name: text for name, text in os.environ.items() if name.startswith("PIP_") or "PROXY" in name.upper()
    }
    env = {"HOME": "", "PATH": environment(root)["PATH"] + ":/usr/bin:/bin", **kept}
    result = subprocess.run(
        [root / "bin" / "goss-supervisor", "--version"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    assert "goss-supervisor" in result.stdout


def copy_project(target: Path) -> None:
    """What a clone would hold; without git, as in an unpacked archive, all but what is generated."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        return
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
