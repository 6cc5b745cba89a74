"""The wheel holds what the program needs, and its entry refuses to run beside supervisord."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ..wheels import ROOT, built

pytest.importorskip("hatchling", reason="the build backend; in the group dev")


MOST_WHEEL_BYTES = 1_400_000  # the page is 100 KB of it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


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
    assert {"supervisor/py.typed", "supervisor/gateway/pages/static/index.html"} <= files
    assert files <= names


def test_nothing_but_the_package_is_in_the_wheel(names):
    assert {name.split("/")[0].split("-")[0] for name in names} == {"supervisor", "goss_supervisor"}


def test_man_pages_and_completions_are_where_an_environment_shows_them(names):
    files = {file.relative_to(ROOT).as_posix() for file in (ROOT / "share").rglob("*") if file.is_file()}
    data = {name.partition(".data/data/")[2] for name in names} - {""}
    assert data == files
    assert "share/man/man1/goss-supervisor.1" in data
    assert "share/bash-completion/completions/goss-supervisor" in data


def test_the_wheel_stays_small(wheel):
    assert wheel.stat().st_size < MOST_WHEEL_BYTES


def test_the_sdist_makes_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    (tmp_path / "made").mkdir()
    assert contents(built("wheel", source, tmp_path / "made")) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_sdist_holds_no_tests_and_nothing_of_a_workplace(sdist):
    with tarfile.open(sdist) as archive:
        held = [name.partition("/")[2] for name in archive.getnames()]
    top = {name.split("/")[0] for name in held}
    folders = {"supervisor", "profiles", "share", "docs"}
    files = {"README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", "pyproject.toml", ".gitignore"}
    assert top == folders | files
    assert not [name for name in held if "__pycache__" in name or "/test" in name or "cache/" in name]


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


# --- as people install it


@pytest.fixture
def shell(site, tmp_path, monkeypatch):
    """Runs a script in which goss-supervisor is the wheel's; gives its lines, and fails if it says anything else."""
    program = tmp_path / "bin" / "goss-supervisor"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -c \'{ENTRY}\' "{site}" "{ROOT}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))

    def run(*command: str) -> list[str]:
        if shutil.which(command[0]) is None:
            pytest.skip(f"needs {command[0]}")
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        assert result.stderr == ""
        return result.stdout.splitlines()

    return run


def shipped(site: Path, place: str) -> Path:
    (file,) = site.glob(f"*.data/data/share/{place}")
    return file


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["st"], ["start", "status", "stop"]),
        (["start", "--profile", "dem"], ["demo"]),
        (["start", "--profile", "=", "dem"], ["demo"]),  # bash takes a word apart at the =
        (["profile", "show", "dem"], ["demo"]),
    ],
)
def test_bash_completes_with_the_shipped_script(shell, site, words, completed):
    ask = (
        f'source "{shipped(site, "bash-completion/completions/goss-supervisor")}"\n'
        f"COMP_WORDS=(goss-supervisor {' '.join(words)}); COMP_CWORD={len(words)}\n"
        '_goss_supervisor_completion goss-supervisor; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert shell("bash", "-c", ask) == completed


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("statu", ["status\tShow what is running, since when, and why."]),
        ("start --profile dem", ["demo"]),
        ("start --profile=dem", ["--profile=demo"]),
        ("profile show dem", ["demo"]),
    ],
)
def test_fish_completes_with_the_shipped_script(shell, site, line, completed):
    ask = (
        f'source "{shipped(site, "fish/vendor_completions.d/goss-supervisor.fish")}"\n'
        f'complete -C "goss-supervisor {line}"'
    )
    assert shell("fish", "--no-config", "-c", ask) == completed


# A zsh in a terminal, into which is typed: a tab, and then a key that shows what the line has become.
TYPED_IN_ZSH = """\
zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal "fpath=($1 \\$fpath); autoload -U compinit && compinit -u -D"
zpty -w terminal 'show() { print -r -- "<<""$BUFFER"">>" }; zle -N show; bindkey "^X" show; print re""ady'
zpty -r terminal shown '*ready*'
zpty -w -n terminal "goss-supervisor $2"$'\\t\\x18'
zpty -r terminal shown "*<<*>>*"
print -r -- "${${shown##*<<}%%>>*}"
zpty -d terminal
"""


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("statu", "status "),
        ("start --profile dem", "start --profile demo "),
        ("start --profile=dem", "start --profile=demo "),
        ("profile show dem", "profile show demo "),
    ],
)
def test_zsh_completes_with_the_shipped_script(shell, site, line, completed):
    functions = shipped(site, "zsh/site-functions/_goss-supervisor").parent
    assert shell("zsh", "-f", "-c", TYPED_IN_ZSH, "zsh", str(functions), line) == [
        f"goss-supervisor {completed}"
    ]


