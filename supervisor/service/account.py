"""
The user that a service runs as, what is done as that user, and the service's environment.

A user is its name, and "" is the user of this program.  Root changes nothing inside the folders of another
user, where a link could lead it astray.  So a process of that user does it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import NotFound, PermissionDenied, SupervisorError, UsageError
from .contract import ServiceScope
from .systemd import GPU_GROUPS


def is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def user_of_system(named: str | None, environ: Mapping[str, str]) -> str:
    """The named user, or the one who used sudo.  Raises UsageError, also for unnamed root, and NotFound."""
    name = named or (environ.get("SUDO_USER", "") if is_root() else user_name())
    if not name or (name == "root" and not named):
        raise UsageError(
            "The user that the service should run as is unknown.",
            hint="--run-as NAME: a user of its own (useradd --system goss-supervisor), or yours.",
        )
    _refuse_nobody(name)
    return name


def prepare_as(user: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """
    Run a program of ours to its end on this terminal, as the service will run; answers with its exit code.

    Raises PermissionDenied where that user may not run it, and SupervisorError where something killed it.
    """
    try:
        ended = _run(user, command, _surroundings(user, environment))
    except PermissionError as error:
        raise _not_as(user, command[0], error) from error
    if ended < 0:
        raise SupervisorError(f"Preparing was ended by signal {-ended}.")
    return ended


def _not_as(user: str, program: str, error: PermissionError) -> PermissionDenied:
    if error.filename != program:  # it did not come as far as that
        return PermissionDenied(f"This process may not become {user}: {error.strerror}.")
    return PermissionDenied(
        f"{user or 'This user'} may not run {program}.",
        hint="Install goss-supervisor where that user can read it, as in /opt or /usr/local.",
    )


if sys.platform == "win32":

    def user_name() -> str:
        return os.environ.get("USERNAME", "")

    def existing_groups(names: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG001
        return ()

    def make_home(folder: Path, user: str) -> None:
        """There is no service of the system that would need one."""

    def _refuse_nobody(name: str) -> None:
        """Nor anybody else whose it could be."""

    def _surroundings(user: str, service: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG001
        """A task has all that its user has."""
        return {**os.environ, **service}

    def _run(user: str, command: Sequence[str], environment: Mapping[str, str]) -> int:  # noqa: ARG001
        return subprocess.run(command, env=dict(environment), check=False).returncode

else:
    import grp
    import pwd
    from shlex import quote

    def user_name() -> str:
        """Of this program, whatever USER says; in a container it may be a number alone."""
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return str(os.getuid())

    def existing_groups(names: Sequence[str]) -> tuple[str, ...]:
        there = {group.gr_name for group in grp.getgrall()}
        return tuple(name for name in names if name in there)

    def make_home(folder: Path, user: str) -> None:
        """Of a system service, 0700.  Raises PermissionDenied where it is another's, NotADirectoryError."""
        entry = _entry(user)
        if not folder.exists():
            _make(folder, entry)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # even if its path changes from here on
        try:
            if (owner := os.fstat(descriptor).st_uid) != entry.pw_uid:
                raise PermissionDenied(
                    f"{folder} belongs to user {owner}, not to {user}.",
                    hint=f"sudo chown -R {user}: {quote(str(folder))}, or --run-as whom it belongs to.",
                )
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)

    def _make(folder: Path, entry: pwd.struct_passwd) -> None:
        """By that user; by root only where no other user can have laid a link on the way."""
        mkdir = ("mkdir", "-p", "-m", "700", str(folder))
        if _run_as(entry, mkdir, os.environ, stderr=subprocess.DEVNULL) == 0:
            return
        if any(above.lstat().st_uid for above in folder.parents if os.path.lexists(above)):
            raise PermissionDenied(
                f"{entry.pw_name} may not make {folder}.",
                hint=f"sudo install -d -m 700 -o {entry.pw_name} {quote(str(folder))}",
            )
        folder.mkdir(mode=0o700, parents=True)
        os.chown(folder, entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    def _refuse_nobody(name: str) -> None:
        _entry(name)

    def _entry(name: str) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam(name)
        except KeyError as error:
            raise NotFound(f"There is no user {name}.", hint=f"sudo useradd --system {name}") from error

    def _surroundings(user: str, service: Mapping[str, str]) -> dict[str, str]:
        login = None  # else what systemd and launchd set for a user
        if user:
            entry = _entry(user)
            name = entry.pw_name
            login = {"HOME": entry.pw_dir, "LOGNAME": name, "SHELL": entry.pw_shell, "USER": name}
        return for_preparing(service, login, os.environ)

    def _run(user: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
        return _run_as(_entry(user) if user else None, command, environment)

    def _run_as(
        entry: pwd.struct_passwd | None,
        command: Sequence[str],
        environment: Mapping[str, str],
        stderr: int | None = None,
    ) -> int:
        """In a service's folder, umask and groups."""
        become: dict[str, Any] = {}
        if entry is not None and entry.pw_uid != os.geteuid():
            become = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": _groups(entry)}
        return subprocess.run(
            command, env=environment, stderr=stderr, cwd="/", umask=0o077, check=False, **become
        ).returncode

    def _groups(entry: pwd.struct_passwd) -> list[int]:
        """With those that a unit adds, or a GPU would be hidden here that the service will see."""
        gpu = [grp.getgrnam(name).gr_gid for name in existing_groups(GPU_GROUPS)]
        return [*os.getgrouplist(entry.pw_name, entry.pw_gid), *gpu]


# where things are, and which computer is meant; none of them holds a secret
_PLACES = (
    "GOSS_SUPERVISOR_HARDWARE", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
)  # fmt: skip
_HUB = "HF_ENDPOINT"

# systemd.exec(5), $PATH; a user's manager may have more, but only after a login
_OF_SYSTEMD = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OF_LAUNCHD = "/usr/bin:/bin:/usr/sbin:/sbin"  # _PATH_STDPATH in its paths.h

_OF_A_SESSION = ("HOME", "LOGNAME", "SHELL", "USER", "XDG_RUNTIME_DIR")
_OF_THE_TERMINAL = ("COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR", "TERM")
_OF_THE_NETWORK = (
    "ALL_PROXY", "CURL_CA_BUNDLE", "GH_TOKEN", "GITHUB_TOKEN", "GOSS_SUPERVISOR_GITHUB",
    "GOSS_SUPERVISOR_GITHUB_API", _HUB, "HF_TOKEN", "HF_TOKEN_PATH", "HTTPS_PROXY", "HTTP_PROXY",
    "HUGGING_FACE_HUB_TOKEN", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
)  # fmt: skip


def kept(scope: ServiceScope, environ: Mapping[str, str]) -> dict[str, str]:
    """
    What a service takes along from who installs it; one of the system takes nothing.

    A service runs in another folder, so places are made absolute.
    """
    if scope == "system":
        return {}
    places = {name: str(Path(environ[name]).expanduser().absolute()) for name in _PLACES if environ.get(name)}
    hub = environ.get(_HUB, "")
    return places | ({_HUB: hub} if hub and "@" not in hub else {})  # a password may be before the @


def path_of_services(environ: Mapping[str, str], platform: str = sys.platform) -> str:
    """PATH as the service manager sets it; of a task of Windows it is its user's."""
    return {"linux": _OF_SYSTEMD, "darwin": _OF_LAUNCHD}.get(platform) or environ.get("PATH", "")


def for_preparing(
    service: Mapping[str, str], login: Mapping[str, str] | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """
    The environment of the program that prepares a service on this terminal.

    It is what the service will have, so that both find the same; and what reaches the network and the
    terminal.  ``service`` is what is written into its file, ``login`` what another user has by logging in;
    None is who runs this program.
    """
    login = {name: environ[name] for name in _OF_A_SESSION if name in environ} if login is None else login
    besides = {name: value for name, value in environ.items() if _is_for_preparing(name)}
    return {**besides, **login, "PATH": path_of_services(environ), **service}


def _is_for_preparing(name: str) -> bool:
    """Proxies are written in either case; pip has a variable for each of its options."""
    upper = name.upper()
    return upper in _OF_THE_NETWORK or upper in _OF_THE_TERMINAL or upper.startswith("PIP_")
