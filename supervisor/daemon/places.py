"""The daemon's own files in a home, by name."""

from __future__ import annotations

from pathlib import Path

from ..paths import Paths

SERVER = "default"
SERVER_LOG = "llama-server"


def daemon_log(paths: Paths) -> Path:
    return paths.logs / "daemon.log"


def record_file(paths: Paths) -> Path:
    return paths.state / f"{SERVER}.json"


def private_config(paths: Paths) -> Path:
    """Empty and ours: llama-server shall find no config.ini of its own there."""
    return paths.runtime / "no-config"


def server_logs(paths: Paths) -> tuple[Path, Path]:
    """This run's, and the one's before."""
    return paths.logs / f"{SERVER_LOG}.log", paths.logs / f"{SERVER_LOG}.previous.log"


def daemon_lock(paths: Paths) -> Path:
    return paths.runtime / "daemon.lock"


def generation_lock(paths: Paths) -> Path:
    return paths.runtime / f"{SERVER}.lock"
