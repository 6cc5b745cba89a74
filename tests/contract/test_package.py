"""The wheel holds what the program needs, and its entry refuses to run beside supervisord."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("hatchling", reason="the build backend; in the group dev")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-I", "-c", build, folder], cwd=ROOT, check=True, timeout=60)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture
def site(wheel, tmp_path) -> Path:
    """A folder of installed packages with ours alone in it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


ENTRY = """\
import sys
site, checkout = sys.argv[1:3]
del sys.argv[1:3]
sys.path[:] = [site, *(folder for folder in sys.path if folder != checkout)]
from supervisor.__main__ import main
sys.exit(main())
"""


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the installed command does it, with ``site`` in the place of this checkout."""
    command = [sys.executable, "-I", "-c", ENTRY, site, ROOT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_shipped_profile_is_in_the_wheel(names):
    shipped = {f"supervisor/shipped_profiles/{file.name}" for file in (ROOT / "profiles").glob("*.yaml")}
    assert shipped
    assert shipped <= names


def test_every_file_of_the_package_is_in_the_wheel(names):
    files = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "supervisor").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert "supervisor/py.typed" in files
    assert files <= names


def test_nothing_but_the_package_is_in_the_wheel(names):
    assert {name.split("/")[0].split("-")[0] for name in names} == {"supervisor", "goss_supervisor"}


def test_the_command_and_the_licence_are_in_the_wheel(wheel, names):
    (points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert "goss-supervisor = supervisor.__main__:main" in archive.read(points).decode()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_alone_it_runs(site):
    result = run(site, "--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert "goss-supervisor" in result.stdout


@pytest.mark.parametrize("metadata", ["supervisor-4.2.5.dist-info", "supervisor-4.2.5-py3.11.egg-info"])
@pytest.mark.parametrize("theirs_came_last", [True, False])
def test_beside_supervisord_it_refuses_whichever_was_installed_last(site, metadata, theirs_came_last):
    (site / metadata).mkdir()
    if theirs_came_last:
        (site / "supervisor" / "__init__.py").write_text("#\n")  # all that supervisord's holds
    result = run(site, "--version")
    assert (result.returncode, result.stdout) == (78, "")
    assert metadata in result.stderr
    assert "pipx install goss-supervisor" in result.stderr
    assert "uv tool install goss-supervisor" in result.stderr


@pytest.mark.parametrize("left", [None, "#\n"])
def test_a_package_that_supervisord_left_damaged_is_named(site, left):
    (site / "supervisor" / "__init__.py").unlink()
    if left is not None:
        (site / "supervisor" / "__init__.py").write_text(left)
    result = run(site, "--version")
    assert (result.returncode, result.stdout) == (78, "")
    assert str(site / "supervisor") in result.stderr
    assert "--force-reinstall" in result.stderr


@pytest.mark.parametrize(
    "other", ["supervisor_tools-1.0.dist-info", "goss_supervisor-9.dist-info", "supervisor.py"]
)
def test_what_only_sounds_like_supervisord_is_no_trouble(site, other):
    (site / other).mkdir()
    assert run(site, "--version").returncode == 0
