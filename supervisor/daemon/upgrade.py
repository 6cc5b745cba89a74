"""
Upgrade in place: another version of the program takes this process over, with all that it holds.

1. It waits until nothing changes: no start, load, stop, job or hold is under way.  Loads that requests ask
   for from now on are the new program's, which gets those requests.
2. The new program proves, in a separate process, that it can be imported and can read what it will get.  If
   it does not do so in time, the daemon goes on unchanged.
3. If clients are connected, this process forks.  The child, its *copy*, finishes the answers under way (see
   `gateway.copies`); it has no threads, writes no files, and ends with the daemon.
4. exec: the same pid, so the same children, and the descriptors that are handed over (see `handover`): the
   sockets of gateway and control socket, whose backlog holds newcomers, the locks, and the servers' output.
   If it fails, the copy ends, and this process goes on with all that it has.
5. The new program takes over the servers as survivors, and answers the client that asked for the upgrade.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NoReturn, Protocol

from .. import __version__
from ..errors import SupervisorError
from ..fleet.fleet import Fleet
from ..gateway.copies import CopyProcess
from ..home.event_log import about
from ..locks import Lock
from ..server.background import beside_the_loop
from ..server.lifecycle_table import LEAVING, State
from ..server.outcome import Outcome
from .control_listener import ControlSocket
from .gateway_listener import GatewayListener
from .handover import CHECK, RESUME, SCHEMA, Handover, hand_over, written
from .jobs import Jobs
from .loads import Loads
from .service_notify import ServiceNotifier

log = logging.getLogger(__name__)

CHECK_SECONDS = 30.0
WRITE_SECONDS = 5.0
LOOK_SECONDS = 0.1  # between two looks whether something is under way
SAY_SECONDS = 4.0
INSTEAD = "goss-supervisor stop, then goss-supervisor start: that loads the model again."
GOES_ON = f"The daemon goes on unchanged.  To upgrade it another way: {INSTEAD}"

UpgradeMessage = dict[str, Any]
SIGNALS: tuple[signal.Signals, ...] = ()
"""They wait until the new program listens to them."""
if sys.platform != "win32":
    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHANGING = LEAVING | {State.PREPARING}


class UpgradedControl(Protocol):
    """What an upgrade needs of the daemon's `Control`."""

    jobs: Jobs

    @property
    def changing(self) -> Sequence[str]:
        """The requests under way that change something, or hold a server."""

    def let_go(self) -> None:
        """In a copy: answer no request any more."""


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """The options of the daemon's start, and its time."""

    started: float
    is_foreground: bool
    is_service: bool


