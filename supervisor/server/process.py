"""A process: its CPU and memory, how it ended, and why one could not be started."""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotFound, PermissionDenied, StartFailed, SupervisorError
from ..home.identity import fields_of_stat


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """Processor time since its start, and resident memory (a mapped model counts as far as it is in RAM)."""

    cpu_seconds: float
    rss_bytes: int


def process_stats(pid: int) -> ProcessStats | None:
    """Of this process and its descendants (an engine may be a script around the server); ``None``: gone."""
    found = [used for member in family(pid) if (used := stats_of(member)) is not None]
    if not found:
        return None
    return ProcessStats(sum(used.cpu_seconds for used in found), sum(used.rss_bytes for used in found))


def family(pid: int) -> tuple[int, ...]:
    """`pid`, its children, theirs, and so on; just `pid` if that is unknown."""
    members = [pid]
    for member in members:  # grows while it is walked
        members.extend(child for child in _children(member) if child not in members)
    return tuple(members)


if sys.platform == "linux":
    _TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
    _PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

    def stats_of(pid: int) -> ProcessStats | None:
        """Of this process alone."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = fields_of_stat(stat)
        ticks = int(fields[11]) + int(fields[12])  # utime, stime
        return ProcessStats(ticks / _TICKS_PER_SECOND, int(fields[21]) * _PAGE_BYTES)

    def _children(pid: int) -> list[int]:
        children = []
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - quick: it may have 100 threads
                with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as listed:  # noqa: PTH123
                    children += [int(child) for child in listed.read().split()]
        except OSError:  # gone meanwhile, or a kernel without CONFIG_PROC_CHILDREN
            pass
        return children

else:

    def stats_of(pid: int) -> ProcessStats | None:
        import psutil  # noqa: PLC0415 - see above

        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            return ProcessStats(times.user + times.system, process.memory_info().rss)
        except psutil.Error:
            return None

    def _children(pid: int) -> list[int]:
        import psutil  # noqa: PLC0415 - see above

        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []


_LARGEST_PLAIN_CODE = 255  # larger ones are Windows' NTSTATUS values, which people know in hexadecimal


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """
    The word of the kernel: an exit code, or the signal that ended it; never both, and neither for one that is
    no child of ours.  ``kernel_killed`` is what `MemoryWatch` says of an end for lack of memory; None is not
    known.
    """

    code: int | None = None
    signal: int | None = None
    kernel_killed: bool | None = None

    @classmethod
    def from_returncode(cls, returncode: int) -> ExitStatus:
        """From the convention of `subprocess`, in which a signal is a negative number."""
        return cls(signal=-returncode) if returncode < 0 else cls(code=returncode)

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {_signal_name(self.signal)}"
        if self.code is None:
            return "ended for an unknown reason"
        return f"exit code {self.code if self.code <= _LARGEST_PLAIN_CODE else f'0x{self.code:08X}'}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def start_error(program: str, error: OSError) -> SupervisorError:
    """Turn the operating system's error about `program` into one for people."""
    match error.errno:
        case errno.ENOENT if os.path.exists(program):  # noqa: PTH110 - it may not even be a path
            return StartFailed(
                f"{program} is there, but the loader or interpreter that it names is not.",
                hint="It was built for another system (musl against glibc, or another CPU); "
                "install a build for this one.",
            )
        case errno.ENOENT | errno.ENOTDIR:
            return NotFound(
                f"The engine {program} does not exist (any more).",
                hint="Install the engine again, or correct engine.path or engine.command in the profile.",
            )
        case errno.EACCES | errno.EPERM:
            return PermissionDenied(
                f"The engine {program} may not be executed by this user.",
                hint=f"Make it executable (chmod +x {program}); "
                "also check that its disk is not mounted noexec.",
            )
        case errno.ENOEXEC:
            return StartFailed(
                f"{program} is not a program for this machine.",
                hint="It is damaged or built for another CPU or system; install the engine again.",
            )
        case errno.E2BIG:
            return StartFailed(
                "The command line and the environment are too long for this system.",
                hint="Shorten server: and env: in the profile, or put long values into files.",
            )
        case errno.EAGAIN | errno.ENOMEM:
            return StartFailed(
                "The system has no room for one more process.",
                hint="Look at the limits on processes and memory (ulimit -u, systemd TasksMax, free).",
            )
        case errno.EMFILE | errno.ENFILE:
            return StartFailed(
                f"Too many files are open to start {program}.",
                hint="Raise the limit on open files (ulimit -n).",
            )
    return StartFailed(f"{program} could not be started: {error.strerror or error}.")
