"""Which tests `bin/test` takes for what was changed."""

from __future__ import annotations

import shutil
import subprocess

import grimp
import pytest

from ..affected import RUNS_THE_PROGRAM, affected, changed

IMPORTS = (
    ("supervisor.server", "supervisor.errors"),
    ("tests.fakes.launching", "supervisor.server"),
    ("tests.unit.test_errors", "supervisor.errors"),
    ("tests.contract.test_server", "tests.fakes.launching"),
    ("tests.e2e.test_job", "tests.fakes.launching"),
)


@pytest.fixture
def graph():
    made = grimp.ImportGraph()
    for name in ("supervisor", "tests", "supervisor.cli.stop"):
        made.add_module(name)
    for importer, imported in IMPORTS:
        made.add_import(importer=importer, imported=imported)
    return made


@pytest.fixture
def project(tmp_path, graph):
    """The tests of that graph, and one that runs commands."""
    for name in (name for name in graph.modules if ".test_" in name):
        file = tmp_path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "tests/contract/test_commands.py").write_text(f"[sys.executable, {RUNS_THE_PROGRAM}]")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("supervisor/errors.py", ["tests/contract/test_server.py", "tests/unit/test_errors.py"]),
        ("supervisor/server.py", ["tests/contract/test_server.py"]),
        ("tests/fakes/launching.py", ["tests/contract/test_server.py", "tests/e2e/test_job.py"]),
        ("tests/e2e/test_job.py", ["tests/e2e/test_job.py"]),
        ("tests/unit/test_removed.py", ["tests/unit"]),
        ("supervisor/nobody_imports_it.py", ["tests/unit"]),
        ("supervisor/cli/stop.py", ["tests/contract/test_commands.py"]),
        ("tests/e2e/conftest.py", ["tests/e2e"]),
        ("profiles/demo.yaml", ["tests/unit"]),
        ("bench/gateway.py", ["tests/unit"]),
    ],
)
def test_a_change_concerns_the_tests_that_depend_on_it(graph, project, file, tests):
    assert affected([file], graph, project) == tests


def test_what_is_in_a_folder_that_is_taken_is_not_taken_twice(graph, project):
    files = ["README.md", "supervisor/errors.py"]
    assert affected(files, graph, project) == ["tests/contract/test_server.py", "tests/unit"]


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_changed_is_what_differs_from_the_last_commit_and_what_is_new(tmp_path):
    def git(*words: str) -> None:
        author = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("kept.py", "changed.py", "staged.py", "removed.py", ".gitignore"):
        (tmp_path / name).write_text("*.log\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "before")
    assert changed(tmp_path) == []
    (tmp_path / "changed.py").write_text("1\n")
    (tmp_path / "staged.py").write_text("1\n")
    git("add", "staged.py")
    (tmp_path / "removed.py").unlink()
    (tmp_path / "new file.py").touch()
    (tmp_path / "ignored.log").touch()
    assert changed(tmp_path) == ["changed.py", "new file.py", "removed.py", "staged.py"]
