"""A server for an operation that measures: made room for, held, and put back as it was, whatever happens."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..errors import AlreadyRunning, NotRunning, StartFailed, Superseded, SupervisorError
from ..home import client
from ..home.background_daemon import background_daemon, ordered
from ..home.client import Message
from ..home.orphan import refuse_beside_survivors
from ..home.places import daemon_lock
from ..locks import held_by
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, Offer
from ..plan.plan_json import ANOTHER_VERSION, listen_to_json, to_json
from ..progress import Progress
from .measurement import Target

Waiting = Callable[[str], AbstractContextManager[Progress]]

END_SECONDS = 60.0  # for a daemon of ours to end: its server may need a KILL
_SERVING = {"ready", "degraded"}
_STATUS = "goss-supervisor status"


class MeasuringSession(Protocol):
    """What bench and tune see of it; `opened` gives one and puts everything back at the end."""

    def run(self, plan: LaunchPlan, *, fresh: bool = False) -> Target:
        """
        Have this plan serve, in place of what the session ran before; ``fresh`` loads it anew in any case.

        Raises StartFailed with the diagnosis where it does not become ready, DoesNotFit where it may not have
        the memory, and Superseded where somebody stopped or replaced it.
        """

    def wait_until_quiet(self) -> None:
        """
        Until no request of others disturbs a measurement.  Raises Superseded where the session is over: what
        it had is put back already.
        """

    def disturbed(self) -> tuple[str, ...]:
        """What others asked of our servers since the last call, in words."""

    def diagnosis(self) -> str:
        """Why the server died, where it did after it was ready; else ""."""

    def stop(self) -> None:
        """End the server at once, from any thread: a `run` under way, or a request, fails then."""


@contextmanager
def opened(
    paths: Paths,
    plan: LaunchPlan,
    *,
    owner: str,
    why: str,
    polite: bool = False,
    progress: Progress,
    waiting: Waiting,
) -> Iterator[MeasuringSession]:
    """
    A session for the server of this plan's profile, of which the plan will probably be run first.

    What it disturbs of the user's is said by ``progress`` before it happens.  Requests of others to the
    server wait meanwhile; with ``polite`` they go on, and the session ends early where a person or a request
    asks for the memory.  At the end the daemon puts everything back, also if this process is killed.  Raises
    SupervisorError where somebody else holds a server, with who and why.
    """
    who = client.owner_named(owner)
    with _daemon(paths, who, progress, waiting) as listen:
        waits = () if listen else tuple(_waits(paths, plan, polite=polite))
        request = {"server": plan.profile, "owner": who, "why": why, "measures": True, "polite": polite}
        with client.holding(paths, request) as held:
            if not held.get("measures"):
                raise SupervisorError("The daemon is of an older version.", hint=ANOTHER_VERSION)
            for text in waits:
                progress.step(text)
            session = _Session(paths, held["held"], held["server"], who, listen, progress, waiting)
            try:
                session.begin(plan, polite=polite)
                yield session
            finally:
                session.end()


@dataclass(slots=True)
class _Session:
    """Of the server of this name, by the id of a hold; ``listen`` is for a daemon without an address."""

    paths: Paths
    hold: int
    server: str
    owner: str
    listen: Listen | None
    progress: Progress
    waiting: Waiting
    seen: int = field(default=0)  # the number of the last request that was told of

    def begin(self, plan: LaunchPlan, *, polite: bool) -> None:
        """Say what has to make room."""
        answer = self._ask("room", plan=to_json(plan))
        if names := answer["unloads"]:
            self.progress.step(f"{' and '.join(names)} is unloaded to make room, and loaded again afterwards")
        if polite:
            self.wait_until_quiet()
        self.seen = next((each["number"] for each in self._requests(last=1)), 0)

    def run(self, plan: LaunchPlan, *, fresh: bool = False) -> Target:
        now = self._status()
        if fresh or now["digest"] != plan.digest or now["state"] not in _SERVING:
            self._start(plan)
        self.wait_until_quiet()
        running = self._ask("running")
        if running["plan"] is None or running["plan"]["digest"] != plan.digest:
            raise Superseded(
                f"{running['profile'] or 'Nothing'} runs in place of {plan.profile}.", hint=_STATUS
            )
        return Target(running["url"], running["key"], plan.profile, self.hold)

    def _start(self, plan: LaunchPlan) -> None:
        listen = None
        if self.listen and plan.behind_gateway:
            offer = Offer(plan.profile, (plan.profile, *plan.aliases), roles=plan.roles)
            listen = listen_to_json(replace(self.listen, profile=plan.profile, offers=(offer,)))
        with self.waiting(f"waiting until {plan.profile} is ready") as progress:
            request = self._request("start", plan=to_json(plan), listen=listen)
            answer = client.follow(self.paths, request, progress.step)
        self.listen = None
        outcome = answer["outcome"]
        if outcome["result"] == "failed":
            failure = answer["status"]["server"]["last_failure"] or {}
            tail = "".join(f"\n  | {line}" for line in failure.get("log_tail", ()))
            raise StartFailed(
                f"{plan.profile} did not become ready: {outcome['why']}{tail}", hint=outcome["hint"]
            )
        if outcome["result"] == "degraded":
            self.progress.step(f"note: {outcome['why']}")
        elif outcome["result"] != "ready":
            raise Superseded(f"{plan.profile} was stopped meanwhile: {outcome['why']}.", hint=_STATUS)

    def wait_until_quiet(self) -> None:
        messages = client.stream(self.paths, self._request("quiet"))
        first = next(messages)
        if not first.get("final"):
            with self.waiting("waiting until the requests of others are answered"):
                for _ in messages:
                    pass

    def disturbed(self) -> tuple[str, ...]:
        found = self._requests(since=self.seen)
        self.seen = max((each["number"] for each in found), default=self.seen)
        others = [each for each in found if each["caller"] != self.owner and each["output_tokens"]]
        return tuple(f"{each['endpoint']} for {each['profile']}, {each['seconds']:.1f} s" for each in others)

    def _requests(self, **which: int) -> list[dict[str, Any]]:
        """None where clients reach llama-server itself, or nobody yet."""
        try:
            found: list[dict[str, Any]] = self._ask("requests", **which)["requests"]
        except NotRunning:
            raise
        except SupervisorError:
            return []
        return found

    def diagnosis(self) -> str:
        now = self._status()
        failure = now["last_failure"]
        return failure["message"] if failure and now["state"] not in _SERVING else ""

    def stop(self) -> None:
        with suppress(SupervisorError):  # it is gone already
            self._ask("stop", now=True)

    def end(self) -> None:
        """Wait until everything is put back; the daemon goes on with it in any case."""
        try:
            with self.waiting("putting everything back as it was") as progress:
                answer = client.follow(self.paths, self._request("release"), progress.step)
        except (NotRunning, Superseded) as error:
            self.progress.step(f"note: {error}")
        else:
            for problem in answer["problems"]:
                self.progress.step(f"note: {problem}")

    def _status(self) -> Message:
        servers = client.ask(self.paths, {"op": "status"})["status"]["servers"]
        nothing = {"name": self.server, "state": "stopped", "digest": None, "last_failure": None}
        found: Message = next((each for each in servers if each["name"] == self.server), nothing)
        return found

    def _ask(self, op: str, **more: object) -> Message:
        return client.ask(self.paths, self._request(op, **more))

    def _request(self, op: str, **more: object) -> Message:
        return {"op": op, "server": self.server, "hold": self.hold, **more}


def refuse_without_room(paths: Paths, waiting: Waiting) -> None:
    """
    For a session, before anything is downloaded for it.  Waits for a daemon that is just ending.  Raises
    AlreadyRunning where no daemon runs, but a server that a killed one left, and as `_has_daemon`.
    """
    if not _has_daemon(paths, waiting):
        refuse_beside_survivors(paths)


def _has_daemon(paths: Paths, waiting: Waiting) -> bool:
    """
    Whether one serves here; raises AlreadyRunning for one that another measurement started for itself, which
    ends with it.
    """
    status = client.settled_status(paths, waiting)
    if status is None:
        return False
    if status["daemon"].get("operation"):
        holds = [each["held_by"] for each in status["servers"] if each["held_by"]]
        why = f": {holds[0]['why']}" if holds else ""
        raise AlreadyRunning(
            f"{status['daemon']['operation']} uses this machine{why}.", hint="Try again when it has ended."
        )
    return True


def pids_of_daemon(paths: Paths) -> list[int]:
    """Of our daemon and its servers: what they use of the machine is no disturbance."""
    status = client.ask(paths, {"op": "status"})["status"]
    return [each["pid"] for each in (status["daemon"], *status["servers"]) if each["pid"]]


def _waits(paths: Paths, plan: LaunchPlan, *, polite: bool) -> Iterator[str]:
    """What becomes of requests to the server, in words."""
    now = client.ask(paths, {"op": "status"})["status"]
    found = next((each for each in now["servers"] if each["profile"] == plan.profile), None)
    if found is None or found["state"] == "stopped":
        return
    if now["gateway"] is None:
        yield f"clients ask {plan.profile} without a gateway: what they ask disturbs the measurement"
    elif polite:
        yield f"requests to {plan.profile} go on; the measurement pauses meanwhile"
    else:
        yield f"requests to {plan.profile} wait until the measurement is over"


@contextmanager
def _daemon(paths: Paths, owner: str, progress: Progress, waiting: Waiting) -> Iterator[Listen | None]:
    """
    Where none runs, one is started that remembers nothing, and ends with the first hold; then it gives where
    that is to listen: on this machine only, with a key that nobody has.
    """
    orders = json.dumps({"foreground": False, "operation": owner}).encode()
    while not _has_daemon(paths, waiting):
        progress.step("nothing runs here: llama-server is started for this, and stopped afterwards")
        with background_daemon(paths) as daemon:
            if not _is_first(paths, daemon, orders, progress):
                continue
            try:
                yield _private_address()
            finally:
                with suppress(subprocess.TimeoutExpired):
                    daemon.wait(END_SECONDS)
            return
    yield None


def _is_first(paths: Paths, daemon: subprocess.Popen[bytes], orders: bytes, progress: Progress) -> bool:
    """Give it its orders; False where another daemon has just taken this home.  Raises as `ordered`."""
    try:
        ordered(paths, daemon, orders, progress.step)
    except BaseException as error:
        daemon.terminate()  # nothing runs in it yet, and after a Ctrl+C it would wait for a hold
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(END_SECONDS)
        is_taken = isinstance(error, SupervisorError) and error.exit_code == AlreadyRunning.exit_code
        if is_taken and held_by(daemon_lock(paths)) is not None:
            return False
        raise
    return True


def _private_address() -> Listen:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    key = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
    return Listen("", "127.0.0.1", port, keys=(key,))
