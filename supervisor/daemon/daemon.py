"""The daemon: its servers, their gateway and the control socket, until a stop is asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from .. import __version__
from ..errors import StartFailed, SupervisorError
from ..fleet.fleet import Fleet
from ..gateway.listener import missing_address
from ..gateway.socket_store import SocketStore
from ..home.control_socket import Endpoint
from ..home.event_log import about
from ..home.places import SERVER, daemon_log, other_servers, update_file
from ..locks import Lock
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, serves_clients, url_of
from ..profile.definition import AutoUpdate
from ..progress import iso
from ..server.background import beside_the_loop
from ..server.instance import Instance
from ..server.lifecycle_table import SERVING, UNDER_WAY, State
from ..server.outcome import Launching, Outcome
from ..server.process import stats_of
from ..server.survivors import Survivors
from .announcements import Announcements
from .control_listener import ControlSocket
from .control_server import Control
from .gateway_listener import GatewayListener
from .handover import Handover, take_back
from .helpers import DAILY, Reloads, Rhythm, keep_looking, last_check
from .journal import STDERR, STDOUT
from .loads import Loads
from .service_notify import Passed, ServiceNotifier
from .upgrade import SIGNALS, DaemonFacts, DaemonParts, tell_of_upgrade, upgrade
from .upkeep import Upkeep

log = logging.getLogger(__name__)

ADDRESS_SECONDS = 600.0  # DHCP takes seconds, a VPN that somebody has to log in to takes minutes
ADDRESS_PAUSE_SECONDS = 5.0
OPERATION_SECONDS = 30.0  # until the operation that a daemon was started for asks for its server


class Daemon:
    """
    Lives as long as its servers are wanted.

    ``lock`` is the home's.  `run` is called once; ``report`` gets the outcome of the first start, and answers
    whether its starter is there to read it; ``manager`` gets its progress; ``passed`` is what the manager
    passed to this process; ``looks`` says when to check for newer engines; ``is_service``: no user
    watches who could correct the address; ``survives``: its servers may outlive it.  ``handover`` is what
    another version left in this process, and ``write_log`` blocks until the log is written.  ``operation``
    names the only one that it serves, if it has no plan.
    """

    def __init__(
        self,
        paths: Paths,
        endpoint: Endpoint,
        report: Callable[[dict[str, Any]], bool],
        *,
        lock: Lock,
        manager: ServiceNotifier,
        passed: Passed = (),
        is_service: bool = False,
        looks: Rhythm = DAILY,
        survives: bool = True,
        handover: Handover | None = None,
        is_foreground: bool = False,
        operation: str = "",
        write_log: Callable[[], None] = lambda: None,
    ) -> None:
        self._paths = paths
        self._endpoint = endpoint
        self._lock = lock
        self._is_service, self._survives, self._operation = is_service, survives, operation
        self._handover = handover
        self._started = handover.started if handover else time.time()
        self._stop: asyncio.Future[Outcome] | None = None
        self._stop_asked = asyncio.Event()
        self._announcements = Announcements(lambda: self._gateway.activity)
        self._notice_over = asyncio.Event()
        self._report = report
        self._looks = looks
        self._notifier = manager
        self._tasks: set[asyncio.Task[None]] = set()
        self._reloads = Reloads(manager.reloading, manager.reloaded, self._begin)
        self._loads = Loads(
            lambda: self._fleet, lambda: self._gateway.gateway, self._begin, survivors=Survivors(paths)
        )
        self._gateway = GatewayListener(
            paths, lambda: self._fleet, self._begin, self._loads, lambda: self._control,
            store=SocketStore(manager, passed),
        )  # fmt: skip
        self._fleet = Fleet(self._new_instance)
        self._control = Control(
            self._fleet,
            self._about,
            partial(last_check, update_file(paths)),
            self._shut_down,
            self._gateway,
            self._loads,
        )
        self._control_socket = ControlSocket(endpoint, self._control.serve)
        parts = DaemonParts(
            DaemonFacts(self._started, is_foreground=is_foreground, is_service=is_service),
            lock, self._control_socket, self._control, self._fleet, self._gateway, self._loads, manager,
            self._tasks, write_log,
        )  # fmt: skip
        self._control.upgrade = partial(upgrade, parts)

    def _new_instance(self, name: str, next_id: Callable[[], int]) -> Instance:
        return Instance(
            name,
            self._paths,
            on_change=self._on_change,
            under_way=partial(self._gateway.under_way, name),
            next_id=next_id,
            lock=self._handover.lock_of(name, self._paths) if self._handover else None,
            survives=self._survives,
        )

    @property
    def main(self) -> Instance:
        """The server that a start is for."""
        return self._fleet.main

    async def run(self, plan: LaunchPlan | None, listen: Listen | None) -> None:
        """
        Supervise this plan until a stop is asked for, with clients coming in at ``listen``; without a plan:
        what one operation runs here, until it ends (see `Holds`).  Raises StartFailed if the plan never
        became ready: there is nothing then to supervise.
        """
        log.info("goss-supervisor %s begins (pid %d)", __version__, os.getpid(), extra=about("daemon"))
        self._listen_to_signals()
        control, handed = self._control_socket, self._handover
        await control.open(handed.control_fd if handed else None)
        supervising = asyncio.create_task(self._resume(handed) if handed else self._supervise(plan, listen))
        working = asyncio.create_task(self._fleet.run())
        self._begin(self._notifier.keep_in_touch(self._fleet.passed))
        self._begin(Upkeep(self._locks, (control, self._gateway)).keep())
        self._begin(keep_looking(self._wishes_updates, self._looks))
        try:
            done, _ = await asyncio.wait({working, supervising}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            control.close()
            await self._gateway.finish()
            await self._control.finish()
            self._fleet.close()
            self._control.hardware.close()
            for task in (working, supervising, *self._tasks):
                task.cancel()
            await asyncio.gather(working, supervising, *self._tasks, return_exceptions=True)
            log.info("goss-supervisor ends", extra=about("daemon"))

    def _locks(self) -> list[Lock]:
        return [self._lock, *(each.lock for each in self._fleet if each.lock is not None)]

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """In the background, until it is over or the daemon ends; one that fails logs it."""
        task = asyncio.get_running_loop().create_task(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervise(self, plan: LaunchPlan | None, listen: Listen | None) -> None:
        if plan is None:
            return await self._serve_one_operation()
        if listen is not None and self._is_service:
            await self._address_has_come(listen)
            if not serves_clients(plan):
                await self._address_has_come(Listen(plan.profile, plan.host, plan.port))
        await self._look_at_survivors(plan, listen)
        if self._stop_asked.is_set():
            return await self._ended()
        decided = await self._first(plan, listen)
        if self._loads.took_over:
            self._report({"step": self._loads.took_over})
        if listen is not None:
            self._loads.load_offers(listen, decided)
        outcome = await decided
        self._report(self._control.about(outcome))
        if outcome.result == "failed":
            raise StartFailed(
                f"{plan.profile} did not become ready: {outcome.why}",
                hint=outcome.hint or "goss-supervisor logs",
            )
        if outcome.result not in {"stopped", "superseded"}:
            self._notifier.ready()
        elif not self._stop_asked.is_set():
            self._begin(self._ready_once_decided())
        await self._stop_asked.wait()
        return await self._ended()

    async def _look_at_survivors(self, plan: LaunchPlan, listen: Listen | None) -> None:
        """A launch takes over the survivors that are wanted; the others end here, and free memory."""
        survivors = self._loads.survivors
        await survivors.look()
        offered = {each.profile for each in listen.offers} - {plan.profile} if listen else set()
        wanted = {
            name for name, profile in survivors.profiles.items() if profile in offered and name != SERVER
        }
        await survivors.end(
            {SERVER, *other_servers(self._paths)} - wanted - {survivors.running(SERVER, plan)}
        )

    async def _resume(self, handed: Handover) -> None:
        """
        Go on where the former program stopped (see `upgrade`), and answer the client that asked for it once
        all that served serves again.  A load goes on as long as it takes.
        """
        self._notifier.ready()
        decided = [(each, take_back(self._fleet.restore(each.name), each)) for each in handed.servers]
        await self._fleet.passed()
        if handed.gateway is not None:
            await self._gateway.resume(handed.gateway)
        outcomes = [await future for each, future in decided if future is not None and each.served]
        tell_of_upgrade(handed, outcomes)
        await self._stop_asked.wait()
        return await self._ended()

    async def _serve_one_operation(self) -> None:
        """It comes at once, or its process was killed meanwhile."""
        is_awaited = self._report({"waits": "for a hold"})
        over = asyncio.create_task(self._control.holds.all_over(OPERATION_SECONDS if is_awaited else 0.0))
        stopped = asyncio.create_task(self._stop_asked.wait())
        await asyncio.wait([over, stopped], return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        stopped.cancel()
        if self._stop is None:
            self._shut_down(now=False)
        await self._ended()

    async def _ended(self) -> None:
        """Comes back when the stop that was asked for is over.  Raises SupervisorError where it failed."""
        assert self._stop is not None
        outcome, survivors = await self._stop, self._loads.survivors
        await survivors.end(survivors.profiles)  # those that no load has taken over yet
        if outcome.result != "stopped":
            raise SupervisorError(f"The server could not be stopped: {outcome.why}")

    async def _address_has_come(self, listen: Listen) -> None:
        """
        A service is started before a network, or a VPN, has given this computer its addresses: wait for it,
        as long as that may take.  Where it does not come, the start fails as any other.
        """
        ends = time.monotonic() + ADDRESS_SECONDS
        while not self._stop_asked.is_set() and time.monotonic() < ends:
            missing = await beside_the_loop(partial(missing_address, listen))
            if not missing:
                return
            log.info("waiting for the address: %s", missing)
            self._notifier.status(f"waiting for the address: {missing}")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), ADDRESS_PAUSE_SECONDS)

    def _first(self, plan: LaunchPlan, listen: Listen | None) -> Launching:
        """``gateway.preload: false``: the first request loads the model."""
        survivor = self._loads.survivors.running(SERVER, plan)
        if plan.behind_gateway and listen is not None and not listen.settings.preload and survivor is None:
            return self._gateway.rest(plan, listen)
        return self._gateway.launch(plan, listen)

    async def _ready_once_decided(self) -> None:
        """The first start was superseded: the manager waits until what took its place is decided."""
        await self.main.server.settled()
        if not self._stop_asked.is_set():
            self._notifier.ready()

    # --- the end

    def _shut_down(self, now: bool) -> asyncio.Future[Outcome]:
        self._notifier.stopping()
        notice_seconds = 0.0 if now else self._gateway.announce_end()
        if not notice_seconds:
            self._gateway.begin_to_end(now=now)
            self._notice_over.set()
        self._control.holds.finish()
        self._control.jobs.stop()
        if now or self._stop is None:
            self._stop = asyncio.ensure_future(self._stop_servers(notice_seconds, now=now))
        self._stop_asked.set()
        return self._stop

    async def _stop_servers(self, notice_seconds: float, *, now: bool) -> Outcome:
        """``stop --now`` ends a notice that has begun."""
        if notice_seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._notice_over.wait(), notice_seconds)
            self._gateway.begin_to_end(now=self._notice_over.is_set())
        self._loads.admission.end("goss-supervisor is being stopped")
        outcome = await self._fleet.stop(now=now)
        await self._gateway.peers_rest()
        return outcome

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        if sys.platform == "win32":
            signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(self._interrupt))
        else:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._interrupt)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # held back by `start`, or before an upgrade
            terminal = next((each for each in (STDOUT, STDERR) if os.isatty(each)), None)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up, terminal)

    def _hang_up(self, terminal: int | None) -> None:
        """SIGHUP asks for a reload, but also means that the terminal was closed."""
        if terminal is None or os.isatty(terminal):
            self._reloads.ask()
        elif self._stop is None:
            log.info("its terminal was closed")
            self._interrupt()

    def _interrupt(self) -> None:
        """The first asks, the second insists."""
        again = self._stop is not None
        log.info("stopping now" if again else "stopping; once more to stop now")
        self._shut_down(again)

    def _wishes_updates(self) -> AutoUpdate:
        server = self.main.server
        return server.plan.auto_update if server.plan is not None and server.is_serving else "off"

    # --- what others see

    def _on_change(self) -> None:
        """A server changed.  The status sent here is about all of them."""
        for instance in self._fleet:
            self._announce(instance)
        main = self.main.server
        self._notifier.status(self._line(self.main, main.lifecycle.why or main.busy))
        self._notifier.at_work(any(each.server.state in UNDER_WAY for each in self._fleet))
        for instance in self._fleet:
            self._loads.admission.changed(instance)
            self._gateway.changed(instance)
        self._control.changed()

    def _announce(self, instance: Instance) -> None:
        line = self._line(instance, instance.server.why)
        is_new = self._announcements.tell(instance, line)
        waits = instance.server.state in {State.BACKOFF, State.PREPARING} and instance.server.why
        if is_new and instance is self.main and waits:
            self._report({"step": line})  # the waiting CLI learns that it has not gone well

    def _line(self, instance: Instance, why: str) -> str:
        plan, state = instance.server.plan, instance.server.state
        where = f" at {url_of(plan, self._gateway.listen)}" if plan and state in SERVING else ""
        return f"{instance.profile or instance.name}: {state}{where}{f' ({why})' if why else ''}"

    def _about(self) -> dict[str, Any]:
        used = stats_of(os.getpid())
        return {
            "pid": os.getpid(),
            "version": __version__,
            "since": iso(self._started),
            "uptime_seconds": round(time.time() - self._started, 1),
            "memory_bytes": used.rss_bytes if used else None,
            "control": str(self._endpoint.path),
            "log": str(daemon_log(self._paths)),
            "operation": self._operation or None,
            "unsettled": self._unsettled(),
        }

    def _unsettled(self) -> str:
        """Why another operation should wait until it can count on this daemon, or until it has ended."""
        if self._stop is not None:
            return "it is being stopped"
        if self._operation and not any(each.server.hold for each in self._fleet):
            return f"{self._operation} started it, and has not begun or has ended"
        return self._control.holds.unsettled


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    """A bug in a background task ends no server, and is logged."""
    try:
        await work
    except Exception:
        log.exception("%s broke; the servers go on", getattr(work, "__qualname__", work))
