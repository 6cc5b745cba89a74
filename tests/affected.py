"""
Which tests what you changed since the last commit may break: ``python tests/affected.py``, as bin/test does.

Prints their files, a line each, on stdout, and how many they are on stderr; nothing where nothing was changed.
Unit and contract tests are found by what they import, however indirectly.  What runs the whole program, end to
end, would be all of it for every change: that is there for a change of its own, and for everyone in `bin/test --all`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import grimp

PROJECT = Path(__file__).parents[1]
UNIT = "tests/unit"
RUNS_THE_PROGRAM = '"-m", "supervisor"'


def changed(project: Path = PROJECT) -> list[str]:
    """Relative to the project; new files too.  Raises OSError or CalledProcessError where git cannot tell."""
    told = (
        ("git", "diff", "--name-only", "--relative", "-z", "HEAD"),
        ("git", "ls-files", "--others", "--exclude-standard", "-z"),
    )
    outputs = (subprocess.run(words, cwd=project, capture_output=True, check=True).stdout for words in told)
    return sorted({name for output in outputs for name in output.decode().split("\0") if name})


def affected(files: Iterable[str], graph: grimp.ImportGraph, project: Path = PROJECT) -> list[str]:
    """The test files and folders that a change of these files concerns, as pytest takes them."""
    found: set[str] = set()
    for file in files:
        found |= _affected(Path(file), graph, project)
    return sorted(each for each in found if not {above.as_posix() for above in Path(each).parents} & found)


def _affected(file: Path, graph: grimp.ImportGraph, project: Path) -> set[str]:
    if file.name == "conftest.py":
        return {file.parent.as_posix()}
    module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    if file.suffix != ".py" or file.parts[0] not in graph.modules:
        return {UNIT}  # profiles, pages, data, what the project is made with
    importers = graph.find_downstream_modules(module) if module in graph.modules else set()
    tests = {
        _file(name) for name in {module, *importers} if _is_test(name) and (project / _file(name)).exists()
    }
    if file.parts[0] != "tests":
        tests = {test for test in tests if not test.startswith("tests/e2e/")}
    if file.parts[:2] == ("supervisor", "cli"):
        tests |= _of_the_program(project)
    return tests or {UNIT}


def _of_the_program(project: Path) -> set[str]:
    """Contract tests that run commands; nothing of those is imported."""
    files = (project / "tests" / "contract").glob("test_*.py")
    return {
        each.relative_to(project).as_posix() for each in files if RUNS_THE_PROGRAM in each.read_text("utf-8")
    }


def _is_test(module: str) -> bool:
    return module.startswith("tests.") and module.rpartition(".")[2].startswith("test_")


def _file(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def main() -> int:
    sys.path.insert(0, str(PROJECT))
    try:
        files = changed()
    except (OSError, subprocess.CalledProcessError):
        return 0  # no git, or no repository: everything
    if not files:
        return 0
    tests = affected(files, grimp.build_graph("supervisor", "tests", cache_dir=None))
    print(f"test: {len(files)} changed files concern {len(tests)} files or folders of tests", file=sys.stderr)
    print("\n".join(tests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