def python(minor: int) -> str:
    """A Python 3.``minor`` of this machine that can make environments, or a skip."""
    found = [shutil.which(f"python3.{minor}"), *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")]
    look = f"import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, {minor}))"
    for each in filter(None, found):
        if subprocess.run([each, "-I", "-c", look], capture_output=True).returncode == 0:
            return str(each)
    pytest.skip(f"no Python 3.{minor} here")


def done(*command: str | Path, **env: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(command, env=kept | env, cwd="/", capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def environment(of: str, folder: Path, *packages: object) -> Path:
    """Where its programs are.  Our own pip fills it: to unpack and compile another takes longer than the rest."""
    done(of, "-I", "-m", "venv", "--without-pip", folder)
    installed = folder / "bin"
    pip = (sys.executable, "-I", "-m", "pip", "--python", installed / "python")
    done(*pip, "install", "--quiet", "--no-compile", "--disable-pip-version-check", *packages)
    return installed


@pytest.mark.network
@pytest.mark.skipif(os.name == "nt", reason="the folders of an environment are others there")
@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_in_an_empty_environment_it_runs(wheel, tmp_path, minor):
    installed = environment(python(minor), tmp_path / "made", wheel)
    assert done(installed / "goss-supervisor", "--version").startswith("goss-supervisor, version ")
    assert done(installed / "python", "-m", "supervisor", "--version").startswith("goss-supervisor, version ")
    assert "demo" in done(
        installed / "goss-supervisor", "profile", "ls", GOSS_SUPERVISOR_HOME=str(tmp_path / "home")
    )
    assert (tmp_path / "made" / "share" / "man" / "man1" / "goss-supervisor.1").exists()


NO_INDEX = ("error sending request", "client error (Connect)", "dns error", "invalid peer certificate")


def with_the_index(*command: object, **env: str) -> None:
    """Skips where uv reaches no index at all; whatever else goes wrong is a failure."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = list(map(str, command))
    ran = subprocess.run(words, env=kept | env, cwd="/", capture_output=True, text=True, timeout=300)
    why = next((each for each in NO_INDEX if each in ran.stderr + ran.stdout), None)
    if ran.returncode and why:
        pytest.skip(f"uv cannot reach a package index here: {why}")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.network
@pytest.mark.skipif(os.name == "nt", reason="the folders of an environment are others there")
def test_pipx_and_uv_install_it_as_a_tool(wheel, tmp_path):
    tools = environment(sys.executable, tmp_path / "tools", "pipx", "uv")
    # uv, which pipx uses too, knows neither pip's certificates nor its index.
    certificates = {"SSL_CERT_FILE": os.environ["PIP_CERT"]} if "PIP_CERT" in os.environ else {}
    env = {f"PIPX_{name}": str(tmp_path / name) for name in ("HOME", "BIN_DIR", "MAN_DIR", "COMPLETION_DIR")}
    with_the_index(tools / "pipx", "install", "--python", sys.executable, wheel, **env, **certificates)
    assert done(tmp_path / "BIN_DIR" / "goss-supervisor", "--version").startswith("goss-supervisor, version ")
    assert (tmp_path / "MAN_DIR" / "man1" / "goss-supervisor.1").exists()
    env = {"UV_TOOL_DIR": str(tmp_path / "uv"), "UV_TOOL_BIN_DIR": str(tmp_path / "uv-bin")}
    install = ("tool", "install", "--python", sys.executable, "--cache-dir", tmp_path / "uv-cache")
    with_the_index(tools / "uv", *install, wheel, **env, **certificates)
    assert done(tmp_path / "uv-bin" / "goss-supervisor", "--version").startswith("goss-supervisor, version ")
