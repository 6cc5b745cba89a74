"""
Provides a llama-server and a Vulkan device without a GPU: ``python -I tests/vulkan.py FOLDER``.

Both are packages of Debian's testing suite, checked by apt with Debian's key and unpacked into FOLDER; nothing
is installed, and root is not needed.  The device is lavapipe: Mesa's Vulkan on the CPU.  Prints a shell
assignment on stdout, and on stderr what could not be had, and why; the tests in question are skipped then.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from apt import CannotInstall, last_words, run, say

VARIABLE = "GOSS_TEST_VULKAN"
SUITE = "forky"
PACKAGES = ("llama.cpp-tools", "libggml0-backend-vulkan", "mesa-vulkan-drivers", "libvulkan1")
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SECONDS = 600.0  # for a step; 96 MB to download, 300 MB on disk
LIBRARIES = "usr/lib/x86_64-linux-gnu"
NOT_NEEDED = ("usr/share/doc", "usr/share/locale", "usr/share/man", f"{LIBRARIES}/gconv", "var", "etc")


def provide(folder: Path) -> Path:
    """The folder with ``llama-server`` and ``driver.json``.  Raises CannotInstall."""
    made = folder / "vulkan"
    if made.exists():  # it got its name when it was whole
        return made
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise CannotInstall(f"there is no {tool}")
    if not KEYS.exists():
        raise CannotInstall(f"there is no {KEYS} (the package debian-archive-keyring)")
    say(f"getting {', '.join(PACKAGES)} of Debian {SUITE}")
    draft = folder / "vulkan.new"
    shutil.rmtree(draft, ignore_errors=True)
    for package in download(draft / "apt"):
        unpack(package, draft / "root")
    shutil.rmtree(draft / "apt")
    arrange(draft, made)
    draft.rename(made)
    return made


def download(apt: Path) -> list[Path]:
    """With everything that they depend on: apt is told that nothing is installed."""
    for each in ("lists/partial", "cache/archives/partial", "etc"):
        (apt / each).mkdir(parents=True)
    (apt / "status").touch()
    source = f"deb [signed-by={KEYS} check-valid-until=no] http://deb.debian.org/debian {SUITE} main\n"
    (apt / "etc" / "sources.list").write_text(source)
    (apt / "apt.conf").write_text(
        f'Dir::State "{apt}"; Dir::State::lists "{apt}/lists"; Dir::State::status "{apt}/status";\n'
        f'Dir::Cache "{apt}/cache"; Dir::Etc "{apt}/etc"; Dir::Etc::sourceparts "-"; APT::Architecture "amd64";\n'
        f'APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::http::Timeout "20";\n'
    )
    get = ["env", f"APT_CONFIG={apt}/apt.conf", "apt-get", "-q", "-y"]
    for words in (["update"], ["install", "--download-only", "--no-install-recommends", *PACKAGES]):
        done = run([*get, *words], SECONDS)
        if done is None or done.returncode != 0:
            raise CannotInstall(f"apt-get {words[0]} failed: {last_words(done)}")
    return sorted((apt / "cache" / "archives").glob("*.deb"))


def unpack(package: Path, root: Path) -> None:
    root.mkdir(exist_ok=True)
    done = run(["dpkg-deb", "--extract", str(package), str(root)], SECONDS)
    if done is None or done.returncode != 0:
        raise CannotInstall(f"dpkg-deb failed: {last_words(done)}")
    for each in NOT_NEEDED:
        shutil.rmtree(root / each, ignore_errors=True)


def arrange(folder: Path, place: Path) -> None:
    """
    ``llama-server``, with the suite's own C library, and the driver as its file will be at ``place``.

    The loader lies next to the backends, since ggml looks for them beside the program that runs.
    """
    libraries = place / "root" / LIBRARIES
    shutil.copy(folder / "root" / LIBRARIES / "ld-linux-x86-64.so.2", folder / "ld.so")
    for backend in (folder / "root" / LIBRARIES / "ggml" / "backends0").glob("*.so"):
        (folder / backend.name).symlink_to(libraries / "ggml" / "backends0" / backend.name)
    words = [place / "ld.so", "--library-path", f"{libraries}:{libraries / 'llama'}"]
    command = " ".join(shlex.quote(str(word)) for word in (*words, place / "root/usr/bin/llama-server"))
    program = folder / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    icd = {"api_version": "1.4.0", "library_path": str(libraries / "libvulkan_lvp.so")}
    (folder / "driver.json").write_text(json.dumps({"file_format_version": "1.0.0", "ICD": icd}))


def works(made: Path) -> None:
    """Raises CannotInstall where it shows no device."""
    seen = {"VK_DRIVER_FILES": str(made / "driver.json"), "GGML_VK_VISIBLE_DEVICES": "0"}
    try:
        done = subprocess.run(
            [made / "llama-server", "--list-devices"],
            env={**os.environ, **seen},
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"llama-server does not run here: {error}") from error
    if "Vulkan0: llvmpipe" not in done.stdout:
        raise CannotInstall(f"llama-server sees no device: {done.stdout}{last_words(done)}")


def main(folder: Path) -> int:
    try:
        made = provide(folder)
        works(made)
    except (CannotInstall, OSError) as reason:
        say(f"no Vulkan device, so the tests with it are skipped: {reason}")
    else:
        print(f"export {VARIABLE}={shlex.quote(str(made))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