@dataclass(frozen=True, slots=True)
class DaemonParts:
    """The parts of a daemon; ``tasks`` run in the background."""

    facts: DaemonFacts
    lock: Lock
    control_socket: ControlSocket
    control: UpgradedControl
    fleet: Fleet
    gateway: GatewayListener
    loads: Loads
    notifier: ServiceNotifier
    tasks: set[asyncio.Task[None]]
    write_log: Callable[[], None]

    def under_way(self) -> str:
        """What an upgrade has to wait for, in words; "" for nothing."""
        if operations := [each for each in self.control.changing if each != "upgrade"]:
            return f"the {operations[0]} that is under way"
        if not self.notifier.is_up:
            return "the start or reload that is under way"
        if jobs := [each["words"] for each in self.control.jobs.listed(results=False) if not each["ended"]]:
            return f"the job that is under way: {jobs[0]}"
        for each in self.fleet:
            if each.server.state in _CHANGING:
                return f"{each.profile or each.name}, which is {each.server.state}"
        if self.loads.loading:
            return f"the load of {self.loads.loading[0]}"
        gateway = self.gateway.gateway
        return "the previous upgrade" if gateway is not None and gateway.copies.are_speaking else ""

    async def write_all(self) -> None:
        """Write to disk what is only in memory; a disk that hangs delays nothing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(WRITE_SECONDS):
                await self.gateway.write_usage()
                for write in (*(each.flush for each in self.fleet), self.write_log):
                    await beside_the_loop(write)

    def hand_over(self, keep: Callable[[int], int], copy: CopyProcess | None = None) -> Handover:
        """
        All that the new program needs, but who asked for it; ``keep`` gives the number that a descriptor has
        there.
        """
        notify, watchdog_seconds = self.notifier.manager
        return Handover(
            SCHEMA,
            __version__,
            keep(self.lock.fd),
            keep(self.control_socket.descriptor),
            tuple(hand_over(each, keep) for each in self.fleet),
            self.gateway.hand_over(keep, copy),
            self.facts.started,
            foreground=self.facts.is_foreground,
            is_service=self.facts.is_service,
            notify=notify,
            watchdog_seconds=watchdog_seconds,
            stored=tuple(self.notifier.stored),
        )

    async def be_copy(self, end: int) -> None:
        """Called in the copy, which has this end of a pair of sockets; over when its work is done."""
        gateway = self.gateway.gateway
        assert gateway is not None
        for task in self.tasks:
            task.cancel()
        self.control_socket.let_go()
        self.control.let_go()
        self.gateway.let_go()
        self.fleet.let_go()
        self.lock.release()
        successor = gateway.become_copy(end)
        logging.getLogger().handlers = [_Passing(successor.log)]
        await gateway.answered()


class _Passing(logging.Handler):
    """Of a copy: sends its log lines to the daemon."""

    def __init__(self, say: Callable[[int, str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.levelno, record.getMessage())


def tell_of_upgrade(handed: Handover, outcomes: Iterable[Outcome]) -> None:
    """In the new program: tell the log, and the client that asked for the upgrade."""
    seconds = round(time.time() - handed.began, 2)
    log.info(
        "upgraded in place from version %s to %s in %.2f s", handed.version, __version__, seconds,
        extra=about("daemon"),
    )  # fmt: skip
    done = {"from": handed.version, "to": __version__, "seconds": seconds, "pid": os.getpid()}
    answer: UpgradeMessage = {
        "upgraded": done,
        "outcomes": [asdict(each) for each in outcomes],
        "final": True,
    }
    with suppress(OSError), socket.socket(fileno=handed.asked_fd) as asked:  # it may have gone
        asked.sendall(json.dumps(answer).encode() + b"\n")


if sys.platform == "win32":

    async def upgrade(
        _daemon: DaemonParts, _program: Sequence[str], _connection: int
    ) -> AsyncIterator[UpgradeMessage]:
        """See below."""
        yield {"error": "Windows cannot replace the program of a process.", "hint": INSTEAD}

else:
    from .handover import KeptDescriptors
    from .orders import give_orders, take_orders

    async def upgrade(
        daemon: DaemonParts, program: Sequence[str], connection: int
    ) -> AsyncIterator[UpgradeMessage]:
        """
        Become this program.  Yields what it waits for; the end of the answer comes from the new program, by
        the ``connection`` with this descriptor.  Raises SupervisorError where that fails: all is as before.
        """
        if daemon.control.changing.count("upgrade") > 1:
            raise SupervisorError(
                "Another upgrade is under way.",
                hint="goss-supervisor status shows the version when it is done.",
            )
        began = time.time()
        with daemon.loads.held_back():
            async for waits in _quiet(daemon):
                yield waits
            yield {"step": "checking the new program", "again_seconds": SAY_SECONDS}
            version = await beside_the_loop(partial(_proved, program, written(daemon.hand_over(int))))
            log.info("upgrading in place to version %s", version)
            yield {"step": f"becoming version {version}", "again_seconds": SAY_SECONDS}
            await daemon.write_all()
            async for waits in _quiet(daemon):  # time has passed
                yield waits
            daemon.notifier.ping()
            await _exec(daemon, program, connection, began)

    async def _quiet(daemon: DaemonParts) -> AsyncIterator[UpgradeMessage]:
        """Until nothing is under way."""
        said = -SAY_SECONDS
        while what := daemon.under_way():
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                yield {"waits": what, "again_seconds": SAY_SECONDS}
            await asyncio.sleep(LOOK_SECONDS)

    def _proved(program: Sequence[str], handover: bytes) -> str:
        """The version of the program, which can take this.  Blocks.  Raises SupervisorError."""
        try:
            ran = subprocess.run(
                [*program, CHECK], input=handover, capture_output=True, timeout=CHECK_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise SupervisorError(
                f"The new program did not answer within {CHECK_SECONDS:.0f} s.", hint=GOES_ON
            ) from None
        except (OSError, ValueError) as error:
            raise SupervisorError(f"The new program cannot be run: {error}.", hint=GOES_ON) from error
        with suppress(ValueError, TypeError, KeyError):
            return str(json.loads(ran.stdout)["version"])
        raise SupervisorError(f"The new program cannot take over: {_why(ran)}.", hint=GOES_ON)

    def _why(ran: subprocess.CompletedProcess[bytes]) -> str:
        with suppress(ValueError, TypeError, KeyError):
            return str(json.loads(ran.stdout)["error"]).rstrip(".")
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        return said[-1].rstrip(".") if said else f"it ended with exit code {ran.returncode} and said nothing"

    async def _exec(daemon: DaemonParts, program: Sequence[str], connection: int, began: float) -> None:
        """
        Nothing else runs in this process meanwhile.  If all goes well, it returns in no process: the exec
        replaces the daemon, and the copy ends here.
        """
        kept, copy = KeptDescriptors(), None
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            gateway = daemon.gateway.gateway
            if gateway is not None and gateway.counts()[2]:
                copy = _Forked(asyncio.get_running_loop())
                if copy.is_here:
                    await _be_copy(daemon, copy.end)
            process = (
                CopyProcess(copy.pid, kept.keep(copy.end), gateway.copied()) if gateway and copy else None
            )
            handover = daemon.hand_over(kept.keep, process)
            give_orders(written(replace(handover, asked_fd=kept.keep(connection), began=began)))
            os.execv(program[0], [*program, RESUME])  # noqa: S606 - no shell
        except OSError as error:
            if copy is not None:
                copy.undo()
            kept.close()
            take_orders()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            raise SupervisorError(f"The new program cannot be run: {error}.", hint=GOES_ON) from error

    class _Forked:
        """
        The copy, or where ``is_here`` this very process; ``end`` is this side's of the pair of sockets.  The
        copy begins when the exec has come about: that closes a pipe.
        """

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            ours, theirs = socket.socketpair()
            waits, self._tells = os.pipe()
            self.pid = os.fork()
            self.is_here = self.pid == 0
            if self.is_here:
                os.close(self._tells)
                if os.read(waits, 1):
                    os._exit(0)
                asyncio._set_running_loop(loop)  # noqa: SLF001 - asyncio forgets it in a child
                ours, theirs = theirs, ours
            os.close(waits)
            theirs.close()
            self.end = ours.detach()

        def undo(self) -> None:
            """The exec failed, so the copy must end."""
            os.write(self._tells, b"x")
            os.close(self._tells)
            os.close(self.end)
            os.waitpid(self.pid, 0)

    async def _be_copy(daemon: DaemonParts, end: int) -> NoReturn:
        """Never returns: the copy must not go on as a second daemon, even after an error."""
        try:
            loop = asyncio.get_running_loop()
            for number in SIGNALS:  # the daemon gets them too, and ends us if it stops
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            await daemon.be_copy(end)
        except BaseException:  # noqa: BLE001 - see above
            os._exit(1)
        os._exit(0)
