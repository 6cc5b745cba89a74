"""Brings the virtual environment of a checkout to what is needed, or leaves none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ensurepip_package import require_ensurepip
from lock import only_one
from steps import SetupError, Steps, say

if TYPE_CHECKING:
    from checkout import Checkout, Need

OLDEST_PYTHON = (3, 11)
PIP_WITH_GROUPS = "pip>=25.1"

# Of the user's settings for pip, those that say where packages come from.  Those that say where they go
# (PIP_TARGET, PIP_PREFIX, PIP_USER …) would install them past the environment.
PIP_SETTINGS = (
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_CONSTRAINT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_KEYRING_PROVIDER",
    "PIP_NO_CACHE_DIR",
    "PIP_NO_INDEX",
    "PIP_PRE",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_TIMEOUT",
    "PIP_TRUSTED_HOST",
)


def set_up(checkout: Checkout, need: Need) -> None:
    """
    Returns when the environment holds all that ``need`` asks for; at once if another start saw to it.

    Raises SetupError where that cannot be, OSError where the checkout may not be written.
    """
    checkout.cache.mkdir(exist_ok=True)
    with only_one(checkout.cache / "setup.lock") as lock:
        _sweep(checkout)
        keep = _is_reusable(checkout)
        if not (keep and checkout.is_installed(need)):
            checkout.log.write_bytes(b"")
            steps = Steps(checkout.root, checkout.log, _clean_environment(checkout), lock)
            _build(checkout, steps, need, keep=keep)
        checkout.finish(need)


def _build(checkout: Checkout, steps: Steps, need: Need, *, keep: bool) -> None:
    try:
        if not keep:
            _create(checkout, steps)
        checkout.begin()
        _install(checkout, steps, need)
    except BaseException as error:
        if not keep:
            _discard(checkout)
        elif isinstance(error, SetupError):
            checkout.unfinished.unlink(missing_ok=True)  # pip took back what it had begun
        raise


def _create(checkout: Checkout, steps: Steps) -> None:
    # The real file, so that the environment breaks visibly, and is remade, when its Python is removed.
    base = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"making a private environment in {checkout.venv} with Python {version} ({base})")
    require_ensurepip(steps, base)
    _discard(checkout)
    checkout.begin()
    steps.require("creating the environment", [base, "-I", "-m", "venv", "--without-pip", checkout.venv])


def _install(checkout: Checkout, steps: Steps, need: Need) -> None:
    python: list[str | Path] = [checkout.python, "-I", "-m"]
    pip = [*python, "pip", "install", "--progress-bar=off"]
    if not _runs(checkout.python, "import pip"):
        steps.require("installing pip", [*python, "ensurepip", "--default-pip"])
    if need == "run":
        steps.require("installing goss-supervisor", [*pip, "-e", ".[top]"])
    else:
        steps.require("updating pip", [*pip, "--upgrade", PIP_WITH_GROUPS])
        steps.require("installing goss-supervisor and its tools", [*pip, "-e", ".[top]", "--group", "dev"])


def _is_reusable(checkout: Checkout) -> bool:
    """Whether what stands in .venv was finished, here, and still runs.  One that the user made serves too."""
    if checkout.unfinished.exists() or checkout.was_moved():
        return False
    return _runs(checkout.python, f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})")


def _runs(python: Path, code: str) -> bool:
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _clean_environment(checkout: Checkout) -> dict[str, str]:
    """The user's environment without what would lead Python or pip elsewhere."""
    ours = {
        name: text for name, text in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "__PYVENV"))
    }
    ours |= {name: os.environ[name] for name in PIP_SETTINGS if os.environ.get(name)}
    home = os.environ.get("HOME") or os.environ.get("USERPROFILE")
    if not (home and os.access(home, os.W_OK)):
        ours.setdefault("PIP_CACHE_DIR", str(checkout.cache / "pip"))
    return ours | {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _discard(checkout: Checkout) -> None:
    """Takes the environment away in one move, so that an interruption never leaves a part of it."""
    if checkout.venv.is_symlink():
        checkout.venv.unlink()
    elif checkout.venv.exists():
        checkout.venv.rename(checkout.cache / f"discarded-{os.getpid()}-{time.time_ns()}")
    _sweep(checkout)


def _sweep(checkout: Checkout) -> None:
    for old in checkout.cache.glob("discarded-*"):
        shutil.rmtree(old, ignore_errors=True)
