"""One server of a home with its own log, lock, record and history, by its name."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..home.orphan import MARK_VARIABLE, GenerationLock, mark_of
from ..home.places import (
    figures_file,
    generation_lock,
    memory_history_file,
    private_config,
    private_folder,
    record_file,
    server_log_name,
)
from ..home.records import DEMO, KeptFailure, Record, read_record, remember_out_of_memory, write_record
from ..locks import Lock
from ..memory.engine_figures import FigureHistory, keep_measured, measured
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import is_socket_path, serves_clients
from ..progress import iso
from .background import Writer
from .diagnosis import Diagnosis
from .lifecycle_table import LEAVING, SERVING
from .memory_warnings import RAM
from .output_log import OutputLog
from .server import Server
from .survivors import LeftPlan, why_ended

log = logging.getLogger(__name__)

LOADING_LINES = 1000  # at -lv 4 there are some 200


LastFailure = tuple[Diagnosis | None, tuple[str, ...], float | None]


class Instance:
    """
    Its first launch takes its lock, which ends a server of this name that outlived an earlier daemon, unless
    that is taken over.  ``lock`` is held already where its process was kept over an upgrade.  ``under_way``
    counts the requests that are being answered.  Its processes ``survive`` a daemon that is killed where they
    may (see `why_ended`).
    """

    def __init__(
        self,
        name: str,
        paths: Paths,
        *,
        on_change: Callable[[], None],
        under_way: Callable[[], int],
        next_id: Callable[[], int],
        lock: Lock | None = None,
        survives: bool = False,
    ) -> None:
        self.name = name
        self.under_way = under_way
        self.placement = ""  # why it is loaded or not, beside the others; in words
        self._paths = paths
        self._writer = Writer()
        self._on_change = on_change
        self._figures_of = 0
        before = read_record(record_file(paths, name))
        self._chosen = before.remembered if before else ""
        self._lock = GenerationLock(generation_lock(paths, name), record_file(paths, name), held=lock)
        self.output = OutputLog(paths.logs, server_log_name(name))
        self.server = Server(
            name,
            output=self.output,
            lock=self._lock,
            private_config=private_config(paths),
            jitter=random.random,
            on_change=self._changed,
            under_way=under_way,
            next_id=next_id,
            environ={**os.environ, MARK_VARIABLE: mark_of(record_file(paths, name))},
            outlives=lambda plan: survives and not why_ended(plan),
        )

    @property
    def lock(self) -> Lock | None:
        """None before its first launch, and while a survivor of an earlier daemon holds it."""
        return self._lock.held

    @property
    def profile(self) -> str:
        """Of the plan that it has, loaded or not; "" before the first."""
        return self.server.plan.profile if self.server.plan else ""

    @property
    def why_there(self) -> str:
        """Why its model does not make way for another one at once, in words."""
        answers, state = self.under_way(), self.server.state
        if answers:
            return f"answers {answers} request{'' if answers == 1 else 's'}"
        if state in LEAVING:
            return "is being unloaded"
        return "must not be unloaded yet" if state in SERVING else "is being loaded"

    def make_ready_for(self, plan: LaunchPlan) -> None:
        """Make the folder of its socket.  Raises PermissionDenied where it is somebody else's."""
        if plan.behind_gateway and is_socket_path(plan.host):
            private_folder(Path(plan.host).parent)

    @property
    def last_failure(self) -> LastFailure:
        """What `failure_of` tells; set where what failed since was only a trial."""
        return self.server.failure, self.server.failure_tail, self.server.failed_at

    @last_failure.setter
    def last_failure(self, kept: LastFailure) -> None:
        self.server.lifecycle.failure, self.server.failure_tail, self.server.failed_at = kept

    def close(self) -> None:
        """Stop watching; what is to be written is written."""
        self.server.close()
        self.flush()

    def flush(self) -> None:
        """Blocks until what is to be written is written, or it takes too long."""
        self._writer.flush(1.0)

    def let_go(self) -> None:
        """In a copy of the daemon: its process is another one's, and its lock too."""
        self.server.close()
        child, self.server.child = self.server.child, None
        if child is not None:
            child.let_go()
        self._lock.release()

    def give_up_lock(self) -> None:
        """Once nothing of it runs, and nothing will."""
        self._lock.release()

    def _changed(self) -> None:
        work = partial(write_record, record_file(self._paths, self.name), self._record())
        self._writer.write("the state record", work)
        self._remember_adjustment()
        self._keep_figures()
        self._keep_measured()
        self._on_change()

    def _remember_adjustment(self) -> None:
        """A plan that served where another one died of memory is what the next start begins with."""
        plan = self.server.plan
        if plan is not None and plan.adjusts and self.server.is_serving:
            work = partial(
                remember_out_of_memory, memory_history_file(self._paths), plan.adjusts, plan.adjustment
            )
            self._writer.write("the history of adjustments", work)

    def _keep_figures(self) -> None:
        """Once for each launch, when it is ready: at ``log-verbosity: 4`` the engine says what it took."""
        server, plan = self.server, self.server.plan
        if plan is None or not plan.figures or not server.is_serving or self._figures_of == server.launch:
            return
        self._figures_of = server.launch
        if not any("verbosity" in word for word in plan.argv):
            return  # by default the log says nothing of it
        if figures := measured(self.output.tail(LOADING_LINES)):
            work = partial(FigureHistory(figures_file(self._paths)).keep, plan.figures, figures)
            self._writer.write("the engine's figures", work)

    def _keep_measured(self) -> None:
        server, plan = self.server, self.server.plan
        if plan is None or not plan.measures or server.lifecycle.proven is not plan:
            return  # of a load that failed nothing follows
        work = partial(keep_measured, self._paths, plan.digest, RAM, server.memory.peak_bytes)
        self._writer.write("what the server held", work)

    def _record(self) -> Record:
        life, child = self.server.lifecycle, self.server.child
        if (
            self.profile not in {"", DEMO}
            and life.plan
            and not life.plan.is_trial
            and serves_clients(life.plan)
        ):
            self._chosen = self.profile
        return Record(
            server=self.name,
            state=life.state.value,
            why=life.why,
            profile=life.plan.profile if life.plan else "",
            port=life.plan.port if life.plan else None,
            identity=child.identity if child else None,
            failure=failure_of(self.server),
            chosen=self._chosen,
            launched=asdict(LeftPlan.of(life.plan))
            if child and life.plan and not why_ended(life.plan)
            else None,
            ready_since=self.server.ready_since,
        )


def failure_of(server: Server) -> KeptFailure | None:
    """The last failure with the log lines before it, or None."""
    failure = server.failure
    if failure is None:
        return None
    at = iso(server.failed_at) if server.failed_at else None
    return KeptFailure(failure.kind, failure.message, failure.hint, at, tuple(server.failure_tail))
