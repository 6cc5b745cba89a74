"""
The machines whose memory a model here uses, in an update: they are moved first, and back if anything fails.

Nothing is stopped anywhere before each has answered and has the new build, tested, on its disk.  What was
begun is written down, so that the next update goes back for one that was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..engine.catalogue.catalogue import number
from ..engine.install_context import InstallContext
from ..engine.worker_probe import WorkerTrouble, greet
from ..errors import NetworkError, SupervisorError
from ..files import read_json, write_json
from ..home.places import moved_workers_file
from ..paths import Paths
from ..prepare.workers import known_workers
from ..profile.worker_address import Worker, parse_worker
from ..progress import Progress
from .update_target import in_line
from .worker_machine import WorkerMachine

_UNKNOWN = "of an unknown version"


@dataclass(slots=True)
class WorkerMoves:
    """``before`` is the build that each had, by name; ``begun`` are those that were told of another."""

    paths: Paths
    progress: Progress
    machines: Sequence[WorkerMachine]
    before: dict[str, str] = field(default_factory=dict)
    begun: list[WorkerMachine] = field(default_factory=list)
    tag: str = ""  # where they go to

    def look(self) -> None:
        """Raises as a `WorkerMachine` where one cannot be reached: then nothing has been moved."""
        for each in self.machines:
            build = self.before[each.name] = each.build()
            if number(build) is None:
                raise SupervisorError(
                    f"The worker {each.name} runs {build}, which is no release to go back to."
                )

    @contextmanager
    def moved(self, tag: str, protocol: str, then_here: Callable[[], None]) -> Iterator[None]:
        """
        In the block all run ``tag``.  If it fails, or they do, all go back, and ``then_here`` is called; an
        error says so, and which did not.
        """
        self.tag = tag
        try:
            self._forward(protocol)
            yield
        except SupervisorError as error:
            told = self.back(then_here)
            raise type(error)(f"{error}{told}", hint=error.hint) from error
        except BaseException:
            self.back(then_here)
            raise

    def back(self, then_here: Callable[[], None]) -> str:
        """In the reverse order; what came of it, as sentences behind the reason, empty if none had begun."""
        if not self.begun:
            return ""
        stuck = {each: why for each in reversed(self.begun) if (why := self._back(each))}
        well = [each.name for each in self.begun if each not in stuck]
        self.begun = list(stuck)
        self._write_down()
        then_here()
        told = f"\nThe workers run what they ran before: {', '.join(well)}." if well else ""
        for each, why in stuck.items():
            told += f"\nThe worker {each.name} could not go back to {self.before[each.name]}: {why}."
        return told

    def kept(self) -> None:
        """The channel here has the build from now on: no way back is needed any more."""
        self.begun.clear()
        self._write_down()

    def _forward(self, protocol: str) -> None:
        tag = self.tag
        moving = [each for each in self.machines if self.before[each.name] != tag]
        for each in moving:
            self.progress.step(f"{each.name}: downloading and testing {tag} there")
            self.begun.append(each)
            self._write_down()
            each.take(tag)
        for each in moving:
            self.progress.step(f"{each.name}: from {self.before[each.name]} to {tag}")
            each.restart()
        for each in self.machines:
            each.prove(tag, protocol)

    def _back(self, machine: WorkerMachine) -> str:
        """Why not, or empty."""
        before = self.before[machine.name]
        self.progress.step(f"{machine.name}: back to {before}")
        try:
            machine.take(before)
            if machine.build() != before:
                machine.restart()
            machine.prove(before, "")
        except SupervisorError as error:
            return in_line(error)
        return ""

    def _write_down(self) -> None:
        """Survives a power cut: it is the only trace of what was done elsewhere."""
        if not self.begun:
            moved_workers_file(self.paths).unlink(missing_ok=True)
            return
        entries = [
            {
                "address": each.name,
                "supervisor": each.worker.supervisor,
                "api_key_env": each.worker.api_key_env,
                "build": self.before[each.name],
            }
            for each in self.begun
        ]
        write_json(moved_workers_file(self.paths), {"tag": self.tag, "workers": entries}, durable=True)


def check_that_stays(worker: Worker, tag: str, ours: str, context: InstallContext) -> None:
    """Nobody can move this one.  Raises SupervisorError unless it speaks ``ours``, the RPC of ``tag``."""
    greeted = greet(worker.address)
    if isinstance(greeted, WorkerTrouble) and greeted.kind != "busy":
        raise NetworkError(f"The worker {greeted}.", hint=greeted.hint)
    known = known_workers(context.paths).get(str(worker.address))  # for one that serves us now
    asked = known.protocol if known else ""
    theirs = asked if isinstance(greeted, WorkerTrouble) else greeted.protocol
    if not ours or theirs != ours:
        raise SupervisorError(
            f"{tag} is not taken: nothing can move the worker {worker.address}, whose entry has no "
            f"supervisor:. It speaks RPC {theirs or _UNKNOWN}, and {tag} RPC {ours or _UNKNOWN}.",
            hint="Write its entry as {address: HOST, supervisor: http://HOST:21434, api-key-env: NAME}.",
        )
    context.progress.step(f"note: the worker {worker.address} stays on its build: no supervisor: is known")


def broken_off(
    paths: Paths, progress: Progress, machine: Callable[[Worker], WorkerMachine]
) -> WorkerMoves | None:
    """What an update that was killed, or that could not go back, has left; None where there is nothing."""
    found = read_json(moved_workers_file(paths), _read)
    if found is None:
        return None
    tag, builds = found
    machines = [machine(each) for each in builds]
    before = {each.name: builds[each.worker] for each in machines}
    return WorkerMoves(paths, progress, machines, before, list(machines), tag)


def _read(document: Mapping[str, Any]) -> tuple[str, dict[Worker, str]]:
    workers = [
        Worker(parse_worker(each["address"]), str(each["supervisor"]), str(each["api_key_env"]))
        for each in document["workers"]
    ]
    builds = [str(each["build"]) for each in document["workers"]]
    return str(document["tag"]), dict(zip(workers, builds, strict=True))
