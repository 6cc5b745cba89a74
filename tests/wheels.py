"""Wheels of this checkout, and environments to install them in; no package index is asked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
MADE_OF = ("supervisor", "profiles", "share", "pyproject.toml", "README.md", "LICENSE")


def built(what: str, source: Path, folder: Path) -> Path:
    """A ``wheel`` or an ``sdist`` of ``source``, as pip has it made; the only file in ``folder``."""
    build = f"import sys; from hatchling.build import build_{what} as build; build(sys.argv[1])"
    subprocess.run([sys.executable, "-I", "-c", build, folder], cwd=source, check=True, timeout=60)
    (made,) = folder.iterdir()
    return made


def wheel_of(version: str, folder: Path, changes: Mapping[str, tuple[str, str]] | None = None) -> Path:
    """As another version would be; ``changes`` are of files, each a text that stands there and its successor."""
    source, made = folder / "source", folder / "made"
    for each in (source, made):
        each.mkdir(parents=True)
    for name in MADE_OF:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    stated = re.search(r"__version__ = .*", (source / "supervisor" / "__init__.py").read_text())[0]
    new = f'__version__ = "{version}"'
    for name, (before, after) in {"supervisor/__init__.py": (stated, new), **(changes or {})}.items():
        text = (source / name).read_text(encoding="utf-8")
        assert before in text, f"{name} has no {before}"
        (source / name).write_text(text.replace(before, after), encoding="utf-8")
    return built("wheel", source, made)


class Environment:
    """A virtual environment that sees what the tests' own one has installed, and of this checkout only wheels."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", folder], check=True, timeout=60)
        self._bin = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.program = self._bin / "goss-supervisor"

    def install(self, wheel: Path) -> None:
        """In place of another one, as ``pip install --upgrade`` does it."""
        self._pip("install", "--no-index", "--no-deps", "--no-compile", "--force-reinstall", wheel)
        self._borrow()

    def uninstall(self) -> None:
        self._pip("uninstall", "--yes", "goss-supervisor")

    def _borrow(self) -> None:
        """After the first wheel, which comes before what is borrowed: an editable install of this checkout too."""
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run(
            [self._bin / "python", "-I", "-c", ask], capture_output=True, text=True, check=True
        )
        (Path(own.stdout.strip()) / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def _pip(self, *words: str | Path) -> None:
        pip = [sys.executable, "-I", "-m", "pip", "--python", self._bin / "python", "--quiet"]
        done = subprocess.run([*pip, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
