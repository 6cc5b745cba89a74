"""The daemon's own files in a home, by name, and its folders."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

from ..errors import PermissionDenied
from ..paths import Paths

SERVER = "default"
"""The name of the main server: the one that ``start`` runs and ``switch`` gives another profile."""
HELPER_VARIABLE = "GOSS_SUPERVISOR_HELPER"
"""Set for programs that the daemon runs; they say an error as JSON on stdout too (see `helpers`)."""
JOB = "job"
"""Its value for a job: somebody watches its progress."""


def session_paths(paths: Paths) -> Paths:
    """Of a daemon that runs for one operation only: what it remembers is deleted when it ends."""
    folder = paths.runtime / "session"
    return replace(paths, state=folder / "state", logs=folder / "logs")


def daemon_log(paths: Paths) -> Path:
    return paths.logs / "daemon.log"


def early_log(paths: Paths) -> Path:
    """Of a service on Windows, before it has the one above."""
    return paths.logs / "start.log"


def record_file(paths: Paths, name: str = SERVER) -> Path:
    return paths.state / f"{name}.json" if name == SERVER else _others(paths) / f"{name}.json"


def _others(paths: Paths) -> Path:
    return paths.state / "servers"


def other_servers(paths: Paths) -> list[str]:
    """The names of all servers beside the main one that ever ran here, by their records and their locks."""
    locks = generation_lock(paths, "any").parent.glob("*.lock")
    return sorted({file.stem for file in (*_others(paths).glob("*.json"), *locks)})


def figures_file(paths: Paths) -> Path:
    """llama.cpp's own figures of the memory of launches."""
    return paths.state / "figures.json"


def memory_history_file(paths: Paths) -> Path:
    """Plans that were replaced by one that takes less memory."""
    return paths.state / "adjusted.json"


def workers_file(paths: Paths) -> Path:
    """The workers that ever answered here, with their memories."""
    return paths.state / "workers.json"


def moved_workers_file(paths: Paths) -> Path:
    """While an update is under way: the workers that it has moved, and what each ran before."""
    return paths.state / "moved-workers.json"


def usage_file(paths: Paths) -> Path:
    """What each key has used of each model, by day."""
    return paths.state / "usage.sqlite"


def update_file(paths: Paths) -> Path:
    """What the last look for a newer engine found."""
    return paths.state / "update.json"


def chat_history_file(paths: Paths) -> Path:
    """What was typed into `chat`, for the arrow keys."""
    return paths.state / "chat-history"


def bench_folder(paths: Paths) -> Path:
    """The results of `bench`, one file each."""
    return paths.data / "bench"


def keys_file(paths: Paths) -> Path:
    """Which keys let clients in, by their hashes."""
    return paths.config / "keys.json"


def private_config(paths: Paths) -> Path:
    """Empty and ours, so that llama-server finds no config.ini there."""
    return paths.runtime / "no-config"


def server_log_name(name: str = SERVER) -> str:
    return "llama-server" if name == SERVER else f"llama-server-{name}"


def server_logs(paths: Paths, name: str = SERVER) -> tuple[Path, Path]:
    """This run's, and the one's before."""
    log = server_log_name(name)
    return paths.logs / f"{log}.log", paths.logs / f"{log}.previous.log"


def server_socket(paths: Paths, profile: str) -> Path:
    """
    Where llama-server listens behind the gateway; may be too long for a socket (see `short_path`).  Each
    profile has its own, since a plan is made before it is known which server will run it.
    """
    return paths.runtime / f"llama-server-{profile}.sock"


def daemon_lock(paths: Paths) -> Path:
    return paths.runtime / "daemon.lock"


def generation_lock(paths: Paths, name: str = SERVER) -> Path:
    return paths.runtime / f"{name}.lock" if name == SERVER else paths.runtime / "servers" / f"{name}.lock"


def make_folders(paths: Paths) -> None:
    """Runtime (private), state and logs.  Raises PermissionDenied where they cannot be made."""
    try:
        private_folder(paths.runtime)
        for folder in (paths.state, paths.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionDenied(
            f"{error.filename or paths.runtime} cannot be made: {error.strerror}.",
            hint="Set GOSS_SUPERVISOR_HOME to a folder that you may write to.",
        ) from error


def private_folder(folder: Path) -> None:
    """
    Make it, 0700.  Raises PermissionDenied for somebody else's, who could replace what is in it, and for a
    link, by which somebody else could have us change the mode of any folder; OSError where it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32":
        found = folder.lstat()
        if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid():
            what = "is a link" if stat.S_ISLNK(found.st_mode) else "belongs to another user"
            raise PermissionDenied(
                f"{folder} {what}; the control socket must not be there.",
                hint="Remove it, or set XDG_RUNTIME_DIR or GOSS_SUPERVISOR_HOME to a folder of your own.",
            )
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
