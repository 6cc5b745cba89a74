"""
A server that outlived its daemon, and so holds the generation lock that it has inherited.

It is stopped only if it is proved to be ours; otherwise nothing is touched.  A record alone proves nothing,
since its file can be changed: on Linux the process that it names must also have the lock open, or the mark of
a server of this name in its environment.  A script that starts the server and waits for it dies with the
daemon, and the server does not.  Two things prove that a process belongs to that launch: it is in the session
that the script began, whose number the kernel gives to nobody else while a member lives; or it has the mark
of this home's server.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import AlreadyRunning, StartFailed
from ..locks import Lock, held_by
from ..paths import Paths
from .identity import Identity, fields_of_stat, identify
from .places import SERVER, generation_lock, other_servers, record_file, session_paths
from .records import Record, read_record

log = logging.getLogger(__name__)

if sys.platform == "win32":
    _FORCEFUL = signal.SIGTERM  # which is TerminateProcess there
else:
    _FORCEFUL = signal.SIGKILL

SURVIVOR_HINT = "goss-supervisor start takes it over, and goss-supervisor stop ends it."
UNPROVED_HINT = (
    "goss-supervisor stop ends it if its environment shows that it is ours.  "
    "If not, end it yourself, and start again."
)
MARK_VARIABLE = "GOSS_SUPERVISOR_SERVER"
"""In the environment of each server and of what it starts."""
GRACE_SECONDS = 10.0
KILL_SECONDS = 5.0
_PAUSE_SECONDS = 0.01


def take_generation_lock(path: Path, record: Path, say: Callable[[str], None]) -> Lock:
    """
    The lock that our child will inherit; an orphan that holds it is stopped first.  Raises StartFailed if it
    is held by a process that cannot be proved to be ours.
    """
    lock, known = _take(path), read_record(record)
    identity = known.identity if known else None
    if lock is not None and identity is None:
        return lock  # the last one was stopped in good order
    left = _left_behind(identity, path, mark_of(record))
    if not left:
        if lock is not None or (lock := _take(path)) is not None:  # it died only now
            return lock
        who = ", ".join(f"pid {pid}" for pid in _holders(path)) or "`ps -ef | grep llama`"
        raise StartFailed(
            f"A llama-server of an earlier daemon holds {path}; which process it is cannot be proved.",
            hint=f"Look at {who}: if it is one of yours, end it, and start again.",
        )
    if lock is not None:
        lock.release()
    named = f"pid {', '.join(str(each.pid) for each in left)}"
    say(f"stopping the llama-server of an earlier daemon ({named})")
    lock = end_holder(left, path, GRACE_SECONDS)
    if lock is None:
        raise StartFailed(f"The llama-server of an earlier daemon ({named}) cannot be stopped.")
    return lock


class GenerationLock:
    """
    Taken before the first launch, and not earlier: a survivor of an earlier daemon, which may be taken over,
    holds it itself.  ``held`` is one that this process has already.
    """

    def __init__(
        self, path: Path, record: Path, *, held: Lock | None = None, say: Callable[[str], None] = log.warning
    ) -> None:
        self.held = held
        self._path, self._record, self._say = path, record, say

    @property
    def fd(self) -> int:
        """To be inherited; once it is taken."""
        assert self.held is not None
        return self.held.fd

    def take(self) -> None:
        """Ends an orphan that holds it, which may take 15 s.  Raises as `take_generation_lock` does."""
        if self.held is None:
            self.held = take_generation_lock(self._path, self._record, self._say)

    def release(self) -> None:
        """Once nothing of the server runs, and nothing will."""
        if self.held is not None:
            self.held.release()
            self.held = None


def left_running(paths: Paths) -> list[tuple[Record, Identity]]:
    """
    The servers whose process lives, holds its lock and is proved to be of this home: without a daemon, those
    that an earlier one left.  Each with the name under which it was launched; the record is the main server's
    where that took it over later.
    """
    found = []
    main = read_record(record_file(paths))
    for name in (SERVER, *other_servers(paths)):
        file = record_file(paths, name)
        record = read_record(file)
        identity = record.identity if record else None
        if record is None or identity is None or identify(identity.pid) != identity:
            continue
        if held_by(generation_lock(paths, name)) is not None and _belongs(identity.pid, None, mark_of(file)):
            last = main if main is not None and main.identity == identity else record
            found.append((replace(last, server=name), identity))
    return found


def left_unproved(paths: Paths) -> dict[str, list[int]]:
    """
    Of each server whose lock is held though its record does not prove by whom: the processes that have the
    lock open, as far as the system tells.  Without a daemon, as above.
    """
    proved, found = {record.server for record, _ in left_running(paths)}, {}
    for name in (SERVER, *other_servers(paths)):
        lock = generation_lock(paths, name)
        with suppress(OSError):
            if name not in proved and held_by(lock) is not None:
                found[name] = _holders(lock)
    return found


def unproved_text(paths: Paths, name: str, pids: Sequence[int]) -> str:
    """What one of `left_unproved` is, as a sentence."""
    who = ", ".join([name, *(f"pid {pid}" for pid in pids)])
    return f"A server of an earlier daemon still runs ({who}); {record_file(paths, name)} does not name it."


def is_left(paths: Paths, name: str) -> bool:
    """Whether something holds this server's lock, or its process lives though the lock's file was removed."""
    lock, file = generation_lock(paths, name), record_file(paths, name)
    if held_by(lock) is not None:
        return True
    record = read_record(file)
    identity = record.identity if record else None
    return identity is not None and _is_launched(identity, lock, mark_of(file))


def refuse_beside_survivors(paths: Paths) -> None:
    """For commands that need the memory for themselves, without a daemon.  Raises AlreadyRunning."""
    for record, identity in left_running(paths):
        raise AlreadyRunning(
            f"{record.profile} still runs, though its daemon was killed (pid {identity.pid}).",
            hint=SURVIVOR_HINT,
        )
    for name, pids in left_unproved(paths).items():
        raise AlreadyRunning(unproved_text(paths, name, pids), hint=UNPROVED_HINT)


def mark_of(record: Path) -> str:
    """Of the server with this record, for `MARK_VARIABLE`: no other home has it, and no other server."""
    try:
        record.parent.mkdir(mode=0o700, exist_ok=True)
        folder = record.parent.stat()
    except OSError:
        return ""
    return f"{record.stem}@{folder.st_dev:x}:{folder.st_ino:x}"


def _left_behind(identity: Identity | None, lock: Path, mark: str) -> list[Identity]:
    """The process of the record, if it lives, and what else is proved to belong to its launch."""
    alive = identify(identity.pid) if identity else None
    proved = [identity] if identity is not None and _is_launched(identity, lock, mark) else []
    if sys.platform == "linux":
        session = identity if alive is None or proved else None  # else its number is somebody else's now
        others = (
            identify(pid) for pid in _others() if _belongs(pid, session, mark) or _inherited(pid, lock, mark)
        )
        proved += [each for each in others if each is not None and each != identity]
    return proved


def _others() -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - names only
    return [pid for pid in pids if pid != os.getpid()]


def _is_launched(identity: Identity, lock: Path, mark: str) -> bool:
    """
    Whether the process of a record lives and has what only our launches have: the lock, or the mark of a
    server of this name, also if the folders that prove more were removed since.  The record suffices for a
    program with capabilities, which Linux lets nobody look into, and on other systems.
    """
    if identify(identity.pid) != identity:
        return False
    try:
        return _has_mark(identity.pid, mark, of_any_home=True) or _has_open(identity.pid, lock)
    except PermissionError:
        return True
    except OSError:  # gone; elsewhere there is no /proc
        return sys.platform != "linux"


def _inherited(pid: int, lock: Path, mark: str) -> bool:
    """
    Whether it has the lock, and the mark of a server of this name: ours, also if the record does not name it
    and the folder of before was removed.
    """
    try:
        return _has_mark(pid, mark, of_any_home=True) and _has_open(pid, lock)
    except OSError:  # another user's, or gone
        return False


def _has_mark(pid: int, mark: str, *, of_any_home: bool = False) -> bool:
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    if of_any_home:
        name = mark.partition("@")[0]
        return bool(name) and any(each.startswith(f"{MARK_VARIABLE}={name}@".encode()) for each in environ)
    return bool(mark) and f"{MARK_VARIABLE}={mark}".encode() in environ


def _has_open(pid: int, file: Path) -> bool:
    known = file.stat()
    with os.scandir(f"/proc/{pid}/fd") as descriptors:
        for each in descriptors:
            with suppress(FileNotFoundError):  # closed meanwhile
                if os.path.samestat(each.stat(), known):
                    return True
    return False


def _holders(lock: Path) -> list[int]:
    """Processes of this user that have it open; none where the system does not tell."""
    found = []
    for pid in _others() if sys.platform == "linux" else ():
        with suppress(OSError):  # another user's, or gone
            if _has_open(pid, lock):
                found.append(pid)
    return found


def _belongs(pid: int, session: Identity | None, mark: str) -> bool:
    try:
        if _has_mark(pid, mark):
            return True
        fields = fields_of_stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
    except OSError:  # another user's, or gone
        return False
    if session is None or int(fields[3]) != session.pid:
        return False
    who = identify(pid)
    return who is not None and who.boot_id == session.boot_id and who.started >= session.started


def end_left(paths: Paths, name: str, say: Callable[[str], None]) -> None:
    """End the server of this name that an earlier daemon left.  Raises as `take_generation_lock` does."""
    take_generation_lock(generation_lock(paths, name), record_file(paths, name), say).release()


def end_all_left(paths: Paths, say: Callable[[str], None]) -> None:
    """The same of all servers."""
    for name in (SERVER, *other_servers(paths)):
        end_left(paths, name, say)


def end_session(paths: Paths, say: Callable[[str], None]) -> None:
    """
    End what a daemon for one operation left that was killed itself.  For the holder of the daemon's lock;
    raises as `take_generation_lock`.
    """
    left = session_paths(paths)
    if left.state.exists():
        end_all_left(left, say)
        forget_session(paths)


def forget_session(paths: Paths) -> None:
    """Delete all that such a daemon remembered; its servers have ended."""
    shutil.rmtree(session_paths(paths).state.parent, ignore_errors=True)


def _take(path: Path) -> Lock | None:
    return Lock.acquire(path, {"pid": os.getpid()})


def end_holder(left: Sequence[Identity], path: Path, grace_seconds: float) -> Lock | None:
    """
    TERM, wait, KILL, wait: the lock tells whether its holder is gone, not a pid.  The lock, ours now; None
    where it is still held.  Only processes of these identities are signalled.
    """
    for number, seconds in ((signal.SIGTERM, grace_seconds), (_FORCEFUL, KILL_SECONDS)):
        for each in left:
            _signal(each, number)
        lock = _within(seconds, path, left)
        if lock is not None:
            return lock
    return None


def _signal(identity: Identity, number: int) -> None:
    """Through a pidfd where there is one: it cannot hit a stranger that got the pid in between."""
    try:
        if sys.platform == "linux":
            descriptor = os.pidfd_open(identity.pid)
            try:
                if identify(identity.pid) == identity:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
        elif identify(identity.pid) == identity:
            os.kill(identity.pid, number)
    except (ProcessLookupError, PermissionError):  # gone, or another user's
        pass


def _within(seconds: float, path: Path, left: Sequence[Identity]) -> Lock | None:
    """Another process's lock cannot be waited for with a deadline but by asking again."""
    deadline, lock = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        lock = lock or _take(path)
        if lock is not None and not any(identify(each.pid) == each for each in left):
            return lock
        if lock is not None:
            time.sleep(_PAUSE_SECONDS)
    if lock is not None:
        lock.release()
    return None
