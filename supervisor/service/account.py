"""Whose service it is, and programs that run as that user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotFound, PermissionDenied, SupervisorError, UsageError


@dataclass(frozen=True, slots=True)
class Account:
    """``name`` is "" for whoever runs this program."""

    home: Path
    name: str = ""


def is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def account_of_system(named: str | None, environ: Mapping[str, str]) -> Account:
    """
    Who a service of the whole system runs as: who is named, else who said sudo.

    Raises UsageError where that is nobody: root only by name.  NotFound where there is no such user.
    """
    name = named or environ.get("SUDO_USER", "")
    if not name or (name == "root" and not named):
        raise UsageError(
            "It is not known who the service shall run as.",
            hint="--run-as NAME: a user of its own (useradd --system goss-supervisor), or yours.",
        )
    return Account(_home_of(name), name)


def run_for(account: Account, command: Sequence[str], environment: Mapping[str, str], what: str) -> None:
    """
    Run a program of ours to its end on this terminal.

    Raises PermissionDenied where that user may not run it, and SupervisorError with its exit code where it
    fails, when it has said why itself.
    """
    try:
        ended = _run(account, command, {**os.environ, **environment})
    except PermissionError as error:
        raise PermissionDenied(
            f"{account.name or 'This user'} may not run {command[0]}.",
            hint="Install goss-supervisor where that user can read it, as in /opt or /usr/local.",
        ) from error
    if ended:
        failed = SupervisorError(f"{what} did not succeed: see above.")
        failed.exit_code = ended
        raise failed


def make_home(folder: Path, account: Account) -> None:
    """
    The folder that everything of a system service is in, 0700 and that user's.

    Raises PermissionDenied where it cannot be made, or is another user's: what is in it would be, too.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        _refuse_anothers(folder, account)
    except PermissionError as error:
        raise PermissionDenied(f"{folder} cannot be made by this user.", hint="Say it with sudo.") from error
    else:
        _give(folder, account)


if sys.platform == "win32":

    def user_name() -> str:
        return os.environ.get("USERNAME", "")

    def existing_groups(names: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG001
        return ()

    def _home_of(name: str) -> Path:
        raise UsageError(f"--run-as {name}: on Windows the service is that of who installs it.")

    def _run(account: Account, command: Sequence[str], environment: Mapping[str, str]) -> int:  # noqa: ARG001
        return subprocess.run(command, env=dict(environment), check=False).returncode

    def _refuse_anothers(folder: Path, account: Account) -> None:
        """Rights are another matter there."""

    def _give(folder: Path, account: Account) -> None:
        """The same."""

else:
    import grp
    import pwd

    def user_name() -> str:
        """Of this program, whatever USER says."""
        return pwd.getpwuid(os.getuid()).pw_name

    def existing_groups(names: Sequence[str]) -> tuple[str, ...]:
        there = {group.gr_name for group in grp.getgrall()}
        return tuple(name for name in names if name in there)

    def _home_of(name: str) -> Path:
        return Path(_entry(name).pw_dir)

    def _entry(name: str) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam(name)
        except KeyError as error:
            raise NotFound(f"There is no user {name}.", hint=f"sudo useradd --system {name}") from error

    def _refuse_anothers(folder: Path, account: Account) -> None:
        owner = folder.stat().st_uid
        if account.name and owner != _entry(account.name).pw_uid:
            raise PermissionDenied(
                f"{folder} belongs to user {owner}, not to {account.name}.",
                hint=f"sudo chown -R {account.name}: {folder}, or --run-as whom it belongs to.",
            )

    def _give(folder: Path, account: Account) -> None:
        if account.name:
            entry = _entry(account.name)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def _run(account: Account, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """As another user without the caller's folders, which that one could not use."""
        if not account.name or _entry(account.name).pw_uid == os.geteuid():
            return subprocess.run(command, env=dict(environment), check=False).returncode
        entry = _entry(account.name)
        theirs = {name: value for name, value in environment.items() if not name.startswith("XDG_")}
        theirs |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return subprocess.run(
            command,
            env=theirs,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=groups,
            cwd="/",
            umask=0o077,
            check=False,
        ).returncode
