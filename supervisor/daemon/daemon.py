"""The daemon: one server, its control socket and its record, until a stop is asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..errors import StartFailed, SupervisorError
from ..locks import Lock
from ..memory.kept_figures import Figures
from ..memory.told import measured
from ..paths import Paths
from ..plan.types import LaunchPlan
from ..profile.definition import AutoUpdate
from ..server.address import url_of
from ..server.lifecycle import Outcome
from ..server.output import OutputLog
from ..server.record import Record, write_record
from ..server.server import Server
from ..server.table import SERVING, UNDER_WAY, State
from ..server.vitals import vitals_of
from .adjusted import remember
from .control import Control
from .endpoint import Endpoint
from .front import Front
from .journal import STDERR, STDOUT
from .listener import listen
from .manager import Manager
from .places import SERVER, adjusted_file, daemon_log, figures_file, private_config, record_file, update_file
from .reloading import Reloading
from .status import failure_of, iso
from .updates import DAILY, Rhythm, keep_looking, news_in

log = logging.getLogger(__name__)

LOADING_LINES = 1000  # at -lv 4 there are some 200


class Daemon:
    """
    Lives as long as its server is wanted.

    ``generation`` is the lock that the server's process inherits.  `run` is called once; ``tell`` is told
    what the first start came to, and ``manager`` how it goes; ``looks`` says when to look for newer engines.
    """

    def __init__(
        self,
        paths: Paths,
        endpoint: Endpoint,
        output: OutputLog,
        generation: Lock,
        tell: Callable[[dict[str, Any]], None],
        *,
        manager: Manager,
        looks: Rhythm = DAILY,
    ) -> None:
        self._paths = paths
        self._endpoint = endpoint
        self._started = time.time()
        self._stop: asyncio.Future[Outcome] | None = None
        self._stop_asked = asyncio.Event()
        self._announced = ""
        self._figures_of = 0
        self._tell = tell
        self._looks = looks
        self._manager = manager
        self._reloading = Reloading(manager.reloading, manager.reloaded)
        self._front = Front(paths)
        self._server = Server(
            SERVER,
            output=output,
            lock=generation,
            private_config=private_config(paths),
            jitter=random.random,
            on_change=self._on_change,
            under_way=self._front.under_way,
        )
        self._control = Control(self._server, self._about, self._news, self._shut_down, self._front)

    async def run(self, plan: LaunchPlan) -> None:
        """
        Supervise this plan until a stop is asked for.

        Raises StartFailed if it never became ready: there is nothing then to supervise.
        """
        self._listen_to_signals()
        working = asyncio.create_task(self._server.run())
        keeping = asyncio.create_task(self._manager.keep_in_touch(self._server.passed))
        listener = await listen(self._endpoint, self._control.serve)
        supervising = asyncio.create_task(self._supervise(plan))
        looking = asyncio.create_task(keep_looking(self._wishes_updates, self._looks))
        try:
            done, _ = await asyncio.wait({working, supervising}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            listener.close()
            await self._front.finish()
            await self._control.finish()
            self._endpoint.remove()
            self._server.close()
            self._reloading.close()
            for task in (looking, keeping, working):
                task.cancel()

    async def _supervise(self, plan: LaunchPlan) -> None:
        plan = await self._front.admit(self._server, plan, by_request=False)
        outcome = await self._first(plan)
        self._tell(self._control.about(outcome))
        if outcome.result == "failed":
            raise StartFailed(
                f"{plan.profile} did not become ready: {outcome.why}",
                hint=outcome.hint or "goss-supervisor logs",
            )
        if outcome.result != "stopped":
            self._manager.ready()
        await self._stop_asked.wait()
        assert self._stop is not None
        outcome = await self._stop
        if outcome.result != "stopped":
            raise SupervisorError(f"The server could not be stopped: {outcome.why}")

    def _first(self, plan: LaunchPlan) -> asyncio.Future[Outcome]:
        """``gateway.preload: false``: the first request loads the model."""
        waits = plan.door is not None and not plan.door.settings.preload
        return self._server.rest(plan) if waits else self._server.start(plan)

    # --- the end

    def _shut_down(self, now: bool) -> asyncio.Future[Outcome]:
        self._manager.stopping()
        self._front.begin_to_end()
        if now or self._stop is None:
            self._stop = self._server.stop(now=now)
        self._stop_asked.set()
        return self._stop

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        if sys.platform == "win32":
            signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(self._interrupt))
        else:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._interrupt)
            terminal = next((each for each in (STDOUT, STDERR) if os.isatty(each)), None)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up, terminal)

    def _hang_up(self, terminal: int | None) -> None:
        """A reload is asked for so; but it is also how one hears that the terminal was closed."""
        if terminal is None or os.isatty(terminal):
            self._reloading.begin()
        elif self._stop is None:
            log.info("its terminal was closed")
            self._interrupt()

    def _interrupt(self) -> None:
        """The first asks, the second insists."""
        again = self._stop is not None
        log.info("stopping now" if again else "stopping; once more to stop now")
        self._shut_down(again)

    def _wishes_updates(self) -> AutoUpdate:
        plan = self._server.plan
        return plan.auto_update if plan is not None and self._server.is_serving else "off"

    # --- what others see

    def _on_change(self) -> None:
        self._announce()
        self._manager.at_work(self._server.state in UNDER_WAY)
        self._front.changed(self._server)
        self._control.changed()
        try:
            write_record(record_file(self._paths), self._record())
            self._remember_adjustment()
            self._keep_figures()
        except OSError as error:
            log.warning("the state record cannot be written: %s", error)

    def _remember_adjustment(self) -> None:
        """A plan that served where another one died of memory is what the next start begins with."""
        plan = self._server.plan
        if plan is not None and plan.adjusts and self._server.is_serving:
            remember(adjusted_file(self._paths), plan.adjusts, plan.adjustment)

    def _keep_figures(self) -> None:
        """Once for each launch, when it is ready: at ``log-verbosity: 4`` the engine says what it took."""
        server, plan = self._server, self._server.plan
        if plan is None or not plan.figures or not server.is_serving or self._figures_of == server.launch:
            return
        self._figures_of = server.launch
        if not any("verbosity" in word for word in plan.argv):
            return  # by default the log says nothing of it

        if told := measured(server.output.tail(LOADING_LINES)):
            Figures(figures_file(self._paths)).keep(plan.figures, told)

    def _announce(self) -> None:
        said = self._line(self._server.lifecycle.why)
        self._manager.status(self._line(self._server.lifecycle.why or self._server.busy))
        if said != self._announced:
            log.info("%s", said)
            self._announced = said
            if self._server.state is State.BACKOFF:
                self._tell({"step": said})  # who waits for the start hears that it has not gone well

    def _line(self, why: str) -> str:
        plan, state = self._server.plan, self._server.state
        where = f" at {url_of(plan)}" if plan and state in SERVING else ""
        return f"{plan.profile if plan else SERVER}: {state}{where}{f' ({why})' if why else ''}"

    def _record(self) -> Record:
        life, child = self._server.lifecycle, self._server.child
        return Record(
            server=self._server.name,
            state=life.state.value,
            why=life.why,
            profile=life.plan.profile if life.plan else "",
            port=life.plan.port if life.plan else None,
            identity=child.identity if child else None,
            failure=failure_of(self._server),
        )

    def _news(self) -> dict[str, Any] | None:
        return news_in(update_file(self._paths))

    def _about(self) -> dict[str, Any]:
        used = vitals_of(os.getpid())
        return {
            "pid": os.getpid(),
            "version": __version__,
            "since": iso(self._started),
            "uptime_seconds": round(time.time() - self._started, 1),
            "memory_bytes": used.rss_bytes if used else None,
            "control": str(self._endpoint.path),
            "log": str(daemon_log(self._paths)),
        }
