"""
Builds the image of this checkout without Docker: ``python -I tests/image.py FOLDER``, as ``bin/test --image`` does.

buildah makes it, in FOLDER, from the Dockerfile as it is.  Of the base it needs, Debian's own packages are put
together (`mmdebstrap`, once): a registry may be out of reach, so this proves the Dockerfile's steps and not
Ubuntu's packages.  An image of the same files is kept.

Prints shell assignments on stdout: GOSS_TEST_IMAGE is the folder with the image's files and ``config.json``, its
settings.  Prints nothing there, and the reason on stderr, where it cannot be made.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from apt import CannotInstall, install, run, say

ROOT = Path(__file__).parents[1]
PACKAGES = {"buildah": "buildah", "bwrap": "bubblewrap", "mmdebstrap": "mmdebstrap"}  # program and package
IN_BASE = "ca-certificates,python3-venv,libgomp1,tini"  # so that the build has nothing left to download
NAME = "localhost/goss-supervisor"
BASE_SECONDS, BUILD_SECONDS, STEP_SECONDS = 900.0, 900.0, 300.0


def sources() -> list[Path]:
    """What `.dockerignore` lets into the build, and the Dockerfile."""
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    found = [ROOT / "Dockerfile", *(ROOT / rule[1:] for rule in rules if rule.startswith("!"))]
    files = (file for each in found for file in (sorted(each.rglob("*")) if each.is_dir() else [each]))
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def digest() -> str:
    """Of all that the image is made of."""
    made = hashlib.sha256()
    for file in sources():
        made.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return made.hexdigest()[:16]


class Builder:
    """buildah with its storage in ``folder``.  All methods raise CannotInstall."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        storage = ("--root", str(folder / "store"), "--runroot", str(folder / "run"))
        self._buildah = ("buildah", *storage, "--storage-driver", "vfs")

    def __call__(self, *words: str, seconds: float = STEP_SECONDS) -> str:
        return done((*self._buildah, *words), seconds)

    def has(self, image: str) -> bool:
        found = run([*self._buildah, "inspect", "--type", "image", image], STEP_SECONDS)
        return found is not None and found.returncode == 0

    def base(self, image: str) -> None:
        """Debian under the name that the Dockerfile asks for."""
        if self.has(image):
            return
        say("making the base of the image, which takes minutes; once")
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]
        tar = str(self._folder / "base.tar")
        done(("mmdebstrap", "--variant=minbase", f"--include={IN_BASE}", release, tar), BASE_SECONDS)
        container = self("from", "scratch")
        self("add", "-q", container, tar, "/")
        self("commit", "-q", "--rm", container, image)
        Path(tar).unlink()

    def image(self, tag: str) -> None:
        if self.has(tag):
            return
        self.forget()
        say("building the image")
        words = ["--format", "docker", "--isolation", "chroot", "--layers=false", "--pull-never"]
        words += ["--build-arg", "FLAVOUR=cpu"]  # buildah 1.28 leaves out a stage that only a default names
        certificates = os.environ.get("PIP_CERT")
        if certificates:
            settings = self._folder / "pip.conf"
            settings.write_text(f"[global]\ncert = {certificates}\n")
            for there, here in (("/etc/pip.conf", settings), (certificates, certificates)):
                words += ["--volume", f"{here}:{there}:ro"]
        self("bud", *words, "-t", tag, str(ROOT), seconds=BUILD_SECONDS)

    def forget(self) -> None:
        """Images of former files, of 364 MB each."""
        self("rm", "--all")
        for each in set(self("images", "--quiet", "--filter", f"reference={NAME}").split()):
            self("rmi", "--force", each)

    def unpacked(self, tag: str) -> Path:
        """The folder with its files and ``config.json``."""
        name = tag.rpartition(":")[2]
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        config = json.loads(self("inspect", "--type", "image", tag))["Docker"]["config"]
        (folder / "config.json").write_text(json.dumps(config))
        files = folder / "files"
        if not files.is_symlink():
            files.symlink_to(self("mount", self("from", "--pull-never", tag)))
        return folder


def done(command: tuple[str, ...], seconds: float) -> str:
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(str(error)) from error
    if ran.returncode:
        raise CannotInstall(f"{shlex.join(command[:1])} failed: {ran.stderr.strip()[-2000:]}")
    return ran.stdout.strip()


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    build = Builder(folder)
    tag = f"{NAME}:{digest()}"
    try:
        missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
        if missing:
            install(*missing)
        build.base("docker.io/library/ubuntu:24.04")
        build.image(tag)
        print(f"export GOSS_TEST_IMAGE={shlex.quote(str(build.unpacked(tag)))}")
    except CannotInstall as reason:
        say(f"no image, so the tests of it are skipped: {reason}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
